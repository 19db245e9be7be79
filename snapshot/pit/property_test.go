package pit_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

const second = 1_000_000

// epoch is the moment around which the random histories lie.
var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func stamp(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02 15:04:05.999999")
}

// source is a random database that writes down what a store would keep of it.
type source struct {
	rng   *rand.Rand
	facts []fact
	rows  map[[2]string]*sourceRow // by table and key
	now   int64                    // last version given out
	birth int64
	// captured says whether settings.extra is part of the definition yet.
	captured bool
}

type sourceRow struct {
	entity string
	values cols
}

func (s *source) pick(list ...string) string { return list[s.rng.IntN(len(list))] }

func (s *source) maybe(v string) any {
	if s.rng.IntN(6) == 0 {
		return nil
	}
	return v
}

// moment is a time near the version at hand: often late, sometimes ahead, with
// few distinct values, so that times tie.
func (s *source) moment() string {
	at := s.now - int64(s.rng.IntN(30))*second
	switch s.rng.IntN(8) {
	case 0:
		at = s.now + int64(s.rng.IntN(15))*second
	case 1:
		at = s.now
	}
	return stamp(at - at%second)
}

var tables = map[string][]string{
	"people": {"m0", "m1", "m2"}, "settings": {"s0", "s1", "s2", "s3"},
	"events": {"e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"},
	"offers": {"o0", "o1", "o2", "o3", "o4", "o5"}, "things": {"t0", "t1", "t2", "t3"},
}

// names are the tables in a fixed order, those with more rows more often.
var names = []string{"people", "settings", "events", "events", "events", "offers", "offers", "offers", "things", "things"}

// values makes a row, or the next form of one.
func (s *source) values(table, key string, old cols) (entity string, v cols) {
	member := s.pick("m0", "m0", "m1", "m2")
	if old != nil && s.rng.IntN(4) > 0 {
		if m, ok := old["member"].(string); ok {
			member = m
		}
	}
	made := s.moment()
	if old != nil {
		for _, column := range []string{"made", "at"} {
			if text, ok := old[column].(string); ok && s.rng.IntN(8) > 0 {
				made = text
			}
		}
	}
	changed := s.maybe(stamp(s.now - int64(s.rng.IntN(3))*second))
	switch table {
	case "people":
		return key, cols{"id": key, "name": s.maybe(s.pick("A", "B", "C")), "made": s.maybe(made), "changed": changed}
	case "settings":
		v = cols{"id": key, "member": member, "tone": s.maybe(s.pick("loud", "soft", "mute"))}
		if s.captured {
			v["extra"] = s.maybe(s.pick("1", "2", "3"))
		}
		return member, v
	case "events":
		v = cols{
			"id": key, "member": member, "at": made, "paid": nil, "amount": s.maybe(s.pick("1.50", "2.25", "3", "0.1", "7.125", "NaN")),
			"kind": s.maybe(s.pick("x", "y", "z")), "n": s.maybe(s.pick("0", "2", "3")), "mark": key,
		}
		if s.rng.IntN(3) == 0 {
			v["paid"] = s.pick(s.moment(), s.moment(), "infinity")
		}
		return member, v
	case "offers":
		return member, cols{
			"id": key, "member": member, "thing": s.maybe(s.pick("t0", "t1", "t2", "t9")), "a": s.maybe(s.pick("x", "y")), "b": s.maybe(s.pick("p", "q")),
			"state": s.maybe(s.pick("NEW", "SEEN", "TAKEN", "OLD")), "seen": s.maybe(s.moment()), "made": made, "changed": changed, "note": s.maybe(s.pick("n1", "n2")),
		}
	}
	return key, cols{
		"id": key, "a": s.maybe(s.pick("x", "y")), "b": s.maybe(s.pick("p", "q")), "score": s.maybe(s.pick("0.5", "1.25", "2.5")),
		"made": s.maybe(made), "changed": changed,
	}
}

// backfill is the first reading.
func (s *source) backfill() {
	s.birth = s.now
	ordinal := uint32(0)
	for _, table := range []string{"people", "settings", "events", "offers", "things"} {
		for _, key := range tables[table] {
			if s.rng.IntN(3) == 0 && (table != "people" || s.rng.IntN(2) == 0) {
				continue
			}
			entity, v := s.values(table, key, nil)
			known := s.now
			for _, column := range []string{"changed", creation[table]} {
				if text, ok := v[column].(string); ok {
					known = min(known, micros(text))
					break
				}
			}
			s.rows[[2]string{table, key}] = &sourceRow{entity, v}
			s.facts = append(s.facts, fact{Entity: entity, Table: table, Key: key, Version: s.now, Ordinal: ordinal, Known: known, Backfilled: true, Values: v})
			ordinal++
		}
	}
}

