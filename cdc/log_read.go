package cdc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dreamfeed/internal/change"
)

const (
	// readAhead is how many messages wait for Next beside those in the
	// client's buffer, which is bounded in bytes (see Reader). It lets Ready tell
	// the truth while messages flow.
	readAhead = 4

	// checkEvery is how often a reader looks whether the stream is still the
	// one that it reads.
	checkEvery = 5 * time.Second
)

// Reader reads the stream's messages in order, each once, across lost
// connections. What it holds ahead is bounded: at most twice Log.MaxMessage and
// 1 MiB in the client's buffer, and readAhead messages. Next and Ready are for
// one goroutine.
//
// The first reader of an embedded stream takes the newest messages from the publisher
// of this process, once they are acknowledged (see tail).
type Reader struct {
	log    *Log
	cancel context.CancelFunc
	msgs   chan received
	wait   sync.WaitGroup
	fail   sync.Once
	ended  chan struct{} // closed after err is set
	err    error
	chain  chain
	failed error         // of Next, which returns it from then on
	sub    *subscription // of receive: nil while it takes from the tail

	received atomic.Uint64 // sequence of the newest message received
}

// received is a message as it came.
type received struct {
	sequence uint64
	data     []byte
}

// Reader starts to read after sequence after (0 for the whole stream). It
// returns a *GapError when the message that follows is trimmed already, a
// *LostTailError when the stream ends before after. The reader ends with ctx or
// with Close.
func (l *Log) Reader(ctx context.Context, after uint64) (*Reader, error) {
	state, err := l.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("read stream %s after %d: %w", l.cfg.Name, after, err)
	}
	switch {
	case state.Last < after:
		return nil, &LostTailError{Stream: l.cfg.Name, Want: after, Last: state.Last}
	case state.First > after+1:
		return nil, &GapError{Stream: l.cfg.Name, Want: after + 1, First: state.First}
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Reader{
		log: l, cancel: cancel, msgs: make(chan received, readAhead), ended: make(chan struct{}),
		chain: chain{stream: l.cfg.Name, incarnation: l.incarnation, decoder: Decoder{MaxRowBytes: l.cfg.MaxRowBytes}},
	}
	if r.sub, err = l.subscribe(ctx, after); err != nil {
		cancel()
		return nil, err
	}
	l.tail.follow(r)
	r.received.Store(after)
	r.wait.Go(func() { r.receive(ctx, after+1) })
	r.wait.Go(func() { r.watch(ctx) })
	return r, nil
}

// end ends the reader with its first error.
func (r *Reader) end(err error) {
	r.fail.Do(func() {
		r.err = err
		close(r.ended)
	})
	r.cancel()
}

