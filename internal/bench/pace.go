package main

import (
	"context"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// pace calls do for count moments that lie at a rate from now on, an open loop: the
// moments do not wait for what was begun before. Each of the workers does one at a
// time; where all are busy a moment is begun late, and knows when it should have
// been.
func pace(ctx context.Context, rate float64, count, workers int, do func(ctx context.Context, worker int, intended time.Time) error) error {
	group, ctx := errgroup.WithContext(ctx)
	// As many moments as there are fit: the clock never waits for a worker.
	due := make(chan time.Time, count)
	group.Go(func() error {
		defer close(due)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		began := time.Now().Add(10 * time.Millisecond)
		for i := range count {
			at := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			pause(at)
			select {
			case due <- at:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for worker := range workers {
		group.Go(func() error {
			for at := range due {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(ctx, worker, at); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// percentile is the smallest value that at least so many percent of the values do
// not exceed (nearest rank); 0 of none. It sorts them.
func percentile(values []time.Duration, percent float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(math.Ceil(percent / 100 * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}
