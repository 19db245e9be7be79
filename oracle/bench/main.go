// Command bench measures how long DuckDB takes for a dataset of the history that
// the benchmark of Dreamfeed has exported: joins as of each example's cut-off,
// aggregates, and Parquet files with the columns that snapshot writes.
//
// It loads the history into a database, which is not timed, runs dataset.sql as
// often as asked, compares what came out with the files of snapshot, and prints
// what it measured as JSON. A result that differs is an error: to be quick with
// another dataset would say nothing.
package main

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
)

//go:embed load.sql
var loadSQL string

//go:embed dataset.sql
var datasetSQL string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type settings struct {
	history, ours, dir, out string
	to                      int64
	window                  time.Duration
	threads, runs           int
	memory                  string
}

// result is what is printed.
type result struct {
	DuckDB string `json:"duckdb"`
	Rows   int64  `json:"rows"`
	// Load is how long the history took to load, Seconds how long each run took, CPU
	// how much of all cores it used.
	Load    float64   `json:"load_seconds"`
	Seconds []float64 `json:"seconds"`
	CPU     []float64 `json:"cpu_seconds"`
	// Columns is how many columns agreed with those of snapshot.
	Columns int `json:"columns_compared"`
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.history, "history", "", "directory of the exported history")
	flags.StringVar(&s.ours, "ours", "", "directory of the version that snapshot made of the same history, to compare with")
	flags.StringVar(&s.dir, "dir", "", "directory for the database and the files; must be empty or missing")
	flags.StringVar(&s.out, "o", "", "file for the measurements; stdout without it")
	flags.Int64Var(&s.to, "to", 0, "as-of moment of the dataset, µs since 1970")
	flags.DurationVar(&s.window, "window", 90*24*time.Hour, "window of the dataset")
	flags.IntVar(&s.threads, "threads", 2, "threads of DuckDB")
	flags.StringVar(&s.memory, "memory", "8GB", "memory limit of DuckDB")
	flags.IntVar(&s.runs, "runs", 3, "runs to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.history == "" || s.ours == "" || s.dir == "" || s.to == 0 {
		return errors.New("-history, -ours, -dir and -to are needed")
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	db, err := sql.Open("duckdb", filepath.Join(s.dir, "history.duckdb"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1) // temporary tables and settings belong to a connection
	r, err := measure(ctx, db, s)
	if err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if s.out != "" {
		return os.WriteFile(s.out, append(text, '\n'), 0o644)
	}
	_, err = fmt.Fprintf(stdout, "%s\n", text)
	return err
}

func measure(ctx context.Context, db *sql.DB, s settings) (r result, err error) {
	began := time.Now()
	// The order in which rows are written is of no importance here, and costs.
	for _, statement := range []string{
		fmt.Sprintf("SET threads = %d", s.threads),
		fmt.Sprintf("SET memory_limit = '%s'", s.memory),
		"SET preserve_insertion_order = false",
		strings.ReplaceAll(loadSQL, "{dir}", escape(s.history)),
		"CHECKPOINT",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return r, fmt.Errorf("load the history: %w", err)
		}
	}
	r.Load = time.Since(began).Seconds()
	if err := db.QueryRowContext(ctx, "SELECT version()").Scan(&r.DuckDB); err != nil {
		return r, err
	}
	out := filepath.Join(s.dir, "out")
	query := strings.NewReplacer("{out}", escape(out), "{to}", fmt.Sprintf("make_timestamp(%d)", s.to),
		"{from}", fmt.Sprintf("make_timestamp(%d)", s.to-s.window.Microseconds())).Replace(datasetSQL)
	for range s.runs {
		if err := os.RemoveAll(out); err != nil {
			return r, err
		}
		if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS example; DROP TABLE IF EXISTS moment; DROP TABLE IF EXISTS known; DROP TABLE IF EXISTS seen"); err != nil {
			return r, err
		}
		began, used := time.Now(), cpuTime()
		if _, err := db.ExecContext(ctx, query); err != nil {
			return r, fmt.Errorf("make the dataset: %w", err)
		}
		r.Seconds, r.CPU = append(r.Seconds, time.Since(began).Seconds()), append(r.CPU, (cpuTime()-used).Seconds())
	}
	r.Rows, r.Columns, err = compare(ctx, db, s.ours, out)
	return r, err
}

// cpuTime is what this process has used of all cores.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// escape doubles the quotes of a path that stands in a literal.
func escape(path string) string { return strings.ReplaceAll(path, "'", "''") }
