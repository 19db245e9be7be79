package parquetfile

import (
	"bytes"
	"encoding/binary"

	"github.com/parquet-go/parquet-go"

	"dreamfeed/snapshot/spill"
)

// plain encodes the values of a page into e.values, those that are there one
// after the other, and finds the smallest and the largest.
func (e *encoder) plain(c *spill.Column, from, end int, full, dictionary bool) (smallest, largest parquet.Value, err error) {
	valid := c.Valid[from:end]
	switch e.column.Type {
	case Float32:
		list := c.Floats[from:end]
		if !full {
			e.floats = gather(e.floats[:0], list, valid)
			list = e.floats
		}
		e.values, err = parquet.Plain.EncodeFloat(e.values[:0], list)
		if len(list) > 0 {
			low, high := floatBounds(list)
			smallest, largest = parquet.FloatValue(low), parquet.FloatValue(high)
		}
	case Timestamp:
		list := c.Ints[from:end]
		if !full {
			e.longs = gather(e.longs[:0], list, valid)
			list = e.longs
		}
		e.values, err = parquet.Plain.EncodeInt64(e.values[:0], list)
		if len(list) > 0 {
			low, high := intBounds(list)
			smallest, largest = parquet.Int64Value(low), parquet.Int64Value(high)
		}
	case Int32:
		e.ints = e.ints[:0]
		for i, v := range c.Ints[from:end] {
			if valid[i] {
				e.ints = append(e.ints, int32(v))
			}
		}
		e.values, err = parquet.Plain.EncodeInt32(e.values[:0], e.ints)
		if len(e.ints) > 0 {
			low, high := intBounds(e.ints)
			smallest, largest = parquet.Int32Value(low), parquet.Int32Value(high)
		}
	case Bool:
		smallest, largest = e.bools(c.Ints[from:end], valid)
	default:
		if dictionary {
			return e.indexes(c, from, end)
		}
		smallest, largest = e.texts(c, from, end)
	}
	return smallest, largest, err
}

// gather appends the values that are there.
func gather[T any](dst, values []T, valid []bool) []T {
	for i, v := range values {
		if valid[i] {
			dst = append(dst, v)
		}
	}
	return dst
}

// bools packs the truth values into bits, the least significant first.
func (e *encoder) bools(values []int64, valid []bool) (smallest, largest parquet.Value) {
	e.values = e.values[:0]
	n, set := 0, 0
	for i, v := range values {
		if !valid[i] {
			continue
		}
		if n%8 == 0 {
			e.values = append(e.values, 0)
		}
		if v != 0 {
			e.values[n/8] |= 1 << (n % 8)
			set++
		}
		n++
	}
	if n == 0 {
		return smallest, largest
	}
	return parquet.BooleanValue(set == n), parquet.BooleanValue(set > 0)
}

// texts writes texts as their lengths and bytes.
func (e *encoder) texts(c *spill.Column, from, end int) (smallest, largest parquet.Value) {
	e.values = e.values[:0]
	var b textBounds
	for i := from; i < end; i++ {
		if !c.Valid[i] {
			continue
		}
		text := c.Text(i)
		e.values = binary.LittleEndian.AppendUint32(e.values, uint32(len(text)))
		e.values = append(e.values, text...)
		b.add(text)
	}
	if b.found && len(b.high) == 0 {
		// parquet-go writes no bounds of a page that holds nothing but empty texts.
		return parquet.ByteArrayValue(nil), parquet.ByteArrayValue(nil)
	}
	return b.values()
}

