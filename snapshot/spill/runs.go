package spill

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// perRun is how many rows there are in a run on average, or more, of a column that
// is stored in runs. It decides early that a column is not: after so many runs as
// that allows.
const perRun = 4

// runs finds where the runs of equal rows end, and says whether they are few enough.
// NaN and the zeros count by their bits.
func (e *encoder) runs(c *Column, rows int) bool {
	most := rows / perRun
	if most == 0 || rows > math.MaxUint8 {
		return false
	}
	e.ends = e.ends[:0]
	for i := 1; i < rows; i++ {
		if c.same(i) {
			continue
		}
		if e.ends = append(e.ends, byte(i)); len(e.ends) == most {
			return false
		}
	}
	e.ends = append(e.ends, byte(rows))
	return true
}

// same says whether a row, not the first, equals the one before.
func (c *Column) same(i int) bool {
	if c.Valid[i] != c.Valid[i-1] {
		return false
	}
	switch c.Kind {
	case Float32:
		return math.Float32bits(c.Floats[i]) == math.Float32bits(c.Floats[i-1])
	case Text:
		return bytes.Equal(c.Text(i), c.Text(i-1))
	}
	return c.Ints[i] == c.Ints[i-1]
}

// appendRuns encodes the runs that were found.
func (e *encoder) appendRuns(dst []byte, c *Column) []byte {
	e.starts = append(e.starts[:0], 0)
	for _, end := range e.ends[:len(e.ends)-1] {
		e.starts = append(e.starts, int(end))
	}
	e.firsts.Kind = c.Kind
	e.firsts.Reset()
	e.firsts.AppendRows(c, e.starts)
	dst = append(dst, inRuns, byte(len(e.ends)))
	dst = append(dst, e.ends...)
	return appendEach(dst, &e.firsts, len(e.ends))
}

// decodeRuns reads a segment of runs, after its first byte.
func (d *decoder) decodeRuns(seg []byte, c *Column, rows int) error {
	if len(seg) == 0 || seg[0] == 0 || len(seg) < 1+int(seg[0]) {
		return fmt.Errorf("%w: short list of runs", ErrCorrupt)
	}
	ends, seg := seg[1:1+int(seg[0])], seg[1+int(seg[0]):]
	last := 0
	for _, end := range ends {
		if int(end) <= last {
			return fmt.Errorf("%w: runs out of order", ErrCorrupt)
		}
		last = int(end)
	}
	if last != rows {
		return fmt.Errorf("%w: runs of %d of %d rows", ErrCorrupt, last, rows)
	}
	d.firsts.Kind = c.Kind
	d.firsts.Reset()
	if err := decodeEach(seg, &d.firsts, len(ends)); err != nil {
		return err
	}
	return c.appendRuns(&d.firsts, ends)
}

// appendRuns adds each row of a column of the same kind until the end of its run.
func (c *Column) appendRuns(from *Column, ends []byte) error {
	rows := int(ends[len(ends)-1])
	c.Valid = repeat(c.Valid, from.Valid, ends)
	switch c.Kind {
	case Float32:
		c.Floats = repeat(c.Floats, from.Floats, ends)
	case Text:
		size, at := uint64(len(c.Bytes)), 0
		for i, end := range ends {
			size += uint64(len(from.Text(i))) * uint64(int(end)-at)
			at = int(end)
		}
		if size > math.MaxUint32 {
			return fmt.Errorf("%w: runs of %d bytes of text", ErrCorrupt, size)
		}
		c.Bytes, c.Ends = slices.Grow(c.Bytes, int(size)-len(c.Bytes)), slices.Grow(c.Ends, rows)
		at = 0
		for i, end := range ends {
			text := from.Text(i)
			for ; at < int(end); at++ {
				c.Bytes = append(c.Bytes, text...)
				c.Ends = append(c.Ends, uint32(len(c.Bytes)))
			}
		}
	default:
		c.Ints = repeat(c.Ints, from.Ints, ends)
	}
	return nil
}

// repeat appends each value until the end of its run.
func repeat[T any](dst, values []T, ends []byte) []T {
	dst, to := more(dst, int(ends[len(ends)-1]))
	at := 0
	for i, end := range ends {
		for ; at < int(end); at++ {
			to[at] = values[i]
		}
	}
	return dst
}
