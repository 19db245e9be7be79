package snapshot

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dreamfeed/snapshot/spill"
)

// scan runs fn over all spilled rows, a chunk at a time, each worker over whole
// partitions. fn is told its worker, and only the columns wanted are filled.
func (b *build) scan(ctx context.Context, name string, columns []int, fn func(worker int, rows *spill.Batch) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	step := b.step(name, partitions)
	for w := range b.Workers {
		group.Go(func() error {
			scanner := b.set.Scanner(columns)
			for {
				p := int(next.Add(1)) - 1
				if p >= partitions {
					return nil
				}
				if err := scanner.Scan(ctx, p, func(rows *spill.Batch) error { return fn(w, rows) }); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				step(1)
			}
		})
	}
	return group.Wait()
}

// step begins a step of known length and returns what reports its progress.
func (b *build) step(name string, total int64) func(n int64) {
	var mu sync.Mutex
	var done int64
	b.Logger.Debug("dataset step", "step", name)
	if b.Progress != nil {
		b.Progress(name, 0, total)
	}
	return func(n int64) {
		if b.Progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		done += n
		b.Progress(name, done, total)
	}
}

// each makes one value for each worker.
func each[T any](workers int, make1 func() T) []T {
	list := make([]T, workers)
	for i := range list {
		list[i] = make1()
	}
	return list
}
