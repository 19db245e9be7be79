package featurestore

import (
	"context"
	"time"

	"dreamfeed/internal/change"
)

// PathBarrier is where a daemon is asked for a moment up to which everything
// that was committed on the source before is known (DESIGN §3). NewHandler does
// not serve it: it takes the source, and the daemon has both.
const PathBarrier = "/v1/barrier"

// BarrierQuestion is the body of a request for PathBarrier.
type BarrierQuestion struct {
	// Wait is how long the source may take to answer and the store to apply, in
	// milliseconds together.
	Wait int64 `json:"wait_ms"`
}

// BarrierAnswer is the answer to it.
type BarrierAnswer struct {
	// Version is a closed moment: everything that was committed on the source
	// before the question is in a view as of it, whole transactions only (I4).
	Version change.Version `json:"version"`
	// LSN is the position of the source that was waited for.
	LSN change.LSN `json:"lsn"`
}

// Barrier asks the daemon for the moment up to which everything that is committed
// on the source by now is applied, and waits for it, for at most wait.
//
// Errors: *LagError when the store did not get there in time, *RemoteError when
// the source gave no position, ErrToken, ErrClosed.
func (c *Client) Barrier(ctx context.Context, wait time.Duration) (BarrierAnswer, error) {
	var answer BarrierAnswer
	err := c.Ask(ctx, PathBarrier, BarrierQuestion{Wait: wait.Milliseconds()}, &answer)
	return answer, err
}
