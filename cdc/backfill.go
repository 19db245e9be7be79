package cdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"dreamfeed/internal/change"
)

const (
	// rangeBlocks is the number of blocks that one COPY reads: 16 MiB.
	rangeBlocks = 2048
	// blockBytes is the size at which a worker hands rows over, and
	// backfillBlocks how many blocks may wait: together 512 KiB, plus one row of
	// any size for each. A worker waits while they are full.
	blockBytes     = 64 << 10
	backfillBlocks = 8
	// progressEvery is how often a running backfill is logged.
	progressEvery = 10 * time.Second
)

// errRewritten says that a table was rewritten (ALTER TABLE) between the
// snapshot and our lock: the snapshot would show it as empty.
var errRewritten = errors.New("a table was rewritten or altered while the backfill began")

// tableRange is a range of a table's blocks that one COPY reads.
type tableRange struct {
	table    *sourceTable // the definition's table
	relation uint32
	sql      string
	columns  int
}

// rowBlock holds Insert messages one after the other.
type rowBlock struct {
	table *sourceTable
	data  []byte
	ends  []int // where each message ends
	done  bool  // the range that they come from is read
}

// backfill makes the slot and reads all tables in its snapshot, as one
// transaction that ends at the slot's consistent point. repl makes the slot and
// stays idle until the end, since its next command would end the snapshot.
func (s *Source) backfill(ctx context.Context, f *outlet, admin *pgx.Conn, repl *pgconn.PgConn) error {
	began := time.Now()
	consistent, snapshot, err := createSlot(ctx, repl, s.cfg.Slot)
	if err != nil {
		return err
	}
	var now time.Time
	if err := admin.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return fmt.Errorf("read the source's clock: %w", err)
	}
	version, err := f.version(now.UnixMicro(), consistent)
	if err != nil {
		return err
	}
	// One session holds a lock on every table, so that none is rewritten or
	// dropped while it is read.
	guard, err := s.snapshotSession(ctx, snapshot)
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
		if workers[i], err = s.snapshotSession(ctx, snapshot); err != nil {
			return err
		}
		defer closeConn(workers[i].PgConn())
	}
	s.cfg.Logger.Info("backfill begins", "slot", s.cfg.Slot, "version", version.String(), "consistent_lsn", consistent.String(),
		"tables", len(tables), "ranges", len(ranges), "workers", len(workers))

	if err := f.writer.begin(ctx, change.Backfill, version, now.UnixMicro(), consistent, 0); err != nil {
		return err
	}
	s.status.update(func(now *Status) { now.BackfillDone = emptyTables(tables, ranges) })
	for _, t := range tables {
		if err := f.writer.relation(appendRelation(nil, t.relation())); err != nil {
			return err
		}
	}
	rows, err := s.readRanges(ctx, f, workers, tables, ranges)
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

// snapshotSession opens a session that sees what the slot's snapshot sees.
func (s *Source) snapshotSession(ctx context.Context, snapshot string) (*pgx.Conn, error) {
	conn, err := connect(ctx, s.cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	conn.PgConn().Frontend().SetMaxBodyLen(bodyLimit(s.cfg.MaxRowBytes))
	for _, sql := range []string{
		"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
		"SET TRANSACTION SNAPSHOT " + quoteLiteral(snapshot),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			closeConn(conn.PgConn())
			return nil, fmt.Errorf("take over the slot's snapshot: %w", err)
		}
	}
	return conn, nil
}

// bodyLimit is the largest message taken from the server. Rows somewhat above
// the limit are still read, so that the error can name their table.
func bodyLimit(maxRow int) int { return maxRow + maxRow/2 + 1024 }

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
	var ranges []tableRange
	for _, t := range tables {
		s.status.update(func(now *Status) {
			now.Tables = len(tables)
			now.BackfillRows[t.String()] = 0
		})
		members := t.Leaves
		if t.Kind == 'r' {
			members = []*sourceTable{t}
		}
		for _, m := range members {
			blocks, err := lockTable(ctx, guard, t, m)
			if err != nil {
				return nil, nil, err
			}
			ranges = append(ranges, cut(t, m, blocks)...)
		}
	}
	return tables, ranges, nil
}

// lockTable takes an ACCESS SHARE lock by reading no row, which needs no right
// but that to read the columns, and returns the table's size in blocks.
func lockTable(ctx context.Context, guard *pgx.Conn, t, m *sourceTable) (blocks int64, err error) {
	lock := "SELECT " + quoteColumns(t.named()) + " FROM ONLY " + m.sql() + " LIMIT 0"
	if _, err := guard.Exec(ctx, lock); err != nil {
		return 0, fmt.Errorf("lock table %s: %w", m, err)
	}
	// The first file number is the snapshot's, the second is now's.
	const sql = `
SELECT c.relfilenode = pg_catalog.pg_relation_filenode(c.oid)::oid,
  pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::bigint
FROM pg_catalog.pg_class c WHERE c.oid = $1`
	var same bool
	if err := guard.QueryRow(ctx, sql, m.OID).Scan(&same, &blocks); err != nil {
		return 0, fmt.Errorf("read the size of table %s: %w", m, err)
	}
	if !same {
		return 0, &retryError{fmt.Errorf("%w: %s", errRewritten, m)}
	}
	return blocks, nil
}

