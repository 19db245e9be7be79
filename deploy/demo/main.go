// Command demo shows the whole chain on one machine: a throw-away PostgreSQL
// with a populated Dreamscape database, ingest backfilling it and following
// live traffic, and snapshot building dataset version 1.0 as of a moment in the
// middle of the traffic and 1.1 as of now. Then the store of that moment is rebuilt
// from the stream, 1.0 is built of it again and must be the same bytes; and the
// features of this moment are asked for beside the same user's row of 1.1.
//
//	workload ──SQL──▶ PostgreSQL ──replication──▶ bin/ingest ◀──view── bin/snapshot
//	                                                 │ ▲
//	                  bin/ingest rebuild ◀──stream───┘ └── /v1/features
//
// Everything it starts it ends; stream, stores and datasets stay in its directory.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type settings struct {
	dir, bin     string
	users, items int
	days         int
	traffic      time.Duration
	rate         int
	seed         int64
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.dir, "dir", "demo", "directory for stream, store and dataset; emptied first")
	flags.StringVar(&s.bin, "bin", "bin", "directory of the programs ingest and snapshot")
	flags.IntVar(&s.users, "users", 2000, "users in the populated database")
	flags.IntVar(&s.items, "items", 500, "items in the catalogue")
	flags.IntVar(&s.days, "days", 90, "days of history")
	flags.DurationVar(&s.traffic, "traffic", 10*time.Second, "how long live traffic runs")
	flags.IntVar(&s.rate, "rate", 200, "live transactions a second")
	flags.Int64Var(&s.seed, "seed", 42, "seed of the workload")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := prepare(s.dir); err != nil {
		return err
	}
	began := time.Now()
	say := func(format string, a ...any) {
		fmt.Fprintf(stdout, "[%5.1fs] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, a...))
	}

	server, err := pgtest.Start(ctx, pgtest.Config{})
	if err != nil {
		return err
	}
	defer server.Close(context.WithoutCancel(ctx))
	url := server.URL("dreamscape")
	if err := populate(ctx, server, url, s, say); err != nil {
		return err
	}
	ingest, err := startIngest(ctx, s, url)
	if err != nil {
		return err
	}
	defer func() { _ = ingest.stop() }() // an orderly end stops it before
	if err := ingest.waitReady(ctx); err != nil {
		return err
	}
	say("ingest has backfilled and follows the database; %s/v1/status tells more", ingest.base)

	say("live traffic for %s at %d transactions a second", s.traffic, s.rate)
	if err := traffic(ctx, url, s, 0); err != nil {
		return err
	}
	earlier, err := ingest.waitIdle(ctx)
	if err != nil {
		return err
	}
	if err := traffic(ctx, url, s, 1); err != nil {
		return err
	}
	if _, err := ingest.waitIdle(ctx); err != nil {
		return err
	}
	p := &programs{settings: s, stdout: stdout, stderr: stderr, say: say}
	if err := p.travel(ctx, earlier.Applied.Moment); err != nil {
		return err
	}
	if err := p.lookUp(ctx, ingest, url); err != nil {
		return err
	}
	if err := ingest.stop(); err != nil {
		return fmt.Errorf("ingest did not stop cleanly: %w; its log is %s", err, ingest.log)
	}
	say("done; the result is in %s", s.dir)
	return nil
}

// prepare makes dir, and empties it of what an earlier demo left. It refuses a
// directory that holds anything else.
func prepare(dir string) error {
	mark := filepath.Join(dir, ".dreamfeed-demo")
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(mark); err != nil {
			return fmt.Errorf("directory %s is not empty and no earlier demo made it: choose another with -dir", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

func populate(ctx context.Context, server *pgtest.Server, url string, s settings, say func(string, ...any)) error {
	if err := server.CreateDatabase(ctx, "dreamscape"); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := workload.CreateSchema(ctx, conn); err != nil {
		return err
	}
	cfg := workload.Config{Seed: s.seed, Users: s.users, Items: s.items, Days: s.days, Now: time.Now().UTC()}
	summary, err := workload.Populate(ctx, conn, cfg)
	if err != nil {
		return err
	}
	rows := 0
	for _, n := range summary.Rows {
		rows += int(n)
	}
	say("populated a throw-away PostgreSQL with %d rows of %d users", rows, s.users)
	return nil
}

// traffic runs one half of the live traffic.
func traffic(ctx context.Context, url string, s settings, half int64) error {
	_, err := workload.Run(ctx, url, workload.Traffic{Seed: s.seed + half, Rate: float64(s.rate), Duration: s.traffic / 2, Connections: 4})
	return err
}
