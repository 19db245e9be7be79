package spill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrCorrupt is wrapped by every error about bytes that are no chunk.
var ErrCorrupt = errors.New("spill chunk is corrupt")

// How the validity of a segment's rows is stored.
const (
	allValid   = 0
	noneValid  = 1
	someValid  = 2
	inRuns     = 3 // of runs of equal rows, see runs.go
	headerSize = 4 // of one column
)

// encoder encodes columns and keeps its memory. It belongs to one goroutine.
type encoder struct {
	ends   []byte // of runs
	starts []int
	firsts Column // the first rows of runs
	full   Column // a value for each row
}

// appendPending encodes rows as a chunk, their columns in the order given.
func (e *encoder) appendPending(dst []byte, p *Pending, order []int) ([]byte, error) {
	header := len(dst)
	dst = append(dst, make([]byte, headerSize*len(p.columns))...)
	start := len(dst)
	for i, at := range order {
		c := &p.columns[at]
		if n := len(c.Valid); n == p.Rows {
			dst = e.appendColumn(dst, c, n)
		} else {
			starts := p.starts[at*ChunkRows:][:n]
			if n == 0 || starts[0] != 0 {
				return nil, errNoValue(at)
			}
			var err error
			if dst, err = e.appendValues(dst, c, starts, p.Rows); err != nil {
				return nil, fmt.Errorf("column %d: %w", at, err)
			}
		}
		binary.LittleEndian.PutUint32(dst[header+headerSize*i:], uint32(len(dst)-start))
	}
	return dst, nil
}

// appendColumn encodes a segment, in runs if these are few.
func (e *encoder) appendColumn(dst []byte, c *Column, rows int) []byte {
	if e.runs(c, rows) {
		return e.appendRuns(dst, c)
	}
	return appendEach(dst, c, rows)
}

// appendValues encodes a segment of rows of which some have the value of the row
// before: starts are those that have one of their own.
func (e *encoder) appendValues(dst []byte, c *Column, starts []uint8, rows int) ([]byte, error) {
	e.ends = append(append(e.ends[:0], starts[1:]...), byte(rows))
	if len(starts) <= rows/perRun {
		dst = append(append(dst, inRuns, byte(len(e.ends))), e.ends...)
		return appendEach(dst, c, len(e.ends)), nil
	}
	e.full.Kind = c.Kind
	e.full.Reset()
	if err := e.full.appendRuns(c, e.ends); err != nil {
		return nil, err
	}
	return appendEach(dst, &e.full, rows), nil
}

// appendEach encodes a segment row by row.
func appendEach(dst []byte, c *Column, rows int) []byte {
	switch Count(c.Valid[:rows]) {
	case rows:
		dst = append(dst, allValid)
	case 0:
		return append(dst, noneValid)
	default:
		dst = append(dst, someValid)
		at := len(dst)
		dst = append(dst, make([]byte, (rows+7)/8)...)
		for i, ok := range c.Valid[:rows] {
			if ok {
				dst[at+i/8] |= 1 << (i % 8)
			}
		}
	}
	at := len(dst)
	dst = slices.Grow(dst, rows*c.Kind.width())[:at+rows*c.Kind.width()]
	to := dst[at:]
	switch c.Kind {
	case Float32:
		for i, v := range c.Floats[:rows] {
			binary.LittleEndian.PutUint32(to[4*i:], math.Float32bits(v))
		}
	case Bool:
		for i, v := range c.Ints[:rows] {
			to[i] = byte(v)
		}
	case Int32:
		for i, v := range c.Ints[:rows] {
			binary.LittleEndian.PutUint32(to[4*i:], uint32(int32(v)))
		}
	case Int64:
		for i, v := range c.Ints[:rows] {
			binary.LittleEndian.PutUint64(to[8*i:], uint64(v))
		}
	case Text:
		from := uint32(0)
		for i, end := range c.Ends[:rows] {
			binary.LittleEndian.PutUint32(to[4*i:], end-from)
			from = end
		}
		dst = append(dst, c.Bytes...)
	}
	return dst
}

