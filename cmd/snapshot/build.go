package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/report"
)

// memoryLimit is what the garbage collector aims to stay below. Measured with
// 0.9 million candidates: without a limit 660 MiB, with this one 510, no slower.
const memoryLimit = 512 << 20

type buildCommand struct {
	Version       string        `name:"version" env:"DATASET_VERSION" default:"1.0" placeholder:"VERSION" help:"Version of the dataset; versions are immutable."`
	Stage         string        `name:"stage" default:"dataset" enum:"dataset,features" placeholder:"dataset|features" help:"What to build: the dataset, or the rows of step 5 (features), before labels, sampling, cleaning and anonymisation of rare values, in a file of their own."`
	WindowDays    *int          `name:"window-days" env:"DATA_WINDOW_DAYS" placeholder:"DAYS" help:"Examples of so many days before the as-of moment; without it the definition's window, 90."`
	NegativeRatio string        `name:"negative-ratio" env:"NEGATIVE_SAMPLE_RATIO" default:"2.0" placeholder:"RATIO" help:"Not-viewed rows kept for each positive one."`
	TestSize      string        `name:"test-size" env:"TEST_SIZE" default:"0.2" placeholder:"SHARE" help:"Share of the test rows."`
	Seed          int64         `name:"seed" env:"RANDOM_SEED" default:"42" placeholder:"SEED" help:"Seed of sampling and split."`
	AsOf          string        `name:"as-of" env:"DATASET_AS_OF" placeholder:"MOMENT" help:"Moment of the dataset, like 2026-11-01T00:00:00Z, or now for everything that is committed by now; without it the newest applied one."`
	Wait          time.Duration `name:"wait" default:"30s" placeholder:"DURATION" help:"How long --as-of now waits for the source and for the store to catch up with it."`
	Keep          bool          `name:"keep" help:"Keep the history that the version is built from, so that it can be built again, until snapshot kept --release."`
	Inexact       string        `name:"inexact" default:"keep" enum:"keep,drop" placeholder:"keep|drop" help:"What to do with rows whose features are older than their history."`
	Outliers      string        `name:"outliers" default:"drop" enum:"drop,keep" placeholder:"drop|keep" help:"What to do with outliers."`
	Pseudonyms    string        `name:"pseudonyms" default:"per-version" enum:"per-version,stable" placeholder:"per-version|stable" help:"Whether versions may be joined by pseudonym (stable)."`
	Output        string        `name:"output" env:"DATASET_DIR" default:"data/datasets" placeholder:"DIR" help:"Directory of the dataset versions."`
	Workers       int           `name:"workers" placeholder:"N" help:"Parallel workers, without it one for each core; the result does not depend on it."`
	Strict        bool          `name:"strict" help:"Let warnings of the quality gates fail the build."`
	CPUProfile    string        `name:"cpu-profile" placeholder:"FILE" help:"Write where the build's time goes, for go tool pprof."`
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
	if c.Wait < time.Millisecond || c.Wait > time.Hour {
		return &cli.UsageError{Err: fmt.Errorf("--wait %s: want 1ms to 1h", c.Wait)}
	}
	asOf, err := parseAsOf(c.AsOf)
	if err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	if c.CPUProfile != "" {
		end, fault := profile(c.CPUProfile)
		if fault != nil {
			return fault
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	cfg := snapshot.Config{
		Definition: def, Stage: c.Stage, Version: c.Version, Window: window,
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
	var kept *keeper
	if c.Keep {
		if kept, err = newKeeper(ctx, p.common.DataDir, c.keptName()); err != nil {
			return err
		}
	}
	if asOf.barrier {
		if asOf.version, err = barrier(ctx, p.common.DataDir, c.Wait, logger); err != nil {
			return err
		}
	}
	view, err := openView(ctx, p.common.DataDir, asOf.version, window, logger)
	if err != nil {
		return asOf.refused(err, time.Now())
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	cfg.View, cfg.AsOf = view, view.Info().AsOf
	// The moment, too, before anything is made.
	if err := usage(cfg.Validate()); err != nil {
		return err
	}
	var result *snapshot.Result // nil until it is built
	if kept != nil {
		defer func() {
			if result == nil {
				kept.undo(ctx, logger)
			}
		}()
		if err := kept.keep(ctx, view.Info(), window); err != nil {
			return err
		}
	}
	if result, err = c.build(ctx, p, cfg, logger); err != nil {
		return err
	}
	return printResult(p.stdout, result)
}

// build builds the dataset of a view.
func (c *buildCommand) build(ctx context.Context, p *program, cfg snapshot.Config, logger *slog.Logger) (_ *snapshot.Result, err error) {
	if cfg.Key, err = loadKey(p, logger); err != nil {
		return nil, err
	}
	cfg.Progress = progress(p)
	result, err := snapshot.Build(ctx, cfg)
	if err != nil {
		return nil, explain(err)
	}
	return result, nil
}

// explain adds to why a build failed what to do about it.
func explain(err error) error {
	var lost *url.Error
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: free some disk, or choose another with --output; nothing was published", err)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: raise the limit of file sizes with ulimit -f; nothing was published", err)
	case errors.As(err, &lost), errors.Is(err, featurestore.ErrCut):
		return fmt.Errorf("the ingest through which the store was read was stopped or does not answer any more: look at its log, and build again when it runs; nothing was published: %w", err)
	}
	return usage(err)
}

// keptName is the name under which --keep keeps what is built. The rows of step
// 5 have one of their own, so that they and the dataset can be of two moments.
func (c *buildCommand) keptName() string {
	if c.Stage == snapshot.StageFeatures {
		return c.Stage + "_v" + c.Version
	}
	return c.Version
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

// loadKey reads the secret, and announces it once if it had to be made.
func loadKey(p *program, logger *slog.Logger) ([]byte, error) {
	env, err := snapshot.EnvironmentKey()
	if err != nil {
		return nil, err
	}
	if found, err := rebuilt(p.common.DataDir); err != nil {
		return nil, err
	} else if found {
		return givenKey(p.common.DataDir, env)
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
	if r.Features != "" {
		_, err := fmt.Fprintf(w, "%s\n%s\n", r.Features, r.Metadata)
		return err
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
