package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
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

// Error says what is wrong and what mends it.
func (e *OtherStreamError) Error() string {
	switch {
	case e.Empty:
		return fmt.Sprintf("stream %s was made anew and is empty, but the store has applied a stream up to message %d (%s): "+
			"restore the stream that belongs to the store, or "+beginAnew, e.Stream, e.Applied, e.Version)
	case e.Embedded:
		return fmt.Sprintf("stream %s does not go on where the store stands, at message %d (%s): "+
			"restore the stream and the store that belong together, or "+beginAnew, e.Stream, e.Applied, e.Version)
	}
	return fmt.Sprintf("stream %s does not go on where the store stands, at message %d (%s): it belongs to another feed, or is an old copy: "+
		"correct --nats-url, or remove it with: nats stream rm %s, and start ingest, which goes on from the store",
		e.Stream, e.Applied, e.Version, e.Stream)
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

// Renewable says whether an error of Locate tells of a stream that Renew mends:
// an external one that has lost what PostgreSQL still holds, while the store has
// a place to go on from. What an embedded one has acknowledged is forgotten by
// PostgreSQL.
func (l *Log) Renewable(at Place, err error) bool {
	var other *OtherStreamError
	return !l.Embedded() && !at.empty() && (Lost(err) || errors.As(err, &other) && other.Empty)
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

// Renew replaces the stream by one with a new incarnation that goes on where a
// store stands: its first message is a tick right behind the store's newest
// version, or gives up the transaction that the store has applied in part. What
// the stream holds is removed. It must be called before there is a Reader or a
// Publisher.
//
// It is for an external stream, of which PostgreSQL is confirmed only what the
// store has synced, so that replication sends again whatever the store lacks
// (Config.Durable). It may be killed at any point: the next Locate finds the old
// stream, none, an empty one or the new one.
func (l *Log) Renew(ctx context.Context, at Place) error {
	if at.empty() {
		return fmt.Errorf("renew stream %s: the store has applied nothing that it could go on from", l.cfg.Name)
	}
	if err := l.replace(ctx, at); err != nil {
		return fmt.Errorf("renew stream %s: %w", l.cfg.Name, err)
	}
	err := l.write(ctx, 0, messageWriterConfig{Origin: at.State.Origin, Epoch: at.State.Epoch, Last: at.State}, func(w *messageWriter) error {
		if _, open := w.resumed(); open {
			return w.abandon(ctx)
		}
		return w.tick(ctx, at.State.Last+1, at.State.Resume)
	})
	if err != nil {
		return fmt.Errorf("renew stream %s: %w", l.cfg.Name, err)
	}
	return nil
}

// replace makes the stream an empty one with another incarnation than the
// store's.
func (l *Log) replace(ctx context.Context, at Place) error {
	state, err := l.State(ctx)
	if err != nil {
		return err
	}
	if state.Last == 0 && l.incarnation != at.Incarnation {
		return nil // it was just made
	}
	deleting, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := l.cfg.Hook.Before(durable.Trim); err != nil {
		return err
	}
	if err := l.js.DeleteStream(deleting, l.cfg.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return l.openStream(ctx)
}

// write publishes what fill frames behind the message at sequence, and returns
// when the stream has it.
func (l *Log) write(ctx context.Context, sequence uint64, cfg messageWriterConfig, fill func(*messageWriter) error) error {
	p := l.Publisher(ctx, sequence, func(uint64, change.Header) {})
	defer p.Close()
	cfg.MaxBytes, cfg.Buffer, cfg.Emit = l.MaxMessage(), p.Buffer, p.Publish
	w, err := newMessageWriter(cfg)
	if err != nil {
		return err
	}
	if err := fill(w); err != nil {
		return err
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	return p.Flush(ctx)
}

// noteBytes is the most that a note may take: the server bounds all metadata
// of a stream together at 128 KiB.
const noteBytes = 96 << 10

// note keeps a text with the stream, in its metadata, beside the incarnation. A
// text that is too long is not kept.
func (l *Log) note(ctx context.Context, key, text string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg, err := l.config(ctx)
	if err != nil {
		return err
	}
	if len(text) > noteBytes {
		text = ""
	}
	if cfg.Metadata[key] == text {
		return nil
	}
	cfg.Metadata[key] = text
	if _, err := l.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("note %s with stream %s: %w", key, l.cfg.Name, err)
	}
	return nil
}

// noted returns what note has kept, "" for nothing.
func (l *Log) noted(ctx context.Context, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg, err := l.config(ctx)
	return cfg.Metadata[key], err
}

// config reads the stream's configuration.
func (l *Log) config(ctx context.Context) (jetstream.StreamConfig, error) {
	stream, err := l.js.Stream(ctx, l.cfg.Name)
	if err != nil {
		return jetstream.StreamConfig{}, fmt.Errorf("read the configuration of stream %s: %w", l.cfg.Name, err)
	}
	cfg := stream.CachedInfo().Config
	got, err := incarnationOf(cfg)
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	if got != l.incarnation {
		return jetstream.StreamConfig{}, &IncarnationError{Stream: l.cfg.Name, Want: l.incarnation, Got: got}
	}
	return cfg, nil
}