// receive hands messages to Next.
func (r *Reader) receive(ctx context.Context, want uint64) {
	defer func() {
		r.unsubscribe()
		r.log.tail.leave(r)
	}()
	for {
		m, err := r.fetch(ctx, want)
		if err == nil {
			select {
			case r.msgs <- m:
				r.received.Store(want)
				want++
				continue
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("read stream %s: %w", r.log.cfg.Name, ErrClosed)
		}
		r.end(err)
		return
	}
}

// fetch waits for a message, which follows the one fetched before: that of the tail, or
// else that of the stream.
func (r *Reader) fetch(ctx context.Context, want uint64) (m received, err error) {
	for {
		m, ok, later := r.log.tail.take(r, want)
		switch {
		case ok:
			r.unsubscribe()
			return m, nil
		case later != nil:
			r.unsubscribe()
			select {
			case <-later:
				continue
			case <-ctx.Done():
				return received{}, ctx.Err()
			}
		}
		if r.sub == nil {
			if r.sub, err = r.log.subscribe(ctx, want-1); err != nil {
				return received{}, err
			}
		}
		return r.sub.next(ctx, want)
	}
}

func (r *Reader) unsubscribe() {
	if r.sub != nil {
		r.sub.close()
		r.sub = nil
	}
}

// subscription is a consumer of the stream's.
type subscription struct {
	log      *Log
	consumer jetstream.Consumer
	it       jetstream.MessagesContext
	unstop   func() bool // has the end of the context not stop it
}

// subscribe reads the stream after sequence after.
func (l *Log) subscribe(ctx context.Context, after uint64) (*subscription, error) {
	consumer, err := l.js.OrderedConsumer(ctx, l.cfg.Name, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("read stream %s after %d: %w", l.cfg.Name, after, err)
	}
	// A request for more is sent when half of the bytes are used up, and asks
	// for at least that half: it must have room for the largest message.
	it, err := consumer.Messages(jetstream.PullMaxBytes(2*(l.maxMessage+headerAllowance)+1<<20),
		jetstream.PullExpiry(15*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("read stream %s after %d: %w", l.cfg.Name, after, err)
	}
	// A consumer that is made again, of a stream that is not there, heeds nothing else.
	return &subscription{log: l, consumer: consumer, it: it, unstop: context.AfterFunc(ctx, it.Stop)}, nil
}

// next waits for the message at sequence want, which follows the one that it gave last.
func (s *subscription) next(ctx context.Context, want uint64) (received, error) {
	for {
		msg, err := s.it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return received{}, fmt.Errorf("read stream %s: %w", s.log.cfg.Name, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return received{}, fmt.Errorf("read stream %s: %w", s.log.cfg.Name, err)
		}
		switch sequence := meta.Sequence.Stream; {
		case sequence < want: // delivered again after a lost connection
		case sequence > want:
			return received{}, &GapError{Stream: s.log.cfg.Name, Want: want, First: sequence}
		default:
			return received{want, msg.Data()}, nil
		}
	}
}

// close ends the subscription. The server forgets a consumer that nobody asks after a
// minute, if it cannot be told now.
func (s *subscription) close() {
	s.unstop()
	s.it.Stop()
	if info := s.consumer.CachedInfo(); info != nil && s.log.Embedded() {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		_ = s.log.js.DeleteConsumer(ctx, s.log.cfg.Name, info.Name) // see above
	}
}

// watch looks every few seconds whether the stream was made anew or lost its
// tail, which a consumer that waits for a later sequence would never see.
func (r *Reader) watch(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			r.end(fmt.Errorf("read stream %s: %w", r.log.cfg.Name, ErrClosed))
			return
		case <-ticker.C:
		}
		held := r.received.Load()
		state, err := r.log.State(ctx)
		if err == nil && state.Last < held {
			err = &LostTailError{Stream: r.log.cfg.Name, Want: held, Last: state.Last}
		}
		var anew *IncarnationError
		var tail *LostTailError
		if errors.As(err, &anew) || errors.As(err, &tail) {
			r.end(err)
			return
		}
	}
}

// Next waits for the next message that holds something to apply. The batch and
// its memory are valid until the next call. Sequences increase, but not always by
// one: carriers of row fragments are passed over. The first error ends the
// reader: a *CorruptMessageError, *ChainError, *GapError, *IncarnationError, or
// ErrClosed. A message that was decoded before the end is still handed out.
func (r *Reader) Next(ctx context.Context) (*change.Batch, error) {
	for r.failed == nil {
		m, err := r.next(ctx)
		if err != nil {
			return nil, err
		}
		batch, err := r.chain.take(m.sequence, m.data)
		if err != nil {
			r.failed = err
			r.end(r.failed)
			break
		}
		if batch != nil {
			return batch, nil
		}
	}
	return nil, r.failed
}

// next waits for a message.
func (r *Reader) next(ctx context.Context) (received, error) {
	select {
	case m := <-r.msgs:
		return m, nil
	default:
	}
	select {
	case m := <-r.msgs:
		return m, nil
	case <-ctx.Done():
		return received{}, ctx.Err()
	case <-r.ended:
		return received{}, r.err
	}
}

// Ready says whether a message is there, so that Next would not wait (a carrier
// of row fragments may make it wait all the same).
func (r *Reader) Ready() bool { return len(r.msgs) > 0 }

// Close ends the reader and waits for its goroutines.
func (r *Reader) Close() {
	r.end(fmt.Errorf("read stream %s: %w", r.log.cfg.Name, ErrClosed))
	r.wait.Wait()
}
