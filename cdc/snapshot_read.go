package cdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

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
	// waitingBlocks how many blocks may wait: together 512 KiB, plus one row of
	// any size for each. A worker waits while they are full.
	blockBytes    = 64 << 10
	waitingBlocks = 8
)

// errRewritten says that a table was rewritten (ALTER TABLE) between the
// snapshot and our lock: the snapshot would show it as empty.
var errRewritten = errors.New("a table was rewritten or altered while its reading began")

// tableRange is a range of a table's blocks that one COPY reads.
type tableRange struct {
	table    *sourceTable // the definition's table
	relation uint32
	sql      string
	columns  int
}

// snapshotSession opens a session that sees what an exported snapshot sees.
func snapshotSession(ctx context.Context, cfg *Config, snapshot string) (*pgx.Conn, error) {
	conn, err := connect(ctx, cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	conn.PgConn().Frontend().SetMaxBodyLen(bodyLimit(cfg.MaxRowBytes))
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

// lockTables locks tables, so that none is rewritten or dropped while it is
// read, and cuts them into ranges. guard sees the snapshot and keeps the locks
// until its transaction ends.
func lockTables(ctx context.Context, guard queryer, tables []*sourceTable) ([]tableRange, error) {
	var ranges []tableRange
	for _, t := range tables {
		members := t.Leaves
		if t.Kind == 'r' {
			members = []*sourceTable{t}
		}
		for _, m := range members {
			blocks, err := lockTable(ctx, guard, t, m)
			if err != nil {
				return nil, err
			}
			ranges = append(ranges, cut(t, m, blocks)...)
		}
	}
	return ranges, nil
}

// lockTable takes an ACCESS SHARE lock by reading no row, which needs no right
// but that to read the columns, and returns the table's size in blocks.
func lockTable(ctx context.Context, guard queryer, t, m *sourceTable) (blocks int64, err error) {
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

// rowSink takes the rows of one range after the other. The values are borrowed.
type rowSink interface {
	begin(r *tableRange)
	row(values []change.Value) error
	end() error
}

// readRanges reads the ranges by all workers at once, each into a sink of its
// own.
func readRanges(ctx context.Context, workers []*pgx.Conn, ranges []tableRange, limit int, sink func(ctx context.Context, worker int) rowSink) error {
	todo := make(chan *tableRange, len(ranges))
	for i := range ranges {
		todo <- &ranges[i]
	}
	close(todo)
	group, ctx := errgroup.WithContext(ctx)
	for i, conn := range workers {
		group.Go(func() error {
			c := &copyReader{limit: limit, sink: sink(ctx, i)}
			for r := range todo {
				if err := c.read(ctx, conn.PgConn(), r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// rowBlock holds Insert messages one after the other.
type rowBlock struct {
	table *sourceTable
	data  []byte
	ends  []int // where each message ends
	done  bool  // the range that they come from is read
}

// each calls fn for every message.
func (b *rowBlock) each(fn func(message []byte) error) error {
	begin := 0
	for _, end := range b.ends {
		if err := fn(b.data[begin:end]); err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// readInserts reads the ranges by all workers and hands their rows to take as
// Insert messages, in the order in which they come. take is called in the
// caller's goroutine; the block is used again when it returns, and its error
// ends the reading.
func readInserts(ctx context.Context, workers []*pgx.Conn, ranges []tableRange, limit int, take func(*rowBlock) error) (err error) {
	blocks := make(chan *rowBlock, waitingBlocks)
	free := make(chan *rowBlock, waitingBlocks+len(workers)) // used again when there is one
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- readRanges(reading, workers, ranges, limit, func(ctx context.Context, _ int) rowSink {
			return &insertSink{ctx: ctx, out: blocks, free: free}
		})
		close(blocks)
	}()
	for b := range blocks {
		if err != nil {
			continue // until the workers have seen it
		}
		if err = take(b); err != nil {
			cancel()
			continue
		}
		select {
		case free <- b:
		default: // there are enough
		}
	}
	if ended := <-done; err == nil {
		err = ended
	}
	return err
}

// insertSink gathers rows as Insert messages in blocks.
type insertSink struct {
	ctx  context.Context // of the reading that it belongs to
	out  chan<- *rowBlock
	free <-chan *rowBlock

	from  *tableRange
	block *rowBlock
}

func (s *insertSink) begin(r *tableRange) {
	s.from = r
	s.next()
}

// next takes an empty block.
func (s *insertSink) next() {
	select {
	case s.block = <-s.free:
		s.block.data, s.block.ends, s.block.done = s.block.data[:0], s.block.ends[:0], false
	default:
		s.block = &rowBlock{data: make([]byte, 0, blockBytes+blockBytes/4)}
	}
	s.block.table = s.from.table
}

func (s *insertSink) row(values []change.Value) error {
	s.block.data = appendInsert(s.block.data, s.from.relation, values)
	s.block.ends = append(s.block.ends, len(s.block.data))
	if len(s.block.data) < blockBytes {
		return nil
	}
	if err := s.send(); err != nil {
		return err
	}
	s.next()
	return nil
}

func (s *insertSink) end() error {
	s.block.done = true
	return s.send()
}

func (s *insertSink) send() error {
	select {
	case s.out <- s.block:
		s.block = nil
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// copyReader decodes the lines of COPY commands.
type copyReader struct {
	limit int
	sink  rowSink

	from    *tableRange
	decoder copyDecoder
	line    []byte // the beginning of a line whose end has not come
}

func (c *copyReader) read(ctx context.Context, conn *pgconn.PgConn, r *tableRange) error {
	c.from, c.line = r, c.line[:0]
	c.sink.begin(r)
	_, err := conn.CopyTo(ctx, c, r.sql)
	if err == nil && len(c.line) > 0 {
		err = errors.New("the last line has no end")
	}
	if err == nil {
		err = c.sink.end()
	}
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return &RowTooLargeError{Table: r.table.String(), Bytes: large.ActualBodyLen, Limit: c.limit}
	}
	if err != nil {
		return fmt.Errorf("read table %s: %w", r.table, err)
	}
	return nil
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
			c.line = line[:0]
		}
		values, err := c.decoder.decode(line, c.from.columns)
		if err != nil {
			return 0, err
		}
		if err := c.sink.row(values); err != nil {
			return 0, err
		}
		data = data[end+1:]
	}
	return n, nil
}