// more makes the list n values longer and returns those.
func more[T any](list []T, n int) (longer, added []T) {
	longer = slices.Grow(list, n)[:len(list)+n]
	return longer, longer[len(list):]
}

// decoder decodes columns and keeps its memory. It belongs to one goroutine.
type decoder struct {
	firsts Column // the first rows of runs
}

// decodeColumn reads a segment of rows rows, appending to c. With once, which c must be
// empty for, what is the same in all rows is set once.
func (d *decoder) decodeColumn(seg []byte, c *Column, rows int, once bool) error {
	if len(seg) > 0 && seg[0] == inRuns {
		if once && len(seg) > 2 && seg[1] == 1 && int(seg[2]) == rows {
			c.Once = true
			return decodeEach(seg[3:], c, 1)
		}
		return d.decodeRuns(seg[1:], c, rows)
	}
	return decodeEach(seg, c, rows)
}

// decodeEach reads a segment that was encoded row by row.
func decodeEach(seg []byte, c *Column, rows int) error {
	if len(seg) == 0 {
		return fmt.Errorf("%w: empty segment", ErrCorrupt)
	}
	validity := seg[0]
	seg = seg[1:]
	base := len(c.Valid)
	switch validity {
	case allValid:
		var valid []bool
		c.Valid, valid = more(c.Valid, rows)
		for i := range valid {
			valid[i] = true
		}
	case noneValid:
		var valid []bool
		c.Valid, valid = more(c.Valid, rows)
		clear(valid)
		c.appendZeros(rows)
		return nil
	case someValid:
		if len(seg) < (rows+7)/8 {
			return fmt.Errorf("%w: short bitmap", ErrCorrupt)
		}
		var valid []bool
		c.Valid, valid = more(c.Valid, rows)
		for i := range valid {
			valid[i] = seg[i/8]>>(i%8)&1 == 1
		}
		seg = seg[(rows+7)/8:]
	default:
		return fmt.Errorf("%w: validity %d", ErrCorrupt, validity)
	}
	width := c.Kind.width()
	if len(seg) < rows*width || (c.Kind != Text && len(seg) != rows*width) {
		c.Valid = c.Valid[:base]
		return fmt.Errorf("%w: segment of %d bytes for %d rows", ErrCorrupt, len(seg), rows)
	}
	switch c.Kind {
	case Float32:
		var to []float32
		c.Floats, to = more(c.Floats, rows)
		for i := range to {
			to[i] = math.Float32frombits(binary.LittleEndian.Uint32(seg[4*i:]))
		}
	case Bool:
		var to []int64
		c.Ints, to = more(c.Ints, rows)
		for i := range to {
			to[i] = int64(seg[i])
		}
	case Int32:
		var to []int64
		c.Ints, to = more(c.Ints, rows)
		for i := range to {
			to[i] = int64(int32(binary.LittleEndian.Uint32(seg[4*i:])))
		}
	case Int64:
		var to []int64
		c.Ints, to = more(c.Ints, rows)
		for i := range to {
			to[i] = int64(binary.LittleEndian.Uint64(seg[8*i:]))
		}
	case Text:
		lengths, text := seg[:4*rows], seg[4*rows:]
		end := uint64(len(c.Bytes))
		limit := end + uint64(len(text))
		for i := range rows {
			end += uint64(binary.LittleEndian.Uint32(lengths[4*i:]))
			if end > limit || end > math.MaxUint32 {
				return fmt.Errorf("%w: texts beyond the segment", ErrCorrupt)
			}
			c.Ends = append(c.Ends, uint32(end))
		}
		if end != limit {
			return fmt.Errorf("%w: %d bytes left over", ErrCorrupt, limit-end)
		}
		c.Bytes = append(c.Bytes, text...)
	}
	return nil
}

func (c *Column) appendZeros(rows int) {
	switch c.Kind {
	case Float32:
		var to []float32
		c.Floats, to = more(c.Floats, rows)
		clear(to)
	case Text:
		for range rows {
			c.Ends = append(c.Ends, uint32(len(c.Bytes)))
		}
	default:
		var to []int64
		c.Ints, to = more(c.Ints, rows)
		clear(to)
	}
}