// transaction changes a few rows, perhaps one several times.
func (s *source) transaction() {
	ordinal := uint32(s.rng.IntN(3))
	for range 1 + s.rng.IntN(5) {
		table := names[s.rng.IntN(len(names))]
		key := tables[table][s.rng.IntN(len(tables[table]))]
		s.change(table, key, ordinal)
		ordinal += 1 + uint32(s.rng.IntN(2))
	}
}

func (s *source) change(table, key string, ordinal uint32) {
	k := [2]string{table, key}
	f := fact{Table: table, Key: key, Version: s.now, Ordinal: ordinal, Known: s.now}
	r := s.rows[k]
	if r != nil && s.rng.IntN(5) == 0 {
		f.Entity, f.Deleted = r.entity, true
		s.facts = append(s.facts, f)
		delete(s.rows, k)
		return
	}
	var old cols
	if r != nil {
		old = r.values
	}
	entity, v := s.values(table, key, old)
	if r != nil && r.entity != entity {
		gone := f
		gone.Entity, gone.Deleted, gone.Moved = r.entity, true, true
		s.facts = append(s.facts, gone)
	}
	f.Entity, f.Values = entity, v
	s.facts = append(s.facts, f)
	s.rows[k] = &sourceRow{entity, v}
}

// refill reads one table again; from then on its last column is captured.
func (s *source) refill() {
	s.captured = true
	for i, key := range tables["settings"] {
		if r := s.rows[[2]string{"settings", key}]; r != nil {
			v := cols{}
			for name, value := range r.values {
				v[name] = value
			}
			v["extra"] = s.maybe(s.pick("1", "2", "3"))
			r.values = v
			s.facts = append(s.facts, fact{Entity: r.entity, Table: "settings", Key: key, Version: s.now, Ordinal: uint32(i), Known: s.now, Values: v})
		}
	}
}

func generate(rng *rand.Rand) *source {
	s := &source{rng: rng, rows: map[[2]string]*sourceRow{}, now: epoch, captured: rng.IntN(2) == 0}
	s.backfill()
	steps := rng.IntN(25)
	for i := range steps {
		s.now += 1 + int64(rng.IntN(5))*second
		if rng.IntN(3) == 0 {
			s.now -= s.now % second // versions and moments meet
			s.now += second
		}
		if !s.captured && i == steps/2 {
			s.refill()
		} else {
			s.transaction()
		}
	}
	return s
}

// TestJoinEqualsANaiveOracleOverRandomHistories holds I5 and the rules of
// DESIGN §6. PIT_SEED repeats a run, PIT_CASES sets their number.
func TestJoinEqualsANaiveOracleOverRandomHistories(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PIT_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	cases := 3000
	if text := os.Getenv("PIT_CASES"); text != "" {
		cases, _ = strconv.Atoi(text)
	}
	t.Logf("repeat with PIT_SEED=%d", seed)
	def := load(t, "testdata/club.yaml")
	examples, exactness := 0, [4]int64{}
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf := s.now + int64(rng.IntN(20)-8)*second
		asOf = max(asOf, s.birth)
		window := time.Duration(1+rng.IntN(150)) * time.Second
		// A view may be newer than the moment asked for: newer versions are
		// left out by the join.
		info := catalog(def, s.birth, asOf)
		rng.Shuffle(len(s.facts), func(i, j int) { s.facts[i], s.facts[j] = s.facts[j], s.facts[i] })
		got, tally := join(t, def, build(t, def, info, s.facts), window, int64(rng.IntN(2000)), int64(1+rng.IntN(3000)))

		o := &oracle{facts: s.facts, birth: s.birth, asOf: asOf, window: window.Microseconds()}
		want := o.examples()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("case %d of seed %d, as of %s: (-oracle +join)\n%s", n, seed, change.Version(asOf), diff)
		}
		if len(o.dropped) == 0 {
			o.dropped = nil
		}
		if tally.Candidates != o.candidates || tally.Immature != o.immature || tally.Exactness != o.exactnessCount || !cmp.Equal(tally.Dropped, o.dropped) {
			t.Fatalf("case %d of seed %d: tally %+v, want candidates %d, immature %d, exactness %v, dropped %v", n, seed, tally, o.candidates, o.immature, o.exactnessCount, o.dropped)
		}
		examples += len(got)
		for i, k := range tally.Exactness {
			exactness[i] += k
		}
	}
	t.Logf("%d examples, by exactness %v", examples, exactness)
	if cases >= 1000 && (examples < cases || slices.Contains(exactness[:], 0)) {
		t.Errorf("the histories are too poor: %d examples, by exactness %v", examples, exactness)
	}
}
