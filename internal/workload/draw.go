package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// draw is a seeded source of values. Each user of a history and each connection
// of live traffic has its own, so that none depends on how the others are cut.
type draw struct {
	*rand.Rand
	// dirt is the probability that a value which can be dirty is.
	dirt float64
}

func newDraw(seed int64, stream string, number int, dirt float64) *draw {
	h := uint64(14695981039346656037) // FNV-1a, to tell streams of equal numbers apart
	for _, c := range []byte(stream) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return &draw{Rand: rand.New(rand.NewPCG(uint64(seed), h+uint64(number)*0x9e3779b97f4a7c15)), dirt: dirt}
}

func (d *draw) chance(p float64) bool { return d.Float64() < p }

func (d *draw) dirty() bool { return d.chance(d.dirt) }

func (d *draw) between(low, high int) int { return low + d.IntN(high-low+1) }

func pick[T any](d *draw, from []T) T { return from[d.IntN(len(from))] }

// some returns least to most different elements in their order.
func some(d *draw, from []string, least, most int) []string {
	n := d.between(least, min(most, len(from)))
	out := make([]string, 0, n)
	for _, i := range d.Perm(len(from))[:n] {
		out = append(out, from[i])
	}
	return out
}

// maybe returns v with probability p, else NULL.
func (d *draw) maybe(p float64, v any) any {
	if d.chance(p) {
		return v
	}
	return nil
}

// uuid is a random one, version 4.
func (d *draw) uuid() string {
	a, b := d.Uint64(), d.Uint64()
	a = a&^0xf000 | 0x4000
	b = b&^(3<<62) | 2<<62
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffff_ffff_ffff)
}

// cuid has the form of a collision-resistant id: c and 24 of [0-9a-z].
func (d *draw) cuid() string {
	b := make([]byte, 25)
	b[0] = 'c'
	for i := 1; i < len(b); i++ {
		b[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[d.IntN(36)]
	}
	return string(b)
}

// moment draws one in [from, to), in milliseconds; from when that is empty.
func (d *draw) moment(from, to time.Time) time.Time {
	span := to.Sub(from).Milliseconds()
	if span <= 0 {
		return from
	}
	return from.Add(time.Duration(d.Int64N(span)) * time.Millisecond)
}

// within draws a duration below most, short ones likelier.
func (d *draw) within(most time.Duration) time.Duration {
	x := d.Float64()
	return (time.Duration(x*x*float64(most)) + time.Second).Truncate(time.Millisecond)
}

// vector draws eight numbers in [0,1].
func (d *draw) vector() [8]float64 {
	var v [8]float64
	for i := range v {
		v[i] = math.Round(d.Float64()*1e4) / 1e4
	}
	return v
}

// drift moves a vector a little, inside [0,1].
func (d *draw) drift(v [8]float64) [8]float64 {
	for i := range v {
		v[i] = math.Round(min(1, max(0, v[i]+d.NormFloat64()*0.05))*1e4) / 1e4
	}
	return v
}

// vectorJSON writes a vector, or, when dirt strikes, something else.
func (d *draw) vectorJSON(v [8]float64) string {
	if d.dirty() {
		return d.dirtyVector(v)
	}
	parts := make([]string, len(v))
	for i, x := range v {
		parts[i] = strconv.FormatFloat(x, 'f', -1, 64)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// dirtyVector draws each kind of bad vector equally often.
func (d *draw) dirtyVector(v [8]float64) string {
	parts := make([]string, len(v))
	for i, x := range v {
		parts[i] = strconv.FormatFloat(x, 'f', -1, 64)
	}
	i := d.IntN(len(parts))
	switch d.IntN(10) {
	case 0:
		parts = parts[:7]
	case 1:
		parts = append(parts, "0.5")
	case 2:
		parts = nil
	case 3:
		parts[i] = "null"
	case 4:
		parts[i] = `"` + parts[i] + `"`
	case 5:
		parts[i] = "1.7"
	case 6:
		parts[i] = "-0.25"
	case 7:
		return `{"climate": 0.5}`
	case 8:
		return "null"
	case 9:
		return `"0.1,0.2"`
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// nationality draws a country code; clean ones include UK, TW and XK.
func (d *draw) nationality() any {
	if d.dirty() {
		return pick(d, dirtyCountries)
	}
	return d.maybe(0.93, pick(d, countries))
}

// dateOfBirth draws one for a person of 18 to 85 years at now.
func (d *draw) dateOfBirth(now time.Time) any {
	day := now.Truncate(24 * time.Hour)
	if d.dirty() {
		switch d.IntN(3) {
		case 0:
			return day.AddDate(d.between(1, 30), 0, 0)
		case 1:
			return time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
		default:
			return day.AddDate(-d.between(5, 17), 0, -d.IntN(300))
		}
	}
	years := 18 + int(math.Sqrt(d.Float64())*float64(d.between(10, 67)))
	return d.maybe(0.9, day.AddDate(-years, 0, -d.IntN(364)-1))
}

// budgetJSON draws {min, max, currency} or, without currency, {min, max}.
func (d *draw) budgetJSON(currency bool) any {
	low := d.between(2, 30) * 50
	high := low + d.between(2, 60)*50
	unit := `, "currency": "EUR"`
	if !currency {
		unit = ""
	}
	if d.dirty() {
		switch d.IntN(8) {
		case 0:
			return fmt.Sprintf(`{"min": %d, "max": %d%s}`, high, low, unit)
		case 1:
			return fmt.Sprintf(`{"min": -%d, "max": %d%s}`, low, high, unit)
		case 2:
			return fmt.Sprintf(`{"min": "%d", "max": "%d"%s}`, low, high, unit)
		case 3:
			return fmt.Sprintf(`{"min": %d%s}`, low, unit)
		case 4:
			return fmt.Sprintf(`{"max": %d%s}`, high, unit)
		case 5:
			return fmt.Sprintf(`{"min": %d, "max": %d, "currency": %q}`, low, high, pick(d, currencies))
		case 6:
			return `{}`
		default:
			return `null`
		}
	}
	return d.maybe(0.85, fmt.Sprintf(`{"min": %d, "max": %d%s}`, low, high, unit))
}

// passengersJSON draws a number or {adults, children, infants}; now and then
// the number as a string.
func (d *draw) passengersJSON() string {
	n := d.between(1, 5)
	if d.dirty() {
		switch d.IntN(7) {
		case 0:
			return strconv.Quote("two adults")
		case 1:
			return strconv.Itoa(-n)
		case 2:
			return fmt.Sprintf("%d.5", n)
		case 3:
			return `""`
		case 4:
			return `{}`
		case 5:
			return `{"adults": "2"}`
		default:
			return "null"
		}
	}
	switch x := d.Float64(); {
	case x < 0.65:
		return strconv.Itoa(n)
	case x < 0.95:
		if d.chance(0.3) {
			return fmt.Sprintf(`{"adults": %d}`, n)
		}
		return fmt.Sprintf(`{"adults": %d, "children": %d, "infants": %d}`, n, d.IntN(3), d.IntN(2))
	default:
		return strconv.Quote(strconv.Itoa(n))
	}
}

// words returns v, or the empty string when dirt strikes.
func (d *draw) words(v string) string {
	if d.dirty() {
		return ""
	}
	return v
}

// measure returns v, or what is no number when dirt strikes.
func (d *draw) measure(v float64) float64 {
	if d.dirty() {
		return pick(d, []float64{math.NaN(), math.Inf(1), math.Inf(-1)})
	}
	return v
}

// cents writes a sum of money for numeric(10,2).
func cents(n int) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }
