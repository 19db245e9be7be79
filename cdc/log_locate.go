package cdc

import (
	"context"
	"errors"
	"fmt"

	"dreamfeed/internal/change"
)

// Place is how far a store has applied the feed.
type Place struct {
	// Incarnation and Sequence name the last message applied; both are 0 of an
	// empty store.
	Incarnation, Sequence uint64
	// State is what the store knows of that message, so that a stream can be
	// continued from it: Origin, Epoch, Last, Resume (the position up to which
	// the store has everything) and, of a transaction that is open, Open,
	// OpenKind, Part and NextOrdinal.
	State change.Header
}

// empty says whether nothing was applied yet.
func (p Place) empty() bool { return p.Incarnation == 0 && p.Sequence == 0 }

// OtherStreamError means that a stream does not go on where the store stands:
// it was made anew, or it is the stream of another feed.
type OtherStreamError struct {
	Stream string
	// Empty says that the stream holds nothing.
	Empty bool
	// Embedded says that the stream is in a directory of this program's.
	Embedded bool
	Applied  uint64         // the last message that the store has applied
	Version  change.Version // and the newest version of it
}

// Problem says what is wrong, without what mends it.
func (e *OtherStreamError) Problem() string {
	if e.Empty {
		return fmt.Sprintf("stream %s was made anew and is empty, but the store has applied a stream up to message %d (%s)", e.Stream, e.Applied, e.Version)
	}
	return fmt.Sprintf("stream %s does not go on where the store stands, at message %d (%s)", e.Stream, e.Applied, e.Version)
}

// Error says what is wrong and what mends it.
func (e *OtherStreamError) Error() string {
	switch {
	case e.Empty:
		return e.Problem() + ": restore the stream that belongs to the store, or " + beginAnew
	case e.Embedded:
		return e.Problem() + ": restore the stream and the store that belong together, or " + beginAnew
	}
	return e.Problem() + ": it belongs to another feed, or is an old copy: correct --nats-url, or remove it with: nats stream rm " +
		e.Stream + ", and start ingest, which goes on from the store"
}

// Locate says after which sequence the stream must be read to go on where a
// store stands. Errors: *LostTailError when the stream ends before, *GapError when
// it begins too late, *OtherStreamError when it is not the store's stream.
func (l *Log) Locate(ctx context.Context, at Place) (after uint64, err error) {
	state, err := l.State(ctx)
	if err != nil {
		return 0, err
	}
	other := &OtherStreamError{
		Stream: l.cfg.Name, Empty: state.Messages == 0, Embedded: l.Embedded(), Applied: at.Sequence, Version: at.State.Last,
	}
	if !at.empty() && at.Incarnation == l.incarnation {
		switch {
		case state.Last < at.Sequence:
			return 0, &LostTailError{Stream: l.cfg.Name, Want: at.Sequence, Last: state.Last}
		case state.First > at.Sequence+1:
			return 0, &GapError{Stream: l.cfg.Name, Want: at.Sequence + 1, First: state.First}
		case state.First > at.Sequence:
			return at.Sequence, nil // the message itself is trimmed
		}
		h, err := l.header(ctx, at.Sequence)
		if err != nil {
			return 0, err
		}
		if h.Last != at.State.Last {
			return 0, other
		}
		return at.Sequence, nil
	}
	if state.Messages == 0 {
		if at.empty() {
			return 0, nil
		}
		return 0, other
	}
	// A stream from its beginning, or one that was renewed for this store.
	if state.First > 1 {
		if at.empty() {
			return 0, &GapError{Stream: l.cfg.Name, Want: 1, First: state.First}
		}
		return 0, other
	}
	h, err := l.header(ctx, state.First)
	if err != nil {
		return 0, err
	}
	// Carriers stand before the first message that has a state.
	if h.Epoch == 0 && at.empty() {
		return 0, nil
	}
	if h.Epoch == 0 || h.Previous != at.State.Last || !at.empty() && h.Epoch != at.State.Epoch && h.Epoch != at.State.Epoch+1 {
		return 0, other
	}
	return 0, nil
}

// header reads the header of the message at a sequence.
func (l *Log) header(ctx context.Context, sequence uint64) (change.Header, error) {
	msg, err := l.message(ctx, sequence)
	if err != nil {
		return change.Header{}, err
	}
	h, _, _, err := openFrame(sequence, msg)
	return h, err
}

// Lost says whether an error of a Reader, a Publisher or Locate tells that the
// stream has lost messages, or was removed or made anew.
func Lost(err error) bool {
	var tail *LostTailError
	var gap *GapError
	var anew *IncarnationError
	return errors.As(err, &tail) || errors.As(err, &gap) || errors.As(err, &anew)
}

// Damaged says whether an error tells that the stream lacks messages or holds
// what is none, without saying what mends it.
func Damaged(err error) bool {
	var tail *LostTailError
	var gap *GapError
	var corrupt *CorruptMessageError
	return errors.As(err, &tail) || errors.As(err, &gap) || errors.As(err, &corrupt)
}
