package snapshot

import (
	"math"
	"math/big"
	"math/bits"
)

// moments holds the exact number, sum and sum of squares of float32 or int32
// values, so that they depend on neither the order of the values nor on how
// they were shared out between workers.
//
// A finite float32 is m × 2^e with |m| < 2^24; the sums of m and of m² are kept
// by exponent. m² < 2^48 is kept in two halves, so that 2^31 values of one
// exponent fit.
type moments struct {
	n        int64
	sum      [256]int64  // Σm by biased exponent
	low      [256]uint64 // Σ of the low 32 bits of m²
	high     [256]uint64 // Σ of the high bits of m²
	intSum   int64
	intSqHi  uint64
	intSqLo  uint64
	min, max float64
}

func (s *moments) addFloat(v float32) {
	b := math.Float32bits(v)
	e := b >> 23 & 0xff
	m := int64(b & (1<<23 - 1))
	if e == 0 {
		e = 1 // subnormal: the exponent of 1 without the hidden bit
	} else {
		m |= 1 << 23
	}
	sq := uint64(m * m)
	if b>>31 == 1 {
		m = -m
	}
	s.sum[e] += m
	s.low[e] += sq & math.MaxUint32
	s.high[e] += sq >> 32
	s.extreme(float64(v))
}

func (s *moments) addInt(v int64) {
	s.intSum += v // int32 values: 2^32 of them fit
	var carry uint64
	s.intSqLo, carry = bits.Add64(s.intSqLo, uint64(v*v), 0)
	s.intSqHi += carry
	s.extreme(float64(v))
}

func (s *moments) extreme(v float64) {
	if s.n == 0 {
		s.min, s.max = v, v
	} else {
		s.min, s.max = min(s.min, v), max(s.max, v)
	}
	s.n++
}

func (s *moments) merge(o *moments) {
	switch {
	case o.n == 0:
		return
	case s.n == 0:
		s.min, s.max = o.min, o.max
	default:
		s.min, s.max = min(s.min, o.min), max(s.max, o.max)
	}
	s.n += o.n
	for i := range s.sum {
		s.sum[i] += o.sum[i]
		s.low[i] += o.low[i]
		s.high[i] += o.high[i]
	}
	s.intSum += o.intSum
	var carry uint64
	s.intSqLo, carry = bits.Add64(s.intSqLo, o.intSqLo, 0)
	s.intSqHi += o.intSqHi + carry
}

// unit is the exponent of the smallest float32: sums are whole multiples of
// 2^-149, sums of squares of 2^-298.
const unit = 149

// sums returns the exact sum in units of 2^-149 and the sum of squares in
// units of 2^-298.
func (s *moments) sums() (sum, squares *big.Int) {
	sum = new(big.Int).Lsh(big.NewInt(s.intSum), unit)
	squares = new(big.Int).SetUint64(s.intSqHi)
	squares.Lsh(squares, 64).Add(squares, new(big.Int).SetUint64(s.intSqLo)).Lsh(squares, 2*unit)
	part := new(big.Int)
	for e := 1; e < 255; e++ {
		if s.low[e] == 0 && s.high[e] == 0 {
			continue
		}
		// value = m × 2^(e-150) = m × 2^(e-1) units.
		sum.Add(sum, part.Lsh(part.SetInt64(s.sum[e]), uint(e-1)))
		part.Lsh(part.SetUint64(s.high[e]), 32)
		part.Add(part, new(big.Int).SetUint64(s.low[e]))
		squares.Add(squares, part.Lsh(part, uint(2*(e-1))))
	}
	return sum, squares
}

// precision is that of intermediate results: enough for 2^40 values of any
// size to give the correctly rounded float64.
const precision = 1024

func quotient(a, b *big.Int, exponent int) *big.Float {
	x := new(big.Float).SetPrec(precision).SetInt(a)
	x.Quo(x, new(big.Float).SetPrec(precision).SetInt(b))
	return x.SetMantExp(x, exponent)
}

