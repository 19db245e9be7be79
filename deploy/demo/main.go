// Command demo shows the whole chain on one machine: a throw-away PostgreSQL
// with a populated Dreamscape database, ingest backfilling it and following
// live traffic, and snapshot building dataset version 1.0.
//
//	workload ──SQL──▶ PostgreSQL ──replication──▶ bin/ingest ◀──view── bin/snapshot
//
// Everything it starts it ends; stream, store and dataset stay in its directory.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
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
	if err := traffic(ctx, url, s); err != nil {
		return err
	}
	status, err := ingest.waitIdle(ctx)
	if err != nil {
		return err
	}
	say("applied up to %s, lag %d bytes", status.Applied.Moment, status.Lag.Bytes)

	say("snapshot --version 1.0")
	command := exec.CommandContext(ctx, filepath.Join(s.bin, "snapshot"), "--version", "1.0",
		"--data-dir", filepath.Join(s.dir, "data"), "--output", filepath.Join(s.dir, "datasets"), "--log-level", "warn")
	command.Stdout, command.Stderr = stdout, stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("snapshot: %w", err)
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

func traffic(ctx context.Context, url string, s settings) error {
	_, err := workload.Run(ctx, url, workload.Traffic{Seed: s.seed, Rate: float64(s.rate), Duration: s.traffic, Connections: 4})
	return err
}

// daemon is the running ingest.
type daemon struct {
	command *exec.Cmd
	base    string
	log     string
	done    chan struct{}
	err     error
}

func startIngest(ctx context.Context, s settings, url string) (*daemon, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	d := &daemon{base: "http://" + listen, log: filepath.Join(s.dir, "ingest.log"), done: make(chan struct{})}
	d.command = exec.CommandContext(ctx, filepath.Join(s.bin, "ingest"),
		"--data-dir", filepath.Join(s.dir, "data"), "--listen", listen, "--log-file", d.log)
	d.command.Env = append(os.Environ(), "DATABASE_URL="+url)
	d.command.Stderr = os.Stderr
	d.command.Cancel = func() error { return d.command.Process.Signal(syscall.SIGTERM) }
	d.command.WaitDelay = 20 * time.Second
	if err := d.command.Start(); err != nil {
		return nil, fmt.Errorf("start ingest: %w; `make build` makes it", err)
	}
	go func() {
		d.err = d.command.Wait()
		close(d.done)
	}()
	return d, nil
}

func (d *daemon) stop() error {
	select {
	case <-d.done:
	default:
		if err := d.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-d.done
	}
	return d.err
}

// waitReady polls /readyz until it is green or ingest has ended.
func (d *daemon) waitReady(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.done:
			return fmt.Errorf("ingest ended early: %w; its log is %s", d.err, d.log)
		case <-tick.C:
		}
	}
}

// waitIdle waits until everything that the database has written is applied.
func (d *daemon) waitIdle(ctx context.Context) (status, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := d.waitReady(ctx); err != nil {
			return status{}, err
		}
		s, err := d.status(ctx)
		if err != nil || s.Lag.Bytes == 0 {
			return s, err
		}
		select {
		case <-ctx.Done():
			return status{}, ctx.Err()
		case <-tick.C:
		}
	}
}

type status struct {
	Applied struct {
		Moment string `json:"moment"`
	} `json:"applied"`
	Lag struct {
		Bytes int64 `json:"bytes"`
	} `json:"lag"`
}

func (d *daemon) status(ctx context.Context) (status, error) {
	var s status
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/v1/status", nil)
	if err != nil {
		return s, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	return s, json.NewDecoder(response.Body).Decode(&s)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
