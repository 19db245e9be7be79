package pit

import (
	"math"
	"math/big"
	"math/bits"

	"dreamfeed/internal/row"
)

// sum adds numbers exactly, so that it does not depend on their order: those with
// one number of decimal places as integers, floats as multiples of 2⁻⁶⁴, a mixture
// of them, and what is too large or too small for that, as fractions.
type sum struct {
	n     int64
	bad   bool // a value that is no finite number was left out
	scale uint32
	whole sum128 // of integers and decimals, in units of 10^−scale
	fixed sum128 // of floats, in units of 2⁻⁶⁴
	// wholes and fixeds are how many numbers are in each.
	wholes, fixeds int64
	mixed          *big.Rat
}

func (s *sum) add(c *row.Cell) {
	switch c.Kind {
	case row.Null, row.NotCaptured:
		return
	case row.Int, row.Decimal:
		if s.wholes == 0 {
			s.scale = c.Scale
		}
		if c.Scale == s.scale {
			s.whole.add(c.Int)
			s.wholes++
			s.n++
			return
		}
	case row.Float:
		if s.fixeds < maxFixeds && s.fixed.addFloat(c.Float) {
			s.fixeds++
			s.n++
			return
		}
	}
	var r *big.Rat
	if c.Kind == row.Int || c.Kind == row.Decimal || c.Kind == row.Text && len(c.Bytes) <= 1000 {
		r, _ = new(big.Rat).SetString(c.String())
	} else if f, _, _, ok := number(c); ok {
		r = new(big.Rat).SetFloat64(f)
	}
	if r == nil {
		s.bad = true
		return
	}
	if s.mixed == nil {
		s.mixed = new(big.Rat)
	}
	s.mixed.Add(s.mixed, r)
	s.n++
}

func (s *sum) mean() float64 {
	switch {
	case s.mixed == nil && s.fixeds == 0:
		if lo := int64(s.whole.lo); s.whole.hi == lo>>63 && lo < 1<<53 && lo > -1<<53 && s.scale <= 15 {
			if unit := pow10(s.scale); s.n < (1<<53)/unit {
				return float64(lo) / float64(unit*s.n) // both exact, so rounded once
			}
		}
	case s.mixed == nil && s.wholes == 0:
		return s.fixed.over(s.n)
	}
	total := new(big.Rat).SetFrac(s.whole.big(), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s.scale)), nil))
	total.Add(total, new(big.Rat).SetFrac(s.fixed.big(), new(big.Int).Lsh(big.NewInt(1), 64)))
	if s.mixed != nil {
		total.Add(total, s.mixed)
	}
	f, _ := total.Quo(total, new(big.Rat).SetInt64(s.n)).Float64()
	return f
}

// sum128 adds int64s without overflow, so that a sum does not depend on the
// order of its parts.
type sum128 struct {
	hi int64
	lo uint64
}

func (s *sum128) add(v int64) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, uint64(v), 0)
	s.hi += v>>63 + int64(carry)
}

func (s *sum128) big() *big.Int {
	n := new(big.Int).Lsh(big.NewInt(s.hi), 64)
	return n.Add(n, new(big.Int).SetUint64(s.lo))
}

// So many floats, each below 2^fixedLimit, do not make the 128 bits overflow.
const (
	maxFixeds  = 1 << 20
	fixedLimit = 1 << 42
)

// addFloat adds a float in units of 2⁻⁶⁴. It returns false for one that is no
// multiple of that, or too large.
func (s *sum128) addFloat(f float64) bool {
	if !(f > -fixedLimit && f < fixedLimit) { // nor NaN
		return false
	}
	if f == 0 {
		return true
	}
	b := math.Float64bits(f)
	exponent, mantissa := int(b>>52&0x7ff)-1075, b&(1<<52-1)|1<<52
	shift := exponent + 64 // f = mantissa × 2^shift in these units
	if shift < 0 {         // a subnormal too
		if bits.TrailingZeros64(mantissa) < -shift {
			return false
		}
		mantissa >>= -shift
		shift = 0
	}
	// Both shifts are 0 for a count of 64 or more.
	hi, lo := mantissa<<max(shift-64, 0)>>max(64-shift, 0), mantissa<<shift
	if f < 0 {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi += int64(hi + carry)
	return true
}

// over is the sum, in units of 2⁻⁶⁴, divided by n > 0, to the nearest float,
// ties to even.
func (s *sum128) over(n int64) float64 {
	hi, lo := uint64(s.hi), s.lo
	if s.hi < 0 {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	if hi|lo == 0 {
		return 0
	}
	// With its highest bit first, a quotient by less than 2⁶³ has more than 64 bits.
	left := bits.LeadingZeros64(hi)
	if hi == 0 {
		left = 64 + bits.LeadingZeros64(lo)
	}
	if left >= 64 {
		hi, lo = lo<<(left-64), 0
	} else {
		hi, lo = hi<<left|lo>>(64-left), lo<<left
	}
	high, r := hi/uint64(n), hi%uint64(n)
	low, r := bits.Div64(r, lo, uint64(n))
	// Its first 64 bits, the last of which also stands for all that follows.
	skip := bits.LeadingZeros64(high)
	top := high<<skip | low>>(64-skip)
	if low<<skip|r != 0 {
		top |= 1
	}
	f := math.Ldexp(float64(top), -skip-left)
	if s.hi < 0 {
		f = -f
	}
	return f
}

func pow10(n uint32) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}
