package snapshot

import (
	"context"
	"math"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/spill"
)

// Keys number the values of a numeric column in their order, so that medians
// are found by counting: first by a key's upper half, then, in the half that
// holds the median, by its lower one. Two passes in 256 KiB a column and
// worker, whatever the number of rows.

func floatKey(v float32) uint32 {
	b := math.Float32bits(v)
	if b>>31 == 1 {
		return ^b
	}
	return b | 1<<31
}

func keyFloat(k uint32) float32 {
	if k>>31 == 1 {
		return math.Float32frombits(k &^ (1 << 31))
	}
	return math.Float32frombits(^k)
}

func intKey(v int64) uint32 { return uint32(int32(v)) ^ 1<<31 }
func keyInt(k uint32) int64 { return int64(int32(k ^ 1<<31)) }

// keys appends the keys of the column's values in some rows, each of which stands for
// so many rows.
func (c *column) keys(keys []uint32, batch *spill.Batch, rows []int) (_ []uint32, times uint32) {
	from := &batch.Columns[c.spill]
	times = 1
	if from.Once && len(rows) > 0 {
		times = uint32(len(rows))
		rows = onlyFirst
	}
	if c.Type == definition.Float32 {
		for _, i := range rows {
			if from.Valid[i] {
				keys = append(keys, floatKey(from.Floats[i]))
			}
		}
		return keys, times
	}
	for _, i := range rows {
		if from.Valid[i] {
			keys = append(keys, intKey(from.Ints[i]))
		}
	}
	return keys, times
}

// onlyFirst is where a value stands that all rows have.
var onlyFirst = []int{0}

// number is the value with the key.
func (c *column) number(k uint32) float64 {
	if c.Type == definition.Float32 {
		return float64(keyFloat(k))
	}
	return float64(keyInt(k))
}

// halves counts values by one half of their keys.
type halves [1 << 16]uint32

// fill is what a column's gaps become.
type fill struct {
	ok  bool
	key uint32
}

// numbers is what the train rows say of the numeric columns.
type numbers struct {
	upper []halves // by numeric column: values by the upper half of the key
	total []int64
	fills []fill // by numeric column; only of median columns
}

// splitRows decides of each row that stays whether it goes to test, and finds the
// lower median of each median column over the train rows: element ⌊(n − 1) ÷ 2⌋ of the
// sorted values.
func (b *build) splitRows(ctx context.Context, split *splitter) (*numbers, error) {
	p := b.plan
	n := &numbers{total: make([]int64, len(p.numeric)), fills: make([]fill, len(p.numeric))}
	count := func(name string, first bool, columns []int, add func(counts *halves, numeric int, keys []uint32, times uint32)) ([]halves, error) {
		var read []int
		for _, at := range columns {
			read = append(read, p.columns[p.numeric[at]].spill)
		}
		if first {
			read = split.columns(read...)
		}
		type worker struct {
			train  []int
			keys   []uint32
			counts []halves
		}
		workers := each(b.Workers, func() *worker { return &worker{counts: make([]halves, len(p.numeric))} })
		err := b.scan(ctx, name, read, func(at int, rows *spill.Batch) error {
			w := workers[at]
			if first {
				split.decide(rows)
			}
			w.train = w.train[:0]
			for i := range rows.Rows {
				if split.stays(rows, i) && !split.test(rows, i) {
					w.train = append(w.train, i)
				}
			}
			for _, at := range columns {
				var times uint32
				w.keys, times = p.columns[p.numeric[at]].keys(w.keys[:0], rows, w.train)
				add(&w.counts[at], at, w.keys, times)
			}
			return nil
		})
		for _, w := range workers[1:] {
			for i := range w.counts {
				for j, c := range w.counts[i] {
					workers[0].counts[i][j] += c
				}
			}
		}
		return workers[0].counts, err
	}

	var all, wanted []int
	for i := range p.numeric {
		all = append(all, i)
	}
	upper, err := count("medians", true, all, func(counts *halves, _ int, keys []uint32, times uint32) {
		for _, key := range keys {
			counts[key>>16] += times
		}
	})
	if err != nil {
		return nil, err
	}
	n.upper = upper
	rank := make([]int64, len(p.numeric)) // inside the chosen half
	high := make([]uint16, len(p.numeric))
	for i := range upper {
		for _, c := range upper[i] {
			n.total[i] += int64(c)
		}
		if n.total[i] == 0 || !p.columns[p.numeric[i]].isMedian() {
			continue
		}
		high[i], rank[i] = upper[i].find((n.total[i] - 1) / 2)
		wanted = append(wanted, i)
	}
	if len(wanted) == 0 {
		return n, nil
	}
	lower, err := count("medians, exactly", false, wanted, func(counts *halves, at int, keys []uint32, times uint32) {
		for _, key := range keys {
			if uint16(key>>16) == high[at] {
				counts[uint16(key)] += times
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, i := range wanted {
		low, _ := lower[i].find(rank[i])
		n.fills[i] = fill{ok: true, key: uint32(high[i])<<16 | uint32(low)}
	}
	return n, nil
}

// find returns the place of the element with the rank, and its rank there.
func (h *halves) find(rank int64) (uint16, int64) {
	for i, c := range h {
		if rank < int64(c) {
			return uint16(i), rank
		}
		rank -= int64(c)
	}
	return math.MaxUint16, 0
}

// quantile is about where the share q of the train values lies below, to the
// precision of a key's upper half (7 bits of a float's fraction).
func (n *numbers) quantile(c *column, q float64) (float64, bool) {
	if c.numeric < 0 || n.total[c.numeric] == 0 {
		return 0, false
	}
	half, _ := n.upper[c.numeric].find(int64(q * float64(n.total[c.numeric]-1)))
	key := uint32(half) << 16
	if v := c.number(key); v-v == 0 {
		return v, true
	}
	return 0, false
}
