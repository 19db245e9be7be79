package pit_test

import (
	"maps"
	"math/rand/v2"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
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
	// narrow is a column that the definition did not name at first, "" for none;
	// refilled says that its table has been read again since.
	narrow   [2]string
	refilled bool
	gaps     []history.Gap
	// told is what the source sends, transaction by transaction.
	told []told
	deaf bool // nobody listens
}

// told is a transaction, or the beginning of a new epoch if it has no rows.
type told struct {
	kind    change.Kind
	version int64
	rows    []toldRow
	table   string // of a refill
	narrow  bool   // without the column that the definition did not name yet
}

type toldRow struct {
	op         change.Op
	table, key string // the key before
	ordinal    uint32
	values     cols // after
}

// tell notes a row of the transaction at hand.
func (s *source) tell(kind change.Kind, r toldRow) {
	if s.deaf {
		return
	}
	if n := len(s.told); n == 0 || s.told[n-1].version != s.now {
		s.told = append(s.told, told{kind: kind, version: s.now, narrow: !s.refilled})
	}
	t := &s.told[len(s.told)-1]
	t.rows = append(t.rows, r)
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

// captured is what the store is told of a row.
func (s *source) captured(table string, v cols) cols {
	if s.narrow[0] != table || s.refilled {
		return v
	}
	less := cols{}
	for name, value := range v {
		if name != s.narrow[1] {
			less[name] = value
		}
	}
	return less
}

// narrows are columns that may join the definition later.
var narrows = [][2]string{
	{},
	{},
	{"settings", "extra"},
	{"settings", "tone"},
	{"people", "made"},
	{"people", "name"},
	{"events", "kind"},
	{"events", "n"},
	{"events", "paid"},
	{"events", "at"},
	{"offers", "note"},
	{"offers", "thing"},
	{"things", "score"},
	{"things", "made"},
	{"things", "b"},
}

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
		v["extra"] = s.maybe(s.pick("1", "2", "3"))
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
			s.rows[[2]string{table, key}] = &sourceRow{entity, v}
			f := fact{Entity: entity, Table: table, Key: key, Version: s.now, Ordinal: ordinal, Known: s.dated(table, v), Backfilled: true, Values: s.captured(table, v)}
			s.facts = append(s.facts, f)
			s.tell(change.Backfill, toldRow{change.Insert, table, key, ordinal, v})
			ordinal++
		}
	}
}

// dated is the known time of a row that is read at the moment at hand.
func (s *source) dated(table string, v cols) int64 {
	told := s.captured(table, v)
	for _, column := range []string{"changed", creation[table]} {
		if text, ok := told[column].(string); ok {
			return min(s.now, micros(text))
		}
	}
	return s.now
}

// outage is a time in which the source changes and nobody listens. The backfill
// of the next epoch ends it: what differs from what is held is written, with a
// known time inside the gap, and what is gone gets a tombstone.
func (s *source) outage() {
	gap := history.Gap{From: change.Version(s.told[len(s.told)-1].version)}
	held := map[[2]string]sourceRow{}
	for k, r := range s.rows {
		held[k] = *r
	}
	before := len(s.facts)
	s.deaf = true
	for range 1 + s.rng.IntN(4) {
		s.now += 1 + int64(s.rng.IntN(3))*second
		s.transaction()
	}
	s.facts, s.deaf = s.facts[:before], false
	s.told = append(s.told, told{version: s.now}) // a new epoch begins
	s.now += 1 + int64(s.rng.IntN(3))*second
	s.told = append(s.told, told{kind: change.Backfill, version: s.now, narrow: !s.refilled})
	gap.To = change.Version(s.now)
	s.gaps = append(s.gaps, gap)
	ordinal := uint32(0)
	for _, table := range []string{"people", "settings", "events", "offers", "things"} {
		for _, key := range tables[table] {
			old, had := held[[2]string{table, key}]
			r := s.rows[[2]string{table, key}]
			if had && (r == nil || r.entity != old.entity) {
				s.facts = append(s.facts, fact{Entity: old.entity, Table: table, Key: key, Version: s.now, Ordinal: ordinal, Known: s.now, Deleted: true, Moved: r != nil})
			}
			if r != nil {
				s.tell(change.Backfill, toldRow{change.Insert, table, key, ordinal, r.values})
			}
			if r != nil && (!had || !maps.Equal(s.captured(table, r.values), s.captured(table, old.values))) {
				f := fact{Entity: r.entity, Table: table, Key: key, Version: s.now, Ordinal: ordinal, Arrived: true, Values: s.captured(table, r.values)}
				f.Known = max(s.dated(table, r.values), int64(gap.From)+1)
				s.facts = append(s.facts, f)
			}
			ordinal++
		}
	}
}

