package spill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
)

// ChunkRows is the most rows that a chunk holds. A writer buffers at most so
// many rows for each partition.
const ChunkRows = 128

// chunk is where a chunk lies. 16 bytes for up to ChunkRows rows are the only
// memory that grows with the rows.
type chunk struct {
	offset int64
	size   uint32
	rows   uint32
}

// Set is the spilled rows of all writers. It is safe to scan different or the
// same partitions at once when all writers are flushed.
type Set struct {
	kinds      []Kind
	order      []int // columns, as they lie in a chunk
	partitions int
	writers    []*Writer
}

// Writer appends rows. It belongs to one goroutine.
type Writer struct {
	file    *os.File
	open    []*Batch // by partition; nil until its first row
	chunks  [][]chunk
	kinds   []Kind
	order   []int
	offset  int64
	encoder encoder
	scratch []byte
}

// New makes a set of n writers whose files are made in dir. Close frees them.
// The columns named in first lie at the beginning of each chunk, in this order:
// a scan reads a chunk up to the last column that it wants.
func New(dir string, kinds []Kind, first []int, partitions, n int) (*Set, error) {
	s := &Set{kinds: kinds, order: slices.Clone(first), partitions: partitions}
	for i := range kinds {
		if !slices.Contains(first, i) {
			s.order = append(s.order, i)
		}
	}
	for range n {
		f, err := os.CreateTemp(dir, "dreamfeed-spill-*")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create spill file: %w", err), s.Close())
		}
		// An open file without a name lives as long as this process; where the
		// system refuses, Close removes it.
		_ = os.Remove(f.Name())
		s.writers = append(s.writers, &Writer{
			file: f, kinds: kinds, order: s.order,
			open: make([]*Batch, partitions), chunks: make([][]chunk, partitions),
		})
	}
	return s, nil
}

// Writer returns the i-th writer.
func (s *Set) Writer(i int) *Writer { return s.writers[i] }

// Bytes is the size of all that was written.
func (s *Set) Bytes() int64 {
	var n int64
	for _, w := range s.writers {
		n += w.offset
	}
	return n
}

// Rows is the number of rows of a partition.
func (s *Set) Rows(partition int) int {
	n := 0
	for _, w := range s.writers {
		for _, c := range w.chunks[partition] {
			n += int(c.rows)
		}
	}
	return n
}

