package cdc

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/pgtest"
)

func TestSQLStateDecidesWhatPasses(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"admin shutdown":            {&pgconn.PgError{Code: "57P01"}, true},
		"starting up":               {&ConnectError{Err: &pgconn.PgError{Code: "57P03"}}, true},
		"connection failure":        {&pgconn.PgError{Code: "08006"}, true},
		"too many connections":      {&pgconn.PgError{Code: "53300"}, true},
		"wrong password":            {&ConnectError{Err: &pgconn.PgError{Code: "28P01"}}, false},
		"no such database":          {&pgconn.PgError{Code: "3D000"}, false},
		"no privilege":              {&pgconn.PgError{Code: "42501"}, false},
		"the slot is not usable":    {&pgconn.PgError{Code: "55000"}, false},
		"internal error":            {&pgconn.PgError{Code: "XX000"}, false},
		"the connection was reset":  {syscall.ECONNRESET, true},
		"the connection ended":      {io.ErrUnexpectedEOF, true},
		"we were told to stop":      {context.Canceled, false},
		"the stream's own failure":  {&streamError{io.EOF}, false},
		"a typed stop":              {&SlotGoneError{}, false},
		"a backfill to begin again": {&retryError{errRewritten}, true},
		"anything else":             {errors.New("x"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := passing(c.err); got != c.want {
				t.Errorf("passing(%v) = %t", c.err, got)
			}
		})
	}
}

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
