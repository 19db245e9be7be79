package spill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
)

// ChunkRows is the most rows that a chunk holds. A writer buffers at most so
// many rows for each partition and for the group at hand, and 128 KiB of chunks.
const ChunkRows = 128

// chunk is where a chunk lies. 16 bytes for some rows, a group or up to ChunkRows, are
// the only memory that grows with the rows.
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

// Writer appends rows, one by one or in groups. It belongs to one goroutine.
type Writer struct {
	file    *os.File
	mapped  []byte     // what was written, from Flush on; nil where files cannot be mapped
	open    []*Pending // by partition; nil until its first row
	chunks  [][]chunk
	kinds   []Kind
	order   []int
	offset  int64 // of what was encoded, written or not
	encoder encoder
	encoded []byte // what is not written yet

	group     *Pending // the group at hand, nil before the first
	partition int      // of the group
	split     bool     // rows of the group are in a chunk already
}

// writeBytes is how much is encoded before it is written.
const writeBytes = 128 << 10

// fewRows is below how many rows a group gets no chunk of its own. A chunk takes some
// bytes for each column, and a call for each that is read.
const fewRows = ChunkRows / 4

// New makes a set of n writers whose files are made in dir. Close frees them.
// The columns named in first lie at the beginning of each chunk, in this order, so
// that a scan of some of them reads few pages.
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
			open: make([]*Pending, partitions), chunks: make([][]chunk, partitions),
		})
	}
	return s, nil
}

// Writer returns the i-th writer.
func (s *Set) Writer(i int) *Writer { return s.writers[i] }

// Bytes is the size of all that was written, when the writers are flushed.
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
		errs = append(errs, w.unmap(), w.file.Close())
		if err := os.Remove(w.file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.writers = nil
	return errors.Join(errs...)
}

// Pending are the rows of a partition that are not written yet.
type Pending struct {
	Rows    int
	columns []Column
	// starts are, by column, the rows for which its values were appended: a value
	// holds until the next one.
	starts []uint8
}

func newPending(kinds []Kind) *Pending {
	return &Pending{columns: NewBatchOf(kinds, ChunkRows).Columns, starts: make([]uint8, ChunkRows*len(kinds))}
}

// Set returns the column for one value of the row at hand to be appended to it. A
// column that is not asked for has the value of the row before; of the first row
// (Rows is 0) all must be.
func (p *Pending) Set(column int) *Column {
	c := &p.columns[column]
	p.starts[column*ChunkRows+len(c.Valid)] = uint8(p.Rows)
	return c
}

// Has says whether the row at hand, after what was set, has a value in the column.
func (p *Pending) Has(column int) bool {
	valid := p.columns[column].Valid
	return valid[len(valid)-1]
}

func (p *Pending) reset() {
	p.Rows = 0
	for i := range p.columns {
		p.columns[i].Reset()
	}
}

// take adds the rows of another one, of which there are no more than there is room for.
func (p *Pending) take(o *Pending) error {
	for i := range p.columns {
		c, from := &p.columns[i], &o.columns[i]
		n := len(from.Valid)
		if n == 0 || o.starts[i*ChunkRows] != 0 {
			return errNoValue(i)
		}
		starts := p.starts[i*ChunkRows+len(c.Valid):]
		for k, start := range o.starts[i*ChunkRows:][:n] {
			starts[k] = uint8(p.Rows) + start
		}
		c.AppendRange(from, 0, n)
	}
	p.Rows += o.Rows
	return nil
}

func errNoValue(column int) error {
	return fmt.Errorf("column %d: the first row has no value", column)
}

// Row returns where the columns of the partition's next row are to be set; Done
// must follow.
func (w *Writer) Row(partition int) *Pending {
	p := w.open[partition]
	if p == nil {
		p = newPending(w.kinds)
		w.open[partition] = p
	}
	return p
}

// Done completes the row of the partition.
func (w *Writer) Done(partition int) error {
	p := w.open[partition]
	p.Rows++
	if p.Rows < ChunkRows {
		return nil
	}
	return w.flush(p, partition)
}

// Group begins a group of rows of a partition, which ends with the next, and returns
// where the columns of its rows are to be set; DoneInGroup must follow each. The rows
// of a group follow each other when they are read. Rows of many columns are
// better grouped: those of a group are put together in one place, which stays in the
// processor's caches, and not in as many as there are partitions.
func (w *Writer) Group(partition int) (*Pending, error) {
	if w.group == nil {
		w.group = newPending(w.kinds)
	}
	err := w.endGroup()
	w.partition, w.split = partition, false
	return w.group, err
}

// DoneInGroup completes a row of the group.
func (w *Writer) DoneInGroup() error {
	w.group.Rows++
	if w.group.Rows < ChunkRows {
		return nil
	}
	w.split = true
	return w.flush(w.group, w.partition)
}

