package labels

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// maxDigits bounds the digits of a Decimal, so that a flag cannot cost memory.
const maxDigits = 40

// Decimal is an exact, non-negative decimal number. The zero Decimal is 0.
type Decimal struct {
	text     string
	unscaled *big.Int
	unit     *big.Int // 10 to the number of decimal places
}

// ParseDecimal reads digits with at most one point among them, such as 2, 2.0
// or .25. Signs and exponents are refused.
func ParseDecimal(s string) (Decimal, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	digits := whole + fraction
	if digits == "" || len(digits) > maxDigits || strings.Trim(digits, "0123456789") != "" {
		return Decimal{}, fmt.Errorf("parse %q: want a decimal number of at most %d digits, such as 2.0", s, maxDigits)
	}
	unscaled, _ := new(big.Int).SetString(digits, 10)
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(fraction))), nil)
	return Decimal{text: s, unscaled: unscaled, unit: unit}, nil
}

// String is the number as it was given.
func (d Decimal) String() string {
	if d.unscaled == nil {
		return "0"
	}
	return d.text
}

// Floor returns ⌊d × n⌋ for n ≥ 0, at most the largest int64.
func (d Decimal) Floor(n int64) int64 {
	if d.unscaled == nil || n <= 0 {
		return 0
	}
	x := new(big.Int).Mul(d.unscaled, big.NewInt(n))
	return saturate(x.Quo(x, d.unit))
}

// Round returns ⌊d × n + ½⌋ for n ≥ 0, at most the largest int64.
func (d Decimal) Round(n int64) int64 {
	if d.unscaled == nil || n <= 0 {
		return 0
	}
	x := new(big.Int).Mul(d.unscaled, big.NewInt(n))
	x.Lsh(x, 1).Add(x, d.unit)
	return saturate(x.Quo(x, new(big.Int).Lsh(d.unit, 1)))
}

func saturate(x *big.Int) int64 {
	if !x.IsInt64() {
		return math.MaxInt64
	}
	return x.Int64()
}

// ParseRatio reads a negative ratio: how many sampled rows stay for each
// positive one, 0 or more.
func ParseRatio(s string) (Decimal, error) { return ParseDecimal(s) }

// ParseTestSize reads the share of rows that go to test: above 0 and below 1.
func ParseTestSize(s string) (Decimal, error) {
	d, err := ParseDecimal(s)
	if err != nil {
		return Decimal{}, err
	}
	if d.unscaled.Sign() == 0 || d.unscaled.Cmp(d.unit) >= 0 {
		return Decimal{}, fmt.Errorf("parse %q: a test size is above 0 and below 1, such as 0.2", s)
	}
	return d, nil
}

// Kept is m, the number of the m0 sampled rows that stay: min(m0, ⌊ratio ×
// positives⌋) (CONTRACT, step 7).
func Kept(m0, positives int64, ratio Decimal) int64 {
	return min(m0, ratio.Floor(positives))
}

// TestCount is the number of n rows of one class that go to test: ⌊size × n +
// ½⌋ (CONTRACT, step 10).
func TestCount(size Decimal, n int64) int64 { return size.Round(n) }

// Weight is the sample weight m0 ÷ m of a sampled row that stayed, which undoes
// the sampling; it is 1 when none stayed.
func Weight(m0, m int64) float32 {
	if m <= 0 {
		return 1
	}
	return float32(float64(m0) / float64(m))
}
