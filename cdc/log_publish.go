package cdc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dreamfeed/internal/change"
	"dreamfeed/internal/disk"
	"dreamfeed/internal/durable"
)

// The publisher's window: what may be published and not yet acknowledged. When
// it is full, Publish waits.
const (
	windowMessages = 64
	windowBytes    = 32 << 20 // one larger message is let in alone
)

// Publisher publishes messages in a pipeline, each exactly once and in order.
// Every message names the sequence that it must follow, and the identity of the
// message before it if that is still in flight, so that after the first failure
// the server refuses all that came behind it (the sequence alone would let one
// through that fits behind another writer's message). The publisher then reads
// what the stream holds and goes on from there. What is acknowledged was therefore
// stored without a gap, whatever happened between.
//
// Publish, Flush and Buffer are for one goroutine.
type Publisher struct {
	log    *Log
	acked  func(sequence uint64, header change.Header)
	cancel context.CancelFunc
	done   chan struct{}
	full   atomic.Bool
	wake   chan struct{} // there is something to send; holds one token

	mu      sync.Mutex
	queue   []*publication // not acknowledged, oldest first; at most windowMessages
	bytes   int            // of the queue
	free    [][]byte       // buffers to use again, at most freeBuffers
	changed chan struct{}  // closed and replaced when the queue gets shorter
	err     error

	// For the publisher's goroutine only.
	last    uint64 // sequence of the newest acknowledged message
	sent    int    // how many of the queue are in flight
	careful bool   // one message at a time, after a failure
	session string // begins the identity of every message sent
	sends   uint64 // counts what was sent, for the identity
}

// publication is a message on its way.
type publication struct {
	header change.Header
	data   []byte
	future jetstream.PubAckFuture
	id     string // as sent last
	known  bool   // the outcome was taken from future, which tells it once
}

// freeBuffers is how many buffers are kept for Buffer, and freeBytes the
// largest that is kept.
const (
	freeBuffers = 8
	freeBytes   = 2 * DefaultTargetBytes
)

// Publisher opens the one publisher of the stream. after is the sequence of the
// message that the first one published must follow, as Last told it. acked is
// called in the order of publishing, from the publisher's goroutine, once the
// stream has taken a message; it must not wait for the publisher. The
// publisher ends with ctx, with Close, or with its first error.
func (l *Log) Publisher(ctx context.Context, after uint64, acked func(sequence uint64, header change.Header)) *Publisher {
	p, start := l.newPublisher(ctx, after, acked)
	go start()
	return p
}