// indexes writes texts as their places in the dictionary. The bounds are found
// among the distinct ones, which are few.
func (e *encoder) indexes(c *spill.Column, from, end int) (smallest, largest parquet.Value, err error) {
	e.ints = e.ints[:0]
	d := &e.dict
	d.page++
	if c.Texts != nil {
		e.ints = d.numbered(e.ints, c, from, end)
	} else {
		var last []byte
		place := int32(-1)
		for i := from; i < end; i++ {
			if !c.Valid[i] {
				continue
			}
			// The rows of a user follow each other, and what is known of a user hardly
			// changes: most texts are that of the row before.
			if text := c.Text(i); place < 0 || !bytes.Equal(text, last) {
				last, place = text, d.place(text)
				d.used[place] = d.page
			}
			e.ints = append(e.ints, place)
		}
	}
	var b textBounds
	for i, page := range d.used {
		if page == d.page {
			b.add(d.at(int32(i)))
		}
	}
	e.values, err = parquet.RLEDictionary.EncodeInt32(e.values[:0], e.ints)
	smallest, largest = b.values()
	return smallest, largest, err
}

// textBounds are the smallest and the largest of some texts.
type textBounds struct {
	found     bool
	low, high []byte
}

func (b *textBounds) add(text []byte) {
	if !b.found {
		b.found, b.low, b.high = true, text, text
		return
	}
	if bytes.Compare(text, b.low) < 0 {
		b.low = text
	}
	if bytes.Compare(text, b.high) > 0 {
		b.high = text
	}
}

// values are copies: the batch is used again while the file's index still holds
// them.
func (b *textBounds) values() (smallest, largest parquet.Value) {
	if !b.found {
		return smallest, largest
	}
	return parquet.ByteArrayValue(append([]byte{}, b.low...)), parquet.ByteArrayValue(append([]byte{}, b.high...))
}

// floatBounds ignores what is no number, unless nothing else is there.
func floatBounds(list []float32) (low, high float32) {
	at := 0
	for at < len(list) && list[at] != list[at] {
		at++
	}
	if at == len(list) {
		return list[0], list[0]
	}
	low, high = list[at], list[at]
	for _, v := range list[at+1:] {
		if v < low {
			low = v
		}
		if v > high {
			high = v
		}
	}
	return low, high
}

func intBounds[T int32 | int64](list []T) (low, high T) {
	low, high = list[0], list[0]
	for _, v := range list[1:] {
		low, high = min(low, v), max(high, v)
	}
	return low, high
}

// dictionary numbers the distinct texts of a chunk in the order of their first
// rows.
type dictionary struct {
	places map[string]int32
	text   []byte
	ends   []uint32
	used   []uint32 // the last page that has the text
	page   uint32
	// ofNumber is, by number in spill.Texts, 1 + the place, 0 of a text that is not there.
	ofNumber []int32
}

func (d *dictionary) reset() {
	if d.places == nil {
		d.places = map[string]int32{}
	}
	clear(d.places)
	clear(d.ofNumber)
	d.text, d.ends, d.used, d.page = d.text[:0], d.ends[:0], d.used[:0], 0
}

func (d *dictionary) place(text []byte) int32 {
	if at, ok := d.places[string(text)]; ok {
		return at
	}
	key := string(text)
	at := d.add(key)
	d.places[key] = at
	return at
}

// add adds a text that is not there.
func (d *dictionary) add(text string) int32 {
	d.text = append(d.text, text...)
	d.ends = append(d.ends, uint32(len(d.text)))
	d.used = append(d.used, 0)
	return int32(len(d.ends)) - 1
}

// numbered appends the places of the texts of some rows of a column of numbers, of
// which the chunk has no others.
func (d *dictionary) numbered(places []int32, c *spill.Column, from, end int) []int32 {
	list := c.Texts.List()
	if n := len(list) - len(d.ofNumber); n > 0 {
		d.ofNumber = append(d.ofNumber, make([]int32, n)...)
	}
	for i := from; i < end; i++ {
		if !c.Valid[i] {
			continue
		}
		place := d.ofNumber[c.Ends[i]] - 1
		if place < 0 {
			place = d.add(list[c.Ends[i]])
			d.ofNumber[c.Ends[i]] = place + 1
		}
		d.used[place] = d.page
		places = append(places, place)
	}
	return places
}

func (d *dictionary) at(i int32) []byte {
	from := uint32(0)
	if i > 0 {
		from = d.ends[i-1]
	}
	return d.text[from:d.ends[i]]
}
