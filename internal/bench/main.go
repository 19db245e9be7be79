// Command bench measures Dreamfeed beside what bounds it, on one machine: the
// stream beside pg_recvlogical, the backfill beside COPY, a dataset beside DuckDB
// and beside a bare Parquet writer; and how fresh, how small and how quick to
// answer the store is. Absolute figures are the machine's; ratios are Dreamfeed's.
//
//	generator ──SQL──▶ PostgreSQL ──replication──▶ ingest ◀──view── snapshot
//	                     │    └──copy of the slot──▶ pg_recvlogical
//	                     └──COPY──▶ nowhere
//
// A section of the list below measures one of these and records figures. The
// program prints them as a table and, with -o, leaves them as JSON, as text that
// benchstat compares, and in a Markdown file between two marks. With -smoke it
// runs the smallest sizes alone and compares their ratios with the recorded ones.
//
// Everything it starts it ends; what it makes lies in its directory, and is
// removed when it has been measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"dreamfeed/internal/pgtest"
)

// sections are all parts of the benchmark, in the order in which they run.
func sections() []section {
	return []section{
		streamSection(),
		sustainedSection(),
		backfillSection(),
		freshnessSection(),
		onlineSection(),
		datasetSection(),
		smokeSection(),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s := &suite{began: time.Now(), stdout: stdout}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.dir, "dir", "data/bench", "directory for everything that is made; emptied first")
	flags.StringVar(&s.ingest, "ingest", "bin/ingest", "the program ingest")
	flags.StringVar(&s.snap, "snapshot", "bin/snapshot", "the program snapshot")
	flags.StringVar(&s.duck, "duck", "", "the program of oracle/bench; without it DuckDB is not compared with")
	flags.StringVar(&s.only, "only", "", "comma-separated sections; all without it")
	flags.BoolVar(&s.full, "full", false, "the largest sizes too")
	flags.BoolVar(&s.smoke, "smoke", false, "the smallest sizes alone, compared with what -baseline has recorded")
	flags.IntVar(&s.runs, "runs", 5, "runs of a short measurement")
	flags.IntVar(&s.long, "long", 4, "runs of a long one")
	flags.StringVar(&s.out, "o", "", "directory for benchmarks.json, BENCHMARKS.md and benchmarks.txt; nothing is written without it")
	flags.StringVar(&s.commit, "commit", "unknown", "commit that the programs were built from, for the record")
	flags.StringVar(&s.baseline, "baseline", "docs/benchmarks.json", "the record that -smoke compares with")
	flags.StringVar(&s.workloads, "workloads", "", "comma-separated workloads of the section stream; all without it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := s.check(flags.Args()); err != nil {
		return err
	}
	if err := prepare(s.dir); err != nil {
		return err
	}
	return s.withServer(ctx, func() error {
		if err := s.noteVersions(ctx); err != nil {
			return err
		}
		if s.smoke {
			return s.runSmoke(ctx)
		}
		return s.runAll(ctx, args)
	})
}

// withServer runs fn beside a PostgreSQL of its own, whose data it removes.
func (s *suite) withServer(ctx context.Context, fn func() error) (err error) {
	dir := filepath.Join(s.dir, "postgres")
	s.pg, err = pgtest.Start(ctx, pgtest.Config{Dir: dir, Settings: serverSettings()})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		err = errors.Join(err, s.pg.Close(ctx), os.RemoveAll(dir))
	}()
	return fn()
}

// serverSettings are those of a server with some memory. Its writes are not
// synced, for both sides of every comparison alike, and no checkpoint falls into
// a measurement.
func serverSettings() map[string]string {
	return map[string]string{
		"shared_buffers":            "512MB",
		"max_wal_size":              "8GB",
		"checkpoint_timeout":        "1h",
		"autovacuum":                "off",
		"max_connections":           "100",
		"max_slot_wal_keep_size":    "-1",
		"logical_decoding_work_mem": "64MB",
	}
}

// mark is the file by which a directory of the benchmark is known.
const mark = ".dreamfeed-bench"

// prepare makes dir, and empties it of what an earlier benchmark left. It refuses
// a directory that holds anything else.
func prepare(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, mark)); err != nil {
			return fmt.Errorf("directory %s is not empty and no earlier benchmark made it: choose another with -dir", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, mark), nil, 0o644)
}
