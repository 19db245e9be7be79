package featurestore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// erasedWorld turns a feed into that of a history that never held some entities.
type erasedWorld struct {
	erased map[string]bool // places, such as user:1
	// mine says of the rows that are there whether they are an erased entity's.
	mine map[string]bool // by table/key
	// big is the value of the column big of the rows that are there, and resolved
	// says that it is known where a row leaves the entity: a base holds it.
	big      map[string]change.Value
	resolved bool
	// bare are the relations without the column big, whose value nobody knows who
	// never saw the row before.
	bare map[*change.Relation]*change.Relation
}

func tableOf(rel *change.Relation) string {
	if rel.Schema == "public" {
		return rel.Name
	}
	return rel.Schema + "." + rel.Name
}

func texts(rel *change.Relation, list []change.Value) map[string]string {
	out := map[string]string{}
	for i, v := range list {
		if v.Kind == change.Text {
			out[rel.Columns[i].Name] = string(v.Text)
		}
	}
	return out
}

// rows are what of a transaction's rows the other history has.
func (w *erasedWorld) rows(list []change.Row) (out []change.Row) {
	for _, r := range list {
		table := tableOf(r.Relation)
		if r.Op == change.Truncate {
			maps.DeleteFunc(w.mine, func(key string, _ bool) bool { return strings.HasPrefix(key, table+"/") })
			out = append(out, r)
			continue
		}
		var oldKey, newKey, to string
		if r.New != nil {
			v := texts(r.Relation, r.New)
			newKey = table + "/" + keyOf(table, v)
			oldKey, to = newKey, placeOf(table, v)
		}
		if r.Old != nil {
			oldKey = table + "/" + keyOf(table, texts(r.Relation, r.Old))
		}
		w.follow(r, oldKey, newKey)
		mine := w.mine[oldKey] && r.Op != change.Insert
		switch {
		case r.Op == change.Delete && mine:
			delete(w.mine, oldKey)
			continue
		case r.Op == change.Delete:
		case w.erased[to]: // it comes to the entity, or stays there
			delete(w.mine, oldKey)
			w.mine[newKey] = true
			if r.Op == change.Insert || mine {
				continue
			}
			r.Op = change.Delete
			if r.Old == nil {
				r.Old = values(r.Relation, map[string]string{"id": texts(r.Relation, r.New)["id"]})
			}
			r.New = nil
		case mine: // it leaves the entity
			delete(w.mine, oldKey)
			r = w.begun(r, newKey)
		}
		out = append(out, r)
	}
	return out
}

// follow keeps big.
func (w *erasedWorld) follow(r change.Row, oldKey, newKey string) {
	was := w.big[oldKey]
	delete(w.big, oldKey)
	for i, v := range r.New {
		if r.Relation.Columns[i].Name == "big" {
			if v.Kind == change.Unchanged {
				v = was
			}
			w.big[newKey] = v
		}
	}
}

// begun is an insert of the row that an update leaves.
func (w *erasedWorld) begun(r change.Row, key string) change.Row {
	rel, row := r.Relation, change.Row{Relation: r.Relation, Op: change.Insert, Ordinal: r.Ordinal}
	for i, v := range r.New {
		if v.Kind == change.Unchanged && r.OldFull {
			v = r.Old[i]
		}
		if v.Kind == change.Unchanged && w.resolved {
			v = w.big[key]
		}
		if v.Kind == change.Unchanged {
			if w.bare[rel] == nil {
				without := *rel
				without.Columns = slices.Delete(slices.Clone(rel.Columns), i, i+1)
				w.bare[rel] = &without
			}
			row.Relation = w.bare[rel]
			continue
		}
		row.New = append(row.New, v)
	}
	return row
}

