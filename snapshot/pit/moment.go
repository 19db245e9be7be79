package pit

import (
	"time"

	"dreamfeed/internal/row"
)

const dayMicros = 86_400_000_000

// moment reads a cell as µs since the epoch in Value.Int. Timestamps without
// zone and dates are in the definition's zone. What has no such moment, an
// infinity or a year that has not four digits, is missing and a fault.
func (p *Program) moment(c *row.Cell) (Value, fault) {
	if at, ok := p.micros(c); ok {
		return Value{Valid: true, Int: at}, ""
	}
	if !present(c) {
		return Value{}, ""
	}
	return Value{}, notAMoment
}

// micros is moment without a reason.
func (p *Program) micros(c *row.Cell) (at int64, ok bool) {
	switch c.Kind {
	case row.TimestampTZ:
		return c.Int, true
	case row.Timestamp:
		return p.fromZone(c.Int), true
	case row.Date:
		return p.fromZone(c.Int * dayMicros), true
	}
	return 0, false
}

// fromZone turns what a clock in the definition's zone shows into a moment.
func (p *Program) fromZone(wall int64) int64 {
	if p.utc {
		return wall
	}
	t := time.UnixMicro(wall).UTC()
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), p.zone).UnixMicro()
}

// floorDiv is ⌊a ÷ b⌋ for b > 0.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// age is the completed years from birth to t (both µs since the epoch), in
// UTC, as the years of PostgreSQL's age(t, birth): a year is complete once
// month, day and time of day of t are not before those of birth, so that who
// was born on 29 February completes a year on 1 March of other years. It is
// only meaningful for birth ≤ t.
func age(birth, t int64) int64 {
	b, n := time.UnixMicro(birth).UTC(), time.UnixMicro(t).UTC()
	years := int64(n.Year() - b.Year())
	if n.Month() != b.Month() {
		if n.Month() < b.Month() {
			years--
		}
		return years
	}
	if n.Day() != b.Day() {
		if n.Day() < b.Day() {
			years--
		}
		return years
	}
	if t-floorDiv(t, dayMicros)*dayMicros < birth-floorDiv(birth, dayMicros)*dayMicros {
		years--
	}
	return years
}

// partOf takes a part of a moment in UTC.
func partOf(name string, micros int64) (int64, bool) {
	t := time.UnixMicro(micros).UTC()
	switch name {
	case "month":
		return int64(t.Month()), true
	case "weekday":
		return int64(t.Weekday()), true
	case "hour":
		return int64(t.Hour()), true
	case "day":
		return int64(t.Day()), true
	}
	return 0, false
}
