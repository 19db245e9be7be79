package pit

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"dreamfeed/internal/row"
)

// The mean of numbers of any kind and size is the float nearest to the true one,
// in whatever order they come.
func TestAMeanIsTheNearestFloatToTheTrueOne(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	float := func() float64 {
		switch r.IntN(6) {
		case 0:
			return math.Float64frombits(r.Uint64()) // of any size, NaN and infinities too
		case 1:
			return float64(r.IntN(1000)) / 4
		case 2:
			return math.Ldexp(1+r.Float64(), 40+r.IntN(4)) // about the limit
		case 3:
			return math.Ldexp(r.Float64(), -10-r.IntN(6)) // about the smallest unit
		case 4:
			return []float64{0, math.Copysign(0, -1), fixedLimit, -fixedLimit, math.Nextafter(fixedLimit, 0), math.SmallestNonzeroFloat64, math.Ldexp(1, -64), math.Ldexp(1, -65)}[r.IntN(8)]
		}
		return math.Round((r.Float64()-0.3)*1e6) / 100
	}
	for range 20000 {
		kinds := 1 + r.IntN(7)
		var cells []row.Cell
		for range 1 + r.IntN(6) {
			var kind []row.Cell
			if kinds&1 != 0 {
				kind = append(kind, row.Cell{Kind: row.Float, Float: float()})
			}
			if kinds&2 != 0 {
				kind = append(kind, row.Cell{Kind: row.Decimal, Int: int64(r.Uint64() >> r.IntN(64)), Scale: uint32(r.IntN(3))})
			}
			if kinds&4 != 0 {
				kind = append(kind, row.Cell{Kind: row.Int, Int: int64(r.Uint64())})
			}
			cells = append(cells, kind[r.IntN(len(kind))])
		}
		var s sum
		total, n, bad := new(big.Rat), int64(0), false
		for i := range cells {
			s.add(&cells[i])
			if f := cells[i].Float; math.IsNaN(f) || math.IsInf(f, 0) {
				bad = true
				continue
			}
			one, ok := new(big.Rat).SetString(cells[i].String())
			if cells[i].Kind == row.Float {
				one, ok = new(big.Rat).SetFloat64(cells[i].Float), true
			}
			if !ok {
				t.Fatalf("%v is no number", cells[i])
			}
			total.Add(total, one)
			n++
		}
		if s.n != n || s.bad != bad {
			t.Fatalf("of %v: %d numbers, bad %v, want %d, %v", cells, s.n, s.bad, n, bad)
		}
		if n == 0 {
			continue
		}
		want, _ := total.Quo(total, new(big.Rat).SetInt64(n)).Float64()
		if got := s.mean(); got != want {
			t.Fatalf("the mean of %v is %v, want %v", cells, got, want)
		}
	}
}

func BenchmarkMean(b *testing.B) {
	cells := make([]row.Cell, 5)
	for i := range cells {
		cells[i] = row.Cell{Kind: row.Float, Float: 1234.56 + float64(i)}
	}
	b.ReportAllocs()
	for b.Loop() {
		var s sum
		for i := range cells {
			s.add(&cells[i])
		}
		if s.mean() == 0 {
			b.Fatal("no mean")
		}
	}
}
