package pit_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// stream makes the messages that cdc would of what a source tells.
type stream struct {
	def      *definition.Definition
	narrow   [2]string
	rels     map[string]*change.Relation
	batches  []*change.Batch
	epoch    change.Epoch
	zero     change.Version // where the epoch's log begins
	previous change.Version
}

// relation is a table as it is published: in another order than the
// definition's, and without the column that is not part of it yet.
func (s *stream) relation(table string, narrow bool) *change.Relation {
	name := table
	if narrow && s.narrow[0] == table {
		name += " without " + s.narrow[1]
	}
	if rel := s.rels[name]; rel != nil {
		return rel
	}
	oids := map[definition.Type]uint32{
		definition.Text: 25, definition.Int: 23, definition.Float: 1700, definition.Timestamp: 1114,
	}
	rel := &change.Relation{ID: uint32(len(s.rels) + 1), Schema: "public", Name: table, Replica: 'd'}
	for _, c := range s.def.Table(table).Columns {
		if name == table || c.Name != s.narrow[1] {
			rel.Columns = append(rel.Columns, change.Column{Name: c.Name, Type: oids[c.Type], Modifier: -1, Key: c.Name == "id"})
		}
	}
	slices.Reverse(rel.Columns)
	s.rels[name] = rel
	return rel
}

func (s *stream) add(e change.Entry, v change.Version, h change.Header) {
	h.Epoch, h.Origin = s.epoch, change.Origin{System: 7 + uint64(s.epoch), Timeline: 1}
	h.First, h.Last, h.Previous = v, v, s.previous
	s.previous = v
	s.batches = append(s.batches, &change.Batch{Incarnation: 9, Sequence: uint64(len(s.batches) + 1), Header: h, Entries: []change.Entry{e}, Bytes: 100})
}

func (s *stream) tick(v change.Version) {
	s.add(change.Entry{Tick: &change.Tick{Moment: v, LSN: change.LSN(v - s.zero)}}, v, change.Header{})
}

func (s *stream) send(t *told) {
	v := change.Version(t.version)
	if t.kind == 0 {
		s.epoch++
		s.zero = v
		s.tick(v)
		return
	}
	low := s.previous
	tx := &change.Transaction{Kind: t.kind, Version: v, CommitTime: t.version, CommitLSN: change.LSN(v - s.zero), EndLSN: change.LSN(v-s.zero) + 1, Last: true}
	switch {
	case t.kind == change.Refill:
		tx.Scope = &change.Scope{Low: low, Tables: []change.Table{{Schema: "public", Name: t.table}}}
	case t.kind == change.Backfill && low != 0:
		tx.Scope = &change.Scope{Low: low}
		for _, d := range s.def.Tables {
			tx.Scope.Tables = append(tx.Scope.Tables, change.Table{Schema: "public", Name: d.Name})
		}
	}
	h := change.Header{CommitLSN: tx.CommitLSN, EndLSN: tx.EndLSN, OpenKind: t.kind}
	for i, r := range t.rows {
		rel := s.relation(r.table, t.narrow)
		row := change.Row{Relation: rel, Op: r.op, Ordinal: r.ordinal}
		if r.values != nil {
			row.New = tuple(rel, r.values)
		}
		if r.op == change.Delete || r.op == change.Update && r.values["id"] != r.key {
			row.Old = tuple(rel, cols{"id": r.key})
		}
		if i == 0 {
			h.FirstOrdinal = r.ordinal
		}
		h.NextOrdinal = r.ordinal + 1
		tx.Rows = append(tx.Rows, row)
	}
	s.add(change.Entry{Transaction: tx}, v, h)
}

func tuple(rel *change.Relation, v cols) []change.Value {
	out := make([]change.Value, len(rel.Columns))
	for i, c := range rel.Columns {
		out[i] = change.Value{Kind: change.Null}
		if text, ok := v[c.Name].(string); ok {
			out[i] = change.Value{Kind: change.Text, Text: []byte(text)}
		}
	}
	return out
}

