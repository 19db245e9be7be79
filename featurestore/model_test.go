package featurestore_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// seed is DREAMFEED_SEED, or the clock.
func seed(t testing.TB) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("DREAMFEED_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with DREAMFEED_SEED=%d go test -run '^%s$'", n, t.Name())
	return rand.New(rand.NewPCG(n, 1))
}

var tableColumns = map[string][]string{
	"users":      {"id", "name", "big", "created"},
	"orders":     {"id", "user_id", "name", "big", "created", "updated"},
	"shop.items": {"lang", "id", "name", "big"},
	"config":     {"id", "name", "big"},
}

var idPool = []string{
	"1", "2", "255", "256", "-1", "-40000", "007", "", "0", "9223372036854775807", "9223372036854775808",
	"3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3f", "3F2B8C1E-9A4D-4F6B-8E21-0C5D7A9B1E3F", "ckxyz0001", "ckxyz0002", "ü/é", "a\x00b", "a",
}

// generator makes random transactions over the test tables and keeps the model.
type generator struct {
	r    *rand.Rand
	rels map[string]*change.Relation
	f    *feed
	m    *model
	now  change.Version
}

func newGenerator(r *rand.Rand) *generator {
	return &generator{r: r, rels: relations(), f: newFeed(), m: newModel(), now: 1_700_000_000_000_000}
}

func keyOf(table string, v map[string]string) string {
	if table == "shop.items" {
		return v["lang"] + "+" + v["id"]
	}
	return v["id"]
}

func placeOf(table string, v map[string]string) string {
	switch table {
	case "users":
		return "user:" + v["id"]
	case "orders":
		if id, ok := v["user_id"]; ok {
			return "user:" + id
		}
		return ":"
	case "shop.items":
		return "item:" + v["id"]
	}
	return ":"
}

func (g *generator) fresh(table string) map[string]string {
	v := map[string]string{"id": pick(g.r, idPool), "name": fmt.Sprint("n", g.r.IntN(100))}
	if g.r.IntN(4) > 0 {
		size := g.r.IntN(100)
		if g.r.IntN(60) == 0 {
			size = 200_000 + g.r.IntN(600_000) // in pieces
		}
		v["big"] = strings.Repeat(strconv.Itoa(g.r.IntN(10)), size)
	}
	switch table {
	case "orders":
		if g.r.IntN(5) > 0 {
			v["user_id"] = pick(g.r, idPool)
		}
		if g.r.IntN(2) == 0 {
			v["updated"] = "2023-01-01 00:00:00.5"
		}
		v["created"] = pick(g.r, []string{"2022-01-01 00:00:00", "infinity", "2199-01-01 00:00:00"})
	case "shop.items":
		v["lang"] = pick(g.r, []string{"de", "en"})
	case "users":
		v["created"] = "2021-06-01 12:00:00"
	}
	return v
}

// known is the rule of DESIGN §6, written for the generator's values.
func known(table string, v map[string]string, kind change.Kind, at change.Version) int64 {
	if kind == change.Live {
		return int64(at)
	}
	parse := func(s string) (int64, bool) {
		x, err := time.Parse("2006-01-02 15:04:05.999999", s)
		return x.UnixMicro(), err == nil
	}
	for _, c := range []string{"updated", "created"} {
		if x, ok := parse(v[c]); ok && table != "shop.items" && table != "config" {
			return min(x, int64(at))
		}
	}
	return int64(at)
}

// write notes a row as written in the model.
func (g *generator) write(m *model, table string, v map[string]string, at change.Version, o uint32, kind change.Kind) {
	key, place := keyOf(table, v), placeOf(table, v)
	if m.live[table] == nil {
		m.live[table] = map[string]liveRow{}
	}
	m.live[table][key] = liveRow{place, v}
	m.add(place, table, key, modelVersion{
		version: at, ordinal: o, known: known(table, v, kind, at), backfilled: kind == change.Backfill,
		data: render(tableColumns[table], v),
	})
}

