package spill_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/snapshot/spill"
)

func TestRowsThatRepeatComeBackAndAreStoredOnceARun(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("repeat with seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		some := spill.NewBatch(kinds)
		rows := 1 + r.IntN(spill.ChunkRows)
		longest := 1 + r.IntN(rows)
		firsts := spill.NewBatch(kinds)
		for at, runs := 0, 0; at < rows; runs++ {
			appendRandom(r, firsts)
			n := min(rows-at, 1+r.IntN(longest))
			for i := range some.Columns {
				for range n {
					some.Columns[i].AppendRange(&firsts.Columns[i], runs, runs+1)
				}
			}
			at += n
		}
		for i := range some.Columns {
			c, first := &some.Columns[i], &firsts.Columns[i]
			seg := spill.EncodeColumn(c, rows)
			// What the decoder finds in the column already must stay.
			back := &spill.Column{Kind: c.Kind}
			back.AppendRange(c, 0, 1)
			if err := spill.DecodeColumn(seg, back, rows); err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for row := range rows {
				got, want = append(got, render(back, row+1)), append(want, render(c, row))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("column %d of %d rows (-want +got):\n%s", i, rows, diff)
			}
			// Runs of another column's rows may be joined in this one, never cut.
			if n := len(first.Valid); 4*n < rows && len(seg) > 3+n+(n+7)/8+8*n+len(first.Bytes) {
				t.Fatalf("column %d: %d bytes for %d rows in %d runs", i, len(seg), rows, n)
			}
		}
	}
}

func TestRunsThatDoNotFitTheRowsAreCorrupt(t *testing.T) {
	for name, seg := range map[string][]byte{
		"no runs":                      {3, 0},
		"fewer ends than runs":         {3, 2, 1},
		"runs that end before":         {3, 1, 2, 0, 7},
		"runs that end behind":         {3, 1, 4, 0, 7},
		"an empty run":                 {3, 2, 0, 3, 0, 7, 7},
		"runs out of order":            {3, 3, 2, 1, 3, 0, 7, 7, 7},
		"fewer values than runs":       {3, 2, 1, 3, 0, 7},
		"runs of runs":                 {3, 1, 3, 3, 1, 1, 0, 7},
		"nothing that tells the first": {3, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := &spill.Column{Kind: spill.Bool}
			if err := spill.DecodeColumn(seg, c, 3); !errors.Is(err, spill.ErrCorrupt) {
				t.Errorf("error %v is no ErrCorrupt", err)
			}
		})
	}
}
