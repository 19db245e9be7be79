package spill_test

import (
	"slices"
	"testing"

	"dreamfeed/snapshot/spill"
)

// BenchmarkSpill reports the rows of some sixty columns that are spilled in a second,
// 50 of a partition at once, of which every other column is the same in all 50, and of
// which a fifth of the columns is read again: as groups, and row by row into what is
// pending of each partition.
func BenchmarkSpill(b *testing.B) {
	b.Run("groups", func(b *testing.B) {
		spillRows(b, func(w *spill.Writer, p, i int, set func(*spill.Pending)) error {
			to, err := w.Group(p)
			for ; i > 0 && err == nil; i-- {
				set(to)
				err = w.DoneInGroup()
			}
			return err
		})
	})
	b.Run("rows", func(b *testing.B) {
		spillRows(b, func(w *spill.Writer, p, i int, set func(*spill.Pending)) (err error) {
			for ; i > 0 && err == nil; i-- {
				set(w.Row(p))
				err = w.Done(p)
			}
			return err
		})
	})
}

func spillRows(b *testing.B, add func(w *spill.Writer, p, rows int, set func(*spill.Pending)) error) {
	const rows, partitions, together = 100_000, 256, 50
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
		for group := range rows / together {
			i := 0
			if err := add(w, group%partitions, together, func(to *spill.Pending) {
				for c, kind := range many {
					switch {
					case to.Rows > 0 && i > 0 && c%2 == 0: // as in the row before
					case kind == spill.Float32:
						to.Set(c).AppendFloat(float32(i), true)
					case kind == spill.Text:
						to.Set(c).AppendText("somewhere", true)
					default:
						to.Set(c).AppendInt(int64(i), true)
					}
				}
				i++
			}); err != nil {
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

// BenchmarkScan reports the rows in a second whose numbers of twenty columns are added
// up: of columns that are the same in all rows of a chunk, and of others.
func BenchmarkScan(b *testing.B) {
	for _, name := range []string{"once", "each"} {
		b.Run(name, func(b *testing.B) {
			const rows, columns, together = 100_000, 20, 50
			kinds := slices.Repeat([]spill.Kind{spill.Int32}, columns)
			set, err := spill.New(b.TempDir(), kinds, nil, 1, 1)
			if err != nil {
				b.Fatal(err)
			}
			defer set.Close()
			w := set.Writer(0)
			for group := range rows / together {
				to, err := w.Group(0)
				if err != nil {
					b.Fatal(err)
				}
				for i := range together {
					for c := range columns {
						if i == 0 || name == "each" {
							to.Set(c).AppendInt(int64(group+i*c), true)
						}
					}
					if err := w.DoneInGroup(); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := w.Flush(); err != nil {
				b.Fatal(err)
			}
			wanted := make([]int, columns)
			for c := range wanted {
				wanted[c] = c
			}
			scanner := set.Scanner(wanted)
			b.ReportAllocs()
			for b.Loop() {
				sum := int64(0)
				if err := scanner.Scan(b.Context(), 0, func(batch *spill.Batch) error {
					for c := range batch.Columns {
						column := &batch.Columns[c]
						if column.Once {
							sum += column.Int(0) * int64(batch.Rows)
							continue
						}
						for _, v := range column.Ints {
							sum += v
						}
					}
					return nil
				}); err != nil || sum == 0 {
					b.Fatal(sum, err)
				}
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
