package spill_test

import (
	"errors"
	"testing"

	"dreamfeed/snapshot/spill"
)

// FuzzDecodeColumn feeds any bytes: an error or rows, never a panic, and what
// decodes encodes to the same values again.
func FuzzDecodeColumn(f *testing.F) {
	f.Add([]byte{1}, uint8(spill.Text), uint8(3))
	f.Add([]byte{0, 1, 0, 0, 0, 'x'}, uint8(spill.Text), uint8(1))
	f.Add([]byte{2, 5, 1, 0, 1}, uint8(spill.Bool), uint8(3))
	f.Add([]byte{3, 2, 1, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0, 'x', 'y'}, uint8(spill.Text), uint8(3))
	f.Add([]byte{3, 0, 1}, uint8(spill.Text), uint8(0))
	f.Fuzz(func(t *testing.T, seg []byte, kind, rows uint8) {
		c := &spill.Column{Kind: spill.Kind(kind % 5)}
		if err := spill.DecodeColumn(seg, c, int(rows)); err != nil {
			if !errors.Is(err, spill.ErrCorrupt) {
				t.Fatalf("error %v is no ErrCorrupt", err)
			}
			return
		}
		if len(c.Valid) != int(rows) {
			t.Fatalf("%d rows, want %d", len(c.Valid), rows)
		}
		again := &spill.Column{Kind: c.Kind}
		if err := spill.DecodeColumn(spill.EncodeColumn(c, int(rows)), again, int(rows)); err != nil {
			t.Fatal(err)
		}
		for i := range int(rows) {
			if x, y := render(c, i), render(again, i); x != y {
				t.Fatalf("row %d: %s became %s", i, x, y)
			}
		}
	})
}
