package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"dreamfeed/internal/change"
)

func freshnessSection() section {
	return section{
		name: "freshness", run: runFreshness,
		doc: "from the commit on the source, as its client learns of it, to readable in the store, at fixed rates of transactions of one row on 8 connections. " +
			"The store's position is asked for every " + watchEvery.String() + ", which is the resolution and is contained; asking is what that costs ingest",
	}
}

const (
	// freshnessConnections write; each waits for its commits.
	freshnessConnections = 8
	freshnessSeconds     = 3
	freshnessFull        = 10
	// freshnessWithin is how long the last transaction may take to become readable.
	freshnessWithin = 30 * time.Second
	// watchEvery is the resolution: how often the store's position is asked for.
	watchEvery = 4 * time.Millisecond
)

func runFreshness(ctx context.Context, s *suite) (err error) {
	seconds := freshnessSeconds
	if s.full {
		seconds = freshnessFull
	}
	src, err := s.newSource(ctx, "freshness")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close(ctx)) }()
	d, err := src.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(d.stop(), err) }()
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	if err := s.watching(ctx, d); err != nil {
		return err
	}
	for _, rate := range []int{100, 1000, 5000} {
		for range s.long {
			if err := src.freshness(ctx, d, rate, rate*seconds); err != nil {
				return fmt.Errorf("%d transactions/s: %w", rate, err)
			}
		}
	}
	return nil
}

// watching says what it costs ingest to be asked for its position all the time.
func (s *suite) watching(ctx context.Context, d *daemon) error {
	before := d.used().cpu
	took, err := timed(func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := d.positions(ctx)
		return err
	})
	if err != nil {
		return err
	}
	s.record("freshness", "asking", "% of a core", traits{lower: true}, 100*(d.used().cpu-before).Seconds()/took.Seconds())
	return nil
}

// position is what the store was known to show at a moment.
type position struct {
	at  time.Time
	lsn change.LSN
}

// positions asks for the position that the store shows until ctx ends, every
// watchEvery. The moment of each is that of the answer, so that no position is
// noted before it was readable.
func (d *daemon) positions(ctx context.Context) (list []position, err error) {
	for next := time.Now(); ctx.Err() == nil; next = next.Add(watchEvery) {
		if late := time.Now(); next.Before(late) {
			next = late // an answer that took long is not made up for
		}
		pause(next)
		st, err := d.status(ctx)
		if ctx.Err() != nil {
			return list, nil //nolint:nilerr // the last question was cut off by the end
		}
		if err != nil {
			return nil, err
		}
		lsn, err := st.applied()
		if err != nil {
			return nil, err
		}
		list = append(list, position{time.Now(), lsn})
	}
	return list, nil
}

// insertOne is a row of events_400 without an array to draw from.
const insertOne = `INSERT INTO events_400 SELECT gen_random_uuid(), md5(floor(random() * 100000)::text)::uuid, gen_random_uuid(), 'view', 'ACTIVE', 'DE', ` +
	`floor(random() * 1000)::int, random(), random(), true, 12.34, NULL, ` + moment + `, ` + moment + `, repeat('note ', 32)`

