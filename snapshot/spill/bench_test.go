package spill_test

import (
	"math/rand/v2"
	"testing"

	"dreamfeed/snapshot/spill"
)

// BenchmarkSpill reports the rows of some sixty columns that are spilled, 20 of
// a partition at once, and of which a fifth of the columns is read again, in a
// second.
func BenchmarkSpill(b *testing.B) {
	const rows, partitions = 100_000, 256
	r := rand.New(rand.NewPCG(1, 1))
	var many []spill.Kind
	for range 10 {
		many = append(many, kinds...)
	}
	some := spill.NewBatch(many)
	for range 20 {
		appendRandom(r, some)
		some.Rows++
	}
	wanted := []int{3, 9, 15, 21, 27, 33, 39, 45, 51, 57, 4, 10}
	b.ReportAllocs()
	for b.Loop() {
		set, err := spill.New(b.TempDir(), many, wanted, partitions, 1)
		if err != nil {
			b.Fatal(err)
		}
		w := set.Writer(0)
		for i := 0; i < rows; i += some.Rows {
			if err := w.Add(i%partitions, some); err != nil {
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
