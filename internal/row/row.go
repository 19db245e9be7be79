// Package row is the codec of a stored row: the columns of one row version in
// as few bytes as they need, without losing a bit of the source's text.
//
//	row   = count uvarint | tag byte × count | payload × count
//	tag   = see Kind; the payload of a tag:
//	        NotCaptured, Null, True, False, Carried  nothing
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
	"math/bits"
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
	// Carried says that the row's version before has the value: an update that left
	// it out changed nothing of it. The store puts the value in its place before it
	// hands a row out.
	Carried Kind = 12
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
	return decode(data, cells, nil)
}

// DecodeSome is Decode for the slots that are wanted: cells of the others are
// NotCaptured. All of the row is checked as Decode does. Most of a row's columns
// are no feature, and writing a cell is what decoding costs most.
func DecodeSome(data []byte, cells []Cell, wanted []bool) ([]Cell, error) {
	if wanted == nil {
		wanted = []bool{}
	}
	return decode(data, cells, wanted)
}

// decode reads the slots that are wanted, all if wanted is nil.
func decode(data []byte, cells []Cell, wanted []bool) ([]Cell, error) {
	count, n := uvarint(data)
	if n <= 0 || count > uint64(len(data)-n) {
		return cells, fmt.Errorf("%w: column count", ErrCorrupt)
	}
	tags, rest := data[n:n+int(count)], data[n+int(count):]
	for len(cells) < len(tags) {
		cells = append(cells, Cell{})
	}
	clear(cells)
	for i, tag := range tags {
		var c *Cell
		if wanted == nil || i < len(wanted) && wanted[i] {
			c = &cells[i]
			c.Kind = Kind(tag)
		}
		var size int
		switch Kind(tag) {
		case NotCaptured, Null, True, False, Carried:
			continue
		case Text:
			length, n := uvarint(rest)
			if n <= 0 || length > uint64(len(rest)-n) {
				return cells, corrupt(cells, i, tag)
			}
			size = n + int(length)
			if c != nil {
				c.Bytes = rest[n:size:size]
			}
		case Int, Timestamp, TimestampTZ, Date:
			v, n := uvarint(rest)
			if n <= 0 {
				return cells, corrupt(cells, i, tag)
			}
			if size = n; c != nil {
				c.Int = unzigzag(v)
			}
		case Float:
			if size = 8; len(rest) < size {
				return cells, corrupt(cells, i, tag)
			}
			if c != nil {
				c.Float = math.Float64frombits(binary.LittleEndian.Uint64(rest))
			}
		case UUID:
			if size = 16; len(rest) < size {
				return cells, corrupt(cells, i, tag)
			}
			if c != nil {
				c.Bytes = rest[:16:16]
			}
		case Decimal:
			scale, n := uvarint(rest)
			if n <= 0 || scale > math.MaxUint16 {
				return cells, corrupt(cells, i, tag)
			}
			v, m := uvarint(rest[n:])
			if m <= 0 {
				return cells, corrupt(cells, i, tag)
			}
			if size = n + m; c != nil {
				c.Scale, c.Int = uint32(scale), unzigzag(v)
			}
		default:
			return cells, corrupt(cells, i, tag)
		}
		rest = rest[size:]
	}
	if len(rest) != 0 {
		return cells, fmt.Errorf("%w: %d bytes left over", ErrCorrupt, len(rest))
	}
	return cells, nil
}

// corrupt says which column cannot be read, and takes back what it claims to be.
func corrupt(cells []Cell, column int, tag byte) error {
	cells[column] = Cell{}
	return fmt.Errorf("%w: column %d with tag %d", ErrCorrupt, column, tag)
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// uvarint is binary.Uvarint. Most numbers of a row are moments in µs, of eight
// bytes, which it takes apart in one go.
func uvarint(b []byte) (v uint64, size int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	if len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		if ends := ^x & 0x8080808080808080; ends != 0 {
			size = bits.TrailingZeros64(ends)/8 + 1
			// Seven bits of each byte are brought together, pair by pair.
			x &= 0x7f7f7f7f7f7f7f7f >> (64 - 8*size)
			x = x&0x007f007f007f007f | x>>1&0x3f803f803f803f80
			x = x&0x00003fff00003fff | x>>2&0x0fffc0000fffc000
			return x&0x000000000fffffff | x>>4&0x00fffffff0000000, size
		}
	}
	return binary.Uvarint(b)
}