// feed is the other history's feed, message by message, of which the first are
// those of a base.
func (w erasedWorld) feed(batches []*change.Batch, base int) (out []*change.Batch) {
	w.mine, w.big, w.bare = map[string]bool{}, map[string]change.Value{}, map[*change.Relation]*change.Relation{}
	before, big := maps.Clone(w.mine), maps.Clone(w.big)
	for i, b := range batches {
		w.resolved = i < base
		other := *b
		other.Entries = nil
		for _, e := range b.Entries {
			switch t := e.Transaction; {
			case t != nil:
				if t.Part == 0 {
					before, big = maps.Clone(w.mine), maps.Clone(w.big)
				}
				mine := *t
				mine.Rows = w.rows(t.Rows)
				e.Transaction = &mine
			case e.Abandoned != 0:
				w.mine, w.big = before, big
			}
			other.Entries = append(other.Entries, e)
		}
		out = append(out, &other)
	}
	return out
}

// unmoved forgets where to a row went: one that moved to an erased entity is
// deleted in a history that never held it.
func unmoved(rows map[string][]string) map[string][]string {
	for _, lines := range rows {
		for i := range lines {
			lines[i] = strings.Replace(lines[i], "moved true", "moved false", 1)
		}
	}
	return rows
}

// I7: a store that was applied with the ledger of erased entities, from the
// beginning or behind a base from which they were left out, shows at every moment
// what one shows whose history never held them.
func TestI7ErasedEntitiesAreLeftOut(t *testing.T) {
	r := seed(t)
	for round := range 12 {
		t.Run(fmt.Sprint(round), func(t *testing.T) { erasedRound(t, r) })
	}
}

func erasedRound(t *testing.T, r *rand.Rand) {
	g := newGenerator(r)
	g.step(change.Backfill)
	for range 50 {
		g.step(change.Live)
	}
	world := erasedWorld{erased: map[string]bool{}}
	path := filepath.Join(t.TempDir(), "erasures")
	ledger := openLedger(t, path, 1)
	for range 4 {
		id := pick(r, idPool)
		kind := pick(r, []string{"user", "user", "item"})
		world.erased[kind+":"+id] = true
		if err := ledger.Add(featurestore.Erasure{Entity: kind, ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	feed := g.f.batches
	never := open(t, t.TempDir(), featurestore.Options{})
	apply(t, never, world.feed(feed, 0)...)

	with := open(t, t.TempDir(), featurestore.Options{Ledger: ledger, GroupEntries: 1 + r.IntN(40)})
	apply(t, with, feed...)
	requireNever(t, r, never, with, feed)

	cut := 1 + r.IntN(len(feed)-1)
	base, clean := t.TempDir(), filepath.Join(t.TempDir(), "clean")
	s := open(t, base, featurestore.Options{})
	apply(t, s, feed[:cut]...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fresh := openLedger(t, path, 1) // which has met nothing yet
	if _, err := featurestore.LeaveOut(t.Context(), base, clean, fresh, featurestore.Options{Memory: 48 << 20}); err != nil {
		t.Fatal(err)
	}
	behind := open(t, clean, featurestore.Options{Ledger: fresh, GroupEntries: 1 + r.IntN(40)})
	apply(t, behind, feed[cut:]...)
	never = open(t, t.TempDir(), featurestore.Options{})
	apply(t, never, world.feed(feed, cut)...)
	requireNever(t, r, never, behind, feed)
	if t.Failed() {
		t.Logf("the base ends behind message %d of %d; erased are %v", cut, len(feed), world.erased)
	}
}

func requireNever(t *testing.T, r *rand.Rand, never, got *featurestore.Store, feed []*change.Batch) {
	t.Helper()
	for _, b := range feed {
		asOf := b.Header.Last
		if b.Header.Open || asOf < never.Watermark().Birth || asOf > never.Watermark().Version || r.IntN(4) > 0 {
			continue
		}
		sameRows(t, unmoved(dump(t, view(t, never, asOf), 2)), unmoved(dump(t, view(t, got, asOf), 2)))
	}
	sameRows(t, unmoved(dump(t, view(t, never, 0), 2)), unmoved(dump(t, view(t, got, 0), 2)))
	want, have := never.Status(), got.Status()
	for table, n := range want.Rows {
		if have.Rows[table] != n {
			t.Errorf("table %s: %d rows are counted, want %d", table, have.Rows[table], n)
		}
	}
	if want.Watermark != have.Watermark {
		t.Errorf("the watermark is %+v, want %+v", have.Watermark, want.Watermark)
	}
}
