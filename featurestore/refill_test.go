package featurestore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

func scopeOf(low change.Version, tables ...string) *change.Scope {
	s := &change.Scope{Low: low}
	for _, t := range tables {
		schema, name := "public", t
		if a, b, ok := strings.Cut(t, "."); ok {
			schema, name = a, b
		}
		s.Tables = append(s.Tables, change.Table{Schema: schema, Name: name})
	}
	return s
}

// without is testDefinition without a column of a table, or without the table.
func without(table, column string) *definition.Definition {
	def := testDefinition()
	def.Hash = "without " + table + column
	if column == "" {
		def.Tables = slices.DeleteFunc(def.Tables, func(t definition.Table) bool { return t.Name == table })
		return def
	}
	t := def.Table(table)
	t.Columns = slices.DeleteFunc(t.Columns, func(c definition.SourceColumn) bool { return c.Name == column })
	return def
}

// widened is a store that was backfilled with a definition and then opened
// with testDefinition.
func widened(t *testing.T, def *definition.Definition, rows ...change.Row) (*featurestore.Store, *feed) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{Definition: def})
	f := newFeed()
	f.transaction(change.Backfill, 1000, rows, 1, false)
	apply(t, s, f.batches...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, featurestore.Options{}), f
}

func TestRefillTakesItsMarksAway(t *testing.T) {
	rels := relations()
	s, f := smallStore(t)
	var rows []change.Row
	for i := range 20_000 {
		rows = append(rows, insert(rels["config"], uint32(i), map[string]string{"id": fmt.Sprint(i)}))
	}
	f.transaction(change.Live, 2000, rows, 5, false)
	f.scope = scopeOf(2000, "config")
	f.transaction(change.Refill, 3000, rows, 5, true)
	f.abandon(3000)
	f.transaction(change.Refill, 4000, rows[:19_999], 5, false)
	apply(t, s, f.batches[1:]...)
	before, err := s.SeenMarks()
	if err != nil || before < 20_000 {
		t.Fatalf("%d marks (%v), want one for each row at least", before, err)
	}
	for i := range change.Version(10) {
		f.tick(5000 + i)
		apply(t, s, f.batches[len(f.batches)-1])
	}
	if n, err := s.SeenMarks(); err != nil || n != 0 {
		t.Errorf("%d marks are left (%v)", n, err)
	}
	if n := s.Status().Rows["config"]; n != 19_999 {
		t.Errorf("%d rows, want 19,999: one was gone", n)
	}
}

func TestRefillsOfOtherTablesAreRefusedOrPassedOver(t *testing.T) {
	rels := relations()
	t.Run("a row of a table that the refill does not name is refused", func(t *testing.T) {
		s, f := smallStore(t)
		f.scope = scopeOf(1000, "users")
		f.transaction(change.Refill, 2000, []change.Row{insert(rels["config"], 0, map[string]string{"id": "1"})}, 1, false)
		var fault *featurestore.RowError
		if err := s.Apply(t.Context(), f.batches[1:]...); !errors.As(err, &fault) || fault.Table != "config" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a change that is no insert is refused", func(t *testing.T) {
		s, f := smallStore(t)
		f.scope = scopeOf(1000, "config")
		f.transaction(change.Refill, 2000, []change.Row{{Relation: rels["config"], Op: change.Truncate}}, 1, false)
		var fault *featurestore.RowError
		if err := s.Apply(t.Context(), f.batches[1:]...); !errors.As(err, &fault) || fault.Table != "config" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a table that the definition does not name is passed over", func(t *testing.T) {
		s, f := smallStore(t)
		other := *rels["config"]
		other.Name = "other"
		f.scope = scopeOf(1000, "other", "elsewhere.users")
		f.transaction(change.Refill, 2000, []change.Row{insert(&other, 0, map[string]string{"id": "1"})}, 1, false)
		before := dump(t, view(t, s, 0), 1)
		apply(t, s, f.batches[1])
		sameRows(t, before, dump(t, view(t, s, 0), 1))
		if n := s.Status().Counters.ForeignChanges; n != 1 {
			t.Errorf("%d foreign changes counted, want 1", n)
		}
	})
	t.Run("a table that the definition left out meanwhile loses no row", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, featurestore.Options{})
		f := newFeed()
		rows := []change.Row{insert(rels["config"], 0, map[string]string{"id": "1"}), insert(rels["config"], 1, map[string]string{"id": "2"})}
		f.transaction(change.Backfill, 1000, rows, 1, false)
		f.scope = scopeOf(1000, "config")
		f.transaction(change.Refill, 2000, rows, 2, false)
		apply(t, s, f.batches[:2]...)
		for _, def := range []*definition.Definition{without("config", ""), testDefinition()} {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, featurestore.Options{Definition: def})
			if def.Table("config") == nil {
				apply(t, s, f.batches[2])
			}
		}
		if n, left := s.Status().Rows["config"], s.Unfilled(); n != 2 || !cmp.Equal(left, []string{"config"}) {
			t.Errorf("%d rows, unfilled %v", n, left)
		}
	})
}