func gone(at change.Version, o uint32) modelVersion {
	return modelVersion{version: at, ordinal: o, deleted: true}
}

// change makes one random change, in the model m, and returns its row.
func (g *generator) change(m *model, at change.Version, o uint32, kind change.Kind) (change.Row, bool) {
	table := pick(g.r, []string{"users", "orders", "orders", "orders", "shop.items", "config"})
	rel := g.rels[table]
	live := m.live[table]
	what := g.r.IntN(20)
	if kind == change.Backfill || len(live) == 0 {
		what = 0
	}
	switch {
	case what < 7: // insert
		v := g.fresh(table)
		if _, taken := live[keyOf(table, v)]; taken {
			return change.Row{}, false
		}
		g.write(m, table, v, at, o, kind)
		return change.Row{Relation: rel, Op: change.Insert, Ordinal: o, New: values(rel, v)}, true
	case what < 15: // update
		return g.update(m, table, at, o)
	case what < 19: // delete
		if g.r.IntN(8) == 0 { // of a key that is not there
			r := change.Row{Relation: rel, Op: change.Delete, Ordinal: o, Old: values(rel, map[string]string{"id": "nobody", "lang": "xx"})}
			r.OldFull = rel.Replica == 'f'
			return r, true
		}
		key := pick(g.r, sorted(live))
		old := live[key]
		delete(live, key)
		m.add(old.place, table, key, gone(at, o))
		return change.Row{Relation: rel, Op: change.Delete, Ordinal: o, Old: g.old(rel, old.values), OldFull: rel.Replica == 'f'}, true
	default:
		if g.r.IntN(4) > 0 {
			return change.Row{}, false
		}
		for _, key := range sorted(live) {
			m.add(live[key].place, table, key, gone(at, o))
		}
		m.live[table] = map[string]liveRow{}
		return change.Row{Relation: rel, Op: change.Truncate, Ordinal: o}, true
	}
}

// old is what the source sends of an old row.
func (g *generator) old(rel *change.Relation, v map[string]string) []change.Value {
	if rel.Replica == 'f' {
		return values(rel, v)
	}
	return values(rel, map[string]string{"id": v["id"]})
}

func (g *generator) update(m *model, table string, at change.Version, o uint32) (change.Row, bool) {
	rel, live := g.rels[table], m.live[table]
	key := pick(g.r, sorted(live))
	old := live[key]
	v := maps.Clone(old.values)
	next := g.fresh(table)
	v["name"] = next["name"]
	if g.r.IntN(3) == 0 {
		delete(v, "user_id")
		if id, ok := next["user_id"]; ok && table == "orders" {
			v["user_id"] = id
		}
	}
	if g.r.IntN(4) == 0 {
		v["id"] = next["id"]
		if lang, ok := next["lang"]; ok {
			v["lang"] = lang
		}
	}
	moved := keyOf(table, v) != key
	if _, taken := live[keyOf(table, v)]; moved && taken {
		return change.Row{}, false
	}
	r := change.Row{Relation: rel, Op: change.Update, Ordinal: o, New: values(rel, v)}
	if g.r.IntN(2) == 0 { // the large value was not touched
		if _, ok := v["big"]; ok {
			for i, c := range rel.Columns {
				if c.Name == "big" {
					r.New[i] = change.Value{Kind: change.Unchanged}
				}
			}
		}
	} else {
		delete(v, "big")
		if big, ok := next["big"]; ok {
			v["big"] = big
		}
		r.New = values(rel, v)
	}
	if moved || rel.Replica == 'f' {
		r.Old, r.OldFull = g.old(rel, old.values), rel.Replica == 'f'
	}
	delete(live, key)
	if moved || placeOf(table, v) != old.place {
		left := gone(at, o)
		left.moved = true
		m.add(old.place, table, key, left)
	}
	g.write(m, table, v, at, o, change.Live)
	return r, true
}