// Close closes and removes the files.
func (s *Set) Close() error {
	var errs []error
	for _, w := range s.writers {
		errs = append(errs, w.file.Close())
		if err := os.Remove(w.file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.writers = nil
	return errors.Join(errs...)
}

// Row returns the batch to which the partition's next row is to be appended,
// one value a column; Done must follow.
func (w *Writer) Row(partition int) *Batch {
	b := w.open[partition]
	if b == nil {
		b = NewBatchOf(w.kinds, ChunkRows)
		w.open[partition] = b
	}
	return b
}

// Done completes the row that was appended to the partition's batch.
func (w *Writer) Done(partition int) error {
	b := w.open[partition]
	b.Rows++
	if b.Rows < ChunkRows {
		return nil
	}
	return w.flush(partition)
}

// Add appends the rows of a batch of the set's kinds. For rows that go to the
// same partition it is cheaper than one by one: the memory of a column is looked
// up once for all of them.
func (w *Writer) Add(partition int, rows *Batch) error {
	for from := 0; from < rows.Rows; {
		b := w.Row(partition)
		end := min(rows.Rows, from+ChunkRows-b.Rows)
		for i := range b.Columns {
			b.Columns[i].AppendRange(&rows.Columns[i], from, end)
		}
		b.Rows += end - from
		from = end
		if b.Rows == ChunkRows {
			if err := w.flush(partition); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush writes what is buffered and frees the buffers.
func (w *Writer) Flush() error {
	for p := range w.open {
		if err := w.flush(p); err != nil {
			return err
		}
		w.open[p] = nil
	}
	return nil
}

func (w *Writer) flush(partition int) error {
	b := w.open[partition]
	if b == nil || b.Rows == 0 {
		return nil
	}
	w.scratch = w.encoder.appendBatch(w.scratch[:0], b, w.order)
	if _, err := w.file.Write(w.scratch); err != nil {
		return fmt.Errorf("write spill file: %w", err)
	}
	w.chunks[partition] = append(w.chunks[partition], chunk{offset: w.offset, size: uint32(len(w.scratch)), rows: uint32(b.Rows)})
	w.offset += int64(len(w.scratch))
	b.Reset()
	return nil
}

// Scanner reads partitions. It keeps its memory from one to the next and
// belongs to one goroutine.
type Scanner struct {
	set    *Set
	reader reader
	rows   *Batch
}

// Scanner returns a scanner that fills the columns wanted.
func (s *Set) Scanner(wanted []int) *Scanner {
	r := reader{columns: len(s.kinds)}
	for place, column := range s.order {
		if slices.Contains(wanted, column) {
			r.wanted = append(r.wanted, segment{place, column})
		}
	}
	return &Scanner{set: s, reader: r, rows: NewBatch(s.kinds)}
}

// Scan calls fn with the partition's rows, a chunk at a time, writer by writer
// in the order of appending. The batch is reused. An error of fn ends the scan
// and is returned.
func (s *Scanner) Scan(ctx context.Context, partition int, fn func(*Batch) error) error {
	return s.chunks(ctx, partition, func(c chunk) error {
		s.rows.Reset()
		if err := s.reader.read(c, s.rows); err != nil {
			return err
		}
		return fn(s.rows)
	})
}

// Load returns all rows of a partition in one batch, which the next call
// reuses.
func (s *Scanner) Load(ctx context.Context, partition int) (*Batch, error) {
	s.rows.Reset()
	err := s.chunks(ctx, partition, func(c chunk) error { return s.reader.read(c, s.rows) })
	return s.rows, err
}

func (s *Scanner) chunks(ctx context.Context, partition int, fn func(chunk) error) error {
	for _, w := range s.set.writers {
		s.reader.file = w.file
		for _, c := range w.chunks[partition] {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// segment is a column that is wanted.
type segment struct {
	place  int // in a chunk
	column int // in a batch
}

// reader reads chunks of one file.
type reader struct {
	file    *os.File
	wanted  []segment // by place
	columns int
	decoder decoder
	buffer  []byte
	guess   int // how much of a chunk is likely to be needed
}

// read appends the chunk's rows to b. It reads a chunk's beginning, up to the
// last column wanted, mostly at once: it guesses that it needs no more than an
// eighth more than of the chunk before.
func (r *reader) read(c chunk, b *Batch) error {
	b.Rows += int(c.rows)
	if len(r.wanted) == 0 {
		return nil
	}
	body := headerSize * r.columns
	if body > int(c.size) {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, c.size)
	}
	n := min(max(r.guess, body), int(c.size))
	if err := r.fill(c, 0, n); err != nil {
		return err
	}
	end := func(place int) int {
		if place < 0 {
			return body
		}
		return body + int(binary.LittleEndian.Uint32(r.buffer[headerSize*place:]))
	}
	need := end(r.wanted[len(r.wanted)-1].place)
	if need < body || need > int(c.size) {
		return fmt.Errorf("%w: segment to %d of %d", ErrCorrupt, need, c.size)
	}
	if need > n {
		if err := r.fill(c, n, need); err != nil {
			return err
		}
	}
	r.guess = need + need/8
	for _, s := range r.wanted {
		from, to := end(s.place-1), end(s.place)
		if from < body || to < from || to > need {
			return fmt.Errorf("%w: segments out of order", ErrCorrupt)
		}
		if err := r.decoder.decodeColumn(r.buffer[from:to], &b.Columns[s.column], int(c.rows)); err != nil {
			return err
		}
	}
	return nil
}

// fill reads the chunk's bytes from (included) to end (not included) into the
// buffer, which keeps those before.
func (r *reader) fill(c chunk, from, end int) error {
	r.buffer = slices.Grow(r.buffer[:from], end-from)[:end]
	if _, err := r.file.ReadAt(r.buffer[from:end], c.offset+int64(from)); err != nil {
		return fmt.Errorf("read spill file: %w", err)
	}
	return nil
}
