package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	rungroup "github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/online"
)

type runCommand struct {
	sourceFlags
	natsFlags
	listenFlags
	UntilCaughtUp   bool          `name:"until-caught-up" help:"Exit 0 once everything that was committed on the source at the start has been applied."`
	BackfillWorkers int           `name:"backfill-workers" env:"BACKFILL_WORKERS" default:"2" placeholder:"N" help:"Connections that read the tables at first."`
	StreamMaxBytes  int64         `name:"stream-max-bytes" env:"STREAM_MAX_BYTES" default:"10737418240" placeholder:"BYTES" help:"Limit of the stream on disk; a full stream pushes back on PostgreSQL."`
	ReplayWindow    time.Duration `name:"replay-window" env:"REPLAY_WINDOW" default:"168h" placeholder:"DURATION" help:"How long applied changes stay in the stream."`
	History         time.Duration `name:"history" env:"HISTORY" default:"9600h" placeholder:"DURATION" help:"How far back every version of every row is kept, 400 days by default; of what is older only what held at that moment."`
	MaxStaleness    time.Duration `name:"max-staleness" env:"MAX_STALENESS" default:"0s" placeholder:"DURATION" help:"Lag above which online features are refused; 0 is none."`
	ReadyLag        time.Duration `name:"ready-lag" env:"READY_LAG" default:"10s" placeholder:"DURATION" help:"Lag above which /readyz is red."`
	MaxRowBytes     int           `name:"max-row-bytes" env:"MAX_ROW_BYTES" default:"67108864" placeholder:"BYTES" help:"Largest row that is taken; a larger one stops the feed."`
	DiskReserve     uint64        `name:"disk-reserve" env:"DISK_RESERVE" default:"268435456" placeholder:"BYTES" help:"Free disk below which reading and applying pause; what merging the store may take comes on top."`
	AcceptClock     bool          `name:"accept-clock" help:"Accept a source clock that jumped forward by over an hour."`
}

func (c *sourceFlags) config(def *definition.Definition, logger *slog.Logger) cdc.Config {
	return cdc.Config{
		DatabaseURL: c.DatabaseURL,
		Publication: c.Publication,
		Slot:        c.Slot,
		Definition:  def,
		Logger:      logger,
	}
}

// renewAgain is how long the daemon must have run before the loss of an
// external stream's messages starts it again.
const renewAgain = 3 * time.Second

// Run follows the database until stopped. What an external stream loses while
// it is followed is mended as at a start: from the store, and from what
// PostgreSQL still holds.
func (c *runCommand) Run(p *program) error {
	for {
		began := time.Now()
		err := c.follow(p)
		if c.NATSURL == "" || !cdc.Lost(err) || time.Since(began) < renewAgain {
			return err
		}
		fmt.Fprintf(p.stderr, "ingest: %v: it is begun again from the store\n", err)
	}
}

