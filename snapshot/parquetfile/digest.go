package parquetfile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"slices"

	"dreamfeed/snapshot/spill"
)

// digest collects the blocks of a file (package comment).
type digest struct {
	columns []Column
	rows    int64
	blocks  [][sha256.Size]byte // 32 bytes for 65,536 rows
}

func (d *digest) add(rows int, block [sha256.Size]byte) {
	d.rows += int64(rows)
	d.blocks = append(d.blocks, block)
}

func (d *digest) sum() [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprint(h, "dreamfeed dataset digest 1\n")
	for _, c := range d.columns {
		need := "optional"
		if c.Required {
			need = "required"
		}
		fmt.Fprintf(h, "%s\t%s\t%s\n", c.Name, c.Type, need)
	}
	fmt.Fprintf(h, "%d\n", d.rows)
	for _, b := range d.blocks {
		h.Write(b[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// blockDigest hashes the rows of a group. copies are the columns that others
// copy, -1 for those with values of their own.
func blockDigest(columns []Column, copies []int, b *spill.Batch) [sha256.Size]byte {
	h := sha256.New()
	buf := make([]byte, 0, digestBuffer+512)
	for i := range b.Columns {
		from := i
		if copies[i] >= 0 {
			from = copies[i]
		}
		buf = digestColumn(h, buf, columns[i].Type, &b.Columns[from], b.Rows)
	}
	h.Write(buf)
	return [sha256.Size]byte(h.Sum(nil))
}

// digestBuffer is the size at which bytes are handed to the hash.
const digestBuffer = 16 << 10

// digestRows is how many rows of a column are put into the buffer at once: the
// kind of a column is looked at once for all of them.
const digestRows = 1024

func digestColumn(h hash.Hash, buf []byte, t Type, c *spill.Column, rows int) []byte {
	for from := 0; from < rows; from += digestRows {
		end := min(rows, from+digestRows)
		valid := c.Valid[from:end]
		switch t {
		case Float32:
			buf = digestFloats(buf, valid, c.Floats[from:end])
		case String:
			buf = digestTexts(h, buf, c, from, end)
		default:
			buf = digestInts(buf, t, valid, c.Ints[from:end])
		}
		if len(buf) >= digestBuffer {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	return buf
}

func digestFloats(buf []byte, valid []bool, list []float32) []byte {
	const size = 5 // of a value, with the byte that says that it is there
	buf = slices.Grow(buf, size*len(list))
	for i, v := range list {
		if !valid[i] {
			buf = append(buf, 0)
			continue
		}
		at := len(buf)
		buf = buf[:at+size]
		buf[at] = 1
		binary.LittleEndian.PutUint32(buf[at+1:], math.Float32bits(v))
	}
	return buf
}

func digestInts(buf []byte, t Type, valid []bool, list []int64) []byte {
	for i, v := range list {
		if !valid[i] {
			buf = append(buf, 0)
			continue
		}
		buf = append(buf, 1)
		switch t {
		case Int32:
			buf = binary.LittleEndian.AppendUint32(buf, uint32(int32(v)))
		case Timestamp:
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
		default:
			buf = append(buf, byte(v))
		}
	}
	return buf
}

func digestTexts(h hash.Hash, buf []byte, c *spill.Column, from, end int) []byte {
	for r := from; r < end; r++ {
		if len(buf) >= digestBuffer {
			h.Write(buf)
			buf = buf[:0]
		}
		if !c.Valid[r] {
			buf = append(buf, 0)
			continue
		}
		text := c.Text(r)
		buf = append(buf, 1)
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(text)))
		buf = append(buf, text...)
	}
	return buf
}
