package featurestore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/disk"
	"dreamfeed/internal/durable"
)

// Input is where batches come from.
type Input interface {
	// Next waits for the next message, and fails when ctx ends. The batch's
	// memory is valid until the next call.
	Next(ctx context.Context) (*change.Batch, error)
	// Ready says whether Next would return at once.
	Ready() bool
}

// Run applies what in gives, which must begin at the message after the
// watermark (Watermark().Sequence + 1, or the beginning), until ctx ends or
// something is wrong. Messages at or below the watermark are ignored.
//
// Many messages are written as one group, which is closed when it is full or
// when in has nothing ready; while one group is written the next is filled.
//
// When ctx ends, Run returns its cause; what is not written then comes again
// from the stream. Errors for a caller to tell apart: *ChainError,
// *UnresolvedError, *RelationError, *RowError, *RowSizeError.
func (s *Store) Run(ctx context.Context, in Input) error {
	return s.write(ctx, func(ctx context.Context, w *writer) error {
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b, err := in.Next(ctx)
			if err != nil {
				if cause := context.Cause(ctx); cause != nil {
					return cause
				}
				return fmt.Errorf("read the stream after message %d: %w", w.state.Sequence, err)
			}
			if err := w.apply(b); err != nil {
				return err
			}
			if w.full(0) || !in.Ready() {
				if err := w.flush(); err != nil {
					return err
				}
			}
		}
	})
}

// Apply applies batches in order and returns when they are written.
func (s *Store) Apply(ctx context.Context, batches ...*change.Batch) error {
	return s.write(ctx, func(_ context.Context, w *writer) error {
		for _, b := range batches {
			if err := w.apply(b); err != nil {
				return err
			}
			if w.full(0) {
				if err := w.flush(); err != nil {
					return err
				}
			}
		}
		return w.flush()
	})
}

// write runs fn with the one writer there may be. The context that fn gets ends
// when a group could not be written, with the reason as its cause.
func (s *Store) write(ctx context.Context, fn func(context.Context, *writer) error) (err error) {
	if s.readOnly {
		return ErrReadOnly
	}
	if !s.writing.TryLock() {
		return ErrBusy
	}
	defer s.writing.Unlock()
	done, err := s.read()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	defer watch.Wait()
	ended := make(chan struct{})
	defer close(ended)
	watch.Go(func() {
		select {
		case <-s.closing:
			cancel(ErrClosed)
		case <-ended:
		}
	})
	w, err := s.newWriter(func(g *group) {
		go func() { // waited for by land
			err := s.commit(ctx, g)
			if err != nil {
				cancel(err) // Next may wait for long: it must hear of it
			}
			g.done <- err
		}()
	}, func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = fn(ctx, w)
	if landed := w.close(); landed != nil && !errors.Is(err, landed) {
		err = errors.Join(err, landed)
	}
	return err
}

// commit writes a group: once there is disk for it, with its watermark. Only then is
// the watermark published.
func (s *Store) commit(ctx context.Context, g *group) error {
	if err := s.awaitDisk(ctx); err != nil {
		return err
	}
	begin := time.Now()
	s.turn.Lock()
	at, err := g.write(s.db, s.hook)
	s.turn.Unlock()
	if err != nil {
		return err
	}
	if s.replayable {
		if s.marks.full() {
			s.Durable() // what lies in tables need not be remembered
		}
		s.marks.note(at, g.state.Watermark)
	}
	if err := s.hook.At(durable.Show, uint64(g.state.EndLSN)); err != nil {
		return fmt.Errorf("show a group of %d entries with %d bytes: %w", len(g.entries), g.size, err)
	}
	s.show(g)
	s.meters.note(g, time.Since(begin))
	return nil
}

// DiskReserve is the free disk in bytes that is left alone: the reserve of the
// options, and what merging level 0 may write before it gives anything back. 0
// without a reserve.
func (s *Store) DiskReserve() uint64 {
	if s.reserve == 0 {
		return 0
	}
	return s.reserve + s.mergeBytes.Load()
}

// measureMerge notes what merging level 0 would write by now: what the memtables become,
// all that lies there and, since keys are random, all of the level below anew.
func (s *Store) measureMerge() {
	size := (memtables + 1) * s.memtable
	for _, l := range s.db.Levels() {
		if l.Level == 0 || l.IsBaseLevel {
			size += l.Size
		}
	}
	s.mergeBytes.Store(uint64(size))
}

// awaitDisk returns when there is more free disk than the reserve. Badger maps
// its files and dies when the disk is full, so it must not get there.
func (s *Store) awaitDisk(ctx context.Context) error {
	if s.reserve == 0 {
		return nil
	}
	s.measureMerge()
	var poll *time.Ticker
	defer s.meters.paused.Store(false)
	for {
		free, err := disk.Free(s.dir)
		if err != nil {
			return err
		}
		if free >= s.DiskReserve() {
			if poll != nil {
				s.log.Info("applying goes on", "free_bytes", free)
			}
			return nil
		}
		if poll == nil {
			poll = time.NewTicker(diskPoll)
			defer poll.Stop()
			s.meters.paused.Store(true)
			s.log.Error("applying is paused until disk is freed", "dir", s.dir, "free_bytes", free, "reserve_bytes", s.DiskReserve())
		}
		select {
		case <-poll.C:
			s.measureMerge()
		case <-ctx.Done():
			return fmt.Errorf("write to store %s: %w (%d bytes free, reserve %d): free some disk: %w",
				s.dir, ErrDiskReserve, free, s.DiskReserve(), context.Cause(ctx))
		}
	}
}
