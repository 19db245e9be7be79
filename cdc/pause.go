package cdc

import (
	"context"
	"math/rand/v2"
	"time"
)

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reconnectFirst and reconnectMost bound the pause before a new connection.
const (
	reconnectFirst = 250 * time.Millisecond
	reconnectMost  = 30 * time.Second
)

// backoff gives the pauses between connections: twice as long each time.
type backoff struct{ pause time.Duration }

// next returns half to one and a half of the pause, so that many who lost one
// server do not come back at once.
func (b *backoff) next() time.Duration {
	b.pause = min(max(2*b.pause, reconnectFirst), reconnectMost)
	return b.pause/2 + rand.N(b.pause)
}
