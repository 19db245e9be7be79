package featurestore_test

import (
	"errors"
	"fmt"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// textsOf returns two columns of a row's versions, newest first.
func textsOf(t *testing.T, r *history.Row, a, b int) (out [][2]string) {
	t.Helper()
	for _, v := range r.Versions {
		cells, err := row.Decode(v.Data, make([]row.Cell, b+1))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, [2]string{cells[a].String(), cells[b].String()})
	}
	return out
}

// An update that leaves a value out shows it all the same: in every version, in the
// newest alone, in every view, and when what is older was swept. Little of it is
// written, and not all of it is kept by what carries it.
func TestUnchangedValuesAreCarried(t *testing.T) {
	const updates = 400
	for table, by := range map[string]int{"orders": 1, "users": -1} { // found by a locator, and by the key
		t.Run(table, func(t *testing.T) {
			def, rel := testDefinition(), relations()[table]
			f := newFeed()
			v := change.Version(1_700_000_000_000_000)
			f.transaction(change.Backfill, v, nil, 1, false)
			at := func(column string) (i int) {
				for i = range rel.Columns {
					if rel.Columns[i].Name == column {
						return i
					}
				}
				t.Fatalf("no column %s", column)
				return 0
			}
			big, first := "large 0", v+1
			f.transaction(change.Live, first, []change.Row{insert(rel, 0, map[string]string{"id": "r", "user_id": "u", "name": "n0", "big": big})}, 1, false)
			want := [][2]string{{"n0", big}} // oldest first
			for i := 1; i <= updates; i++ {
				u := change.Row{Relation: rel, Op: change.Update, New: values(rel, map[string]string{"id": "r", "user_id": "u", "name": fmt.Sprint("n", i)})}
				if i%100 == 0 {
					big = fmt.Sprint("large ", i)
					u.New[at("big")] = value(big)
				} else {
					u.New[at("big")] = change.Value{Kind: change.Unchanged}
				}
				if by >= 0 && i%3 == 0 {
					u.New[by] = change.Value{Kind: change.Unchanged}
				}
				f.transaction(change.Live, first+change.Version(i), []change.Row{u}, 1, false)
				want = append(want, [2]string{fmt.Sprint("n", i), big})
			}
			s := open(t, t.TempDir(), featurestore.Options{GroupEntries: 7})
			apply(t, s, f.batches...)

			slot := map[string]int{}
			for _, held := range def.Tables {
				if held.Name == table {
					for i, c := range held.Columns {
						slot[c.Name] = i
					}
				}
			}
			check := func(asOf change.Version, floor int) {
				t.Helper()
				view, err := s.ViewWithin(asOf, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer view.Close() // or nothing could be swept
				ranges, err := view.Ranges(t.Context(), "user", 1)
				if err != nil {
					t.Fatal(err)
				}
				newest := len(want) - 1
				if asOf != 0 {
					newest = int(asOf - first)
				}
				for latest, scan := range map[bool]func(*history.Entity) error{
					false: func(e *history.Entity) error {
						got := textsOf(t, &e.Rows[0], slot["name"], slot["big"])
						for i := range got {
							if n := newest - i; n >= floor && got[i] != want[n] {
								return fmt.Errorf("version %d as of %d: %q, want %q", n, newest, got[i], want[n])
							}
						}
						if len(got) < newest-floor+1 {
							return fmt.Errorf("%d versions as of %d, want %d", len(got), newest, newest-floor+1)
						}
						return nil
					},
					true: func(e *history.Entity) error {
						if got := textsOf(t, &e.Rows[0], slot["name"], slot["big"]); len(got) != 1 || got[0] != want[newest] {
							return fmt.Errorf("the newest as of %d: %q, want %q", newest, got, want[newest])
						}
						return nil
					},
				} {
					entities := 0
					read := view.Scan
					if latest {
						read = view.ScanLatest
					}
					err := read(t.Context(), "user", ranges[0], func(e *history.Entity) error { entities++; return scan(e) })
					if err != nil || entities != 1 {
						t.Fatalf("latest %v: %d entities, %v", latest, entities, err)
					}
				}
			}
			for _, n := range []int{0, 1, 17, 99, 100, 101, 250, updates} {
				check(first+change.Version(n), 0)
			}
			check(0, 0)
			carrying, err := s.Carrying()
			if err != nil || carrying < updates*7/10 || carrying > updates-updates/100 {
				t.Fatalf("%d of %d versions carry, %v", carrying, updates, err)
			}

			f.tick(first + 1000)
			f.tick(first + 1001)
			apply(t, s, f.batches[len(f.batches)-2:]...)
			sweep(t, s, first+300)
			for _, n := range []int{300, 301, 399, updates} {
				check(first+change.Version(n), 300)
			}
			left := 0
			for _, versions := range rowsOf(t, view(t, s, 0)) {
				left += len(versions)
			}
			if superseded := left - (updates - 300 + 1); superseded < 0 || superseded > 100 {
				t.Errorf("%d versions are left below the floor", superseded)
			}
		})
	}
}

// What a version carries and nobody has is named, and never taken for NULL (I9).
func TestCarriedValueThatIsGoneIsNamed(t *testing.T) {
	rel := relations()["orders"]
	f := newFeed()
	v := change.Version(1_700_000_000_000_000)
	f.transaction(change.Backfill, v, nil, 1, false)
	f.transaction(change.Live, v+1, []change.Row{insert(rel, 0, map[string]string{"id": "r", "user_id": "u", "name": "n", "big": "large"})}, 1, false)
	for i := range change.Version(20) {
		u := change.Row{Relation: rel, Op: change.Update, New: values(rel, map[string]string{"id": "r", "user_id": "u", "name": "m"})}
		u.New[3] = change.Value{Kind: change.Unchanged}
		f.transaction(change.Live, v+2+i, []change.Row{u}, 1, false)
	}
	s := open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, f.batches...)
	if n, err := s.RemoveWhole(); err != nil || n == 0 {
		t.Fatalf("%d versions removed, %v", n, err)
	}
	view := view(t, s, 0)
	ranges, err := view.Ranges(t.Context(), "user", 1)
	if err != nil {
		t.Fatal(err)
	}
	var corrupt *featurestore.CorruptError
	if err := view.Scan(t.Context(), "user", ranges[0], func(*history.Entity) error { return nil }); !errors.As(err, &corrupt) {
		t.Errorf("the scan gave %v, want a *CorruptError", err)
	}
}
