package pit

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// Lateness says how long after its own creation column a table's rows became
// known. It counts the rows that were inserted live after the horizon T − window
// and up to T; not those of a backfill or refill, nor those that came from
// another entity or key. What a Lateness says does not depend on the order in
// which rows were counted or on how many counted them.
//
// It is a histogram whose buckets are at most 1/64 of a value wide, exact below
// 128 µs: 30 KiB at most. The zero Lateness is empty.
type Lateness struct {
	// Rows are those counted, Entities the entities that they belong to.
	Rows, Entities int64
	// Ahead counts the rows that were known before their creation column says
	// that they were made, Lead is by how much at most, in µs.
	Ahead, Lead int64
	// Max is the largest lateness in µs, 0 if every row was ahead. It is exact.
	Max     int64
	buckets []int64
}

// buckets of one power of two
const lateBuckets = 64

// bucket is the place of a lateness, at least 0, in the histogram.
func bucket(micros int64) int {
	shift := max(bits.Len64(uint64(micros))-7, 0)
	return shift*lateBuckets + int(micros>>shift)
}

// highest is the largest lateness of a bucket.
func highest(n int) int64 {
	if n < 2*lateBuckets {
		return int64(n)
	}
	shift := n/lateBuckets - 1
	return int64(n-shift*lateBuckets+1)<<shift - 1
}

// Add counts a row that was known so many µs after it was made.
func (l *Lateness) Add(micros int64) {
	l.Rows++
	if micros < 0 {
		l.Ahead++
		l.Lead = max(l.Lead, -micros)
		micros = 0
	}
	l.Max = max(l.Max, micros)
	n := bucket(micros)
	l.grow(n + 1)
	l.buckets[n]++
}

func (l *Lateness) grow(n int) {
	if len(l.buckets) < n {
		l.buckets = append(l.buckets, make([]int64, n-len(l.buckets))...)
	}
}

// Merge adds what another Lateness counted, of other entities.
func (l *Lateness) Merge(o *Lateness) {
	l.Rows += o.Rows
	l.Entities += o.Entities
	l.Ahead += o.Ahead
	l.Lead = max(l.Lead, o.Lead)
	l.Max = max(l.Max, o.Max)
	l.grow(len(o.buckets))
	for i, n := range o.buckets {
		l.buckets[i] += n
	}
}

// Percentile is the lateness in µs that so many per cent of the rows did not
// exceed (the nearest rank), at most 1/64 above the true one and never below it.
// Rows that were ahead count as not late at all. It is 0 without rows.
func (l *Lateness) Percentile(percent int64) int64 {
	rank := (l.Rows*percent + 99) / 100
	for i, n := range l.buckets {
		if rank -= n; rank <= 0 && n > 0 {
			return min(highest(i), l.Max)
		}
	}
	return 0
}

// Equal says whether two have counted the same.
func (l *Lateness) Equal(o *Lateness) bool {
	if l == nil || o == nil {
		return l == o
	}
	return l.Rows == o.Rows && l.Entities == o.Entities && l.Ahead == o.Ahead && l.Lead == o.Lead && l.Max == o.Max &&
		slices.Equal(l.buckets, o.buckets)
}

// ofTable is the lateness of a table in a tally.
func ofTable(all *map[string]*Lateness, table string) *Lateness {
	l := (*all)[table]
	if l == nil {
		if *all == nil {
			*all = make(map[string]*Lateness)
		}
		l = &Lateness{}
		(*all)[table] = l
	}
	return l
}

// lateness counts the rows of the entity at hand that were inserted live.
func (j *Joiner) lateness(tally *Tally) {
	for i := range j.tables {
		t := j.program.tables[i]
		if t.created < 0 {
			continue
		}
		var l *Lateness
		for _, r := range j.tables[i].rows {
			n := len(r.history) - 1
			for n > 0 && r.history[n].Deleted {
				n--
			}
			first := &r.history[n]
			if !inserted(first, j.horizon) {
				continue
			}
			made, ok := j.program.micros(&j.decode(r.version(n))[t.created])
			if !ok {
				continue
			}
			if l == nil {
				l = ofTable(&tally.Lateness, t.name)
				l.Entities++
			}
			l.Add(first.Known - made)
		}
	}
}

// inserted says whether a row's first version is its insert, seen live.
func inserted(first *history.Version, horizon change.Version) bool {
	return !first.Backfilled && !first.Arrived && !first.Deleted && first.Version > horizon
}

// stopwatch takes the lateness of related rows while they are loaded.
type stopwatch struct {
	clock   *Program // for its zone alone
	horizon change.Version
	found   map[string]*Lateness
	cells   []row.Cell
}

func newStopwatch(def *definition.Definition, horizon change.Version) *stopwatch {
	p := &Program{zone: def.Zone}
	if p.zone == nil {
		p.zone = time.UTC
	}
	p.utc = p.zone == time.UTC || p.zone.String() == "UTC"
	return &stopwatch{clock: p, horizon: horizon}
}

// entity counts the rows of an entity, from the horizon on, as a Joiner does.
func (s *stopwatch) entity(e *history.Entity, byID []*table) error {
	counted := -1
	for i := range e.Rows {
		r := &e.Rows[i]
		t := byID[r.Table]
		n := len(r.Versions) - 1
		for n > 0 && r.Versions[n].Deleted {
			n--
		}
		first := &r.Versions[n]
		if t.created < 0 || !inserted(first, s.horizon) {
			continue
		}
		if len(s.cells) < t.width {
			s.cells = make([]row.Cell, t.width)
		}
		cells, err := row.DecodeSome(first.Data, s.cells, t.wanted)
		if err != nil {
			return fmt.Errorf("decode a row of table %s at version %s: %w", t.name, first.Version, err)
		}
		s.cells = cells
		made, ok := s.clock.micros(&cells[t.created])
		if !ok {
			continue
		}
		l := ofTable(&s.found, t.name)
		if counted != t.index { // rows are ordered by table
			counted = t.index
			l.Entities++
		}
		l.Add(first.Known - made)
	}
	return nil
}
