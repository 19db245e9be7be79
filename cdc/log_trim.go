package cdc

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TrimBefore removes the messages that are applied, up to sequence applied, and
// that were published before the given moment; never the newest message. The
// publication times of a stream increase with its sequences, so the boundary is
// found by bisection.
func (l *Log) TrimBefore(ctx context.Context, applied uint64, before time.Time) error {
	state, err := l.State(ctx)
	if err != nil || state.Messages == 0 {
		return err
	}
	last := min(applied, state.Last)
	if last < state.First {
		return nil
	}
	old := sort.Search(int(last-state.First+1), func(i int) bool {
		if err != nil {
			return true
		}
		var at time.Time
		at, err = l.publishedAt(ctx, state.First+uint64(i))
		return !at.Before(before)
	})
	if err != nil || old == 0 {
		return err
	}
	return l.Trim(ctx, state.First+uint64(old)-1)
}

// publishedAt is when the stream took the message at sequence. A message that
// was trimmed meanwhile counts as old.
func (l *Log) publishedAt(ctx context.Context, sequence uint64) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := l.stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read message %d of stream %s: %w", sequence, l.cfg.Name, err)
	}
	return msg.Time, nil
}
