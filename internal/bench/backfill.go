package main

import (
	"context"
	"errors"
	"io"
	"time"
)

func backfillSection() section {
	return section{
		name: "backfill", smoke: true, run: runBackfill,
		doc: "rows/s from an empty data directory to a complete store, from the start of the process until /readyz is green, beside COPY … TO STDOUT of the same table to nowhere",
	}
}

const (
	backfillRows      = 1_000_000
	backfillRowsSmoke = 200_000
)

func runBackfill(ctx context.Context, s *suite) (err error) {
	rows, runs := backfillRows, s.long
	if s.smoke {
		rows, runs = backfillRowsSmoke, smokeRounds
	}
	src, err := s.newSource(ctx, "backfill")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close(ctx)) }()
	if err := src.fill(ctx, "events_400", values400, rows); err != nil {
		return err
	}
	if _, err := src.Exec(ctx, "VACUUM ANALYZE events_400"); err != nil {
		return err
	}
	for range runs {
		copied, err := timed(func() error {
			_, err := src.PgConn().CopyTo(ctx, io.Discard, "COPY events_400 TO STDOUT")
			return err
		})
		if err != nil {
			return err
		}
		took, used, err := src.backfill(ctx)
		if err != nil {
			return err
		}
		s.record("backfill", "400B/ratio", "ratio", traits{guard: true, atLeast: 0.15, aim: 0.3}, copied.Seconds()/took.Seconds())
		if s.smoke {
			continue
		}
		s.record("backfill", "400B/ingest", "rows/s", traits{}, float64(rows)/took.Seconds())
		s.record("backfill", "400B/copy", "rows/s", traits{}, float64(rows)/copied.Seconds())
		s.record("backfill", "400B/cpu", "s/Mrows", traits{lower: true}, used.cpu.Seconds()/float64(rows)*1e6)
		s.record("backfill", "400B/memory", "MiB", traits{lower: true, atLeast: 500, aim: 250}, mebibytes(used.memory))
	}
	return nil
}

// backfill has ingest read the tables into an empty data directory, and forgets
// it again. It is timed from the start of the process until /readyz is green.
func (src *source) backfill(ctx context.Context) (took time.Duration, used usage, err error) {
	d, err := src.start(ctx)
	if err != nil {
		return 0, used, err
	}
	err = d.awaitReady(ctx)
	took, used = time.Since(d.started), d.used()
	if err := errors.Join(err, d.stop()); err != nil {
		return 0, used, err
	}
	return took, used, src.forget(ctx)
}
