package parquetfile_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"dreamfeed/snapshot/parquetfile"
	"dreamfeed/snapshot/spill"
)

// BenchmarkWrite reports the rows written in a second, all of seven columns.
func BenchmarkWrite(b *testing.B) {
	writeRows(b, columns, batch(rand.New(rand.NewPCG(1, 1)), 2*parquetfile.GroupRows))
}

// BenchmarkTexts reports the same of ten columns of few texts each, which come as they
// are, and as their numbers.
func BenchmarkTexts(b *testing.B) {
	const rows, each = 2 * parquetfile.GroupRows, 10
	var columns []parquetfile.Column
	for i := range each {
		columns = append(columns, parquetfile.Column{Name: fmt.Sprint("text", i), Type: parquetfile.String})
	}
	for _, name := range []string{"texts", "numbers"} {
		b.Run(name, func(b *testing.B) {
			given := &spill.Batch{Rows: rows, Columns: make([]spill.Column, each)}
			for i := range given.Columns {
				c := &given.Columns[i]
				c.Kind = spill.Text
				if name == "numbers" {
					c.Texts = spill.NewTexts()
				}
				for row := range rows {
					text := fmt.Sprint("one of some texts ", row*7919%(10*(i+1)))
					if c.Texts == nil {
						c.AppendText(text, true)
						continue
					}
					number, _ := c.Texts.Number([]byte(text))
					c.AppendNumber(number, true)
				}
			}
			writeRows(b, columns, given)
		})
	}
}

func writeRows(b *testing.B, columns []parquetfile.Column, rows *spill.Batch) {
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