// follow wires the daemon:
//
//	PostgreSQL ──▶ source ──▶ log ──▶ store ──▶ features ──▶ http
//	                 ▲         ▲ trim   │ ▲ sweep
//	                 └─ durable ────────┘ (external log only)
//
// Log and store are opened before the group runs and closed after it returned,
// newest first. The first actor that returns ends all others.
func (c *runCommand) follow(p *program) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	cfg := c.config(def, logger)
	if err := cfg.Validate(); err != nil {
		return &cli.UsageError{Err: err}
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	natsOptions, err := c.options()
	if err != nil {
		return err
	}
	if err := refuseRebuilt(p.common.DataDir); err != nil {
		return err
	}
	if err := refuseUnrestored(p.common.DataDir); err != nil {
		return err
	}
	access, err := c.open(p.ctx, logger)
	if err != nil {
		return err
	}
	defer access.listener.Close()
	if err := os.MkdirAll(p.common.DataDir, 0o750); err != nil {
		return fmt.Errorf("make the data directory: %w; name a directory that can be written with --data-dir", err)
	}
	if err := roomToStart(p.common.DataDir, c.DiskReserve); err != nil {
		return err
	}
	cli.LimitMemory(memoryLimit)
	store, err := featurestore.Open(filepath.Join(p.common.DataDir, "store"), featurestore.Options{
		Definition: def, Logger: logger, MaxRowBytes: c.MaxRowBytes, DiskReserve: c.DiskReserve,
		Replayable: c.NATSURL == "", // an external stream's disk is not known to be synced
		Hook:       p.hook,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	registry.MustRegister(store.Collector())
	feed, err := cdc.OpenLog(p.ctx, cdc.LogConfig{
		Dir: filepath.Join(p.common.DataDir, "stream"), URL: c.NATSURL, Options: natsOptions, MaxBytes: c.StreamMaxBytes, MaxRowBytes: c.MaxRowBytes,
		DiskReserve: store.DiskReserve, Hook: p.hook, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, feed.Close()) }()

	reader, epoch, err := follow(p.ctx, feed, store, p.common.DataDir, logger)
	if err != nil {
		return err
	}
	defer reader.Close()

	cfg.Hook = p.hook
	cfg.Log, cfg.BackfillWorkers, cfg.AcceptClock = feed, c.BackfillWorkers, c.AcceptClock
	cfg.MaxRowBytes, cfg.Registerer = c.MaxRowBytes, registry
	if !feed.Durable() {
		cfg.Durable = durableLSN(store, epoch)
	}
	cfg.VersionBefore, cfg.Unfilled = versionBefore(store, epoch), store.Unfilled
	cfg.SpillDir, cfg.DiskReserve = filepath.Join(p.common.DataDir, "refill"), store.DiskReserve
	source, err := cdc.NewSource(cfg)
	if err != nil {
		return err
	}
	features, err := online.New(onlineStore{store}, online.Options{Definition: def, MaxStaleness: c.MaxStaleness, Registerer: registry})
	if err != nil {
		return err
	}
	defer features.Close()
	server, err := newServer(serverConfig{
		Source: source, Store: store, Features: features, Epoch: epoch, Log: feed, Registry: registry, Definition: def,
		ReadyLag: c.ReadyLag, Access: access, DataDir: p.common.DataDir, Hook: p.hook, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()

	var g rungroup.Group
	{
		// Stops at the first SIGINT or SIGTERM; a second one ends the process.
		g.Add(rungroup.SignalHandler(p.ctx, os.Interrupt, syscall.SIGTERM))
	}
	{
		// Stops when its connection is closed and what it published is confirmed.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return source.Run(ctx) }, func(error) { cancel() })
	}
	{
		// Stops after the group of changes that it is writing.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return store.Run(ctx, reader) }, func(error) { cancel() })
	}
	{
		// Stops when running requests are answered, or after a grace period.
		g.Add(server.Serve, func(error) { server.Stop() })
	}
	{
		// Stops between two looks at what the store has applied.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return features.Run(ctx) }, func(error) { cancel() })
	}
	{
		// Stops between two trims.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return trim(ctx, feed, store, c.ReplayWindow, logger) }, func(error) { cancel() })
	}
	{
		// Stops within the batch that it is removing.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return store.Sweep(ctx, featurestore.SweepOptions{History: c.History}) }, func(error) { cancel() })
	}
	if c.UntilCaughtUp {
		// Returns, and so ends the daemon, once the barrier is applied.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return untilCaughtUp(ctx, source, store, epoch, logger) }, func(error) { cancel() })
	}
	if c.History < def.Defaults.Window {
		logger.Warn("the history that is kept is shorter than a dataset's window: once it is swept none can be built; raise --history, or build with a shorter --window-days",
			"history", c.History.String(), "window", def.Defaults.Window.String())
	}
	logger.Info("ingest started", "definition", def.Name, "hash", def.Hash, "address", access.listener.Addr().String(), "data", p.common.DataDir)
	err = g.Run()
	if errors.Is(err, rungroup.ErrSignal) || errors.Is(err, errCaughtUp) {
		logger.Info("ingest stopped", "reason", err.Error(), "applied", store.Watermark().Version.String())
		return nil
	}
	return err
}

var errCaughtUp = errors.New("caught up with the source")

func untilCaughtUp(ctx context.Context, source *cdc.Source, store *featurestore.Store, epoch change.Epoch, logger *slog.Logger) error {
	lsn, err := source.Barrier(ctx)
	if err != nil {
		return err
	}
	if err := store.WaitEpoch(ctx, epoch); err != nil {
		return err
	}
	version, err := store.Wait(ctx, lsn)
	if err != nil {
		return err
	}
	logger.Info("caught up", "lsn", lsn.String(), "version", version.String())
	return errCaughtUp
}

const (
	// trimEvery is how often applied messages are looked for that can go.
	trimEvery = time.Minute
	// roomEvery is how often it is looked whether the stream still has room. Above
	// roomFull percent of its limit it is trimmed down to what is not applied yet.
	roomEvery = time.Second
	roomFull  = 75
)

// trim removes from the stream what the store has on disk and is older than the replay
// window; a stream that fills up before gives up the window.
func trim(ctx context.Context, feed *cdc.Log, store *featurestore.Store, window time.Duration, logger *slog.Logger) error {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	var last, told time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			err := makeRoom(ctx, feed, store, logger)
			if err == nil && now.Sub(last) >= trimEvery {
				last = now
				if mark := store.Durable(); mark.Incarnation == feed.Incarnation() {
					err = feed.TrimBefore(ctx, mark.Sequence, now.Add(-window))
				}
			}
			// A broker that is away must not fill the log.
			if err != nil && ctx.Err() == nil && now.Sub(told) >= trimEvery {
				told = now
				logger.Warn("the stream was not trimmed; it is tried again until it is", "error", err)
			}
		}
	}
}

// makeRoom trims a stream that is nearly full down to what the store does not have on
// disk. If that is not enough, the store puts there what it has applied.
func makeRoom(ctx context.Context, feed *cdc.Log, store *featurestore.Store, logger *slog.Logger) error {
	for _, checkpoint := range [...]bool{false, true} {
		state, err := feed.State(ctx)
		if err != nil || state.MaxBytes <= 0 || state.Bytes <= uint64(state.MaxBytes)/100*roomFull {
			return err
		}
		if checkpoint && store.Durable() != store.Watermark() {
			if err := store.Checkpoint(ctx); err != nil {
				return err
			}
		}
		mark := store.Durable()
		if mark.Incarnation != feed.Incarnation() || mark.Sequence <= state.First {
			continue // of a renewed stream nothing is applied yet, or nothing is to be removed
		}
		logger.Warn("the stream is nearly full: applied changes are removed before the replay window ends; raise --stream-max-bytes to keep them",
			"bytes", state.Bytes, "max_bytes", state.MaxBytes)
		if err := feed.Trim(ctx, mark.Sequence); err != nil {
			return err
		}
	}
	return nil
}
