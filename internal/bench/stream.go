package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dreamfeed/internal/change"
)

func streamSection() section {
	return section{
		name: "stream", smoke: true, run: runStream,
		doc: "rows/s from slot to durable, readable store, beside pg_recvlogical of a copy of the slot to a file. " +
			"A backlog is made while nobody reads; then each side reads it, in turn first, timed from the start of its process. " +
			"pg_recvlogical has its defaults: it syncs its file every 10 s and at its end. Figures: ratio of the two rates of one round; CPU of ingest alone; start is a backlog of one row",
	}
}

// load is one kind of changes.
type load struct {
	name     string
	rows     int // changed in a round
	prepare  func(ctx context.Context, src *source) error
	generate func(rows int) string
	smoke    bool
	// atLeast and aim are what the ratio should reach, 0 for none.
	atLeast, aim float64
}

// loads are sized so that one side takes one to two seconds.
func loads() []load {
	inserts := func(name, table, values string, rows, per int, least, aim float64) load {
		return load{
			name: name, rows: rows, atLeast: least, aim: aim, smoke: name == "tx10/400B" || name == "tx100/400B",
			generate: func(rows int) string { return insert(table, values, rows, per) },
		}
	}
	updates := func(name, table, values string, base, rows, per int) load {
		return load{
			name: name, rows: rows, atLeast: 0.5, aim: 0.8,
			prepare:  func(ctx context.Context, src *source) error { return src.fill(ctx, table, values, base) },
			generate: func(rows int) string { return update(table, rows, per) },
		}
	}
	return []load{
		inserts("tx1/400B", "events_400", values400, 30_000, 1, 0.4, 0.7),
		inserts("tx10/400B", "events_400", values400, 80_000, 10, 0.5, 0.8),
		inserts("tx100/400B", "events_400", values400, 100_000, 100, 0.5, 0.8),
		inserts("tx100000/400B", "events_400", values400, 100_000, 100_000, 0.5, 0.8),
		inserts("tx100/200B", "events_200", values200, 120_000, 100, 0.5, 0.8),
		inserts("tx100/1600B", "events_1600", values1600, 60_000, 100, 0.5, 0.8),
		updates("wide/tx100/1600B", "wide", valuesWide, 10_000, 40_000, 100),
		updates("hot/tx10/400B", "hot", values400, 100, 80_000, 10),
	}
}

func runStream(ctx context.Context, s *suite) error {
	names := strings.Split(s.workloads, ",")
	for _, w := range loads() {
		if s.smoke && !w.smoke || s.workloads != "" && !slices.Contains(names, w.name) {
			continue
		}
		rounds := s.runs
		if s.smoke {
			w.rows, rounds = w.rows/2, smokeRounds
		}
		if err := runLoad(ctx, s, w, rounds); err != nil {
			return fmt.Errorf("workload %s: %w", w.name, err)
		}
	}
	if s.smoke {
		return nil
	}
	return runStart(ctx, s)
}

func runLoad(ctx context.Context, s *suite, w load, rounds int) (err error) {
	src, err := s.newSource(ctx, "stream")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close(ctx)) }()
	if w.prepare != nil {
		if err := w.prepare(ctx, src); err != nil {
			return err
		}
	}
	if err := src.settle(ctx); err != nil {
		return err
	}
	for i := range rounds {
		r, err := src.round(ctx, w.generate(w.rows), i%2 == 0, nil)
		if err != nil {
			return err
		}
		rows := float64(w.rows)
		s.record("stream", w.name+"/ratio", "ratio", traits{guard: true, atLeast: w.atLeast, aim: w.aim}, r.receiver.Seconds()/r.ingest.Seconds())
		if s.smoke {
			continue
		}
		s.record("stream", w.name+"/ingest", "rows/s", traits{}, rows/r.ingest.Seconds())
		s.record("stream", w.name+"/pg_recvlogical", "rows/s", traits{}, rows/r.receiver.Seconds())
		s.record("stream", w.name+"/cpu", "s/Mrows", traits{lower: true}, r.used.cpu.Seconds()/rows*1e6)
	}
	return nil
}

// runStart measures what both sides take when there is one row to send: it is
// contained in all other figures.
func runStart(ctx context.Context, s *suite) (err error) {
	src, err := s.newSource(ctx, "stream")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close(ctx)) }()
	if err := src.settle(ctx); err != nil {
		return err
	}
	for i := range s.runs {
		r, err := src.round(ctx, "SELECT 1", i%2 == 0, nil)
		if err != nil {
			return err
		}
		s.record("stream", "start/ingest", "ms", traits{lower: true}, milliseconds(r.ingest))
		s.record("stream", "start/pg_recvlogical", "ms", traits{lower: true}, milliseconds(r.receiver))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// result is what a round measured.
type result struct {
	ingest, receiver time.Duration
	used             usage   // by ingest until everything was applied
	written          int64   // by ingest until it had ended, bytes
	framed           float64 // bytes of the stream's messages that were applied
}

// round makes changes while nobody reads the slot, and then has both sides read
// them, each from a slot that stands where ingest stopped. Ingest is timed from
// the start of its process until its store shows the last change. watch, if not
// nil, is run beside it.
func (src *source) round(ctx context.Context, generate string, ingestFirst bool, watch func(context.Context, *daemon) error) (r result, err error) {
	const copied = "bench_copy"
	if _, err := src.Exec(ctx, generate); err != nil {
		return r, fmt.Errorf("make changes: %w", err)
	}
	fence, err := src.fence(ctx)
	if err != nil {
		return r, err
	}
	if _, err := src.Exec(ctx, "SELECT pg_copy_logical_replication_slot($1, $2)", slotName, copied); err != nil {
		return r, err
	}
	defer func() {
		clean := context.WithoutCancel(ctx)
		_, dropErr := src.Exec(clean, "SELECT pg_drop_replication_slot($1)", copied)
		err = errors.Join(err, dropErr)
	}()
	sides := []func() error{
		func() error { return src.receive(ctx, fence, copied, &r) },
		func() error { return src.apply(ctx, fence, &r, watch) },
	}
	if ingestFirst {
		slices.Reverse(sides)
	}
	for _, side := range sides {
		if err := side(); err != nil {
			return r, err
		}
		if err := src.inactive(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

// receive times pg_recvlogical, with its defaults: it syncs its file every 10 s and
// at its end.
func (src *source) receive(ctx context.Context, end change.LSN, slot string, r *result) (err error) {
	file := filepath.Join(src.suite.dir, "received")
	defer os.Remove(file)
	r.receiver, _, err = src.suite.finish(ctx, command{
		path: filepath.Join(src.programs, "pg_recvlogical"), log: "pg_recvlogical.log",
		args: []string{
			"--dbname", src.url, "--slot", slot, "--start", "--no-loop", "--file", file, "--endpos", end.String(),
			"--option", "proto_version=1", "--option", "publication_names=" + publicationName, "--option", "messages=true",
		},
	})
	return err
}

// apply times ingest, and stops it.
func (src *source) apply(ctx context.Context, end change.LSN, r *result, watch func(context.Context, *daemon) error) (err error) {
	d, err := src.start(ctx)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.stop())
		r.written = d.used().written
	}()
	if watch != nil {
		if err := watch(ctx, d); err != nil {
			return err
		}
	}
	if err := d.awaitApplied(ctx, end); err != nil {
		return err
	}
	r.ingest, r.used = time.Since(d.started), d.used()
	r.framed, err = d.metric(ctx, "dreamfeed_store_applied_bytes_total")
	return err
}
