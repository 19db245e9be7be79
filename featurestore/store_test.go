package featurestore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

func TestLocksAndUncleanStopsAreTold(t *testing.T) {
	dir := t.TempDir()
	var missing *featurestore.MissingError
	if _, err := featurestore.Open(dir, featurestore.Options{ReadOnly: true}); !errors.As(err, &missing) {
		t.Errorf("read-only in an empty directory: %v", err)
	}
	s := open(t, dir, featurestore.Options{})
	for _, readOnly := range []bool{true, false} {
		_, err := featurestore.Open(dir, featurestore.Options{Definition: testDefinition(), ReadOnly: readOnly})
		var locked *featurestore.LockedError
		if !errors.As(err, &locked) || locked.PID == 0 {
			t.Errorf("a second open, read-only %t: %v", readOnly, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	a := open(t, dir, featurestore.Options{ReadOnly: true})
	b := open(t, dir, featurestore.Options{ReadOnly: true}) // readers do not exclude each other
	if err := a.Apply(t.Context()); !errors.Is(err, featurestore.ErrReadOnly) {
		t.Errorf("apply to a read-only store: %v", err)
	}
	for _, x := range []*featurestore.Store{a, b} {
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadOnlyStoreShowsWhatWasWritten(t *testing.T) {
	g := newGenerator(seed(t))
	g.step(change.Backfill)
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{})
	apply(t, s, g.f.batches...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ro := open(t, dir, featurestore.Options{ReadOnly: true})
	v := view(t, ro, 0)
	sameRows(t, g.m.asOf(v.Info().AsOf), dump(t, v, 2))
}

func TestNewColumnsGetNewSlots(t *testing.T) {
	dir := t.TempDir()
	rels := relations()
	f := newFeed()
	f.transaction(change.Backfill, 1000, []change.Row{insert(rels["users"], 0, map[string]string{"id": "1", "name": "ann", "extra": "x"})}, 1, false)
	f.transaction(change.Live, 2000, []change.Row{{
		Relation: rels["users"], Op: change.Update, Ordinal: 0,
		New: values(rels["users"], map[string]string{"id": "1", "name": "anna", "extra": "y"}),
	}}, 1, false)
	s := open(t, dir, featurestore.Options{})
	apply(t, s, f.batches[0])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	def := testDefinition()
	def.Hash = "h2"
	def.Tables[0].Columns = append([]definition.SourceColumn{{Name: "extra", Type: definition.Text}}, def.Tables[0].Columns...)
	s = open(t, dir, featurestore.Options{Definition: def})
	apply(t, s, f.batches[1])
	v := view(t, s, 0)
	info := v.Info()
	if info.Definition != "h2" {
		t.Errorf("definition %q, want h2", info.Definition)
	}
	table := info.Table("users")
	if want := []string{"id", "name", "big", "created", "extra"}; !cmp.Equal(table.Columns, want) {
		t.Errorf("columns %v, want %v", table.Columns, want)
	}
	e, err := v.Entity(t.Context(), "user", "1")
	if err != nil || e == nil {
		t.Fatalf("entity: %v, %v", e, err)
	}
	var got []string
	for _, ver := range e.Rows[0].Versions {
		cells, err := row.Decode(ver.Data, make([]row.Cell, len(table.Columns)))
		if err != nil {
			t.Fatal(err)
		}
		c := cells[table.Slot("extra")]
		got = append(got, fmt.Sprint(c.Kind, c.String()))
	}
	if want := []string{fmt.Sprint(row.Text, "y"), fmt.Sprint(row.NotCaptured, "")}; !cmp.Equal(got, want) {
		t.Errorf("the new column reads %v, want %v", got, want)
	}
}

func TestContradictingDefinitionsAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*definition.Table){
		"by":     func(t *definition.Table) { t.By = "name" },
		"key":    func(t *definition.Table) { t.Key = []string{"id", "user_id"} },
		"entity": func(t *definition.Table) { t.Entity = "item" },
	} {
		t.Run(name, func(t *testing.T) {
			def := testDefinition()
			change(&def.Tables[1])
			_, err := featurestore.Open(dir, featurestore.Options{Definition: def})
			var c *featurestore.CatalogError
			if !errors.As(err, &c) || c.What != name || c.Table != "orders" {
				t.Errorf("got %v", err)
			}
		})
	}
	open(t, dir, featurestore.Options{}) // a refused definition leaves the store usable
}

func TestOpenTransactionsAreInvisible(t *testing.T) {
	// I4: readers run while a large transaction is applied in many parts.
	rels := relations()
	f := newFeed()
	var first, second []change.Row
	for i := range 3000 {
		id := fmt.Sprint("u", i)
		first = append(first, insert(rels["users"], uint32(i), map[string]string{"id": id, "name": "old"}))
		second = append(second, change.Row{
			Relation: rels["users"], Op: change.Update, Ordinal: uint32(i),
			New: values(rels["users"], map[string]string{"id": id, "name": "new"}),
		})
	}
	f.transaction(change.Backfill, 1000, first, 10, false)
	n := len(f.batches)
	f.transaction(change.Live, 2000, second, 100, false)
	s := open(t, t.TempDir(), featurestore.Options{GroupEntries: 50})
	if _, err := s.View(0); !errors.Is(err, featurestore.ErrEmpty) {
		t.Errorf("a view before the backfill: %v", err)
	}
	apply(t, s, f.batches[:n-1]...)
	if _, err := s.View(0); !errors.Is(err, featurestore.ErrEmpty) {
		t.Errorf("a view before the end of the backfill: %v", err)
	}
	apply(t, s, f.batches[n-1])
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := sameNames(t, s); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	old := view(t, s, 0)
	apply(t, s, f.batches[n:]...)
	close(stop)
	readers.Wait()
	if got := dump(t, old, 1)["user:u7/users/u7"]; len(got) != 1 {
		t.Errorf("a view taken before the transaction shows %v", got)
	}
	if got := dump(t, view(t, s, 0), 1)["user:u7/users/u7"]; len(got) != 2 {
		t.Errorf("a view taken after the transaction shows %v", got)
	}
}

// sameNames checks that a view shows all rows with the same number of versions.
func sameNames(t *testing.T, s *featurestore.Store) error {
	v, err := s.View(0)
	if err != nil {
		return err
	}
	defer v.Close()
	ranges, err := v.Ranges(t.Context(), "user", 1)
	if err != nil {
		return err
	}
	versions, rows := map[int]int{}, 0
	err = v.Scan(t.Context(), "user", ranges[0], func(e *history.Entity) error {
		versions[len(e.Rows[0].Versions)]++
		rows++
		return nil
	})
	if err == nil && (len(versions) != 1 || rows != 3000) {
		err = fmt.Errorf("a view shows rows by number of versions as %v", versions)
	}
	return err
}

func TestUnchangedValueWithoutOlderVersionStops(t *testing.T) {
	rels := relations()
	for name, c := range map[string]struct {
		table string
		given map[string]string
		blank string
	}{
		"of a table whose place follows from the key": {"users", map[string]string{"id": "9"}, "big"},
		"of a table with locators":                    {"orders", map[string]string{"id": "9", "user_id": "1"}, "big"},
		"of the entity's column":                      {"orders", map[string]string{"id": "9"}, "user_id"},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := smallStore(t)
			r := change.Row{Relation: rels[c.table], Op: change.Update, New: values(rels[c.table], c.given)}
			for i, col := range rels[c.table].Columns {
				if col.Name == c.blank {
					r.New[i] = change.Value{Kind: change.Unchanged}
				}
			}
			f.transaction(change.Live, 2000, []change.Row{r}, 1, false)
			before := s.Watermark()
			err := s.Apply(t.Context(), f.batches[1])
			var u *featurestore.UnresolvedError
			if !errors.As(err, &u) || u.Table != c.table || u.Column != c.blank || u.Position.Version != 2000 {
				t.Fatalf("got %v", err)
			}
			if s.Watermark() != before {
				t.Error("the watermark moved")
			}
		})
	}
}

func TestDeletesOfUnknownKeysAreCounted(t *testing.T) {
	rels := relations()
	s, f := smallStore(t)
	var rows []change.Row
	for i, table := range []string{"users", "orders", "config"} {
		rows = append(rows, change.Row{Relation: rels[table], Op: change.Delete, Ordinal: uint32(i), Old: values(rels[table], map[string]string{"id": "nobody"})})
	}
	f.transaction(change.Live, 2000, rows, 1, false)
	before := dump(t, view(t, s, 0), 1)
	apply(t, s, f.batches[1])
	sameRows(t, before, dump(t, view(t, s, 0), 1))
	e, err := view(t, s, 0).Entity(t.Context(), "user", "nobody")
	if err != nil || e == nil || len(e.Rows) != 1 || len(e.Rows[0].Versions) != 1 || !e.Rows[0].Versions[0].Deleted {
		t.Errorf("a delete of an unknown key leaves %+v (%v), want a tombstone", e, err)
	}
	if got := s.Status().Counters.UnknownDeletes; got != 3 {
		t.Errorf("%d unknown deletes counted, want 3", got)
	}
}

func TestRelationFaultsAreTyped(t *testing.T) {
	for name, mend := range map[string]func(*change.Relation){
		"the key is not published":              func(r *change.Relation) { r.Columns[0].Name = "other" },
		"the entity is not published":           func(r *change.Relation) { r.Columns[1].Name = "other" },
		"the key is not in the identity at all": func(r *change.Relation) { r.Columns[0].Key = false },
	} {
		t.Run(name, func(t *testing.T) {
			s, f := smallStore(t)
			rel := relations()["orders"]
			mend(rel)
			f.transaction(change.Live, 2000, []change.Row{{
				Relation: rel, Op: change.Update,
				New: values(rel, map[string]string{"id": "o1", "user_id": "1"}),
			}}, 1, false)
			var fault *featurestore.RelationError
			if err := s.Apply(t.Context(), f.batches[1]); !errors.As(err, &fault) || fault.Table != "orders" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRowsOverTheLimitStop(t *testing.T) {
	rels := relations()
	f := newFeed()
	f.transaction(change.Backfill, 1000, []change.Row{
		insert(rels["users"], 0, map[string]string{"id": "1", "big": strings.Repeat("x", 2000)}),
	}, 1, false)
	s := open(t, t.TempDir(), featurestore.Options{MaxRowBytes: 1000})
	var size *featurestore.RowSizeError
	if err := s.Apply(t.Context(), f.batches...); !errors.As(err, &size) || size.Limit != 1000 || size.Bytes != 2001 {
		t.Errorf("got %v", err)
	}
}

func TestMetricsAreCollected(t *testing.T) {
	s, _ := smallStore(t)
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(s.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if got["dreamfeed_store_rows/users"] != 2 || got["dreamfeed_store_changes_total"] != 4 {
		t.Errorf("metrics %v", got)
	}
}

func TestVeryLargeRowsAreKeptInPieces(t *testing.T) {
	// The row is larger than a group, so that it spans several (I10).
	rels := relations()
	big := strings.Repeat("0123456789abcdef", 20<<20/16)
	f := newFeed()
	f.transaction(change.Backfill, 1000, []change.Row{insert(rels["users"], 0, map[string]string{"id": "1", "name": "a", "big": big})}, 1, false)
	u := change.Row{Relation: rels["users"], Op: change.Update, Ordinal: 0, New: values(rels["users"], map[string]string{"id": "1", "name": "b"})}
	u.New[1] = change.Value{Kind: change.Unchanged}
	f.transaction(change.Live, 2000, []change.Row{u}, 1, false)
	s := open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, f.batches...)
	for _, v := range []reader{view(t, s, 0), dial(t, serve(t, featurestore.NewHandler(s, token)), 0)} {
		e, err := v.Entity(t.Context(), "user", "1")
		if err != nil || e == nil || len(e.Rows[0].Versions) != 2 {
			t.Fatalf("entity %v, %v", e, err)
		}
		for i, name := range []string{"b", "a"} {
			cells, err := row.Decode(e.Rows[0].Versions[i].Data, nil)
			if err != nil {
				t.Fatal(err)
			}
			if cells[1].String() != name || string(cells[2].Bytes) != big {
				t.Errorf("version %d has name %q and %d bytes", i, cells[1].String(), len(cells[2].Bytes))
			}
		}
	}
}
