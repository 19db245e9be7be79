package spill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCorrupt is wrapped by every error about bytes that are no chunk.
var ErrCorrupt = errors.New("spill chunk is corrupt")

// How the validity of a segment's rows is stored.
const (
	allValid   = 0
	noneValid  = 1
	someValid  = 2
	headerSize = 4 // of one column
)

// appendBatch encodes a batch as a chunk.
func appendBatch(dst []byte, b *Batch) []byte {
	header := len(dst)
	dst = append(dst, make([]byte, headerSize*len(b.Columns))...)
	start := len(dst)
	for i := range b.Columns {
		dst = appendColumn(dst, &b.Columns[i], b.Rows)
		binary.LittleEndian.PutUint32(dst[header+headerSize*i:], uint32(len(dst)-start))
	}
	return dst
}

func appendColumn(dst []byte, c *Column, rows int) []byte {
	valid := 0
	for _, ok := range c.Valid[:rows] {
		if ok {
			valid++
		}
	}
	switch valid {
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
	switch c.Kind {
	case Float32:
		for _, v := range c.Floats[:rows] {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
	case Bool:
		for _, v := range c.Ints[:rows] {
			dst = append(dst, byte(v))
		}
	case Int32:
		for _, v := range c.Ints[:rows] {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(int32(v)))
		}
	case Int64:
		for _, v := range c.Ints[:rows] {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(v))
		}
	case Text:
		from := uint32(0)
		for _, end := range c.Ends[:rows] {
			dst = binary.LittleEndian.AppendUint32(dst, end-from)
			from = end
		}
		dst = append(dst, c.Bytes...)
	}
	return dst
}

// decodeColumn reads a segment of rows rows, appending to c.
func decodeColumn(seg []byte, c *Column, rows int) error {
	if len(seg) == 0 {
		return fmt.Errorf("%w: empty segment", ErrCorrupt)
	}
	validity := seg[0]
	seg = seg[1:]
	base := len(c.Valid)
	switch validity {
	case allValid:
		for range rows {
			c.Valid = append(c.Valid, true)
		}
	case noneValid:
		for range rows {
			c.Valid = append(c.Valid, false)
		}
		c.appendZeros(rows)
		return nil
	case someValid:
		if len(seg) < (rows+7)/8 {
			return fmt.Errorf("%w: short bitmap", ErrCorrupt)
		}
		for i := range rows {
			c.Valid = append(c.Valid, seg[i/8]>>(i%8)&1 == 1)
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
		for i := range rows {
			c.Floats = append(c.Floats, math.Float32frombits(binary.LittleEndian.Uint32(seg[4*i:])))
		}
	case Bool:
		for i := range rows {
			c.Ints = append(c.Ints, int64(seg[i]))
		}
	case Int32:
		for i := range rows {
			c.Ints = append(c.Ints, int64(int32(binary.LittleEndian.Uint32(seg[4*i:]))))
		}
	case Int64:
		for i := range rows {
			c.Ints = append(c.Ints, int64(binary.LittleEndian.Uint64(seg[8*i:])))
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
	for range rows {
		switch c.Kind {
		case Float32:
			c.Floats = append(c.Floats, 0)
		case Text:
			c.Ends = append(c.Ends, uint32(len(c.Bytes)))
		default:
			c.Ints = append(c.Ints, 0)
		}
	}
}
