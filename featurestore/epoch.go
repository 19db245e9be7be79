package featurestore

import (
	"context"
	"fmt"

	"dreamfeed/internal/change"
)

// WaitEpoch blocks until the store has applied a message of the epoch, or of a
// later one: only then do its positions (Wait, DurableLSN) mean those of the
// server that the epoch is read from. It fails when ctx ends or the store closes.
func (s *Store) WaitEpoch(ctx context.Context, epoch change.Epoch) error {
	for {
		p := s.published.Load()
		if p.state.Epoch >= epoch {
			return nil
		}
		select {
		case <-p.superseded:
		case <-s.closing:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("wait for epoch %d to be applied: %w", epoch, context.Cause(ctx))
		}
	}
}
