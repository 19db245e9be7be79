package spill

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
}

// Text is the text of row i. It borrows the batch's memory.
func (c *Column) Text(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = c.Ends[i-1]
	}
	return c.Bytes[from:c.Ends[i]]
}

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
	c.Ends, c.Bytes = c.Ends[:0], c.Bytes[:0]
}

// Batch is some rows. Of a batch that was read, only the columns asked for
// hold rows.
type Batch struct {
	Rows    int
	Columns []Column
}

// NewBatch makes an empty batch of columns of the kinds.
func NewBatch(kinds []Kind) *Batch {
	b := &Batch{Columns: make([]Column, len(kinds))}
	for i, k := range kinds {
		b.Columns[i].Kind = k
	}
	return b
}

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
	c.Valid = append(c.Valid, from.Valid[first:end]...)
	switch c.Kind {
	case Float32:
		c.Floats = append(c.Floats, from.Floats[first:end]...)
	case Text:
		start := uint32(0)
		if first > 0 {
			start = from.Ends[first-1]
		}
		base := uint32(len(c.Bytes))
		for _, e := range from.Ends[first:end] {
			c.Ends = append(c.Ends, e-start+base)
		}
		c.Bytes = append(c.Bytes, from.Bytes[start:from.Ends[end-1]]...)
	default:
		c.Ints = append(c.Ints, from.Ints[first:end]...)
	}
}

// AppendRows adds some rows of a column of the same kind, in the order given.
func (c *Column) AppendRows(from *Column, rows []int) {
	for _, i := range rows {
		c.Valid = append(c.Valid, from.Valid[i])
	}
	switch c.Kind {
	case Float32:
		for _, i := range rows {
			c.Floats = append(c.Floats, from.Floats[i])
		}
	case Text:
		for _, i := range rows {
			c.Bytes = append(c.Bytes, from.Text(i)...)
			c.Ends = append(c.Ends, uint32(len(c.Bytes)))
		}
	default:
		for _, i := range rows {
			c.Ints = append(c.Ints, from.Ints[i])
		}
	}
}
