package cdc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/durable"
)

// Defaults of Config.
const (
	// DefaultName is the name of publication and slot.
	DefaultName = "dreamfeed"
	// DefaultBackfillWorkers is the number of sessions that read a backfill.
	DefaultBackfillWorkers = 2
	// DefaultCheckEvery is how often the source is checked again while it is
	// streamed.
	DefaultCheckEvery = time.Minute
)

// Config says what a Source reads and where it writes.
type Config struct {
	// DatabaseURL is the source's address, as a URL or as key-value pairs.
	// Required.
	DatabaseURL string
	// Publication and Slot are names; DefaultName when empty.
	Publication string
	Slot        string
	// Definition names the tables and columns. Required.
	Definition *definition.Definition
	// Log is the stream written to; required by NewSource, not by Check.
	Log *Log
	// BackfillWorkers is DefaultBackfillWorkers when 0.
	BackfillWorkers int
	// MaxRowBytes is the largest row taken, DefaultMaxRowBytes when 0.
	MaxRowBytes int
	// AcceptClock lets versions follow a clock that has jumped forward.
	AcceptClock bool
	// Durable returns the position up to which the store has synced what it
	// applied. It is required for a Log whose acknowledgements do not mean
	// durable (Log.Durable), and not used otherwise. It must not block.
	Durable func() change.LSN
	// VersionBefore waits until the store has applied everything up to a position
	// of the source, and returns the version of the last transaction that ended at
	// or before it. Refills need it; without it there are none.
	VersionBefore func(ctx context.Context, lsn change.LSN) (change.Version, error)
	// SpillDir is a directory for the rows of a refill until they are published;
	// what refills left in it is removed. Refills need it.
	SpillDir string
	// DiskReserve tells the free disk in bytes that a refill leaves in SpillDir; nil is
	// none.
	DiskReserve func() uint64
	// Unfilled returns the names of those of the definition's tables that the store
	// has data beside but has not filled, or not all columns of: the definition
	// has gained them. They are published and refilled. nil is none.
	Unfilled func() []string
	// Hook is told of every durable step; nil for none.
	Hook durable.Hook
	// CheckEvery is how often the source is checked again while streaming,
	// DefaultCheckEvery when 0.
	CheckEvery time.Duration
	// Clock is the publisher's wall clock, time.Now when nil.
	Clock func() time.Time
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.Publication == "" {
		c.Publication = DefaultName
	}
	if c.Slot == "" {
		c.Slot = DefaultName
	}
	if c.BackfillWorkers == 0 {
		c.BackfillWorkers = DefaultBackfillWorkers
	}
	if c.MaxRowBytes == 0 {
		c.MaxRowBytes = DefaultMaxRowBytes
	}
	if c.CheckEvery == 0 {
		c.CheckEvery = DefaultCheckEvery
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Validate checks, without any I/O, what both Check and NewSource need. The
// other settings are NewSource's.
func (c Config) Validate() error {
	c = c.withDefaults()
	return c.validSource()
}

func (c *Config) validSource() error {
	switch {
	case !SourceGiven(c.DatabaseURL):
		return errors.New("source: no database is named: set DATABASE_URL, or PGHOST and PGDATABASE, or PGSERVICE")
	case c.Definition == nil || len(c.Definition.Tables) == 0:
		return errors.New("source: the definition names no tables")
	case !validSlotName(c.Slot):
		return fmt.Errorf("source: %q cannot name a replication slot: use up to 63 of a-z, 0-9 and _", c.Slot)
	}
	_, err := parseURL(c.DatabaseURL, false)
	return err
}