// freshness commits transactions at a rate, and records after what time they were
// readable. The position of a transaction is where the log was flushed to right
// after its commit: at or shortly behind its end.
func (src *source) freshness(ctx context.Context, d *daemon, rate, count int) error {
	var conns []*pgx.Conn
	defer func() {
		for _, c := range conns {
			c.Close(context.WithoutCancel(ctx))
		}
	}()
	committed := make([][]position, freshnessConnections)
	for range freshnessConnections {
		conn, err := pgx.Connect(ctx, src.url)
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		for name, sql := range map[string]string{"one": insertOne, "lsn": "SELECT pg_current_wal_flush_lsn()::text"} {
			if _, err := conn.Prepare(ctx, name, sql); err != nil {
				return err
			}
		}
	}
	var seen []position
	watch, stop := context.WithCancel(ctx)
	defer stop()
	var watcher errgroup.Group
	watcher.Go(func() (err error) {
		seen, err = d.positions(watch)
		return err
	})
	began := time.Now()
	err := pace(ctx, float64(rate), count, freshnessConnections, func(ctx context.Context, worker int, _ time.Time) error {
		p, err := commitOne(ctx, conns[worker].PgConn())
		committed[worker] = append(committed[worker], p)
		return err
	})
	took := time.Since(began)
	if err == nil {
		err = src.awaitReadable(ctx, d)
	}
	stop()
	if err := errors.Join(err, watcher.Wait()); err != nil {
		return err
	}
	delays, err := delaysOf(slices.Concat(committed...), seen)
	if err != nil {
		return err
	}
	record := func(name, unit string, t traits, value float64) {
		src.suite.record("freshness", fmt.Sprintf("%d/s/%s", rate, name), unit, t, value)
	}
	targets := traits{lower: true}
	if rate == 1000 {
		targets = traits{lower: true, atLeast: 100, aim: 25}
	}
	record("p50", "ms", traits{lower: true}, milliseconds(percentile(delays, 50)))
	record("p99", "ms", targets, milliseconds(percentile(delays, 99)))
	record("p99.9", "ms", traits{lower: true}, milliseconds(percentile(delays, 99.9)))
	record("reached", "tx/s", traits{}, float64(count)/took.Seconds())
	return nil
}

// awaitReadable commits one row more and waits for it: all others are readable
// then, and the watcher has seen it.
func (src *source) awaitReadable(ctx context.Context, d *daemon) error {
	ctx, cancel := context.WithTimeoutCause(ctx, freshnessWithin, errors.New("the last transaction did not become readable within "+freshnessWithin.String()))
	defer cancel()
	fence, err := src.fence(ctx)
	if err != nil {
		return err
	}
	if err := d.awaitApplied(ctx, fence); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	timer := time.NewTimer(10 * watchEvery)
	defer timer.Stop()
	<-timer.C
	return nil
}

// commitOne commits one row, and asks in the same round trip where the log was
// flushed to.
func commitOne(ctx context.Context, conn *pgconn.PgConn) (p position, err error) {
	pipeline := conn.StartPipeline(ctx)
	defer func() { err = errors.Join(err, pipeline.Close()) }()
	for _, name := range []string{"one", "lsn"} {
		pipeline.SendQueryPrepared(name, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			return p, err
		}
	}
	// Per statement its result, and then the mark that its transaction has ended.
	for range 2 {
		results, err := pipeline.GetResults()
		if err != nil {
			return p, err
		}
		reader, ok := results.(*pgconn.ResultReader)
		if !ok {
			return p, fmt.Errorf("commit one row: %T instead of a result", results)
		}
		rows := reader.Read()
		if rows.Err != nil {
			return p, rows.Err
		}
		if _, err := pipeline.GetResults(); err != nil {
			return p, err
		}
		if p.at.IsZero() {
			p.at = time.Now()
			continue
		}
		if p.lsn, err = change.ParseLSN(string(rows.Rows[0][0])); err != nil {
			return p, err
		}
	}
	return p, nil
}

// delaysOf is after what time each committed position was first seen; what was
// seen before the client knew of its commit took no time. seen is in order.
func delaysOf(committed, seen []position) ([]time.Duration, error) {
	delays := make([]time.Duration, 0, len(committed))
	for _, c := range committed {
		i, _ := slices.BinarySearchFunc(seen, c.lsn, func(p position, lsn change.LSN) int {
			if p.lsn < lsn {
				return -1
			}
			return 1
		})
		if i == len(seen) {
			return nil, fmt.Errorf("position %s was never seen in the store", c.lsn)
		}
		delays = append(delays, max(0, seen[i].at.Sub(c.at)))
	}
	return delays, nil
}
