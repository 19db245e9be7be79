package spill_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/snapshot/spill"
)

var kinds = []spill.Kind{spill.Float32, spill.Text, spill.Int64, spill.Bool, spill.Int32, spill.Text}

// model is what was appended, as text, by partition.
type model map[int][]string

// appendRandom appends a row to a batch and returns it as text.
func appendRandom(r *rand.Rand, b *spill.Batch) string {
	out := ""
	for i := range b.Columns {
		out += appendValue(r, &b.Columns[i])
	}
	return out
}

func appendValue(r *rand.Rand, c *spill.Column) string {
	ok := r.IntN(3) > 0
	switch c.Kind {
	case spill.Float32:
		v := float32(r.NormFloat64())
		c.AppendFloat(v, ok)
	case spill.Text:
		c.AppendText(fmt.Sprintf("%x", r.Uint64())[:r.IntN(10)], ok)
	case spill.Bool:
		c.AppendInt(r.Int64N(2), ok)
	case spill.Int32:
		c.AppendInt(int64(int32(r.Uint32())), ok)
	default:
		c.AppendInt(int64(r.Uint64()), ok)
	}
	return render(c, len(c.Valid)-1)
}

// gather sets a row of a partition, with a value of its own in a column with the
// chance of the column, else that of the row before; before is that row, by column,
// and becomes this one. It returns the row as text.
func gather(r *rand.Rand, to *spill.Pending, before []string, chance []float64) string {
	for i := range before {
		if to.Rows == 0 || r.Float64() < chance[i] {
			before[i] = appendValue(r, to.Set(i))
		}
	}
	return strings.Join(before, "")
}

func render(c *spill.Column, i int) string {
	switch {
	case !c.Valid[i]:
		return "null|"
	case c.Kind == spill.Float32:
		return fmt.Sprintf("%b|", c.Floats[i])
	case c.Kind == spill.Text:
		return fmt.Sprintf("%q|", c.Text(i))
	}
	return fmt.Sprintf("%d|", c.Ints[i])
}

