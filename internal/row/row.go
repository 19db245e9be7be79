// Package row is the codec of a stored row: the columns of one row version in
// as few bytes as they need, without losing a bit of the source's text.
//
//	row   = count uvarint | tag byte × count | payload × count
//	tag   = see Kind; the payload of a tag:
//	        NotCaptured, Null, True, False  nothing
//	        Text                            length uvarint, bytes
//	        Int                             zigzag varint
//	        Float                           8 bytes, IEEE 754, little endian
//	        Timestamp, TimestampTZ          zigzag varint, µs since 1970-01-01 00:00 UTC
//	        Date                            zigzag varint, days since 1970-01-01
//	        UUID                            16 bytes
//	        Decimal                         scale uvarint, zigzag varint unscaled
//
// Columns stand by slot (history.Table.Columns); slots past count were not
// captured. A value is stored typed only if rendering it again gives exactly
// the text that came from the source; anything else is stored as that text, so
// that infinities, BC dates and 100,000-digit numbers survive (DESIGN §6.8).
package row

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Kind is the tag of a column. The numbers are part of the disk format.
type Kind uint8

// The kinds of a column.
const (
	NotCaptured Kind = 0 // the definition did not name the column when the row came
	Null        Kind = 1 // SQL NULL
	Text        Kind = 2
	Int         Kind = 3
	Float       Kind = 4
	Timestamp   Kind = 5
	TimestampTZ Kind = 6
	Date        Kind = 7
	True        Kind = 8
	False       Kind = 9
	UUID        Kind = 10
	Decimal     Kind = 11
)

// Cell is one decoded column. Bytes borrows the memory that it was decoded
// from or parsed from.
type Cell struct {
	Kind Kind
	// Scale is the number of decimal places of a Decimal.
	Scale uint32
	// Int holds Int, Timestamp and TimestampTZ (µs since the epoch), Date (days)
	// and the unscaled number of a Decimal.
	Int   int64
	Float float64
	// Bytes holds Text, and the 16 bytes of a UUID.
	Bytes []byte
}

// ErrCorrupt is wrapped by every error of Decode: the bytes are not a row.
var ErrCorrupt = errors.New("row is corrupt")

// Append encodes cells to dst and returns the extended slice.
func Append(dst []byte, cells []Cell) []byte {
	n := len(cells)
	for n > 0 && cells[n-1].Kind == NotCaptured {
		n--
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range n {
		dst = append(dst, byte(cells[i].Kind))
	}
	for i := range n {
		c := &cells[i]
		switch c.Kind {
		case Text:
			dst = binary.AppendUvarint(dst, uint64(len(c.Bytes)))
			dst = append(dst, c.Bytes...)
		case Int, Timestamp, TimestampTZ, Date:
			dst = binary.AppendVarint(dst, c.Int)
		case Float:
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(c.Float))
		case UUID:
			dst = append(dst, c.Bytes[:16]...)
		case Decimal:
			dst = binary.AppendUvarint(dst, uint64(c.Scale))
			dst = binary.AppendVarint(dst, c.Int)
		}
	}
	return dst
}

// Decode reads a row into cells, which it extends or reuses: the result has
// one cell for each stored slot, and at least len(cells) ones (the rest
// NotCaptured). Bytes of the cells borrow data.
func Decode(data []byte, cells []Cell) ([]Cell, error) {
	count, n := binary.Uvarint(data)
	if n <= 0 || count > uint64(len(data)-n) {
		return cells, fmt.Errorf("%w: column count", ErrCorrupt)
	}
	tags, rest := data[n:n+int(count)], data[n+int(count):]
	for len(cells) < len(tags) {
		cells = append(cells, Cell{})
	}
	for i := range cells {
		if i >= len(tags) {
			cells[i] = Cell{}
			continue
		}
		c, size := decodeCell(Kind(tags[i]), rest)
		if size < 0 {
			return cells, fmt.Errorf("%w: column %d with tag %d", ErrCorrupt, i, tags[i])
		}
		cells[i], rest = c, rest[size:]
	}
	if len(rest) != 0 {
		return cells, fmt.Errorf("%w: %d bytes left over", ErrCorrupt, len(rest))
	}
	return cells, nil
}

// decodeCell reads one payload; the size is negative when data is too short
// or the tag unknown.
func decodeCell(kind Kind, data []byte) (Cell, int) {
	switch kind {
	case NotCaptured, Null, True, False:
		return Cell{Kind: kind}, 0
	case Text:
		size, n := binary.Uvarint(data)
		if n <= 0 || size > uint64(len(data)-n) {
			return Cell{}, -1
		}
		end := n + int(size)
		return Cell{Kind: kind, Bytes: data[n:end:end]}, end
	case Int, Timestamp, TimestampTZ, Date:
		v, n := binary.Varint(data)
		if n <= 0 {
			return Cell{}, -1
		}
		return Cell{Kind: kind, Int: v}, n
	case Float:
		if len(data) < 8 {
			return Cell{}, -1
		}
		return Cell{Kind: kind, Float: math.Float64frombits(binary.LittleEndian.Uint64(data))}, 8
	case UUID:
		if len(data) < 16 {
			return Cell{}, -1
		}
		return Cell{Kind: kind, Bytes: data[:16:16]}, 16
	case Decimal:
		scale, n := binary.Uvarint(data)
		if n <= 0 || scale > math.MaxUint16 {
			return Cell{}, -1
		}
		v, m := binary.Varint(data[n:])
		if m <= 0 {
			return Cell{}, -1
		}
		return Cell{Kind: kind, Scale: uint32(scale), Int: v}, n + m
	}
	return Cell{}, -1
}