// newPublisher makes a publisher and tells what its goroutine runs.
func (l *Log) newPublisher(ctx context.Context, after uint64, acked func(uint64, change.Header)) (*Publisher, func()) {
	ctx, cancel := context.WithCancel(ctx)
	l.tail.begin(after)
	p := &Publisher{
		log: l, acked: acked, cancel: cancel, last: after, session: rand.Text(),
		done: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	return p, func() { p.run(ctx) }
}

// Publish queues a message, which belongs to the publisher from then on. It
// waits while the window is full; it returns the error that ended the
// publisher, if any. It has the signature of messageWriterConfig.Emit.
func (p *Publisher) Publish(ctx context.Context, header change.Header, data []byte) error {
	if len(data) > p.log.maxMessage {
		return fmt.Errorf("publish to stream %s: a message of %d bytes is above the limit of %d", p.log.cfg.Name, len(data), p.log.maxMessage)
	}
	err := p.wait(ctx, func() bool {
		if len(p.queue) > 0 && (len(p.queue) == windowMessages || p.bytes+len(data) > windowBytes) {
			return false
		}
		p.queue = append(p.queue, &publication{header: header, data: data})
		p.bytes += len(data)
		return true
	})
	if err != nil {
		return err
	}
	select {
	case p.wake <- struct{}{}:
	default: // a token is there already
	}
	return nil
}

// Flush waits until all that was published is acknowledged.
func (p *Publisher) Flush(ctx context.Context) error {
	return p.wait(ctx, func() bool { return len(p.queue) == 0 })
}

// wait waits until ready, which is called with the lock held, says yes.
func (p *Publisher) wait(ctx context.Context, ready func() bool) error {
	for {
		p.mu.Lock()
		err, changed := p.err, p.changed
		ok := err == nil && ready()
		p.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Buffer returns an empty buffer, one of a message that nobody needs any more if there
// is one.
func (p *Publisher) Buffer() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return make([]byte, 0, DefaultTargetBytes)
	}
	b := p.free[n-1]
	p.free = p.free[:n-1]
	return b
}

// Done is closed when the publisher has ended; Err then tells why.
func (p *Publisher) Done() <-chan struct{} { return p.done }

// Err is the error that ended the publisher, ErrClosed after Close, nil while
// it works.
func (p *Publisher) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Full says whether the stream is full at the moment: the publisher keeps what
// it has and tries again until Trim makes room.
func (p *Publisher) Full() bool { return p.full.Load() }

// Close ends the publisher without waiting for acknowledgements; call Flush
// before for an orderly end.
func (p *Publisher) Close() {
	p.cancel()
	<-p.done
}

// run owns the conversation with the server until it ends.
func (p *Publisher) run(ctx context.Context) {
	defer close(p.done)
	defer p.cancel()
	err := p.work(ctx)
	p.log.tail.stop()
	if ctx.Err() != nil {
		err = ErrClosed
	}
	p.mu.Lock()
	p.err = fmt.Errorf("publish to stream %s: %w", p.log.cfg.Name, err)
	p.mu.Unlock()
}

// work sends and takes acknowledgements until an error that is final.
func (p *Publisher) work(ctx context.Context) error {
	for {
		cause := p.send()
		if cause == nil {
			head := p.head()
			if head == nil {
				select {
				case <-p.wake:
					continue
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			select {
			case ack := <-head.future.Ok():
				if cause = p.take(head, ack); cause == nil {
					continue
				}
			case cause = <-head.future.Err():
				head.known = true
			case <-p.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := p.recover(ctx, cause); err != nil {
			return err
		}
	}
}

// send sends what is queued and not in flight.
func (p *Publisher) send() error {
	for {
		p.mu.Lock()
		var next, before *publication
		if p.sent < len(p.queue) && (!p.careful || p.sent == 0) {
			next = p.queue[p.sent]
			if p.sent > 0 {
				before = p.queue[p.sent-1]
			}
		}
		p.mu.Unlock()
		if next == nil {
			return nil
		}
		if err := p.log.room(); err != nil {
			return err
		}
		msg := nats.NewMsg(p.log.subject())
		msg.Data = next.data
		p.sends++
		next.id = p.session + "." + strconv.FormatUint(p.sends, 36)
		opts := []jetstream.PublishOpt{
			jetstream.WithExpectLastSequence(p.last + uint64(p.sent)), jetstream.WithExpectStream(p.log.cfg.Name),
			jetstream.WithMsgID(next.id), jetstream.WithRetryAttempts(0), jetstream.WithStallWait(p.log.cfg.AckTimeout),
		}
		if before != nil {
			opts = append(opts, jetstream.WithExpectLastMsgID(before.id))
		}
		if err := p.log.cfg.Hook.At(durable.Publish, uint64(next.header.Resume)); err != nil {
			return err
		}
		future, err := p.log.js.PublishMsgAsync(msg, opts...)
		if err != nil {
			return err
		}
		next.future, next.known = future, false
		p.sent++
	}
}

// head is the oldest message in flight, nil when there is none.
func (p *Publisher) head() *publication {
	if p.sent == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue[0]
}

// take takes the acknowledgement of the oldest message in flight.
func (p *Publisher) take(head *publication, ack *jetstream.PubAck) error {
	head.known = true
	if ack.Sequence != p.last+1 {
		return fmt.Errorf("message stored as %d, not as %d", ack.Sequence, p.last+1)
	}
	if err := p.confirm(head); err != nil {
		return err
	}
	p.sent--
	p.careful = false
	p.full.Store(false)
	return nil
}

// confirm drops the oldest message of the queue, which the stream holds.
func (p *Publisher) confirm(head *publication) error {
	if err := p.log.cfg.Hook.At(durable.Acknowledge, uint64(head.header.Resume)); err != nil {
		return err
	}
	p.last++
	p.acked(p.last, head.header)
	// Once acknowledged, no copy of the message is on its way in the client.
	free := p.log.tail.put(p.last, head.data)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue[:0], p.queue[1:]...)
	p.bytes -= len(head.data)
	if len(p.free) < freeBuffers && free != nil && cap(free) <= freeBytes {
		p.free = append(p.free, free[:0])
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// errNoRoom means that the disk of the embedded server is nearly full.
var errNoRoom = errors.New("free disk is below the reserve")

// ErrStuck means that the embedded server does not answer any more, as after
// an error of its disk.
var ErrStuck = errors.New("the embedded server has stopped storing: see the log of component nats-server, mend or free its disk, and start ingest again; nothing is lost")

// room returns errNoRoom while the embedded server's disk has no more than the
// reserve.
func (l *Log) room() error {
	if l.server == nil || l.cfg.DiskReserve == nil {
		return nil
	}
	free, err := disk.Free(l.cfg.Dir)
	if err != nil {
		return err
	}
	if reserve := l.cfg.DiskReserve(); free < reserve {
		return fmt.Errorf("%w (%d bytes free in %s, reserve %d)", errNoRoom, free, l.cfg.Dir, reserve)
	}
	return nil
}
