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
	partitions int
	writers    []*Writer
}

// Writer appends rows. It belongs to one goroutine.
type Writer struct {
	file    *os.File
	open    []*Batch // by partition; nil until its first row
	chunks  [][]chunk
	kinds   []Kind
	offset  int64
	scratch []byte
}

// New makes a set of n writers whose files are made in dir. Close frees them.
func New(dir string, kinds []Kind, partitions, n int) (*Set, error) {
	s := &Set{kinds: kinds, partitions: partitions}
	for range n {
		f, err := os.CreateTemp(dir, "dreamfeed-spill-*")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create spill file: %w", err), s.Close())
		}
		// An open file without a name lives as long as this process; where the
		// system refuses, Close removes it.
		_ = os.Remove(f.Name())
		s.writers = append(s.writers, &Writer{
			file: f, kinds: kinds,
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
		b = NewBatch(w.kinds)
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
	w.scratch = appendBatch(w.scratch[:0], b)
	if _, err := w.file.Write(w.scratch); err != nil {
		return fmt.Errorf("write spill file: %w", err)
	}
	w.chunks[partition] = append(w.chunks[partition], chunk{offset: w.offset, size: uint32(len(w.scratch)), rows: uint32(b.Rows)})
	w.offset += int64(len(w.scratch))
	b.Reset()
	return nil
}

// gap is the largest hole between two wanted segments that is read along
// rather than skipped.
const gap = 4096

// Scanner reads partitions. It keeps its memory from one to the next and
// belongs to one goroutine.
type Scanner struct {
	set    *Set
	reader reader
	rows   *Batch
}

// Scanner returns a scanner that fills the columns wanted.
func (s *Set) Scanner(wanted []int) *Scanner {
	wanted = slices.Clone(wanted)
	slices.Sort(wanted)
	return &Scanner{set: s, reader: reader{wanted: slices.Compact(wanted), columns: len(s.kinds)}, rows: NewBatch(s.kinds)}
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

// reader reads chunks of one file.
type reader struct {
	file    *os.File
	wanted  []int
	columns int
	header  []byte
	buffer  []byte
}

// read appends the chunk's rows to b.
func (r *reader) read(c chunk, b *Batch) error {
	r.header = slices.Grow(r.header[:0], headerSize*r.columns)[:headerSize*r.columns]
	if len(r.header) > int(c.size) {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, c.size)
	}
	if _, err := r.file.ReadAt(r.header, c.offset); err != nil {
		return fmt.Errorf("read spill file: %w", err)
	}
	body := int64(c.size) - int64(len(r.header))
	segment := func(i int) (from, to int64) {
		if i > 0 {
			from = int64(binary.LittleEndian.Uint32(r.header[headerSize*(i-1):]))
		}
		return from, int64(binary.LittleEndian.Uint32(r.header[headerSize*i:]))
	}
	for i := 0; i < len(r.wanted); {
		from, to := segment(r.wanted[i])
		last := i
		for last+1 < len(r.wanted) {
			next, end := segment(r.wanted[last+1])
			if next-to > gap {
				break
			}
			last, to = last+1, end
		}
		if from < 0 || to < from || to > body {
			return fmt.Errorf("%w: segment %d to %d of %d", ErrCorrupt, from, to, body)
		}
		r.buffer = slices.Grow(r.buffer[:0], int(to-from))[:to-from]
		if _, err := r.file.ReadAt(r.buffer, c.offset+int64(len(r.header))+from); err != nil {
			return fmt.Errorf("read spill file: %w", err)
		}
		for ; i <= last; i++ {
			f, t := segment(r.wanted[i])
			if f < from || t < f || t > to {
				return fmt.Errorf("%w: segments out of order", ErrCorrupt)
			}
			if err := decodeColumn(r.buffer[f-from:t-from], &b.Columns[r.wanted[i]], int(c.rows)); err != nil {
				return err
			}
		}
	}
	b.Rows += int(c.rows)
	return nil
}
