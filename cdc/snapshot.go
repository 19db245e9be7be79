package cdc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/change"
)

// Snapshot is the source as it was at an exact position of its log: it shows
// the transactions that ended at or before LSN, and no other. It holds no
// replication slot, so that the server keeps no log for it, but a transaction:
// rows that it shows are not vacuumed, and its tables can be read and written
// but not altered, until Close.
type Snapshot struct {
	cfg    *Config
	lsn    change.LSN
	origin change.Origin
	name   string    // of the exported snapshot; it lives as long as guard
	guard  *pgx.Conn // holds the locks
	tables []*sourceTable
	ranges []tableRange

	mu   sync.Mutex
	idle []*pgx.Conn // sessions that see the snapshot and are not reading
}

// OpenSnapshot takes a snapshot of the source for tables of the definition, by
// their names in it; all of them when none is named. Of cfg it needs the
// database and the definition.
//
// The position is that of a temporary replication slot, which is gone when
// OpenSnapshot returns. To make one the server waits until all transactions that
// write, and that are open when it begins, have ended: for at most wait; then the
// error is *OpenTransactionsError. Other errors: *ConnectError, *FaultsError,
// *OtherDatabaseError, *NoFreeSlotError. Cancelling ctx leaves nothing behind on the server.
func OpenSnapshot(ctx context.Context, cfg Config, wait time.Duration, tables ...string) (*Snapshot, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validSource(); err != nil {
		return nil, err
	}
	admin, err := connect(ctx, cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer closeConn(admin.PgConn())
	if err := readable(ctx, admin, &cfg); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		s, err := openSnapshot(ctx, &cfg, admin, wait)
		if err != nil {
			return nil, err
		}
		if err = s.lock(ctx, tables); err == nil {
			return s, nil
		}
		s.Close()
		if attempt == maxSnapshots || !errors.Is(err, errRewritten) {
			return nil, err
		}
	}
}

// maxSnapshots is how often a snapshot is taken anew because a table was
// rewritten in the moment before it was locked.
const maxSnapshots = 3

// readable checks that the definition's tables exist and can be read.
func readable(ctx context.Context, admin *pgx.Conn, cfg *Config) error {
	in := new(inspection)
	var err error
	if in.Slot, err = readSlot(ctx, admin, cfg.Slot); err != nil {
		return err
	}
	if old, err := in.checkServer(ctx, admin); err != nil || old {
		return errors.Join(err, in.fatal())
	}
	if in.Slot != nil && in.Slot.Database != "" && in.Slot.Database != in.Database {
		return &OtherDatabaseError{Slot: cfg.Slot, Followed: in.Slot.Database, Asked: in.Database}
	}
	if in.Tables, err = readCatalogue(ctx, admin, cfg.Definition); err != nil {
		return err
	}
	if _, err := in.checkNames(ctx, admin, cfg.Definition); err != nil {
		return err
	}
	for _, t := range in.Tables {
		in.checkTable(t)
	}
	return in.fatal()
}

// openSnapshot takes a snapshot without looking at any table; lock comes next.
// admin is asked for what is in the way when the server waits too long.
func openSnapshot(ctx context.Context, cfg *Config, admin *pgx.Conn, wait time.Duration) (_ *Snapshot, err error) {
	repl, err := connectReplication(ctx, cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	// The end of its session drops the slot. When the context ended while the slot
	// was made, the server is told first to give up waiting.
	defer func() {
		closeConn(repl)
		select {
		case <-repl.CleanupDone():
		case <-time.After(closeTimeout):
		}
	}()
	sys, err := identify(ctx, repl)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{cfg: cfg, origin: sys.Origin}
	slot := "dreamfeed_tmp_" + strings.ToLower(rand.Text())
	making, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var exported string
	if s.lsn, exported, err = createSlot(making, repl, slot, true); err != nil {
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case making.Err() != nil:
			open, err := openTransactions(ctx, admin)
			if err != nil {
				return nil, err
			}
			return nil, &OpenTransactionsError{Waited: wait, Open: open}
		case sqlState(err) == stateConfigurationLimit:
			return nil, &NoFreeSlotError{Err: err}
		}
		return nil, err
	}
	if s.guard, err = snapshotSession(ctx, cfg, exported); err != nil {
		return nil, err
	}
	// The guard hands the snapshot on, so that the slot is not needed any more.
	if err := s.guard.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot()").Scan(&s.name); err != nil {
		s.Close()
		return nil, fmt.Errorf("export the snapshot: %w", err)
	}
	return s, nil
}

