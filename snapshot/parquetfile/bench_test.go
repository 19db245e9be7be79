package parquetfile_test

import (
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"dreamfeed/snapshot/parquetfile"
)

// BenchmarkWrite reports the rows written in a second, all of seven columns.
func BenchmarkWrite(b *testing.B) {
	rows := batch(rand.New(rand.NewPCG(1, 1)), 2*parquetfile.GroupRows)
	b.ReportAllocs()
	for b.Loop() {
		w, err := parquetfile.New(io.Discard, parquetfile.Options{
			Name: "rows", Columns: columns, Program: "bench", Version: "1", Workers: 2, Rows: int64(rows.Rows),
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := w.Write(context.Background(), rows); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Finish(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows.Rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
