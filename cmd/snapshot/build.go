package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"dreamfeed/internal/cli"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/report"
)

type buildCommand struct {
	Version       string `name:"version" env:"DATASET_VERSION" default:"1.0" placeholder:"VERSION" help:"Version of the dataset; versions are immutable."`
	WindowDays    int    `name:"window-days" env:"DATA_WINDOW_DAYS" placeholder:"DAYS" help:"Examples of so many days before the as-of moment (default: the definition's, 90)."`
	NegativeRatio string `name:"negative-ratio" env:"NEGATIVE_SAMPLE_RATIO" default:"2.0" placeholder:"RATIO" help:"Not-viewed rows kept for each positive one."`
	TestSize      string `name:"test-size" env:"TEST_SIZE" default:"0.2" placeholder:"SHARE" help:"Share of the test rows."`
	Seed          int64  `name:"seed" env:"RANDOM_SEED" default:"42" placeholder:"SEED" help:"Seed of sampling and split."`
	AsOf          string `name:"as-of" env:"DATASET_AS_OF" placeholder:"MOMENT" help:"Moment of the dataset, like 2026-11-01T00:00:00Z (default: the newest applied)."`
	Inexact       string `name:"inexact" default:"keep" enum:"keep,drop" placeholder:"keep|drop" help:"What to do with rows whose features are older than their history."`
	Outliers      string `name:"outliers" default:"drop" enum:"drop,keep" placeholder:"drop|keep" help:"What to do with outliers."`
	Pseudonyms    string `name:"pseudonyms" default:"per-version" enum:"per-version,stable" placeholder:"per-version|stable" help:"Whether versions may be joined by pseudonym (stable)."`
	Output        string `name:"output" env:"DATASET_DIR" default:"data/datasets" placeholder:"DIR" help:"Directory of the dataset versions."`
	Workers       int    `name:"workers" placeholder:"N" help:"Parallel workers (default: the number of cores); the result does not depend on it."`
	Strict        bool   `name:"strict" help:"Let warnings of the quality gates fail the build."`
}

func (c *buildCommand) Run(p *program) (err error) {
	ctx, stop := signal.NotifyContext(p.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	window := def.Defaults.Window
	if c.WindowDays != 0 {
		window = time.Duration(c.WindowDays) * 24 * time.Hour
	}
	if c.WindowDays < 0 || c.WindowDays > 36500 || window <= 0 {
		return &cli.UsageError{Err: fmt.Errorf("--window-days %d: want 1 to 36500", c.WindowDays)}
	}
	asOf, err := parseAsOf(c.AsOf, time.Now())
	if err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	cfg := snapshot.Config{
		Definition: def, Version: c.Version, Window: window,
		NegativeRatio: c.NegativeRatio, TestSize: c.TestSize, Seed: c.Seed,
		Inexact: c.Inexact, Outliers: c.Outliers, Pseudonyms: c.Pseudonyms,
		Output: c.Output, Strict: c.Strict, Workers: c.Workers,
		Now: time.Now, Program: cli.ProgramVersion(version), Logger: logger,
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	view, err := openView(ctx, p.common.DataDir, asOf, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	cfg.View, cfg.AsOf = view, view.Info().AsOf
	if cfg.Key, err = loadKey(p, logger); err != nil {
		return err
	}
	cfg.Progress = progress(p)
	result, err := snapshot.Build(ctx, cfg)
	var setting *snapshot.ConfigError
	if errors.As(err, &setting) {
		return &cli.UsageError{Err: err}
	}
	if err != nil {
		return err
	}
	return printResult(p.stdout, result)
}

// loadKey reads the secret, and announces it once if it had to be made.
func loadKey(p *program, logger *slog.Logger) ([]byte, error) {
	key, created, err := snapshot.LoadKey(p.common.DataDir, os.Getenv(snapshot.KeyVariable))
	if created {
		logger.Warn("a new secret for pseudonyms was made: keep the file safe and out of backups of the data, whoever holds it can undo the pseudonyms",
			"file", filepath.Join(p.common.DataDir, snapshot.KeyFile))
	}
	return key, err
}

// printResult writes the funnel and the paths.
func printResult(w io.Writer, r *snapshot.Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "step\trows\tremoved\t\n")
	for _, step := range r.Funnel {
		fmt.Fprintf(table, "%s\t%d\t%d\t\n", step.Key, step.Count, step.Removed)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, gate := range r.Gates {
		if gate.Verdict != report.Pass {
			fmt.Fprintf(w, "%s  %s\n", gate.Verdict, gate.Sentence)
		}
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "warn  %s\n", warning)
	}
	_, err := fmt.Fprintf(w, "%s\n%s\n%s\n%s\n", r.Train, r.Test, r.Metadata, r.Report)
	return err
}

// progress draws a bar for each step, on a terminal only.
func progress(p *program) func(step string, done, total int64) {
	file, ok := p.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	var bar *progressbar.ProgressBar
	current := ""
	return func(step string, done, total int64) {
		if bar == nil || step != current {
			current = step
			bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(file),
				progressbar.OptionSetDescription(step), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
		}
		// A terminal that went away must not end a build.
		_ = bar.Set64(done)
	}
}