// mean is the mean as a float64; ok is false without values.
func (s *moments) mean() (mean float64, ok bool) {
	if s.n == 0 {
		return 0, false
	}
	sum, _ := s.sums()
	mean, _ = quotient(sum, big.NewInt(s.n), -unit).Float64()
	return mean, true
}

// deviation is the sample standard deviation (n − 1); ok is false with fewer
// than two values.
func (s *moments) deviation() (sd float64, ok bool) {
	if s.n < 2 {
		return 0, false
	}
	spread := s.spread()
	n := big.NewInt(s.n)
	variance := quotient(spread, n.Mul(n, big.NewInt(s.n-1)), -2*unit)
	sd, _ = variance.Sqrt(variance).Float64()
	return sd, true
}

// spread is n Σx² − (Σx)², in units of 2^-298: n (n − 1) times the variance.
func (s *moments) spread() *big.Int {
	sum, squares := s.sums()
	squares.Mul(squares, big.NewInt(s.n))
	return squares.Sub(squares, sum.Mul(sum, sum))
}

// bound is an outlier rule: values outside low..high, both included, go.
type bound struct {
	set             bool
	low, high       float64 // the smallest and largest float64 that stay
	mean, sd        float64
	n               int64
	lowest, highest float64 // mean ∓ k deviations, rounded
}

func (b *bound) outside(v float64) bool { return b.set && (v < b.low || v > b.high) }

// bound is mean ± k sample standard deviations. There is none with fewer than
// two values or without deviation. The test is exact: with N = n, S = Σx,
// Q = Σx², a value stays if (N x − S)² (N − 1) ≤ k² N (N Q − S²).
func (s *moments) bound(k float64) bound {
	b := bound{n: s.n}
	if s.n < 2 {
		return b
	}
	spread := s.spread()
	if spread.Sign() == 0 {
		return b
	}
	b.set = true
	b.mean, _ = s.mean()
	b.sd, _ = s.deviation()
	b.lowest, b.highest = b.mean-k*b.sd, b.mean+k*b.sd
	sum, _ := s.sums()
	center := new(big.Rat).SetInt(sum) // S, in units
	limit := new(big.Rat).SetFloat64(k)
	limit.Mul(limit, limit)
	limit.Mul(limit, new(big.Rat).SetInt64(s.n))
	limit.Mul(limit, new(big.Rat).SetInt(spread))
	scale := new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(s.n), unit))
	stays := func(v float64) bool {
		if math.IsInf(v, 0) {
			return false
		}
		d := new(big.Rat).SetFloat64(v)
		d.Mul(d, scale).Sub(d, center)
		d.Mul(d, d).Mul(d, new(big.Rat).SetInt64(s.n-1))
		return d.Cmp(limit) <= 0
	}
	b.low = edge(b.mean, math.Inf(-1), stays)
	b.high = edge(b.mean, math.Inf(1), stays)
	return b
}

// edge finds the float64 furthest from the mean, in the direction out, for
// which stays holds, by bisection over the float64 values in their order.
func edge(mean, out float64, stays func(float64) bool) float64 {
	in, beyond := orderedFloat64(mean), orderedFloat64(out)
	for {
		middle := in/2 + beyond/2 + (in%2+beyond%2)/2
		if middle == in || middle == beyond {
			return fromOrderedFloat64(in)
		}
		if stays(fromOrderedFloat64(middle)) {
			in = middle
		} else {
			beyond = middle
		}
	}
}

// orderedFloat64 numbers the float64 values in their order.
func orderedFloat64(v float64) int64 {
	b := int64(math.Float64bits(v))
	if b < 0 {
		return math.MinInt64 - b
	}
	return b
}

func fromOrderedFloat64(n int64) float64 {
	if n < 0 {
		n = math.MinInt64 - n
	}
	return math.Float64frombits(uint64(n))
}
