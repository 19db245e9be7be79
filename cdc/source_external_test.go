package cdc

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/pgtest"
)

func TestExternalStreamIsConfirmedOnlyWhatTheStoreHasSynced(t *testing.T) {
	external := startExternal(t)
	log := openTestLog(t, LogConfig{URL: external.s.ClientURL()})
	url := pgtest.New(t).NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "CREATE TABLE a (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		DatabaseURL: url, Log: log, Logger: testLogger(), Registerer: prometheus.NewPedanticRegistry(),
		Definition: &definition.Definition{Tables: []definition.Table{{
			Name: "a", Key: []string{"id"}, Columns: []definition.SourceColumn{{Name: "id", Type: definition.Int}},
		}}},
	}
	source, err := NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Run(t.Context()); err == nil {
		t.Fatal("run without Durable returned no error")
	}
	var synced atomic.Uint64
	cfg.Durable = func() change.LSN { return change.LSN(synced.Load()) }
	cfg.Registerer = prometheus.NewPedanticRegistry()
	if source, err = NewSource(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx) }()
	waitFor(t, "ticks are published", func() bool { return source.Status().Ticks >= 2 })
	if got := source.Status().DurableLSN; got != 0 {
		t.Errorf("confirmed %s while the store has synced nothing", got)
	}
	synced.Store(math.MaxUint64)
	waitFor(t, "the position is confirmed", func() bool { return source.Status().DurableLSN > 0 })
	if s := source.Status(); s.DurableLSN > s.ReceivedLSN {
		t.Errorf("confirmed %s, more than the stream holds, %s", s.DurableLSN, s.ReceivedLSN)
	}
	if families, err := cfg.Registerer.(*prometheus.Registry).Gather(); err != nil || len(families) < 10 {
		t.Errorf("%d metrics (%v)", len(families), err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := time.UnixMicro(int64(source.Status().LastMoment)); time.Since(got) > time.Minute {
		t.Errorf("the newest version is of %s", got)
	}
}

// An external server loses its newest messages while the connection to
// PostgreSQL is lost too, so that no publisher is there to see it. Were the feed
// continued behind what is left, other messages would get the numbers that
// readers have passed.
func TestTailLostBetweenTwoConnectionsIsSeen(t *testing.T) {
	external := startExternal(t)
	log := openTestLog(t, LogConfig{URL: external.s.ClientURL()})
	url := pgtest.New(t).NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "CREATE TABLE a (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	source, err := NewSource(Config{
		DatabaseURL: url, Log: log, Logger: testLogger(), Durable: func() change.LSN { return 0 },
		Definition: &definition.Definition{Tables: []definition.Table{{
			Name: "a", Key: []string{"id"}, Columns: []definition.SourceColumn{{Name: "id", Type: definition.Int}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	run := func(ticks uint64) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- source.Run(ctx) }()
		before := source.Status().Ticks
		for source.Status().Ticks < before+ticks {
			select {
			case err := <-ended:
				return err
			case <-time.After(10 * time.Millisecond):
			}
		}
		cancel()
		return <-ended
	}
	restart := func(swap func()) {
		external.stop()
		swap()
		external.start()
		waitFor(t, "the stream is there again", func() bool { _, err := log.State(t.Context()); return err == nil })
	}
	if err := run(1); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(t.TempDir(), "older")
	restart(func() {
		if err := os.CopyFS(older, os.DirFS(external.opts.StoreDir)); err != nil {
			t.Fatal(err)
		}
	})
	if err := run(2); err != nil {
		t.Fatal(err)
	}
	restart(func() { external.opts.StoreDir = older })
	var tail *LostTailError
	if err := run(3); !errors.As(err, &tail) || tail.Want <= tail.Last || !Lost(err) {
		t.Errorf("the feed went on behind what was left: %v", err)
	}
}
