package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	rungroup "github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
)

type runCommand struct {
	sourceFlags
	NATSURL         string        `name:"nats-url" env:"NATS_URL" placeholder:"URL" help:"External NATS server with JetStream (default: a server inside this process)."`
	Listen          string        `name:"listen" env:"LISTEN" default:"127.0.0.1:8080" placeholder:"ADDRESS" help:"Address of health, metrics, status and views."`
	UntilCaughtUp   bool          `name:"until-caught-up" help:"Exit 0 once everything that was committed on the source at the start has been applied."`
	BackfillWorkers int           `name:"backfill-workers" env:"BACKFILL_WORKERS" default:"2" placeholder:"N" help:"Connections that read the tables at first."`
	StreamMaxBytes  int64         `name:"stream-max-bytes" env:"STREAM_MAX_BYTES" default:"10737418240" placeholder:"BYTES" help:"Limit of the stream on disk; a full stream pushes back on PostgreSQL."`
	ReplayWindow    time.Duration `name:"replay-window" env:"REPLAY_WINDOW" default:"168h" placeholder:"DURATION" help:"How long applied changes stay in the stream."`
	ReadyLag        time.Duration `name:"ready-lag" env:"READY_LAG" default:"10s" placeholder:"DURATION" help:"Lag above which /readyz is red."`
	MaxRowBytes     int           `name:"max-row-bytes" env:"MAX_ROW_BYTES" default:"67108864" placeholder:"BYTES" help:"Largest row that is taken; a larger one stops the feed."`
	DiskReserve     uint64        `name:"disk-reserve" env:"DISK_RESERVE" default:"268435456" placeholder:"BYTES" help:"Free space below which applying pauses."`
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

// Run wires the daemon:
//
//	PostgreSQL ──▶ source ──▶ log ──▶ store ──▶ http
//	                 ▲         ▲ trim   │
//	                 └─ durable ────────┘ (external log only)
//
// Log and store are opened before the group runs and closed after it returned,
// newest first. The first actor that returns ends all others.
func (c *runCommand) Run(p *program) (err error) {
	if c.DatabaseURL == "" {
		return &cli.UsageError{Err: errors.New("no source database: set DATABASE_URL or --database-url to postgres://user@host:port/database")}
	}
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose a free address with --listen", c.Listen, err)
	}
	defer listener.Close()
	if err := os.MkdirAll(p.common.DataDir, 0o750); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	store, err := featurestore.Open(filepath.Join(p.common.DataDir, "store"), featurestore.Options{
		Definition: def, Logger: logger, MaxRowBytes: c.MaxRowBytes, DiskReserve: c.DiskReserve,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	registry.MustRegister(store.Collector())
	feed, err := cdc.OpenLog(p.ctx, cdc.LogConfig{
		Dir: filepath.Join(p.common.DataDir, "stream"), URL: c.NATSURL, MaxBytes: c.StreamMaxBytes, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, feed.Close()) }()

	cfg := c.config(def, logger)
	cfg.Log, cfg.BackfillWorkers, cfg.AcceptClock = feed, c.BackfillWorkers, c.AcceptClock
	cfg.MaxRowBytes, cfg.Registerer = c.MaxRowBytes, registry
	if !feed.Durable() {
		cfg.Durable = store.DurableLSN
	}
	source, err := cdc.NewSource(cfg)
	if err != nil {
		return err
	}
	server, err := newServer(serverConfig{
		Source: source, Store: store, Log: feed, Registry: registry, Definition: def,
		ReadyLag: c.ReadyLag, Listener: listener, DataDir: p.common.DataDir, Logger: logger,
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
		g.Add(func() error { return apply(ctx, feed, store) }, func(error) { cancel() })
	}
	{
		// Stops when running requests are answered, or after a grace period.
		g.Add(server.Serve, func(error) { server.Stop() })
	}
	{
		// Stops between two trims.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return trim(ctx, feed, store, c.ReplayWindow, logger) }, func(error) { cancel() })
	}
	if c.UntilCaughtUp {
		// Returns, and so ends the daemon, once the barrier is applied.
		ctx, cancel := context.WithCancel(p.ctx)
		g.Add(func() error { return untilCaughtUp(ctx, source, store, logger) }, func(error) { cancel() })
	}
	logger.Info("ingest started", "definition", def.Name, "hash", def.Hash, "address", listener.Addr().String(), "data", p.common.DataDir)
	err = g.Run()
	if errors.Is(err, rungroup.ErrSignal) || errors.Is(err, errCaughtUp) {
		logger.Info("ingest stopped", "reason", err.Error(), "applied", store.Watermark().Version.String())
		return nil
	}
	return err
}

// apply carries the stream into the store, from the store's own place on.
func apply(ctx context.Context, feed *cdc.Log, store *featurestore.Store) (err error) {
	reader, err := feed.Reader(ctx, store.Watermark().Sequence)
	if err != nil {
		return err
	}
	defer reader.Close()
	return store.Run(ctx, reader)
}

var errCaughtUp = errors.New("caught up with the source")

func untilCaughtUp(ctx context.Context, source *cdc.Source, store *featurestore.Store, logger *slog.Logger) error {
	lsn, err := source.Barrier(ctx)
	if err != nil {
		return err
	}
	version, err := store.Wait(ctx, lsn)
	if err != nil {
		return err
	}
	logger.Info("caught up", "lsn", lsn.String(), "version", version.String())
	return errCaughtUp
}

// trim removes from the stream, once a minute, what is applied and older than
// the replay window.
func trim(ctx context.Context, feed *cdc.Log, store *featurestore.Store, window time.Duration, logger *slog.Logger) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			err := feed.TrimBefore(ctx, store.Watermark().Sequence, now.Add(-window))
			if err != nil && ctx.Err() == nil {
				logger.Warn("the stream was not trimmed; the next attempt is in a minute", "error", err)
			}
		}
	}
}
