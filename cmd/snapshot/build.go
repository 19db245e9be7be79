package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"dreamfeed/internal/cli"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/report"
)

// memoryLimit is what the garbage collector aims to stay below. Measured with
// 0.9 million candidates: without a limit 660 MiB, with this one 510, no slower.
const memoryLimit = 512 << 20

type buildCommand struct {
	Version       string `name:"version" env:"DATASET_VERSION" default:"1.0" placeholder:"VERSION" help:"Version of the dataset; versions are immutable."`
	WindowDays    *int   `name:"window-days" env:"DATA_WINDOW_DAYS" placeholder:"DAYS" help:"Examples of so many days before the as-of moment; without it the definition's window, 90."`
	NegativeRatio string `name:"negative-ratio" env:"NEGATIVE_SAMPLE_RATIO" default:"2.0" placeholder:"RATIO" help:"Not-viewed rows kept for each positive one."`
	TestSize      string `name:"test-size" env:"TEST_SIZE" default:"0.2" placeholder:"SHARE" help:"Share of the test rows."`
	Seed          int64  `name:"seed" env:"RANDOM_SEED" default:"42" placeholder:"SEED" help:"Seed of sampling and split."`
	AsOf          string `name:"as-of" env:"DATASET_AS_OF" placeholder:"MOMENT" help:"Moment of the dataset, like 2026-11-01T00:00:00Z; without it the newest applied one."`
	Inexact       string `name:"inexact" default:"keep" enum:"keep,drop" placeholder:"keep|drop" help:"What to do with rows whose features are older than their history."`
	Outliers      string `name:"outliers" default:"drop" enum:"drop,keep" placeholder:"drop|keep" help:"What to do with outliers."`
	Pseudonyms    string `name:"pseudonyms" default:"per-version" enum:"per-version,stable" placeholder:"per-version|stable" help:"Whether versions may be joined by pseudonym (stable)."`
	Output        string `name:"output" env:"DATASET_DIR" default:"data/datasets" placeholder:"DIR" help:"Directory of the dataset versions."`
	Workers       int    `name:"workers" placeholder:"N" help:"Parallel workers, without it one for each core; the result does not depend on it."`
	Strict        bool   `name:"strict" help:"Let warnings of the quality gates fail the build."`
}

func (c *buildCommand) Run(p *program) (err error) {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errStopped
		}
	}()
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	window := def.Defaults.Window
	if days := c.WindowDays; days != nil {
		if *days < 1 || *days > 36500 {
			return &cli.UsageError{Err: fmt.Errorf("--window-days %d: want 1 to 36500", *days)}
		}
		window = time.Duration(*days) * 24 * time.Hour
	}
	if c.Workers < 0 || c.Workers > 1024 {
		return &cli.UsageError{Err: fmt.Errorf("--workers %d: want 1 to 1024, or 0 for one for each core", c.Workers)}
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
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	// Before anything is opened or made, the key among it.
	if err := usage(cfg.Validate()); err != nil {
		return err
	}
	cli.LimitMemory(memoryLimit)
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
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: free some disk, or choose another with --output; nothing was published", err)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: raise the limit of file sizes with ulimit -f; nothing was published", err)
	case err != nil:
		return usage(err)
	}
	return printResult(p.stdout, result)
}

// errStopped ends a build that was told to stop.
var errStopped = errors.New("stopped by a signal: nothing was published, and what was begun is removed")

// usage marks the errors that come from a wrong setting.
func usage(err error) error {
	var setting *snapshot.ConfigError
	if errors.As(err, &setting) {
		return &cli.UsageError{Err: err}
	}
	return err
}

// secret is the value of the key's variable. Set to nothing it is not the same
// as not set: the key that was meant is missing, and no other may take its place.
func secret() (string, error) {
	text, set := os.LookupEnv(snapshot.KeyVariable)
	if set && text == "" {
		return "", &snapshot.WeakKeyError{Source: "the environment variable " + snapshot.KeyVariable, Reason: "is empty"}
	}
	return text, nil
}

// loadKey reads the secret, and announces it once if it had to be made.
func loadKey(p *program, logger *slog.Logger) ([]byte, error) {
	env, err := secret()
	if err != nil {
		return nil, err
	}
	key, created, err := snapshot.LoadKey(p.common.DataDir, env)
	if created {
		logger.Warn("a new secret for pseudonyms was made: keep the file safe and out of backups of the data, whoever holds it can undo the pseudonyms",
			"file", filepath.Join(p.common.DataDir, snapshot.KeyFile))
	}
	return key, err
}

// printResult writes the funnel, what the gates warn of, and the paths.
func printResult(w io.Writer, r *snapshot.Result) error {
	rows := make([][3]string, 0, len(r.Funnel)+1)
	rows = append(rows, [3]string{"step", "rows", "removed"})
	for _, step := range r.Funnel {
		removed := ""
		if step.Removed != 0 {
			removed = strconv.FormatInt(step.Removed, 10)
		}
		rows = append(rows, [3]string{step.Key, strconv.FormatInt(step.Count, 10), removed})
	}
	var wide [3]int
	for _, row := range rows {
		for i, text := range row {
			wide[i] = max(wide[i], len(text))
		}
	}
	for _, row := range rows {
		line := fmt.Sprintf("%-*s  %*s  %*s", wide[0], row[0], wide[1], row[1], wide[2], row[2])
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	var shown []snapshot.Gate
	for _, gate := range r.Gates {
		if gate.Verdict != report.Pass {
			shown = append(shown, gate)
		}
	}
	printGates(w, shown)
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "warn  %s\n", warning)
	}
	_, err := fmt.Fprintf(w, "%s\n%s\n%s\n%s\n", r.Train, r.Test, r.Metadata, r.Report)
	return err
}

// printGates writes a line for each gate: its verdict, name and sentence.
func printGates(w io.Writer, gates []snapshot.Gate) {
	for _, gate := range gates {
		fmt.Fprintf(w, "%s  %s: %s\n", gate.Verdict, gate.Name, gate.Sentence)
	}
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
