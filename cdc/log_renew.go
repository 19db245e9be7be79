package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// Renewable says whether an error of Locate tells of a stream that Renew mends:
// an external one that has lost what PostgreSQL still holds, while the store has
// a place to go on from. What an embedded one has acknowledged is forgotten by
// PostgreSQL.
func (l *Log) Renewable(at Place, err error) bool {
	var other *OtherStreamError
	return !l.Embedded() && !at.empty() && (Lost(err) || errors.As(err, &other) && other.Empty)
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
