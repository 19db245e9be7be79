package parquetfile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"

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

func digestColumn(h hash.Hash, buf []byte, t Type, c *spill.Column, rows int) []byte {
	for r := range rows {
		if len(buf) >= digestBuffer {
			h.Write(buf)
			buf = buf[:0]
		}
		if !c.Valid[r] {
			buf = append(buf, 0)
			continue
		}
		buf = append(buf, 1)
		switch t {
		case Float32:
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(c.Floats[r]))
		case Int32:
			buf = binary.LittleEndian.AppendUint32(buf, uint32(int32(c.Ints[r])))
		case Timestamp:
			buf = binary.LittleEndian.AppendUint64(buf, uint64(c.Ints[r]))
		case Bool:
			buf = append(buf, byte(c.Ints[r]))
		case String:
			text := c.Text(r)
			buf = binary.LittleEndian.AppendUint32(buf, uint32(len(text)))
			buf = append(buf, text...)
		}
	}
	return buf
}
