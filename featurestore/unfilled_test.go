package featurestore_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// stepped applies a feed's batches, each with the store opened anew with a
// definition of its own.
func stepped(t *testing.T, f *feed, defs ...*definition.Definition) *featurestore.Store {
	t.Helper()
	dir := t.TempDir()
	var s *featurestore.Store
	for i, b := range f.batches {
		s = open(t, dir, featurestore.Options{Definition: defs[min(i, len(defs)-1)]})
		apply(t, s, b)
		if i < len(f.batches)-1 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// What is in the stream was read for the definition of then; the store may come
// to it, or to the rest of it, with a wider one.
func TestWhatWasReadForANarrowerDefinitionStaysUnfilled(t *testing.T) {
	rels := relations()
	narrow := *rels["orders"]
	narrow.Columns = slices.DeleteFunc(slices.Clone(narrow.Columns), func(c change.Column) bool { return c.Name == "big" })
	order := func(ordinal uint32) change.Row {
		return insert(&narrow, ordinal, map[string]string{"id": string('1' + rune(ordinal)), "user_id": "u"})
	}
	config := func(ordinal uint32) change.Row {
		return insert(rels["config"], ordinal, map[string]string{"id": string('1' + rune(ordinal))})
	}
	before, now := without("orders", "big"), testDefinition()
	for name, c := range map[string]struct {
		scope *change.Scope
		rows  []change.Row
		refill,
		fresh bool // the store begins with the wider definition
	}{
		"the first backfill, its rows before the restart":         {scope: scopeOf(0, "users", "orders", "shop.items", "config"), rows: []change.Row{order(0), config(1)}},
		"the first backfill, its rows after the restart":          {scope: scopeOf(0, "users", "orders", "shop.items", "config"), rows: []change.Row{config(0), order(1)}},
		"the first backfill, all of it by the wider definition":   {scope: scopeOf(0, "users", "orders", "shop.items", "config"), rows: []change.Row{config(0), order(1)}, fresh: true},
		"the first backfill, which did not know of the table yet": {scope: scopeOf(0, "users", "shop.items", "config"), rows: []change.Row{config(0), config(1)}, fresh: true},
		"a refill, its rows before the restart":                   {scope: scopeOf(1000, "orders", "config"), rows: []change.Row{order(0), config(1)}, refill: true},
		"a refill, its rows after the restart":                    {scope: scopeOf(1000, "orders", "config"), rows: []change.Row{config(0), order(1)}, refill: true},
		"a refill that found the table empty":                     {scope: scopeOf(1000, "orders", "config"), rows: []change.Row{config(0), config(1)}, refill: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed()
			f.scope = scopeOf(0, "users", "orders", "shop.items", "config")
			defs := []*definition.Definition{before, now}
			if c.fresh {
				defs = []*definition.Definition{now}
			}
			kind := change.Backfill
			if c.refill {
				f.transaction(kind, 1000, nil, 1, false)
				kind, defs = change.Refill, []*definition.Definition{before, before, now}
			}
			f.scope = c.scope
			f.transaction(kind, 2000, c.rows, 2, false)
			s := stepped(t, f, defs...)
			if got := s.Unfilled(); !cmp.Equal(got, []string{"orders"}) {
				t.Errorf("unfilled %v, want orders: no row has the column", got)
			}
		})
	}
}

// A table that is left out while a refill of it is under way, and named again
// before its end, loses nothing and stops nothing.
func TestTableThatComesBackInTheMiddleOfItsRefill(t *testing.T) {
	rels := relations()
	row := func(id string, ordinal uint32) change.Row {
		return insert(rels["config"], ordinal, map[string]string{"id": id})
	}
	f := newFeed()
	f.scope = scopeOf(0, "users", "orders", "shop.items", "config")
	f.transaction(change.Backfill, 1000, []change.Row{row("1", 0), row("2", 1), row("3", 2)}, 1, false)
	f.scope = scopeOf(1000, "config")
	f.transaction(change.Refill, 2000, []change.Row{row("1", 0), row("2", 1), row("3", 2)}, 3, false)
	all, less := testDefinition(), without("config", "")
	for name, defs := range map[string][]*definition.Definition{
		"left out between two parts":     {all, all, less, all},
		"left out when the refill began": {all, less, all, all},
	} {
		t.Run(name, func(t *testing.T) {
			s := stepped(t, f, defs...)
			if n, left := s.Status().Rows["config"], s.Unfilled(); n != 3 || !cmp.Equal(left, []string{"config"}) {
				t.Errorf("%d rows, unfilled %v, want 3 and config", n, left)
			}
		})
	}
}