// step adds one transaction, tick or abandoned transaction to the feed.
func (g *generator) step(kind change.Kind) {
	g.now += change.Version(1 + g.r.IntN(1_000_000))
	if kind == change.Live && g.r.IntN(10) == 0 {
		g.f.tick(g.now)
		return
	}
	m := g.m.clone()
	var rows []change.Row
	n := g.r.IntN(12)
	if kind == change.Backfill || g.r.IntN(20) == 0 {
		n = 40 + g.r.IntN(100)
	}
	o := uint32(g.r.IntN(2))
	for range n {
		if r, ok := g.change(m, g.now, o, kind); ok {
			rows = append(rows, r)
			o += uint32(1 + g.r.IntN(2)) // gaps are rows that were filtered out
		}
	}
	abandoned := g.r.IntN(8) == 0
	g.f.transaction(kind, g.now, rows, 1+g.r.IntN(4), abandoned)
	if abandoned {
		g.f.abandon(g.now)
		if kind == change.Backfill {
			g.step(kind)
		}
		return
	}
	g.m = m
}

// TestStoreEqualsModel: after any mixture of changes, parts, redeliveries,
// half-applied messages and reopenings the store shows what the model holds,
// at every moment that was closed (I3, I4).
func TestStoreEqualsModel(t *testing.T) {
	r := seed(t)
	for round := range 6 {
		t.Run(fmt.Sprint(round), func(t *testing.T) { modelRound(t, r) })
	}
}

func modelRound(t *testing.T, r *rand.Rand) {
	g := newGenerator(r)
	o := featurestore.Options{GroupEntries: 1 + r.IntN(40)}
	dir := t.TempDir()
	s := open(t, dir, o)
	g.step(change.Backfill)
	past := map[change.Version]map[string][]string{}
	applied := 0
	for range 60 {
		g.step(change.Live)
		if tail := g.f.batches; len(tail) > applied+3 && r.IntN(3) == 0 && whole(tail[len(tail)-2:]) {
			g.f.merge(2)
		}
		if r.IntN(3) > 0 {
			continue
		}
		feed := g.f.batches
		if r.IntN(3) == 0 {
			halfApplied(t, s, feed[applied])
		}
		from := applied - r.IntN(applied+1) // the stream delivers a part again
		apply(t, s, feed[from:]...)
		applied = len(feed)
		if r.IntN(4) == 0 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, o)
		}
		v := view(t, s, 0)
		sameRows(t, g.m.asOf(v.Info().AsOf), dump(t, v, 1+r.IntN(4)))
		past[v.Info().AsOf] = g.m.asOf(v.Info().AsOf)
	}
	apply(t, s, g.f.batches[applied:]...)
	for asOf, want := range past {
		sameRows(t, want, dump(t, view(t, s, asOf), 2))
	}
	for table, rows := range g.m.live {
		if got := s.Status().Rows[table]; got != int64(len(rows)) {
			t.Errorf("table %s: the store counts %d live rows, the model %d", table, got, len(rows))
		}
	}
}

// whole says that no transaction is open before, between or after the batches.
func whole(batches []*change.Batch) bool {
	for _, b := range batches {
		e := b.Entries[0]
		if b.Header.Open || e.Abandoned != 0 || e.Transaction != nil && e.Transaction.Part != 0 {
			return false
		}
	}
	return true
}

// halfApplied applies a message that is broken at its end: what came before may
// be on disk, as after a crash in the middle of it.
func halfApplied(t *testing.T, s *featurestore.Store, b *change.Batch) {
	t.Helper()
	torn := *b
	torn.Entries = append(append([]change.Entry{}, b.Entries...), change.Entry{})
	before := s.Watermark()
	var chain *featurestore.ChainError
	if err := s.Apply(t.Context(), &torn); !errors.As(err, &chain) {
		t.Fatalf("apply a torn message: %v, want a ChainError", err)
	}
	if after := s.Watermark(); after != before {
		t.Fatalf("a torn message moved the watermark from %+v to %+v", before, after)
	}
}