func TestRowsComeBackInOrderAndOnlyTheColumnsAskedFor(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("repeat with seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	set, err := spill.New(dir, kinds, []int{4, 1}, 7, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	want := []model{{}, {}}
	for w := range want {
		out := set.Writer(w)
		var before [5][]string
		for p := range before {
			before[p] = make([]string, len(kinds))
		}
		chances := make([]float64, len(kinds))
		for n := range 5000 {
			if n%1000 == 0 { // columns that never repeat, that mostly do, and between
				for i := range chances {
					chances[i] = []float64{1, 0, 0.02, 0.2, 0.3, 0.8}[r.IntN(6)]
				}
			}
			p := r.IntN(5) // partitions 5 and 6 stay empty
			want[w][p] = append(want[w][p], gather(r, out.Row(p), before[p], chances))
			if err := out.Done(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOOS == "linux" && !set.Mapped() {
		t.Error("the files are not mapped")
	}
	comeBack(t, set, want)
	if err := set.Unmap(); err != nil {
		t.Fatal(err)
	}
	comeBack(t, set, want)
}

// TestRowsOfAGroupFollowEachOther holds groups of all sizes, with rows between that are
// of none, against what was set.
func TestRowsOfAGroupFollowEachOther(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("repeat with seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	// Column 0 is the number of the group, 1 that of the row in it.
	kinds := append([]spill.Kind{spill.Int32, spill.Int32}, kinds...)
	set, err := spill.New(t.TempDir(), kinds, []int{3}, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	out := set.Writer(0)
	chances := make([]float64, len(kinds)-2)
	want := map[int64][]string{} // by group
	number := int64(0)
	for range 2000 {
		for i := range chances {
			chances[i] = []float64{1, 0, 0.02, 0.3}[r.IntN(4)]
		}
		number++
		p := int(number % 3)
		if r.IntN(4) == 0 { // a row that is of no group, and has all its values
			to := out.Row(p)
			to.Set(0).AppendInt(number, true)
			to.Set(1).AppendInt(0, true)
			text := ""
			for i := 2; i < len(kinds); i++ {
				text += appendValue(r, to.Set(i))
			}
			want[number] = append(want[number], text)
			if err := out.Done(p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		to, err := out.Group(p)
		if err != nil {
			t.Fatal(err)
		}
		before := make([]string, len(chances))
		for row := range []int{0, 1, r.IntN(spill.ChunkRows / 2), r.IntN(4 * spill.ChunkRows), spill.ChunkRows}[r.IntN(5)] {
			if to.Rows == 0 {
				to.Set(0).AppendInt(number, true)
			}
			to.Set(1).AppendInt(int64(row), true)
			for i := range chances {
				if to.Rows == 0 || r.Float64() < chances[i] {
					before[i] = appendValue(r, to.Set(i+2))
				}
			}
			want[number] = append(want[number], strings.Join(before, ""))
			if err := out.DoneInGroup(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	scanner := set.Scanner([]int{0, 1, 2, 3, 4, 5, 6, 7})
	for p := range 3 {
		b, err := scanner.Load(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < b.Rows; {
			group := b.Columns[0].Ints[i]
			if group%3 != int64(p) || len(want[group]) == 0 {
				t.Fatalf("partition %d has rows of group %d, all of which were there before or are another's", p, group)
			}
			for row, text := range want[group] {
				got := ""
				for c := 2; c < len(kinds); c++ {
					got += render(&b.Columns[c], i)
				}
				if b.Columns[0].Ints[i] != group || b.Columns[1].Ints[i] != int64(row) || got != text {
					t.Fatalf("group %d row %d is %d row %d: %s, want %s", group, row, b.Columns[0].Ints[i], b.Columns[1].Ints[i], got, text)
				}
				i++
			}
			delete(want, group)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d groups did not come back", len(want))
	}
}

// TestSmallGroupsFillAChunk: groups that fill just what a chunk takes leave room for the
// next row.
func TestSmallGroupsFillAChunk(t *testing.T) {
	set, err := spill.New(t.TempDir(), []spill.Kind{spill.Int32, spill.Int32}, nil, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	w := set.Writer(0)
	n := int64(0)
	fill := func(to *spill.Pending) {
		to.Set(0).AppendInt(n, true)
		to.Set(1).AppendInt(-n, true)
		n++
	}
	for _, size := range []int{31, 31, 31, 31, 4} {
		to, err := w.Group(0)
		if err != nil {
			t.Fatal(err)
		}
		for range size {
			fill(to)
			if err := w.DoneInGroup(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Group(0); err != nil { // the last one ends
		t.Fatal(err)
	}
	for range 3 {
		fill(w.Row(0))
		if err := w.Done(0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	b, err := set.Scanner([]int{0, 1}).Load(t.Context(), 0)
	if err != nil || int64(b.Rows) != n {
		t.Fatal(b.Rows, err)
	}
	for i := range b.Rows {
		if b.Columns[0].Ints[i] != int64(i) || b.Columns[1].Ints[i] != -int64(i) {
			t.Fatalf("row %d is %d and %d", i, b.Columns[0].Ints[i], b.Columns[1].Ints[i])
		}
	}
}

// comeBack holds what is read of 7 partitions against what the writers were given.
func comeBack(t *testing.T, set *spill.Set, want []model) {
	t.Helper()
	scanner := set.Scanner([]int{5, 0, 1, 2, 3, 4})
	partial := set.Scanner([]int{4, 1})
	once := 0
	for p := range 7 {
		rows := append(append([]string(nil), want[0][p]...), want[1][p]...)
		if set.Rows(p) != len(rows) {
			t.Errorf("partition %d has %d rows, want %d", p, set.Rows(p), len(rows))
		}
		var got []string
		if err := scanner.Scan(t.Context(), p, func(b *spill.Batch) error {
			if b.Partition != p || b.First != len(got) {
				t.Errorf("a batch of partition %d, row %d, is said to be of %d, %d", p, len(got), b.Partition, b.First)
			}
			for i := range b.Rows {
				text := ""
				for c := range b.Columns {
					text += render(&b.Columns[c], b.Columns[c].At(i))
					if b.Columns[c].Once {
						once++
					}
				}
				got = append(got, text)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(rows, got); d != "" {
			t.Fatalf("partition %d (-want +got):\n%s", p, d)
		}
		all, err := scanner.Load(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		some, err := partial.Load(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if all.Partition != p || all.First != 0 {
			t.Errorf("partition %d is said to be %d, from row %d", p, all.Partition, all.First)
		}
		if all.Rows != len(rows) || some.Rows != len(rows) || len(some.Columns[0].Valid) != 0 {
			t.Fatalf("partition %d: %d and %d rows", p, all.Rows, some.Rows)
		}
		for i := range all.Rows {
			if render(&all.Columns[4], i) != render(&some.Columns[4], i) || render(&all.Columns[1], i) != render(&some.Columns[1], i) {
				t.Fatalf("partition %d row %d differs", p, i)
			}
		}
	}
	if once == 0 {
		t.Error("no column is the same in all rows of a chunk")
	}
}

func TestNothingIsLeftInTheDirectory(t *testing.T) {
	dir := t.TempDir()
	set, err := spill.New(dir, kinds, nil, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("directory holds %v, %v", entries, err)
	}
	if _, err := spill.New(dir+"/missing", kinds, nil, 1, 1); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}

func TestScanEndsWithTheContextAndWithAnError(t *testing.T) {
	set, err := spill.New(t.TempDir(), []spill.Kind{spill.Bool}, nil, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	w := set.Writer(0)
	for range 1000 {
		w.Row(0).Set(0).AppendInt(1, true)
		if err := w.Done(0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := set.Scanner([]int{0}).Scan(t.Context(), 0, func(*spill.Batch) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v, want %v", err, stop)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := set.Scanner([]int{0}).Scan(ctx, 0, func(*spill.Batch) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestAppendRangeCopiesRows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	from, to := spill.NewBatch(kinds), spill.NewBatch(kinds)
	for range 50 {
		appendRandom(r, from)
	}
	for range 20 {
		a := r.IntN(50)
		b := a + r.IntN(51-a)
		for i := range kinds {
			c := &to.Columns[i]
			before := len(c.Valid)
			c.AppendRange(&from.Columns[i], a, b)
			for k := range b - a {
				if x, y := render(&from.Columns[i], a+k), render(c, before+k); x != y {
					t.Fatalf("column %d: %s became %s", i, x, y)
				}
			}
		}
	}
}

func TestAppendRowsCopiesRowsInTheOrderGiven(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	from, to := spill.NewBatch(kinds), spill.NewBatch(kinds)
	for range 50 {
		appendRandom(r, from)
	}
	for range 5 {
		rows := r.Perm(50)[:r.IntN(51)]
		for i := range kinds {
			c := &to.Columns[i]
			before := len(c.Valid)
			c.AppendRows(&from.Columns[i], rows)
			if len(c.Valid) != before+len(rows) {
				t.Fatalf("column %d: %d rows added, want %d", i, len(c.Valid)-before, len(rows))
			}
			for k, row := range rows {
				if x, y := render(&from.Columns[i], row), render(c, before+k); x != y {
					t.Fatalf("column %d: %s became %s", i, x, y)
				}
			}
		}
	}
}

// TestFirstRowNeedsAllItsValues: a value is never taken from rows that were written
// before.
func TestFirstRowNeedsAllItsValues(t *testing.T) {
	set, err := spill.New(t.TempDir(), []spill.Kind{spill.Bool, spill.Bool}, nil, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	w := set.Writer(0)
	for n := range spill.ChunkRows + 2 {
		w.Row(0).Set(0).AppendInt(1, true)
		if n != spill.ChunkRows {
			w.Row(0).Set(1).AppendInt(1, true)
		}
		if err := w.Done(0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err == nil {
		t.Fatal("a chunk whose first row lacks a column was written")
	}
	for _, rows := range []int{1, spill.ChunkRows - 1, spill.ChunkRows} {
		w := set.Writer(1)
		g, err := w.Group(0)
		for range rows {
			g.Set(0).AppendInt(1, true)
			err = errors.Join(err, w.DoneInGroup())
		}
		if err := errors.Join(err, w.Flush()); err == nil {
			t.Fatalf("a group of %d rows whose first one lacks a column was written", rows)
		}
	}
}

// TestLostFileIsAnError: what the disk cannot give back is an error, mapped or not.
func TestLostFileIsAnError(t *testing.T) {
	for _, mapped := range []bool{true, false} {
		set, err := spill.New(t.TempDir(), kinds, nil, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		r := rand.New(rand.NewPCG(1, 1))
		w := set.Writer(0)
		for range 1000 {
			gather(r, w.Row(0), make([]string, len(kinds)), []float64{1, 1, 1, 1, 1, 1})
			if err := w.Done(0); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if !mapped {
			if err := set.Unmap(); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Lose(); err != nil {
			t.Fatal(err)
		}
		if _, err := set.Scanner([]int{0, 1}).Load(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "read spill file") {
			t.Errorf("mapped %v: reading a file that is gone: error %v", mapped, err)
		}
	}
}