// transaction changes a few rows, perhaps one several times.
func (s *source) transaction() {
	ordinal := uint32(s.rng.IntN(3))
	if s.rng.IntN(25) == 0 {
		s.truncate(names[s.rng.IntN(len(names))], ordinal)
		ordinal++
	}
	for range 1 + s.rng.IntN(5) {
		table := names[s.rng.IntN(len(names))]
		key := tables[table][s.rng.IntN(len(tables[table]))]
		s.change(table, key, ordinal)
		ordinal += 1 + uint32(s.rng.IntN(2))
	}
}

// truncate empties a table.
func (s *source) truncate(table string, ordinal uint32) {
	s.tell(change.Live, toldRow{op: change.Truncate, table: table, ordinal: ordinal})
	for _, key := range tables[table] {
		k := [2]string{table, key}
		if r := s.rows[k]; r != nil {
			s.facts = append(s.facts, fact{Entity: r.entity, Table: table, Key: key, Version: s.now, Ordinal: ordinal, Known: s.now, Deleted: true})
			delete(s.rows, k)
		}
	}
}

func (s *source) change(table, key string, ordinal uint32) {
	k := [2]string{table, key}
	f := fact{Table: table, Key: key, Version: s.now, Ordinal: ordinal, Known: s.now}
	r := s.rows[k]
	if r != nil && s.rng.IntN(5) == 0 {
		f.Entity, f.Deleted = r.entity, true
		s.facts = append(s.facts, f)
		s.tell(change.Live, toldRow{change.Delete, table, key, ordinal, nil})
		delete(s.rows, k)
		return
	}
	var old cols
	if r != nil {
		old = r.values
		if to := s.pick(tables[table]...); s.rng.IntN(12) == 0 && s.rows[[2]string{table, to}] == nil {
			f.Key = to // its key changes
		}
	}
	entity, v := s.values(table, f.Key, old)
	if r != nil && (r.entity != entity || f.Key != key) {
		gone := f
		gone.Entity, gone.Key, gone.Deleted, gone.Moved = r.entity, key, true, true
		s.facts = append(s.facts, gone)
		delete(s.rows, k)
		f.Arrived = true
	}
	f.Entity, f.Values = entity, s.captured(table, v)
	s.facts = append(s.facts, f)
	op := change.Insert
	if r != nil {
		op = change.Update
	}
	s.tell(change.Live, toldRow{op, table, key, ordinal, v})
	s.rows[[2]string{table, f.Key}] = &sourceRow{entity, v}
}

// refill reads the table of the narrow column again: a row that it did not
// capture is written once more, at the moment of the refill.
func (s *source) refill() {
	s.refilled = true
	table := s.narrow[0]
	s.told = append(s.told, told{kind: change.Refill, version: s.now, table: table})
	for i, key := range tables[table] {
		if r := s.rows[[2]string{table, key}]; r != nil {
			s.facts = append(s.facts, fact{Entity: r.entity, Table: table, Key: key, Version: s.now, Ordinal: uint32(i), Known: s.now, Arrived: true, Values: r.values})
			s.tell(change.Refill, toldRow{change.Insert, table, key, uint32(i), r.values})
		}
	}
}

func generate(rng *rand.Rand) *source {
	s := &source{rng: rng, rows: map[[2]string]*sourceRow{}, now: epoch, narrow: narrows[rng.IntN(len(narrows))]}
	s.backfill()
	steps, outage := rng.IntN(25), rng.IntN(75)
	for i := range steps {
		s.now += 1 + int64(rng.IntN(5))*second
		if rng.IntN(3) == 0 {
			s.now -= s.now % second // versions and moments meet
			s.now += second
		}
		switch {
		case s.narrow[0] != "" && i == steps/2:
			s.refill()
		case i == outage:
			s.outage()
		default:
			s.transaction()
		}
	}
	return s
}

// asOf draws a moment at which a view can be had, and the window of a dataset.
func (s *source) asOf() (asOf int64, window time.Duration) {
	asOf = max(s.now+int64(s.rng.IntN(20)-8)*second, s.birth)
	for _, g := range s.gaps {
		if g.Holds(change.Version(asOf)) {
			asOf = int64(g.From)
		}
	}
	window = time.Duration(1+s.rng.IntN(150)) * time.Second
	if s.rng.IntN(3) == 0 { // the horizon meets a version
		if h := s.facts[s.rng.IntN(len(s.facts))].Version; h < asOf {
			window = time.Duration(asOf-h) * time.Microsecond
		}
	}
	return asOf, window
}

// info is the catalog of a view of the source's history.
func (s *source) info(def *definition.Definition, asOf int64) history.Info {
	info := catalog(def, s.birth, asOf)
	info.Gaps = s.gaps
	return info
}