// TestI7AJoinOverAStoreEqualsANaiveOracleOverItsChanges goes the whole way: the
// changes of random histories go through a store, views of it are taken as of
// random moments, and the join over them is held against the oracle, which knows
// only what was told. Then everything below the latest horizon is swept, and the
// joins that are still possible give the same again (I5, I7, DESIGN §6.1 to 6.7).
func TestI7AJoinOverAStoreEqualsANaiveOracleOverItsChanges(t *testing.T) {
	seed, cases := settings(t, 1500)
	const moments = 60 // of a history
	def := load(t, "testdata/club.yaml")
	examples, again, removed := 0, 0, uint64(0)
	for n := range max(cases/moments, 1) {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		feed := &stream{def: def, narrow: s.narrow, rels: map[string]*change.Relation{}, epoch: 1}
		for i := range s.told {
			feed.send(&s.told[i])
		}
		// Long after, so that tombstones may go as well.
		end := change.Version(s.now) + change.Version(48*time.Hour/time.Microsecond)
		feed.tick(end)
		store, err := featurestore.Open(t.TempDir(), featurestore.Options{Definition: def, Memory: 48 << 20, GroupEntries: 1 + rng.IntN(40)})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Apply(t.Context(), feed.batches...); err != nil {
			t.Fatalf("history %d of seed %d: %v", n, seed, err)
		}
		check := func(asOf int64, window time.Duration, when string) {
			v, err := store.ViewWithin(change.Version(asOf), window)
			if err != nil {
				t.Fatal(err)
			}
			got, tally := join(t, def, v, window, 1<<16, 1<<16)
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			o := &oracle{facts: s.facts, birth: s.birth, asOf: asOf, window: window.Microseconds(), gaps: s.gaps}
			if diff := cmp.Diff(o.examples(), got); diff != "" {
				t.Fatalf("history %d of seed %d, %s, as of %s, window %s, narrow %v, gaps %v: (-oracle +join)\n%s", n, seed, when, change.Version(asOf), window, s.narrow, s.gaps, diff)
			}
			if tally.Candidates != o.candidates || tally.Exactness != o.exactnessCount {
				t.Fatalf("history %d of seed %d, %s, as of %s, window %s: tally %+v, want %d candidates, exactness %v", n, seed, when, change.Version(asOf), window, tally, o.candidates, o.exactnessCount)
			}
			for table := range tables {
				want, _ := o.lateness(table)
				var got int64
				if l := tally.Lateness[table]; l != nil {
					got = l.Rows
				}
				if got != int64(len(want)) {
					t.Fatalf("history %d of seed %d, %s, as of %s, window %s: lateness of %d rows of table %s, want %d", n, seed, when, change.Version(asOf), window, got, table, len(want))
				}
			}
			examples += len(got)
		}
		type moment struct {
			asOf   int64
			window time.Duration
		}
		var all []moment
		for range moments {
			at := s.facts[rng.IntN(len(s.facts))].Version + rng.Int64N(3) - 1 + int64(rng.IntN(2)*rng.IntN(10))*second
			m := moment{asOf: max(at, s.birth), window: time.Duration(1+rng.IntN(100)) * time.Second}
			for _, g := range s.gaps {
				if g.Holds(change.Version(m.asOf)) {
					m.asOf = int64(g.To)
				}
			}
			all = append(all, m)
			check(m.asOf, m.window, "whole")
		}
		floor := s.birth + rng.Int64N(s.now-s.birth+1)
		swept, err := store.SweepOnce(t.Context(), featurestore.SweepOptions{History: time.Duration(int64(end)-floor) * time.Microsecond})
		if err != nil {
			t.Fatal(err)
		}
		if swept.Floor != change.Version(floor) {
			t.Fatalf("the floor is %d, want %d", swept.Floor, floor)
		}
		removed += swept.Versions
		for _, m := range all {
			if room := m.asOf - floor; room >= 0 {
				m.window = min(m.window, time.Duration(room)*time.Microsecond)
				check(m.asOf, m.window, "swept")
				again++
			}
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d examples; %d joins after %d versions were swept", examples, again, removed)
	if cases >= 1000 && (examples < cases || again < cases/4 || removed == 0) {
		t.Error("the histories are too poor")
	}
}
