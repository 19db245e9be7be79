package cdc

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// progressEvery is how often a running backfill is logged.
const progressEvery = 10 * time.Second

// backfill makes the slot and reads all tables in its snapshot, as one
// transaction that ends at the slot's consistent point. repl makes the slot and
// stays idle until the end, since its next command would end the snapshot.
func (s *Source) backfill(ctx context.Context, f *outlet, admin *pgx.Conn, repl *pgconn.PgConn) error {
	began := time.Now()
	if err := s.cfg.Hook.Before(durable.CreateSlot); err != nil {
		return fmt.Errorf("create replication slot %s: %w", s.cfg.Slot, err)
	}
	consistent, snapshot, err := createSlot(ctx, repl, s.cfg.Slot, false)
	if err != nil {
		return err
	}
	now, err := readClock(ctx, admin)
	if err != nil {
		return err
	}
	low := f.writer.previous()
	version, err := f.version(now.UnixMicro(), consistent)
	if err != nil {
		return err
	}
	// One session holds a lock on every table, so that none is rewritten or
	// dropped while it is read.
	guard, err := snapshotSession(ctx, &s.cfg, snapshot)
	if err != nil {
		return err
	}
	defer closeConn(guard.PgConn())
	tables, ranges, err := s.plan(ctx, guard)
	if err != nil {
		return err
	}
	workers := make([]*pgx.Conn, min(s.cfg.BackfillWorkers, max(len(ranges), 1)))
	for i := range workers {
		if workers[i], err = snapshotSession(ctx, &s.cfg, snapshot); err != nil {
			return err
		}
		defer closeConn(workers[i].PgConn())
	}
	s.cfg.Logger.Info("backfill begins", "slot", s.cfg.Slot, "version", version.String(), "consistent_lsn", consistent.String(),
		"tables", len(tables), "ranges", len(ranges), "workers", len(workers))

	if err := f.writer.begin(ctx, change.Backfill, version, now.UnixMicro(), consistent, 0); err != nil {
		return err
	}
	if err := f.writer.scope(ctx, scopeOf(tables, low)); err != nil {
		return err
	}
	s.status.update(func(now *Status) { now.BackfillDone = emptyTables(tables, ranges) })
	for _, t := range tables {
		if err := f.writer.relation(appendRelation(nil, t.relation())); err != nil {
			return err
		}
	}
	rows, err := s.writeRanges(ctx, f, workers, tables, ranges)
	if err != nil {
		return err
	}
	if err := f.writer.commit(ctx, consistent); err != nil {
		return err
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	s.status.update(func(now *Status) { now.LastMoment, now.ReceivedLSN = version, consistent })
	s.cfg.Logger.Info("backfill complete", "version", version.String(), "rows", rows, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// plan reads the tables as the snapshot has them, locks them, and cuts them
// into ranges.
func (s *Source) plan(ctx context.Context, guard *pgx.Conn) ([]*sourceTable, []tableRange, error) {
	tables, err := readCatalogue(ctx, guard, s.cfg.Definition)
	if err != nil {
		return nil, nil, err
	}
	publication, err := readPublication(ctx, guard, s.cfg.Publication)
	if err != nil {
		return nil, nil, err
	}
	if len(tables) != len(s.cfg.Definition.Tables) || publication == nil {
		return nil, nil, &retryError{errRewritten}
	}
	if reason, ok := publication.matches(tables); !ok {
		return nil, nil, &retryError{fmt.Errorf("%w: publication %s: %s", errRewritten, s.cfg.Publication, reason)}
	}
	s.status.update(func(now *Status) {
		now.Tables = len(tables)
		for _, t := range tables {
			now.BackfillRows[t.String()] = 0
		}
	})
	ranges, err := lockTables(ctx, guard, tables)
	if err != nil {
		return nil, nil, err
	}
	return tables, ranges, nil
}

// emptyTables counts the tables that have no range: partitioned ones without a
// partition.
func emptyTables(tables []*sourceTable, ranges []tableRange) int {
	some := map[*sourceTable]bool{}
	for _, r := range ranges {
		some[r.table] = true
	}
	return len(tables) - len(some)
}

// writeRanges reads the ranges by all workers and frames their rows, in the
// order in which they come.
func (s *Source) writeRanges(ctx context.Context, f *outlet, workers []*pgx.Conn, tables []*sourceTable, ranges []tableRange) (rows uint64, err error) {
	open := map[*sourceTable]int{}
	for i := range ranges {
		open[ranges[i].table]++
	}
	progress := time.NewTicker(progressEvery)
	defer progress.Stop()
	err = readInserts(ctx, workers, ranges, s.cfg.MaxRowBytes, func(b *rowBlock) error {
		if err := b.each(func(message []byte) error { return f.writer.row(ctx, message) }); err != nil {
			return err
		}
		rows += uint64(len(b.ends))
		if b.done {
			open[b.table]--
		}
		s.status.update(func(now *Status) {
			now.BackfillRows[b.table.String()] += uint64(len(b.ends))
			if b.done && open[b.table] == 0 {
				now.BackfillDone++
			}
		})
		select {
		case <-progress.C:
			left := 0
			for _, t := range tables {
				left += min(open[t], 1)
			}
			s.cfg.Logger.Info("backfill goes on", "rows", rows, "tables_done", len(tables)-left, "tables", len(tables))
		default:
		}
		return nil
	})
	return rows, err
}
