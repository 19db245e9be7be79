package main

import (
	"fmt"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/disk"
)

const (
	// leastStream is the smallest stream that can hold what is under way: a few
	// of the largest messages.
	leastStream = 64 << 20
	// leastReserve keeps the store's files, which are mapped into memory and grow
	// by tens of MiB, from meeting a full disk.
	leastReserve = 128 << 20
	// leastHistory is the shortest history that is kept. Nothing but the moments
	// that a dataset can be built of depends on it: what views, kept versions and
	// refills need stays in any case.
	leastHistory = time.Second
	// memoryLimit is what the garbage collector aims to stay below unless
	// GOMEMLIMIT says otherwise; the process may have some 50 MiB more. Measured over
	// a backlog of 1 million rows, which takes 390 MiB: 640 MiB was no faster.
	memoryLimit = 432 << 20
)

// check refuses settings that cannot work before anything is opened.
func (c *runCommand) check() error {
	usage := func(format string, args ...any) error {
		return &cli.UsageError{Err: fmt.Errorf(format, args...)}
	}
	switch {
	case !cdc.SourceGiven(c.DatabaseURL):
		return errNoDatabase
	case c.BackfillWorkers < 1 || c.BackfillWorkers > 64:
		return usage("--backfill-workers %d: want 1 to 64", c.BackfillWorkers)
	case c.StreamMaxBytes < leastStream:
		return usage("--stream-max-bytes %d: want %d (64 MiB) or more, or the stream could be too small for what is under way", c.StreamMaxBytes, leastStream)
	case c.DiskReserve < leastReserve:
		return usage("--disk-reserve %d: want %d (128 MiB) or more, for a full disk would end the process", c.DiskReserve, leastReserve)
	case c.ReplayWindow < 0:
		return usage("--replay-window %s: want 0 or longer", c.ReplayWindow)
	case c.History < leastHistory:
		return usage("--history %s: want %s or longer", c.History, leastHistory)
	case c.MaxStaleness < 0:
		return usage("--max-staleness %s: want 0, which is none, or longer", c.MaxStaleness)
	case c.ReadyLag <= 0:
		return usage("--ready-lag %s: want longer than 0", c.ReadyLag)
	case c.MaxRowBytes < 1<<20 || c.MaxRowBytes > 1<<30:
		return usage("--max-row-bytes %d: want %d (1 MiB) to %d (1 GiB)", c.MaxRowBytes, 1<<20, 1<<30)
	}
	return nil
}

// roomToStart refuses to open a store on a disk that is as good as full. The
// store maps its files into memory, and a write to a mapped file for which there
// is no disk ends the process without a word.
func roomToStart(dir string, reserve uint64) error {
	free, err := disk.Free(dir)
	if err != nil {
		return err
	}
	if free < reserve {
		return fmt.Errorf("data directory %s has %d bytes of free disk, less than the reserve of %d: free some disk, or lower --disk-reserve", dir, free, reserve)
	}
	return nil
}

// roomToGoOn says why reading and applying are paused for want of disk, nil if they
// are not.
func (s *server) roomToGoOn() error {
	free, err := disk.Free(s.DataDir)
	if err != nil {
		return err
	}
	if left := s.Store.DiskReserve(); free < left {
		return fmt.Errorf("data directory %s has %d bytes of free disk, and %d are left alone, for --disk-reserve and for what merging the store may take: free some disk", s.DataDir, free, left)
	}
	return nil
}