func TestColumnsStayUnfilledUntilARefillBringsThem(t *testing.T) {
	rels := relations()
	given := map[string]string{"id": "1", "user_id": "u", "big": "large"}
	s, f := widened(t, without("orders", "big"), insert(rels["orders"], 0, given))
	if got := s.Unfilled(); !cmp.Equal(got, []string{"orders"}) {
		t.Fatalf("unfilled %v, want orders", got)
	}
	narrow := *rels["orders"]
	narrow.Columns = slices.DeleteFunc(slices.Clone(narrow.Columns), func(c change.Column) bool { return c.Name == "big" })
	f.scope = scopeOf(1000, "orders")
	f.transaction(change.Refill, 2000, []change.Row{insert(&narrow, 0, given)}, 1, false)
	apply(t, s, f.batches[1])
	if got := s.Unfilled(); !cmp.Equal(got, []string{"orders"}) {
		t.Errorf("a refill that was read without the column leaves unfilled %v, want orders", got)
	}
	// The row changes its key with the value unchanged: a refill that read before
	// knows it under its old key only.
	u := change.Row{
		Relation: rels["orders"], Op: change.Update,
		Old: values(rels["orders"], map[string]string{"id": "1"}), New: values(rels["orders"], map[string]string{"id": "2", "user_id": "u"}),
	}
	u.New[3] = change.Value{Kind: change.Unchanged}
	f.transaction(change.Live, 3000, []change.Row{u}, 1, false)
	f.transaction(change.Refill, 4000, []change.Row{insert(rels["orders"], 0, given)}, 1, false)
	apply(t, s, f.batches[2:]...)
	if got := s.Unfilled(); !cmp.Equal(got, []string{"orders"}) {
		t.Errorf("a refill that could not bring a value leaves unfilled %v, want orders", got)
	}
	given["id"] = "2"
	f.scope = scopeOf(4000, "orders")
	f.transaction(change.Refill, 5000, []change.Row{insert(rels["orders"], 0, given)}, 1, false)
	apply(t, s, f.batches[4:]...)
	if got := s.Unfilled(); len(got) > 0 {
		t.Errorf("unfilled %v after the refill", got)
	}
	if line := dump(t, view(t, s, 0), 1)["user:u/orders/2"][0]; line != "5000.0 known 5000 backfilled false: id=2,user_id=u,name null,created null,updated null,big=large" {
		t.Errorf("the row is %s", line)
	}
}

// The TRUNCATE of a partition is not published: its keys come again as inserts
// of keys that the store still holds, here under another entity.
func TestRefillBuriesWhatTheSourceTookAwayWithoutAWord(t *testing.T) {
	rel := relations()["orders"]
	s, f := smallStore(t)
	row := func(id, user string, ordinal uint32) change.Row {
		return insert(rel, ordinal, map[string]string{"id": id, "user_id": user})
	}
	f.transaction(change.Live, 2000, []change.Row{row("81", "a", 0), row("82", "a", 1)}, 1, false)
	f.transaction(change.Live, 3000, []change.Row{row("81", "b", 0), row("82", "a", 1)}, 1, false)
	f.scope = scopeOf(3000, "orders")
	f.transaction(change.Refill, 4000, []change.Row{row("81", "b", 0), row("82", "a", 1)}, 1, false)
	apply(t, s, f.batches[1:]...)
	rows := dump(t, view(t, s, 0), 1)
	if got := rows["user:a/orders/81"]; !strings.HasPrefix(got[0], "4000.") || !strings.Contains(got[0], "gone") {
		t.Errorf("the stray row's newest version is %q, want a tombstone of the refill", got)
	}
	if got := rows["user:b/orders/81"]; !strings.HasPrefix(got[0], "3000.") {
		t.Errorf("the row under its new entity is %q, want it untouched", got)
	}
	if n := s.Status().Rows["orders"]; n != 2 {
		t.Errorf("the store counts %d orders, want 2", n)
	}
}