// cut makes ranges of a table or leaf. The last one is open-ended. A role that
// may read only columns may not read the ctid: its table is one range.
func cut(t, m *sourceTable, blocks int64) []tableRange {
	query := "SELECT " + quoteColumns(t.named()) + " FROM ONLY " + m.sql()
	one := func(where string) tableRange {
		return tableRange{table: t, relation: t.OID, columns: len(t.named()), sql: "COPY (" + query + where + ") TO STDOUT"}
	}
	if blocks <= rangeBlocks || !m.ReadsCTID {
		return []tableRange{one("")}
	}
	var ranges []tableRange
	for from := int64(0); from < blocks; from += rangeBlocks {
		where := " WHERE ctid >= '(" + strconv.FormatInt(from, 10) + ",0)'::tid"
		if to := from + rangeBlocks; to < blocks {
			where += " AND ctid < '(" + strconv.FormatInt(to, 10) + ",0)'::tid"
		}
		ranges = append(ranges, one(where))
	}
	return ranges
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

// relation describes the table as pgoutput does.
func (t *sourceTable) relation() *change.Relation {
	rel := &change.Relation{ID: t.OID, Schema: t.Schema, Name: t.Name, Replica: t.Replica}
	key := map[string]bool{}
	for _, name := range t.identity() {
		key[name] = true
	}
	for _, name := range t.named() {
		c := t.column(name).Column
		c.Key = key[name]
		rel.Columns = append(rel.Columns, c)
	}
	return rel
}

// readRanges reads the ranges by all workers and writes their rows, in the
// order in which they come.
func (s *Source) readRanges(ctx context.Context, f *outlet, workers []*pgx.Conn, tables []*sourceTable, ranges []tableRange) (rows uint64, err error) {
	todo := make(chan tableRange, len(ranges))
	open := map[*sourceTable]int{}
	for _, r := range ranges {
		open[r.table]++
		todo <- r
	}
	close(todo)
	blocks := make(chan *rowBlock, backfillBlocks)
	free := make(chan *rowBlock, backfillBlocks+len(workers)) // used again when there is one
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	group, reading := errgroup.WithContext(reading)
	for _, conn := range workers {
		group.Go(func() error {
			for r := range todo {
				w := &copyReader{ctx: reading, from: r, limit: s.cfg.MaxRowBytes, out: blocks, free: free}
				if err := w.read(conn.PgConn()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	done := make(chan error, 1)
	go func() {
		done <- group.Wait()
		close(blocks)
	}()
	progress := time.NewTicker(progressEvery)
	defer progress.Stop()
	for b := range blocks {
		if err != nil {
			continue // until the workers have seen it
		}
		begin := 0
		for _, end := range b.ends {
			if err = f.writer.row(ctx, b.data[begin:end]); err != nil {
				cancel()
				break
			}
			begin = end
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
		case free <- b:
		default: // there are enough
		}
		select {
		case <-progress.C:
			left := 0
			for _, t := range tables {
				left += min(open[t], 1)
			}
			s.cfg.Logger.Info("backfill goes on", "rows", rows, "tables_done", len(tables)-left, "tables", len(tables))
		default:
		}
	}
	if ended := <-done; err == nil {
		err = ended
	}
	return rows, err
}

// copyReader makes Insert messages of the lines of one COPY.
type copyReader struct {
	ctx   context.Context // of one COPY: io.Writer takes none
	from  tableRange
	limit int
	out   chan<- *rowBlock
	free  <-chan *rowBlock

	decoder copyDecoder
	block   *rowBlock
	line    []byte // the beginning of a line whose end has not come
}

func (c *copyReader) read(conn *pgconn.PgConn) error {
	c.next()
	_, err := conn.CopyTo(c.ctx, c, c.from.sql)
	if err == nil && len(c.line) > 0 {
		err = errors.New("the last line has no end")
	}
	if err == nil {
		c.block.done = true
		err = c.send()
	}
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return &RowTooLargeError{Table: c.from.table.String(), Bytes: large.ActualBodyLen, Limit: c.limit}
	}
	if err != nil {
		return fmt.Errorf("read table %s: %w", c.from.table, err)
	}
	return nil
}

// next takes an empty block.
func (c *copyReader) next() {
	select {
	case c.block = <-c.free:
		c.block.data, c.block.ends, c.block.done = c.block.data[:0], c.block.ends[:0], false
	default:
		c.block = &rowBlock{data: make([]byte, 0, blockBytes+blockBytes/4)}
	}
	c.block.table = c.from.table
}

func (c *copyReader) send() error {
	select {
	case c.out <- c.block:
		c.block = nil
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// Write takes what the server sends: in practice one line a call, but the
// protocol does not promise it. A newline in a value is escaped.
func (c *copyReader) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			if len(c.line)+len(data) > bodyLimit(c.limit) {
				return 0, &RowTooLargeError{Table: c.from.table.String(), Bytes: len(c.line) + len(data), Limit: c.limit}
			}
			c.line = append(c.line, data...)
			break
		}
		line := data[:end+1]
		if len(c.line) > 0 {
			line = append(c.line, line...)
		}
		if err := c.add(line); err != nil {
			return 0, err
		}
		c.line = c.line[:0]
		data = data[end+1:]
	}
	return n, nil
}

func (c *copyReader) add(line []byte) error {
	values, err := c.decoder.decode(line, c.from.columns)
	if err != nil {
		return err
	}
	c.block.data = appendInsert(c.block.data, c.from.relation, values)
	c.block.ends = append(c.block.ends, len(c.block.data))
	if len(c.block.data) < blockBytes {
		return nil
	}
	if err := c.send(); err != nil {
		return err
	}
	c.next()
	return nil
}
