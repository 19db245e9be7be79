package spill

import (
	"bytes"
	"slices"
	"unsafe"
)

// Kind is the stored form of a column.
type Kind uint8

// The kinds. Bool, Int32 and Int64 are held in Column.Ints.
const (
	Float32 Kind = iota
	Bool
	Int32
	Int64
	Text
)

func (k Kind) width() int {
	switch k {
	case Bool:
		return 1
	case Float32, Int32, Text:
		return 4
	}
	return 8
}

// Column is the values of one column of a batch, one place a row. Only the
// slice of the column's kind is filled.
type Column struct {
	Kind   Kind
	Valid  []bool
	Floats []float32
	Ints   []int64
	// Ends are the ends of each row's text in Bytes.
	Ends  []uint32
	Bytes []byte
	// Once says that all rows have the same value, which stands there once, as that of
	// row 0. Only what Scan hands out is so.
	Once bool
	// Texts, if it is set, holds the texts: Ends are each row's number there, and Bytes
	// is empty. AppendNumber, AppendRange, Spell and Reset know of it.
	Texts *Texts
}

// Text is the text of row i. It borrows the batch's memory.
func (c *Column) Text(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = c.Ends[i-1]
	}
	return c.Bytes[from:c.Ends[i]]
}

// At is where the value of a row stands.
func (c *Column) At(row int) int {
	if c.Once {
		return 0
	}
	return row
}

// Int is the integer of a row.
func (c *Column) Int(row int) int64 { return c.Ints[c.At(row)] }

// AppendFloat adds a row's float; a value that is not ok is missing.
func (c *Column) AppendFloat(v float32, ok bool) {
	if !ok {
		v = 0
	}
	c.Valid = append(c.Valid, ok)
	c.Floats = append(c.Floats, v)
}

// AppendInt adds a row's integer, bool (0 or 1) or moment.
func (c *Column) AppendInt(v int64, ok bool) {
	if !ok {
		v = 0
	}
	c.Valid = append(c.Valid, ok)
	c.Ints = append(c.Ints, v)
}

// AppendText adds a row's text.
func (c *Column) AppendText(v string, ok bool) {
	c.Valid = append(c.Valid, ok)
	if ok {
		c.Bytes = append(c.Bytes, v...)
	}
	c.Ends = append(c.Ends, uint32(len(c.Bytes)))
}

// AppendBytes adds a row's text.
func (c *Column) AppendBytes(v []byte, ok bool) {
	c.Valid = append(c.Valid, ok)
	if ok {
		c.Bytes = append(c.Bytes, v...)
	}
	c.Ends = append(c.Ends, uint32(len(c.Bytes)))
}

// Reset empties the column and keeps its memory.
func (c *Column) Reset() {
	c.Valid, c.Floats, c.Ints = c.Valid[:0], c.Floats[:0], c.Ints[:0]
	c.Ends, c.Bytes, c.Texts = c.Ends[:0], c.Bytes[:0], nil
	c.Once = false
}

// Batch is some rows. Of a batch that was read, only the columns asked for
// hold rows.
type Batch struct {
	Rows    int
	Columns []Column
	// Partition is that of a batch that was read, and First the place of its first row
	// among those of the partition, which is the same whenever it is read.
	Partition, First int
}

// NewBatch makes an empty batch of columns of the kinds.
func NewBatch(kinds []Kind) *Batch {
	b := &Batch{Columns: make([]Column, len(kinds))}
	for i, k := range kinds {
		b.Columns[i].Kind = k
	}
	return b
}

// NewBatchOf makes an empty batch with room for some rows, all but their texts, so
// that appending them does not grow it. The columns share a few pieces of memory.
func NewBatchOf(kinds []Kind, rows int) *Batch {
	var n [Text + 1]int
	for _, k := range kinds {
		n[k]++
	}
	valid := make([]bool, rows*len(kinds))
	floats := make([]float32, rows*n[Float32])
	ints := make([]int64, rows*(n[Bool]+n[Int32]+n[Int64]))
	ends := make([]uint32, rows*n[Text])
	b := NewBatch(kinds)
	for i := range b.Columns {
		c := &b.Columns[i]
		c.Valid, valid = piece(valid, rows)
		switch c.Kind {
		case Float32:
			c.Floats, floats = piece(floats, rows)
		case Text:
			c.Ends, ends = piece(ends, rows)
		default:
			c.Ints, ints = piece(ints, rows)
		}
	}
	return b
}

// piece cuts the room for some values off the list.
func piece[T any](list []T, rows int) (cut, rest []T) { return list[:0:rows], list[rows:] }

// Levels are the truth values as bytes, 1 where a row has a value. It borrows
// them: a bool is a byte, 0 or 1.
func Levels(valid []bool) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(valid))), len(valid))
}

// Count is the number of rows with a value.
func Count(valid []bool) int { return bytes.Count(Levels(valid), []byte{1}) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Rows = 0
	for i := range b.Columns {
		b.Columns[i].Reset()
	}
}

// AppendRange adds rows from (inclusive) to (exclusive) of a column of the
// same kind.
func (c *Column) AppendRange(from *Column, first, end int) {
	if first == end {
		return
	}
	before := len(c.Valid)
	c.Valid = append(c.Valid, from.Valid[first:end]...)
	switch c.Kind {
	case Float32:
		c.Floats = append(c.Floats, from.Floats[first:end]...)
	case Text:
		c.appendTexts(from, first, end, before)
	default:
		c.Ints = append(c.Ints, from.Ints[first:end]...)
	}
}

// AppendRows adds some rows of a column of the same kind, in the order given.
func (c *Column) AppendRows(from *Column, rows []int) {
	c.Valid = pick(c.Valid, from.Valid, rows)
	switch c.Kind {
	case Float32:
		c.Floats = pick(c.Floats, from.Floats, rows)
	case Text:
		c.Ends = slices.Grow(c.Ends, len(rows))
		for _, i := range rows {
			c.Bytes = append(c.Bytes, from.Text(i)...)
			c.Ends = append(c.Ends, uint32(len(c.Bytes)))
		}
	default:
		c.Ints = pick(c.Ints, from.Ints, rows)
	}
}

// pick appends some values, in the order given.
func pick[T any](dst, from []T, rows []int) []T {
	dst = slices.Grow(dst, len(rows))
	at := len(dst)
	dst = dst[:at+len(rows)]
	for k, i := range rows {
		dst[at+k] = from[i]
	}
	return dst
}
