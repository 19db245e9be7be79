package parquetfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"dreamfeed/snapshot/spill"
)

// GroupRows is the number of rows of a row group and of a digest's block.
// 65,536 rows of some 60 columns are about 20 MB in memory.
const GroupRows = 65536

// Options is what a file is made of beside its rows.
type Options struct {
	Name    string // of the schema
	Columns []Column
	// Sorted are the columns by which the rows are sorted, ascending; it is
	// recorded, not checked.
	Sorted []string
	// Program and Version are written as the file's creator.
	Program, Version string
	// Workers is the number of groups that are encoded at once, at least 1.
	Workers int
	// Rows is how many rows are expected, for their memory; 0 if that is not known.
	Rows int64
}

// Writer writes one file. It belongs to one goroutine, which must call Close
// or Abort.
type Writer struct {
	file    *file
	options Options
	copies  []int // by column: the one it copies, or -1
	open    *spill.Batch
	pending []*group // in order; at most Workers
	idle    []*group
	spare   []*spill.Batch
	digest  digest
}

// group is a row group that is being encoded.
type group struct {
	encoder encoder
	chunks  []chunk // by column
	rows    *spill.Batch
	block   [sha256.Size]byte
	err     error
	done    chan struct{}
}

// New makes a writer to out. It writes nothing yet.
func New(out io.Writer, o Options) (*Writer, error) {
	if len(o.Columns) == 0 {
		return nil, errors.New("write parquet file: no columns")
	}
	o.Workers = max(o.Workers, 1)
	copies, err := resolve(o.Columns)
	if err != nil {
		return nil, fmt.Errorf("write parquet file: %w", err)
	}
	f, err := newFile(out, &o)
	if err != nil {
		return nil, fmt.Errorf("write parquet file: %w", err)
	}
	w := &Writer{file: f, options: o, copies: copies, digest: digest{columns: o.Columns}}
	w.open = w.batch()
	return w, nil
}

// resolve finds the columns that others copy.
func resolve(columns []Column) ([]int, error) {
	places := map[string]int{}
	copies := make([]int, len(columns))
	for i := range columns {
		c := &columns[i]
		copies[i] = -1
		if c.Copies != "" {
			at, ok := places[c.Copies]
			if b := &columns[at]; !ok || b.Copies != "" || b.Type != c.Type || b.Required != c.Required || b.Distinct != c.Distinct {
				return nil, fmt.Errorf("column %s copies %s, which is no column before it of the same kind", c.Name, c.Copies)
			}
			copies[i] = at
		}
		places[c.Name] = i
	}
	return copies, nil
}

// SetMetadata sets a key-value pair of the file. Close writes it.
func (w *Writer) SetMetadata(key, value string) { w.file.metadata[key] = value }

// Rows is the number of rows written so far.
func (w *Writer) Rows() int64 { return w.digest.rows + int64(w.open.Rows) + w.inFlight() }

func (w *Writer) inFlight() int64 {
	var n int64
	for _, g := range w.pending {
		n += int64(g.rows.Rows)
	}
	return n
}

// Write appends the rows of a batch that has the file's columns. The batch is
// free again when Write returns.
func (w *Writer) Write(ctx context.Context, b *spill.Batch) error {
	for from := 0; from < b.Rows; {
		to := min(b.Rows, from+GroupRows-w.open.Rows)
		for i := range b.Columns {
			if w.copies[i] < 0 {
				w.open.Columns[i].AppendRange(&b.Columns[i], from, to)
			}
		}
		w.open.Rows += to - from
		from = to
		if w.open.Rows == GroupRows {
			if err := w.dispatch(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Finish encodes and writes all rows and returns the logical digest; metadata
// can still be set.
func (w *Writer) Finish(ctx context.Context) ([sha256.Size]byte, error) {
	if w.open.Rows > 0 {
		if err := w.dispatch(ctx); err != nil {
			return [sha256.Size]byte{}, err
		}
	}
	for len(w.pending) > 0 {
		if err := w.commit(); err != nil {
			return [sha256.Size]byte{}, err
		}
	}
	return w.digest.sum(), nil
}

// Close writes the footer. Finish must come first.
func (w *Writer) Close() error {
	if err := w.file.close(); err != nil {
		return fmt.Errorf("write parquet footer: %w", err)
	}
	return nil
}

// Abort waits for what is being encoded, and forgets it.
func (w *Writer) Abort() {
	for _, g := range w.pending {
		<-g.done
	}
	w.pending = nil
}

// dispatch starts to encode the open group.
func (w *Writer) dispatch(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for len(w.pending) >= w.options.Workers {
		if err := w.commit(); err != nil {
			return err
		}
	}
	var g *group
	if n := len(w.idle); n > 0 {
		g, w.idle = w.idle[n-1], w.idle[:n-1]
	} else {
		g = &group{chunks: make([]chunk, len(w.options.Columns))}
	}
	g.rows, g.done = w.open, make(chan struct{})
	w.pending = append(w.pending, g)
	w.open = w.batch()
	// Groups have texts of about the same size: they need not grow to it again.
	for i := range w.open.Columns {
		if n := len(g.rows.Columns[i].Bytes); cap(w.open.Columns[i].Bytes) == 0 {
			w.open.Columns[i].Bytes = make([]byte, 0, n+n/16)
		}
	}
	go func() {
		defer close(g.done)
		g.block = blockDigest(w.options.Columns, w.copies, g.rows)
		g.err = w.encode(g)
	}()
	return nil
}

// encode makes the group's chunks. A column that copies another one has the same
// pages.
func (w *Writer) encode(g *group) error {
	for i := range w.options.Columns {
		c := &w.options.Columns[i]
		if from := w.copies[i]; from >= 0 {
			g.chunks[i] = g.chunks[from]
			g.chunks[i].meta.PathInSchema = []string{c.Name}
			continue
		}
		if err := g.encoder.encode(&g.chunks[i], c, &g.rows.Columns[i], g.rows.Rows); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) batch() *spill.Batch {
	if n := len(w.spare); n > 0 {
		b := w.spare[n-1]
		w.spare = w.spare[:n-1]
		b.Reset()
		return b
	}
	// What copies another column needs no memory.
	var kinds []spill.Kind
	for i, c := range w.options.Columns {
		if w.copies[i] < 0 {
			kinds = append(kinds, c.Type.Kind())
		}
	}
	own := spill.NewBatchOf(kinds, int(min(w.options.Rows, GroupRows))).Columns
	b := &spill.Batch{Columns: make([]spill.Column, len(w.options.Columns))}
	for i := range b.Columns {
		if w.copies[i] < 0 {
			b.Columns[i], own = own[0], own[1:]
		}
	}
	return b
}

// commit waits for the oldest group and appends it to the file.
func (w *Writer) commit() error {
	g := w.pending[0]
	<-g.done
	w.pending = w.pending[1:]
	if g.err != nil {
		return fmt.Errorf("encode row group: %w", g.err)
	}
	if err := w.file.append(g.chunks, g.rows.Rows); err != nil {
		return fmt.Errorf("write row group: %w", err)
	}
	w.digest.add(g.rows.Rows, g.block)
	w.idle = append(w.idle, g)
	w.spare = append(w.spare, g.rows)
	g.rows = nil
	return nil
}