// endGroup puts the group's rows away: into a chunk, or, if they are few, to others
// of the partition.
func (w *Writer) endGroup() error {
	g := w.group
	if g == nil || g.Rows == 0 {
		return nil
	}
	if w.split || g.Rows >= fewRows {
		return w.flush(g, w.partition)
	}
	to := w.Row(w.partition)
	if to.Rows+g.Rows > ChunkRows {
		if err := w.flush(to, w.partition); err != nil {
			return err
		}
	}
	if err := to.take(g); err != nil {
		return err
	}
	g.reset()
	if to.Rows < ChunkRows {
		return nil
	}
	return w.flush(to, w.partition)
}

// Flush writes what is buffered, frees the buffers, and makes the file ready to be
// read. Nobody may scan the set meanwhile.
func (w *Writer) Flush() error {
	if err := w.endGroup(); err != nil {
		return err
	}
	w.group = nil
	for p, open := range w.open {
		if err := w.flush(open, p); err != nil {
			return err
		}
		w.open[p] = nil
	}
	if err := w.write(); err != nil {
		return err
	}
	w.encoded = nil
	if err := w.unmap(); err != nil || w.offset == 0 {
		return err
	}
	w.mapped = mapFile(w.file, w.offset)
	return nil
}

func (w *Writer) unmap() error {
	mapped := w.mapped
	w.mapped = nil
	if mapped == nil {
		return nil
	}
	return unmapFile(mapped)
}

// flush makes a chunk of pending rows, if there are any.
func (w *Writer) flush(p *Pending, partition int) (err error) {
	if p == nil || p.Rows == 0 {
		return nil
	}
	before := len(w.encoded)
	if w.encoded, err = w.encoder.appendPending(w.encoded, p, w.order); err != nil {
		return err
	}
	size := len(w.encoded) - before
	w.chunks[partition] = append(w.chunks[partition], chunk{offset: w.offset, size: uint32(size), rows: uint32(p.Rows)})
	w.offset += int64(size)
	p.reset()
	if len(w.encoded) < writeBytes {
		return nil
	}
	return w.write()
}

// write writes what was encoded.
func (w *Writer) write() error {
	if _, err := w.file.Write(w.encoded); err != nil {
		return fmt.Errorf("write spill file: %w", err)
	}
	w.encoded = w.encoded[:0]
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
// in the order of appending. A column that is the same in all of them has its value
// Once. The batch is reused. An error of fn ends the scan and is returned.
func (s *Scanner) Scan(ctx context.Context, partition int, fn func(*Batch) error) error {
	s.reader.once = true
	s.rows.Partition, s.rows.First, s.rows.Rows = partition, 0, 0
	return s.chunks(ctx, partition, func(c chunk) error {
		s.rows.First += s.rows.Rows
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
	s.rows.Partition, s.rows.First = partition, 0
	s.reader.once = false
	err := s.chunks(ctx, partition, func(c chunk) error { return s.reader.read(c, s.rows) })
	return s.rows, err
}

func (s *Scanner) chunks(ctx context.Context, partition int, fn func(chunk) error) error {
	for _, w := range s.set.writers {
		s.reader.from = w
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
	from    *Writer
	wanted  []segment // by place
	columns int
	once    bool // a column of one run is not repeated
	decoder decoder
	buffer  []byte
}

// read appends the chunk's rows to b. Where a mapped file cannot be read the system
// sends a fault of memory, which becomes an error as of any other read.
func (r *reader) read(c chunk, b *Batch) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface {
			error
			Addr() uintptr
		}:
			err = fmt.Errorf("read spill file: %w", fault)
		default:
			panic(fault)
		}
	}()
	b.Rows += int(c.rows)
	if len(r.wanted) == 0 {
		return nil
	}
	data, err := r.bytes(c)
	if err != nil {
		return err
	}
	body := headerSize * r.columns
	if body > len(data) {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, len(data))
	}
	end := func(place int) int {
		if place < 0 {
			return body
		}
		return body + int(binary.LittleEndian.Uint32(data[headerSize*place:]))
	}
	for _, s := range r.wanted {
		from, to := end(s.place-1), end(s.place)
		if from < body || to < from || to > len(data) {
			return fmt.Errorf("%w: segment from %d to %d of %d", ErrCorrupt, from, to, len(data))
		}
		if err := r.decoder.decodeColumn(data[from:to], &b.Columns[s.column], int(c.rows), r.once); err != nil {
			return err
		}
	}
	return nil
}

// bytes are those of the chunk, good until the next call.
func (r *reader) bytes(c chunk) ([]byte, error) {
	if m := r.from.mapped; m != nil {
		return m[c.offset : c.offset+int64(c.size)], nil
	}
	r.buffer = slices.Grow(r.buffer[:0], int(c.size))[:c.size]
	if _, err := r.from.file.ReadAt(r.buffer, c.offset); err != nil {
		return nil, fmt.Errorf("read spill file: %w", err)
	}
	return r.buffer, nil
}