// A row leaves its key and another one takes it, with its large value unsent,
// between what a refill read and its arrival: the value that the refill read
// under the key is the first row's.
func TestRefillFillsInNothingUnderAKeyThatChangedHands(t *testing.T) {
	for _, table := range []string{"orders", "users"} { // with locators, and without
		t.Run(table, func(t *testing.T) {
			rel := relations()[table]
			row := func(id, big string) map[string]string {
				given := map[string]string{"id": id, "big": big}
				if table == "orders" {
					given["user_id"] = "u"
				}
				return given
			}
			s, f := widened(t, without(table, "big"), insert(rel, 0, row("1", "first")), insert(rel, 1, row("2", "second")))
			taken := change.Row{
				Relation: rel, Op: change.Update, Ordinal: 1,
				Old: values(rel, map[string]string{"id": "2"}), New: values(rel, row("1", "")),
			}
			for i, c := range rel.Columns {
				if c.Name == "big" {
					taken.New[i] = change.Value{Kind: change.Unchanged}
				}
			}
			f.transaction(change.Live, 2000, []change.Row{
				{Relation: rel, Op: change.Delete, Old: values(rel, map[string]string{"id": "1"})}, taken,
			}, 1, false)
			f.scope = scopeOf(1000, table)
			f.transaction(change.Refill, 3000, []change.Row{insert(rel, 0, row("1", "first")), insert(rel, 1, row("2", "second"))}, 1, false)
			apply(t, s, f.batches[1:]...)
			for _, lines := range dump(t, view(t, s, 0), 1) {
				if strings.Contains(lines[0], "big=first") {
					t.Errorf("the row has another one's value: %s", lines[0])
				}
			}
			if got := s.Unfilled(); !cmp.Equal(got, []string{table}) {
				t.Errorf("unfilled %v, want %s: the value is still to be read", got, table)
			}
			f.scope = scopeOf(3000, table)
			f.transaction(change.Refill, 4000, []change.Row{insert(rel, 0, row("1", "second"))}, 1, false)
			apply(t, s, f.batches[3])
			if e := dump(t, view(t, s, 0), 1); !strings.Contains(fmt.Sprint(e), "big=second") || len(s.Unfilled()) > 0 {
				t.Errorf("after another refill the store holds %v, unfilled %v", e, s.Unfilled())
			}
		})
	}
}

func TestUnfilledTableTakesChangesOfRowsItLacks(t *testing.T) {
	rels := relations()
	s, f := widened(t, without("orders", ""))
	u := change.Row{Relation: rels["orders"], Op: change.Update, New: values(rels["orders"], map[string]string{"id": "1", "name": "live"})}
	u.New[1], u.New[3] = change.Value{Kind: change.Unchanged}, change.Value{Kind: change.Unchanged}
	gone := change.Row{Relation: rels["orders"], Op: change.Delete, Ordinal: 1, Old: values(rels["orders"], map[string]string{"id": "2"})}
	f.transaction(change.Live, 2000, []change.Row{u, gone}, 1, false)
	apply(t, s, f.batches[1])
	if got := dump(t, view(t, s, 0), 1); len(got[":/orders/1"]) != 1 {
		t.Errorf("an update without its entity lies at %v", got)
	}
	f.scope = scopeOf(1000, "orders")
	f.transaction(change.Refill, 3000, []change.Row{
		insert(rels["orders"], 0, map[string]string{"id": "1", "user_id": "u", "name": "read", "big": "large"}),
		insert(rels["orders"], 1, map[string]string{"id": "2", "user_id": "u"}),
	}, 1, false)
	apply(t, s, f.batches[2])
	want := map[string][]string{
		":/orders/1":      {"3000.0 gone, moved true", "2000.0 known 2000 backfilled false: id=1,user_id=(not captured),name=live,big=(not captured),created null,updated null"},
		"user:u/orders/1": {"3000.0 known 3000 backfilled false: id=1,user_id=u,name=live,big=large,created null,updated null"},
	}
	sameRows(t, want, dump(t, view(t, s, 0), 1))
	if n, left := s.Status().Rows["orders"], s.Unfilled(); n != 1 || len(left) > 0 {
		t.Errorf("%d rows, unfilled %v", n, left)
	}
	var stop *featurestore.UnresolvedError
	u.New[0] = value("3")
	f.transaction(change.Live, 4000, []change.Row{u}, 1, false)
	if err := s.Apply(t.Context(), f.batches[3]); !errors.As(err, &stop) {
		t.Errorf("an unknown row of a filled table: %v", err)
	}
}

func TestGapsCrossTheWire(t *testing.T) {
	s, f := smallStore(t)
	f.reset(2000)
	f.tick(2500)
	apply(t, s, f.batches[1:]...)
	c := serve(t, featurestore.NewHandler(s, token))
	var gap *featurestore.GapError
	if _, err := featurestore.Dial(t.Context(), c, token, 2500); !errors.As(err, &gap) || gap.AsOf != 2500 || gap.Gap != (history.Gap{From: 1000}) {
		t.Errorf("a view in a gap: %v", err)
	}
	f.scope = scopeOf(2500)
	f.transaction(change.Backfill, 3000, nil, 1, false)
	apply(t, s, f.batches[3])
	if _, err := featurestore.Dial(t.Context(), c, token, 2999); !errors.As(err, &gap) || gap.Gap != (history.Gap{From: 1000, To: 3000}) {
		t.Errorf("a view in a closed gap: %v", err)
	}
	for asOf, want := range map[change.Version]int{1000: 0, 3000: 1} {
		v := dial(t, c, asOf)
		if info := v.Info(); len(info.Gaps) != want || info.Epoch != change.Epoch(1+want) {
			t.Errorf("a view as of %d has gaps %v and epoch %d", asOf, info.Gaps, info.Epoch)
		}
	}
}
