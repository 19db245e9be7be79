package parquetfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
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
	fmt.Fprint(h, "dreamfeed dataset digest 2\n")
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

// What stands for a row of a column in front of its value, if that follows.
const (
	digestNull  = 0
	digestValue = 1
	digestAgain = 2 // the value, or null, of the row before
)

// blockDigest hashes the rows of a group. copies are the columns that others
// copy, -1 for those with values of their own.
func blockDigest(columns []Column, copies []int, b *spill.Batch) [sha256.Size]byte {
	sums := make([][sha256.Size]byte, len(columns))
	var buf []byte
	h := sha256.New()
	for i := range columns {
		if from := copies[i]; from >= 0 {
			sums[i] = sums[from]
		} else {
			c := columnDigest{buf: buf, sum: h.Write}
			h.Reset()
			switch column := &b.Columns[i]; columns[i].Type {
			case Float32:
				c.floats(column.Valid[:b.Rows], column.Floats)
			case String:
				c.texts(column, b.Rows)
			default:
				c.integers(columns[i].Type, column.Valid[:b.Rows], column.Ints)
			}
			c.flush()
			h.Sum(sums[i][:0])
			buf = c.buf
		}
	}
	h.Reset()
	for i := range sums {
		h.Write(sums[i][:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// digestBuffer is the size at which bytes are handed to the hash.
const digestBuffer = 16 << 10

// digestRows is how many numbers are put into the buffer before its size is looked
// at: no more than fit in beside what may be there.
const digestRows = 1024

// columnDigest hashes one column of a block.
type columnDigest struct {
	buf []byte
	sum func([]byte) (int, error) // of a hash, which has no errors
}

func (d *columnDigest) flush() {
	_, _ = d.sum(d.buf)
	d.buf = d.buf[:0]
}

// room makes room for some values of at most 9 bytes.
func (d *columnDigest) room(values int) {
	if len(d.buf) >= digestBuffer {
		d.flush()
	}
	d.buf = slices.Grow(d.buf, 9*values)
}

func (d *columnDigest) floats(valid []bool, list []float32) {
	last := uint64(1 << 63) // of no value, and not null
	for len(valid) > 0 {
		n := min(len(valid), digestRows)
		d.room(n)
		buf := d.buf
		for i, v := range list[:n] {
			is := uint64(1<<32) | uint64(math.Float32bits(v))
			if !valid[i] {
				is = 0
			}
			switch {
			case is == last:
				buf = append(buf, digestAgain)
				continue
			case is == 0:
				buf = append(buf, digestNull)
			default:
				buf = binary.LittleEndian.AppendUint32(append(buf, digestValue), uint32(is))
			}
			last = is
		}
		d.buf, valid, list = buf, valid[n:], list[n:]
	}
}

func (d *columnDigest) integers(t Type, valid []bool, list []int64) {
	first, was, last := true, false, int64(0)
	for len(valid) > 0 {
		n := min(len(valid), digestRows)
		d.room(n)
		buf := d.buf
		for i, v := range list[:n] {
			is := valid[i]
			if !is {
				v = 0
			}
			if is == was && v == last && !first {
				buf = append(buf, digestAgain)
				continue
			}
			first, was, last = false, is, v
			if !is {
				buf = append(buf, digestNull)
				continue
			}
			buf = append(buf, digestValue)
			switch t {
			case Int32:
				buf = binary.LittleEndian.AppendUint32(buf, uint32(int32(v)))
			case Timestamp:
				buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
			default:
				buf = append(buf, byte(v))
			}
		}
		d.buf, valid, list = buf, valid[n:], list[n:]
	}
}

func (d *columnDigest) texts(c *spill.Column, rows int) {
	if c.Texts != nil {
		d.numbered(c, rows)
		return
	}
	var last []byte
	for i, ok := range c.Valid[:rows] {
		if len(d.buf) >= digestBuffer {
			d.flush()
		}
		text := c.Text(i)
		switch {
		case i > 0 && ok == c.Valid[i-1] && (!ok || bytes.Equal(text, last)):
			d.buf = append(d.buf, digestAgain)
		case !ok:
			d.buf = append(d.buf, digestNull)
		default:
			d.buf = binary.LittleEndian.AppendUint32(append(d.buf, digestValue), uint32(len(text)))
			d.buf = append(d.buf, text...)
		}
		last = text
	}
}

// numbered is texts of a column of their numbers.
func (d *columnDigest) numbered(c *spill.Column, rows int) {
	list := c.Texts.List()
	for i, ok := range c.Valid[:rows] {
		if len(d.buf) >= digestBuffer {
			d.flush()
		}
		switch {
		case i > 0 && ok == c.Valid[i-1] && (!ok || c.Ends[i] == c.Ends[i-1]):
			d.buf = append(d.buf, digestAgain)
		case !ok:
			d.buf = append(d.buf, digestNull)
		default:
			text := list[c.Ends[i]]
			d.buf = binary.LittleEndian.AppendUint32(append(d.buf, digestValue), uint32(len(text)))
			d.buf = append(d.buf, text...)
		}
	}
}
