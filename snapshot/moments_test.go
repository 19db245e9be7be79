package snapshot_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"dreamfeed/snapshot"
)

// TestSumsAreExact adds values of all sizes, in any order and share, and
// compares with sums of arbitrary precision.
func TestSumsAreExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("repeat with seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		var values []float32
		for range 1 + r.IntN(200) {
			v := math.Float32frombits(r.Uint32())
			if r.IntN(2) == 0 {
				v = float32(r.NormFloat64())
			}
			if v-v == 0 {
				values = append(values, v)
			}
		}
		var whole, left, right snapshot.Moments
		for _, v := range values {
			whole.Float(v)
		}
		for i := len(values) - 1; i >= 0; i-- {
			if r.IntN(2) == 0 {
				left.Float(values[i])
			} else {
				right.Float(values[i])
			}
		}
		left.Merge(&right)
		n := new(big.Float).SetPrec(4000).SetInt64(int64(len(values)))
		sum, squares := new(big.Float).SetPrec(4000), new(big.Float).SetPrec(4000)
		for _, v := range values {
			f := new(big.Float).SetPrec(4000).SetFloat64(float64(v))
			sum.Add(sum, f)
			squares.Add(squares, new(big.Float).SetPrec(4000).Mul(f, f))
		}
		mean, _ := new(big.Float).SetPrec(4000).Quo(sum, n).Float64()
		for _, m := range []*snapshot.Moments{&whole, &left} {
			if got, ok := m.Mean(); ok != (len(values) > 0) || got != mean {
				t.Fatalf("mean %v, want %v", got, mean)
			}
		}
		if len(values) < 2 {
			continue
		}
		spread := new(big.Float).SetPrec(4000).Mul(n, squares)
		spread.Sub(spread, new(big.Float).SetPrec(4000).Mul(sum, sum))
		spread.Quo(spread, new(big.Float).SetPrec(4000).Mul(n, new(big.Float).Sub(n, big.NewFloat(1))))
		sd, _ := spread.Sqrt(spread).Float64()
		if got, _ := left.Deviation(); got != sd {
			t.Fatalf("deviation %v, want %v", got, sd)
		}
	}
}

func TestBounds(t *testing.T) {
	ints := func(values ...int64) *snapshot.Moments {
		m := &snapshot.Moments{}
		for _, v := range values {
			m.Int(v)
		}
		return m
	}
	tests := map[string]struct {
		m       *snapshot.Moments
		k, v    float64
		outside bool
	}{
		"no bound of one value":            {ints(5), 3, 1e9, false},
		"no bound without deviation":       {ints(5, 5, 5), 3, 1e9, false},
		"a value a hair inside stays":      {ints(0, 2), 0.7071067811865476, 2, false}, // k is above 1/√2
		"a value a hair outside goes":      {ints(0, 2), 0.7071067811865475, 2, true},
		"mean plus one deviation stays":    {ints(-1, 0, 1), 1, 1, false},
		"mean minus one deviation stays":   {ints(-1, 0, 1), 1, -1, false},
		"just above the bound goes":        {ints(-1, 0, 1), 1, 1.0000000000000002, true},
		"just below the bound goes":        {ints(-1, 0, 1), 1, -1.0000000000000002, true},
		"a bound next to zero is found":    {ints(-1, 0, 1, 2, 3), 0.6324555320336759, 0, false},
		"negative values have bounds, too": {ints(-2147483648, -2147483648, 2147483647), 1, 2147483647, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := test.m.Outside(test.k, test.v); got != test.outside {
				t.Errorf("outside = %v, want %v", got, test.outside)
			}
		})
	}
}

func TestBinsHaveRoundEdgesThatCoverTheValues(t *testing.T) {
	for range 1000 {
		low := rand.NormFloat64() * math.Pow10(rand.IntN(9)-4)
		high := low + math.Abs(rand.NormFloat64())*math.Pow10(rand.IntN(9)-4)
		edges := snapshot.RoundEdges(low, high, rand.IntN(2) == 0)
		if n := len(edges) - 1; n < 1 || n > 24 || edges[0] > low || edges[n] < high {
			t.Fatalf("%v to %v: edges %v", low, high, edges)
		}
		for i := 1; i < len(edges); i++ {
			if !(edges[i-1] < edges[i]) {
				t.Fatalf("%v to %v: edges %v", low, high, edges)
			}
		}
	}
}
