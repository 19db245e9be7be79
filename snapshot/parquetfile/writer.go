package parquetfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"dreamfeed/snapshot/spill"
)

// GroupRows is the number of rows of a row group and of a digest's block.
// 65,536 rows of some 60 columns are about 20 MB in memory.
const GroupRows = 65536

const (
	// pageBytes is the size at which a page is full.
	pageBytes = 256 << 10
	// dictionaryBytes is the size above which a text column goes on without its
	// dictionary.
	dictionaryBytes = 1 << 20
	// valuesAtOnce is how many values are handed to a column at once, counted
	// from the group's first row, so that pages do not depend on how rows came.
	valuesAtOnce = 1024
)

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
}

// Writer writes one file. It belongs to one goroutine, which must call Close
// or Abort.
type Writer struct {
	file    *parquet.GenericWriter[any]
	options Options
	open    *spill.Batch
	pending []*group // in order; at most Workers
	idle    []*parquet.ConcurrentRowGroupWriter
	spare   []*spill.Batch
	digest  digest
}

// group is a row group that is being encoded.
type group struct {
	writer *parquet.ConcurrentRowGroupWriter
	rows   *spill.Batch
	block  [sha256.Size]byte
	err    error
	done   chan struct{}
}

// New makes a writer to out. It writes nothing yet.
func New(out io.Writer, o Options) (*Writer, error) {
	if len(o.Columns) == 0 {
		return nil, errors.New("write parquet file: no columns")
	}
	o.Workers = max(o.Workers, 1)
	var sorted []parquet.SortingColumn
	for _, name := range o.Sorted {
		sorted = append(sorted, parquet.Ascending(name))
	}
	config, err := parquet.NewWriterConfig(
		newSchema(o.Name, o.Columns),
		parquet.Compression(&parquet.Snappy),
		parquet.DataPageVersion(1),
		parquet.DataPageStatistics(false),
		parquet.PageBufferSize(pageBytes),
		parquet.MaxRowsPerRowGroup(GroupRows),
		parquet.DictionaryMaxBytes(dictionaryBytes),
		parquet.SortingWriterConfig(parquet.SortingColumns(sorted...)),
	)
	if err != nil {
		return nil, fmt.Errorf("write parquet file: %w", err)
	}
	config.CreatedBy = o.Program + " version " + o.Version
	w := &Writer{file: parquet.NewGenericWriter[any](out, config), options: o, digest: digest{columns: o.Columns}}
	w.open = w.batch()
	return w, nil
}

// SetMetadata sets a key-value pair of the file. Close writes it.
func (w *Writer) SetMetadata(key, value string) { w.file.SetKeyValueMetadata(key, value) }

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
			w.open.Columns[i].AppendRange(&b.Columns[i], from, to)
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
	if err := w.file.Close(); err != nil {
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
	g := &group{rows: w.open, done: make(chan struct{})}
	if n := len(w.idle); n > 0 {
		g.writer, w.idle = w.idle[n-1], w.idle[:n-1]
	} else {
		g.writer = w.file.BeginRowGroup()
	}
	w.pending = append(w.pending, g)
	w.open = w.batch()
	go func() {
		defer close(g.done)
		g.block = blockDigest(w.options.Columns, g.rows)
		g.err = encode(g.writer, w.options.Columns, g.rows)
	}()
	return nil
}

func (w *Writer) batch() *spill.Batch {
	if n := len(w.spare); n > 0 {
		b := w.spare[n-1]
		w.spare = w.spare[:n-1]
		b.Reset()
		return b
	}
	kinds := make([]spill.Kind, len(w.options.Columns))
	for i, c := range w.options.Columns {
		kinds[i] = c.Type.Kind()
	}
	return spill.NewBatch(kinds)
}

// commit waits for the oldest group and appends it to the file.
func (w *Writer) commit() error {
	g := w.pending[0]
	<-g.done
	w.pending = w.pending[1:]
	if g.err != nil {
		return fmt.Errorf("encode row group: %w", g.err)
	}
	if _, err := g.writer.Commit(); err != nil {
		return fmt.Errorf("write row group: %w", err)
	}
	w.digest.add(g.rows.Rows, g.block)
	w.idle = append(w.idle, g.writer)
	w.spare = append(w.spare, g.rows)
	return nil
}

// encode hands a group's columns to their writers and has all pages encoded.
func encode(rg *parquet.ConcurrentRowGroupWriter, columns []Column, b *spill.Batch) error {
	values := make([]parquet.Value, valuesAtOnce)
	for i, cw := range rg.ColumnWriters() {
		level := 1
		if columns[i].Required {
			level = 0
		}
		c := &b.Columns[i]
		for from := 0; from < b.Rows; from += valuesAtOnce {
			n := min(valuesAtOnce, b.Rows-from)
			if err := fill(values[:n], c, columns[i], level, i, from); err != nil {
				return err
			}
			if _, err := cw.WriteRowValues(values[:n]); err != nil {
				return fmt.Errorf("column %s: %w", columns[i].Name, err)
			}
		}
	}
	return rg.Flush()
}

func fill(values []parquet.Value, c *spill.Column, col Column, level, index, from int) error {
	for j := range values {
		r := from + j
		if !c.Valid[r] {
			if col.Required {
				return fmt.Errorf("required column %s holds a null", col.Name)
			}
			values[j] = parquet.NullValue().Level(0, 0, index)
			continue
		}
		var v parquet.Value
		switch col.Type {
		case Float32:
			v = parquet.FloatValue(c.Floats[r])
		case Int32:
			v = parquet.Int32Value(int32(c.Ints[r]))
		case Bool:
			v = parquet.BooleanValue(c.Ints[r] != 0)
		case Timestamp:
			v = parquet.Int64Value(c.Ints[r])
		default:
			v = parquet.ByteArrayValue(c.Text(r))
		}
		values[j] = v.Level(0, level, index)
	}
	return nil
}
