package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"syscall"
	"time"
)

func sustainedSection() section {
	return section{
		name: "sustained", run: runSustained,
		doc: "a long backlog of random keys, compaction included, as in stream: rows of 400 B in transactions of 100. " +
			"Memory is the peak of RssAnon + RssShmem, mapped that of RssFile, sampled every 100 ms; write amplification is write_bytes of the process to its end ÷ framed bytes applied; " +
			"growth is the exponent of time from a tenth of the rows to all of them, 1 if linear",
	}
}

// sustainedRows are those of one long measurement.
const (
	sustainedRows = 1_000_000
	sustainedFull = 5_000_000
	sustained5GB  = 12_500_000 // of 400 B
	// growthPart is how many times less the first part is whose time growth is
	// computed from.
	growthPart = 10
)

func runSustained(ctx context.Context, s *suite) error {
	for range s.long {
		if err := sustain(ctx, s, "1M", sustainedRows); err != nil {
			return err
		}
	}
	if !s.full {
		return nil
	}
	for range s.long {
		if err := sustain(ctx, s, "5M", sustainedFull); err != nil {
			return err
		}
	}
	return sustain(ctx, s, "5GB", sustained5GB) // once: it takes seven minutes
}

func sustain(ctx context.Context, s *suite, name string, n int) (err error) {
	const table = "events_400"
	src, err := s.newSource(ctx, "sustained")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close(ctx)) }()
	if err := src.settle(ctx); err != nil {
		return err
	}
	var early time.Duration
	r, err := src.round(ctx, insert(table, values400, n, 100), true, func(ctx context.Context, d *daemon) error {
		return d.until(ctx, func() (bool, error) {
			st, err := d.status(ctx)
			early = time.Since(d.started)
			return err == nil && st.Rows[table] >= int64(n/growthPart), nil
		})
	})
	if err != nil {
		return err
	}
	stream, err := diskBytes(filepath.Join(src.data(), "stream"))
	if err != nil {
		return err
	}
	store, err := diskBytes(filepath.Join(src.data(), "store"))
	if err != nil {
		return err
	}
	rows, lower := float64(n), traits{lower: true}
	record := func(figure, unit string, t traits, value float64) {
		s.record("sustained", name+"/"+figure, unit, t, value)
	}
	record("ratio", "ratio", traits{guard: true, atLeast: 0.5, aim: 0.8}, r.receiver.Seconds()/r.ingest.Seconds())
	record("ingest", "rows/s", traits{}, rows/r.ingest.Seconds())
	record("pg_recvlogical", "rows/s", traits{}, rows/r.receiver.Seconds())
	record("cpu", "s/Mrows", lower, r.used.cpu.Seconds()/rows*1e6)
	record("memory", "MiB", traits{lower: true, atLeast: 500, aim: 250}, mebibytes(r.used.memory))
	record("mapped", "MiB", lower, mebibytes(r.used.mapped))
	record("write-amplification", "x", traits{lower: true, atLeast: 8, aim: 4}, float64(r.written)/r.framed)
	record("framed", "B/row", lower, r.framed/rows)
	record("disk/stream", "B/row", lower, float64(stream)/rows)
	record("disk/store", "B/row", lower, float64(store)/rows)
	record("growth", "exponent", lower, exponent(early, r.ingest, growthPart))
	return nil
}

// exponent is e in time ~ size^e, of the times for a size and for so many times it.
func exponent(once, times time.Duration, factor float64) float64 {
	return math.Log(times.Seconds()/once.Seconds()) / math.Log(factor)
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// diskBytes is what a directory takes on disk: files with holes count by their
// blocks.
func diskBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			n += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", dir, err)
	}
	return n, nil
}