// lock reads the catalogue as the snapshot has it and locks the named tables,
// all of the definition's when there are none.
func (s *Snapshot) lock(ctx context.Context, names []string) error {
	all, err := readCatalogue(ctx, s.guard, s.cfg.Definition)
	if err != nil {
		return err
	}
	for _, t := range all {
		if len(names) == 0 || slices.Contains(names, t.Definition.Name) {
			s.tables = append(s.tables, t)
		}
	}
	for _, name := range names {
		if s.table(name) == nil {
			return fmt.Errorf("read table %s: the definition, or the snapshot, has no such table: name one of the definition's tables", name)
		}
	}
	if len(names) == 0 && len(all) != len(s.cfg.Definition.Tables) {
		return &retryError{errRewritten}
	}
	s.ranges, err = lockTables(ctx, s.guard, s.tables)
	return err
}

func (s *Snapshot) table(name string) *sourceTable {
	i := slices.IndexFunc(s.tables, func(t *sourceTable) bool { return t.Definition.Name == name })
	if i < 0 {
		return nil
	}
	return s.tables[i]
}

// LSN is the position: the snapshot shows what ended at or before it.
func (s *Snapshot) LSN() change.LSN { return s.lsn }

// Origin is the server that LSN is a position of.
func (s *Snapshot) Origin() change.Origin { return s.origin }

// Tables are the names of the snapshot's tables, in the definition's order.
func (s *Snapshot) Tables() []string {
	names := make([]string, len(s.tables))
	for i, t := range s.tables {
		names[i] = t.Definition.Name
	}
	return names
}

// Relation describes a table of the snapshot, with the columns that Read hands
// out; nil for a table that is not in the snapshot.
func (s *Snapshot) Relation(table string) *change.Relation {
	t := s.table(table)
	if t == nil {
		return nil
	}
	return t.relation()
}

// Read reads a table with up to workers sessions at once and calls fn for every
// row, with one value for each column of its Relation, in no order. fn is
// called by several goroutines at the same time, each with a worker number below
// workers of its own; the values are good until it returns, and its error ends
// the reading and is wrapped. Read may be called again; memory is bounded by one
// row for each worker. Errors beside fn's: *RowTooLargeError, and lost
// connections.
func (s *Snapshot) Read(ctx context.Context, table string, workers int, fn func(worker int, values []change.Value) error) error {
	var ranges []tableRange
	for _, r := range s.ranges {
		if r.table.Definition.Name == table {
			ranges = append(ranges, r)
		}
	}
	if s.table(table) == nil {
		return fmt.Errorf("read table %s: it is not in the snapshot", table)
	}
	conns, err := s.sessions(ctx, min(workers, len(ranges)))
	if err != nil {
		return err
	}
	// A failed session is of no use to the next reading: none is kept then.
	defer func() { s.release(conns, err == nil) }()
	err = readRanges(ctx, conns, ranges, s.cfg.MaxRowBytes, func(_ context.Context, worker int) rowSink {
		return &valueSink{worker: worker, fn: fn}
	})
	return err
}

// sessions takes n sessions that see the snapshot.
func (s *Snapshot) sessions(ctx context.Context, n int) ([]*pgx.Conn, error) {
	s.mu.Lock()
	kept := min(n, len(s.idle))
	conns := append([]*pgx.Conn(nil), s.idle[:kept]...)
	s.idle = s.idle[kept:]
	s.mu.Unlock()
	for len(conns) < n {
		conn, err := snapshotSession(ctx, s.cfg, s.name)
		if err != nil {
			s.release(conns, true)
			return nil, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// release gives sessions back, or closes them.
func (s *Snapshot) release(conns []*pgx.Conn, keep bool) {
	if keep {
		s.mu.Lock()
		s.idle = append(s.idle, conns...)
		s.mu.Unlock()
		return
	}
	for _, conn := range conns {
		closeConn(conn.PgConn())
	}
}

// Close ends the snapshot and frees its locks. No Read may be under way.
func (s *Snapshot) Close() {
	s.mu.Lock()
	conns := s.idle
	s.idle = nil
	s.mu.Unlock()
	s.release(conns, false)
	if s.guard != nil {
		closeConn(s.guard.PgConn())
	}
}

// valueSink hands rows out as they are.
type valueSink struct {
	worker int
	fn     func(worker int, values []change.Value) error
}

func (*valueSink) begin(*tableRange)                 {}
func (s *valueSink) row(values []change.Value) error { return s.fn(s.worker, values) }
func (*valueSink) end() error                        { return nil }
