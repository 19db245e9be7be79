package row_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/row"
)

func TestDecodeSomeGivesWhatDecodeGivesOfTheWantedSlots(t *testing.T) {
	cells := sampleRow()
	data := row.Append(nil, cells)
	all, err := row.Decode(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		wanted := make([]bool, r.IntN(len(all)+3))
		for i := range wanted {
			wanted[i] = r.IntN(2) == 0
		}
		// Cells that were used before hold nothing of what they held.
		used := make([]row.Cell, len(all)+2)
		for i := range used {
			used[i] = row.Cell{Kind: row.Text, Int: 7, Float: 3, Scale: 1, Bytes: []byte("old")}
		}
		got, err := row.DecodeSome(data, used, wanted)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]row.Cell, len(used))
		for i := range all {
			if i < len(wanted) && wanted[i] {
				want[i] = all[i]
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("wanted %v (-want +got):\n%s", wanted, d)
		}
	}
	for n := range data {
		if _, err := row.DecodeSome(data[:n], nil, nil); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a row", n, len(data))
		}
	}
}

// Numbers of every size come back, also at the end of the data.
func TestNumbersOfEverySizeComeBack(t *testing.T) {
	list := []int64{0, math.MaxInt64, math.MinInt64}
	for shift := range 63 {
		for _, d := range []int64{-1, 0, 1} {
			list = append(list, 1<<shift+d, -(1<<shift)+d)
		}
	}
	for _, n := range list {
		for _, tail := range [][]row.Cell{nil, {{Kind: row.Int, Int: n}}, {{Kind: row.Text, Bytes: []byte("a text of more than eight bytes")}}} {
			want := append([]row.Cell{{Kind: row.Int, Int: n}}, tail...)
			got, err := row.Decode(row.Append(nil, want), nil)
			if err != nil {
				t.Fatalf("%d: %v", n, err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%d (-want +got):\n%s", n, d)
			}
		}
	}
	// Longer than a number can be, with and without something behind it.
	for _, extra := range []int{0, 8} {
		long := append([]byte{1, byte(row.Int), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, make([]byte, extra)...)
		if _, err := row.Decode(long, nil); err == nil {
			t.Error("a number of more than 64 bits is taken for one")
		}
	}
	if v, n := binary.Uvarint([]byte{0x80, 0x00}); v != 0 || n != 2 {
		t.Fatal("encoding/binary has changed its mind")
	}
	got, err := row.Decode(append([]byte{1, byte(row.Int)}, 0x80, 0x00), nil)
	if err != nil || got[0].Int != 0 {
		t.Errorf("a number longer than it needs: %v, %v", got, err)
	}
}

func BenchmarkDecode(b *testing.B) {
	cells := sampleRow()
	data := row.Append(nil, cells)
	wanted := make([]bool, len(cells))
	wanted[len(wanted)-1] = true
	var out []row.Cell
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			var err error
			if out, err = row.Decode(data, out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			var err error
			if out, err = row.DecodeSome(data, out, wanted); err != nil {
				b.Fatal(err)
			}
		}
	})
}
