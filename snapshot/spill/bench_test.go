package spill_test

import (
	"testing"

	"dreamfeed/snapshot/spill"
)

// BenchmarkSpill reports the rows of some sixty columns that are spilled, 20 of
// a partition at once, of which every other column is the same in all 20, and of
// which a fifth of the columns is read again, in a second.
func BenchmarkSpill(b *testing.B) {
	const rows, partitions = 100_000, 256
	var many []spill.Kind
	for range 10 {
		many = append(many, kinds...)
	}
	wanted := []int{3, 9, 15, 21, 27, 33, 39, 45, 51, 57, 4, 10}
	b.ReportAllocs()
	for b.Loop() {
		set, err := spill.New(b.TempDir(), many, wanted, partitions, 1)
		if err != nil {
			b.Fatal(err)
		}
		w := set.Writer(0)
		for i := range rows {
			p := i / 20 % partitions
			to := w.Row(p)
			for c, kind := range many {
				switch {
				case to.Rows > 0 && i%20 > 0 && c%2 == 0: // as in the row before
				case kind == spill.Float32:
					to.Set(c).AppendFloat(float32(i), true)
				case kind == spill.Text:
					to.Set(c).AppendText("somewhere", true)
				default:
					to.Set(c).AppendInt(int64(i), true)
				}
			}
			if err := w.Done(p); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		scanner := set.Scanner(wanted)
		for p := range partitions {
			if err := scanner.Scan(b.Context(), p, func(*spill.Batch) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
		if err := set.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
