package cdc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"dreamfeed/internal/change"
)

// Message is a message of a stream as the stream holds it.
type Message struct {
	Sequence uint64
	Data     []byte // valid until the next one is asked for
}

// Messages hands out the messages of a part of a stream in order. Its methods
// are for one goroutine.
type Messages interface {
	// Next waits for the next message; behind the last one it returns io.EOF.
	Next(ctx context.Context) (Message, error)
	// Ready says whether Next would return at once.
	Ready() bool
}

// Passage is the part of a stream that follows a place, up to a last message.
type Passage struct {
	Stream      string `json:"stream"`
	Incarnation uint64 `json:"incarnation"`
	// After and Last bound the sequences: After is not among them, Last is. They
	// are equal when nothing follows.
	After uint64 `json:"after"`
	Last  uint64 `json:"last"`
}

// Replay turns messages that somebody else read into batches, which it checks as
// a Reader does: none is missing or damaged, and each continues the one before.
// It is for one goroutine.
type Replay struct {
	in     Messages
	chain  chain
	want   uint64
	failed error
}

// NewReplay replays the messages of a passage. maxRowBytes is the largest row
// accepted in fragments, DefaultMaxRowBytes when 0.
func NewReplay(in Messages, p Passage, maxRowBytes int) *Replay {
	return &Replay{
		in: in, want: p.After + 1,
		chain: chain{stream: p.Stream, incarnation: p.Incarnation, decoder: Decoder{MaxRowBytes: maxRowBytes}},
	}
}

// Next waits for the next message that holds something to apply. The batch is
// valid until the next call. Behind the last message the error is io.EOF; every
// other one ends the replay: those of the Messages, *GapError, *ChainError,
// *CorruptMessageError.
func (r *Replay) Next(ctx context.Context) (*change.Batch, error) {
	for r.failed == nil {
		m, err := r.in.Next(ctx)
		if err != nil {
			return nil, err
		}
		if m.Sequence != r.want {
			r.failed = &GapError{Stream: r.chain.stream, Want: r.want, First: m.Sequence}
			if m.Sequence < r.want {
				r.failed = fmt.Errorf("replay stream %s: message %d comes where %d was due", r.chain.stream, m.Sequence, r.want)
			}
			break
		}
		r.want++
		batch, err := r.chain.take(m.Sequence, m.Data)
		if err != nil {
			r.failed = err
			break
		}
		if batch != nil {
			return batch, nil
		}
	}
	return nil, r.failed
}

// Ready says whether a message is there, so that Next would not wait (a carrier
// of row fragments may make it wait all the same).
func (r *Replay) Ready() bool { return r.failed == nil && r.in.Ready() }

// chain decodes the messages of a stream and checks that each continues the one
// before.
type chain struct {
	stream      string
	incarnation uint64
	decoder     Decoder
	batch       change.Batch
	prev        change.Header
	chained     bool // prev is known
}

// take decodes the next message. It returns nothing for a carrier. The batch is
// valid until the next call.
func (c *chain) take(sequence uint64, data []byte) (*change.Batch, error) {
	whole, err := c.decoder.Decode(sequence, data, &c.batch)
	if err == nil && !whole {
		return nil, nil
	}
	if err == nil && c.chained {
		err = CheckChain(c.prev, c.batch.Header)
	}
	if err != nil {
		return nil, fmt.Errorf("message %d of stream %s: %w", sequence, c.stream, err)
	}
	c.prev, c.chained = c.batch.Header, true
	c.batch.Incarnation = c.incarnation
	return &c.batch, nil
}

// Follows returns what the stream holds behind a place, as of now. Errors are
// those of Locate.
func (l *Log) Follows(ctx context.Context, at Place) (Passage, error) {
	after, err := l.Locate(ctx, at)
	if err != nil {
		return Passage{}, err
	}
	state, err := l.State(ctx)
	if err != nil {
		return Passage{}, err
	}
	return Passage{Stream: l.cfg.Name, Incarnation: l.incarnation, After: after, Last: max(after, state.Last)}, nil
}

// LogMessages reads a passage of a stream as it is stored.
type LogMessages struct {
	reader *Reader // nil when there is nothing to read
	last   uint64
	at     uint64
}

// Messages reads a passage that Follows returned. What is trimmed meanwhile is a
// *GapError. It must be closed, and ends with ctx.
func (l *Log) Messages(ctx context.Context, p Passage) (*LogMessages, error) {
	m := &LogMessages{last: p.Last, at: p.After}
	if p.Incarnation != l.incarnation {
		return nil, &IncarnationError{Stream: l.cfg.Name, Want: p.Incarnation, Got: l.incarnation}
	}
	if p.After >= p.Last {
		return m, nil
	}
	var err error
	m.reader, err = l.Reader(ctx, p.After)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Next implements Messages.
func (m *LogMessages) Next(ctx context.Context) (Message, error) {
	if m.at >= m.last {
		return Message{}, io.EOF
	}
	got, err := m.reader.next(ctx)
	if err != nil {
		return Message{}, err
	}
	m.at = got.sequence
	return Message{Sequence: got.sequence, Data: got.data}, nil
}

// Ready implements Messages.
func (m *LogMessages) Ready() bool { return m.at >= m.last || m.reader.Ready() }

// Close ends the reading and waits for its goroutines.
func (m *LogMessages) Close() {
	if m.reader != nil {
		m.reader.Close()
	}
}

// NoStreamError says that there is no stream where one was to be read.
type NoStreamError struct {
	// Dir is where an embedded stream was looked for, "" for an external one.
	Dir    string
	Stream string
}

// Error says where none is.
func (e *NoStreamError) Error() string {
	if e.Dir != "" {
		return fmt.Sprintf("there is no stream in %s: name the data directory of the feed with --data-dir, or its NATS server with --nats-url", e.Dir)
	}
	return fmt.Sprintf("the NATS server holds no stream %s: correct --nats-url", e.Stream)
}

// FirstMissing names the first message that an error says is missing from the stream.
func FirstMissing(err error) (sequence uint64, missing bool) {
	var gap *GapError
	if errors.As(err, &gap) {
		return gap.Want, true
	}
	return 0, false
}
