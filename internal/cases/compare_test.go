package cases_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"dreamfeed/featurestore"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// requireEqual compares, once the daemon has caught up, all rows of its tables
// between source and store, value by value as PostgreSQL writes it. Nothing may
// be written meanwhile. A daemon in a child is ended first, in order.
func requireEqual(t testing.TB, db *database, d *daemon) {
	t.Helper()
	if d.running() {
		d.catchUp()
	}
	d.read(func(s *featurestore.Store) {
		t.Helper()
		view := newest(t, s)
		held := digestStore(t, d.setup.definition(), view)
		counted := s.Status().Rows
		for i := range d.setup.Tables {
			tab := &d.setup.Tables[i]
			want := digestSource(t, db, tab)
			if got := held[tab.Name]; got != want {
				t.Errorf("table %s: source and store differ: %d rows there, %d here", tab.Name, want.rows, got.rows)
				explain(t, db, d.setup.definition(), tab, view)
			} else if counted[tab.Name] != want.rows {
				t.Errorf("table %s: the store counts %d rows, and holds %d", tab.Name, counted[tab.Name], want.rows)
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// read calls fn with the daemon's store. A child is ended for it, in order.
func (d *daemon) read(fn func(*featurestore.Store)) {
	d.t.Helper()
	if d.child != nil {
		d.stop()
	}
	if d.parts != nil {
		fn(d.parts.store)
		return
	}
	s, err := featurestore.Open(filepath.Join(d.setup.Dir, "store"), featurestore.Options{
		ReadOnly: true, Logger: slog.New(slog.DiscardHandler), Memory: 64 << 20,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			d.t.Error(err)
		}
	}()
	fn(s)
}

func newest(t testing.TB, s *featurestore.Store) *featurestore.View {
	t.Helper()
	view, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// digest says the same of two sets of rows in any order, whatever their size.
type digest struct {
	rows int64
	sum  uint64
}

// seed makes lines of source and store comparable.
var seed = maphash.MakeSeed()

// lineOf writes a row with every value's length, so that rows which differ are
// written differently, and nulls apart.
func lineOf(h *maphash.Hash, tab *definition.Table, value func(column string) ([]byte, bool)) uint64 {
	h.SetSeed(seed)
	for _, c := range tab.Columns {
		v, ok := value(c.Name)
		fmt.Fprintf(h, "%t %d ", ok, len(v))
		_, _ = h.Write(v) // never fails
	}
	return h.Sum64()
}

func digestStore(t testing.TB, def *definition.Definition, view *featurestore.View) map[string]digest {
	t.Helper()
	out := map[string]digest{}
	var h maphash.Hash
	eachNewest(t, def, view, func(tab *definition.Table, value func(string) ([]byte, bool)) {
		line := lineOf(&h, tab, value)
		d := out[tab.Name]
		d.rows++
		d.sum += line
		out[tab.Name] = d
	})
	return out
}

func digestSource(t testing.TB, db *database, tab *definition.Table) digest {
	t.Helper()
	var out digest
	var h maphash.Hash
	eachSource(t, db, tab, func(value func(string) ([]byte, bool)) {
		out.rows++
		out.sum += lineOf(&h, tab, value)
	})
	return out
}

// digests compares a table of the source and the running daemon, for cases in
// which they are to differ.
func (d *daemon) digests(db *database, name string) (source, store digest) {
	d.t.Helper()
	d.catchUp()
	def := d.setup.definition()
	return digestSource(d.t, db, def.Table(name)), digestStore(d.t, def, newest(d.t, d.store))[name]
}

// eachNewest calls fn for every row that holds in the view.
func eachNewest(t testing.TB, def *definition.Definition, view *featurestore.View, fn func(tab *definition.Table, value func(string) ([]byte, bool))) {
	t.Helper()
	var cells []row.Cell
	var text []byte
	eachRow(t, def, view, func(held *history.Table, r *history.Row) error {
		if r.Versions[0].Deleted {
			return nil
		}
		tab := def.Table(held.Name)
		if tab == nil {
			return nil
		}
		var err error
		if cells, err = row.Decode(r.Versions[0].Data, cells[:0]); err != nil {
			return err
		}
		fn(tab, func(column string) ([]byte, bool) {
			slot := held.Slot(column)
			if slot < 0 || slot >= len(cells) || cells[slot].Kind == row.NotCaptured {
				return []byte("not captured"), true
			}
			if c := &cells[slot]; c.Kind == row.Text {
				return c.Bytes, true
			}
			text = cells[slot].AppendText(text[:0])
			return text, cells[slot].Kind != row.Null
		})
		return nil
	})
}

// eachRow calls fn for every row of a view, of all entities.
func eachRow(t testing.TB, def *definition.Definition, view *featurestore.View, fn func(*history.Table, *history.Row) error) {
	t.Helper()
	info := view.Info()
	byID := map[uint16]*history.Table{}
	for i := range info.Tables {
		byID[info.Tables[i].ID] = &info.Tables[i]
	}
	for _, kind := range append([]definition.Entity{{}}, def.Entities...) {
		ranges, err := view.Ranges(t.Context(), kind.Name, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range ranges {
			err := view.Scan(t.Context(), kind.Name, r, func(e *history.Entity) error {
				for i := range e.Rows {
					if err := fn(byID[e.Rows[i].Table], &e.Rows[i]); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// eachSource calls fn for every row of a table.
func eachSource(t testing.TB, db *database, tab *definition.Table, fn func(value func(string) ([]byte, bool))) {
	t.Helper()
	place := map[string]int{}
	var names []string
	for i, c := range tab.Columns {
		place[c.Name] = i
		names = append(names, pgx.Identifier{c.Name}.Sanitize())
	}
	s := db.session()
	defer s.conn.Close(context.Background())
	rows, err := s.conn.Query(t.Context(), "SELECT "+strings.Join(names, ", ")+" FROM "+pgx.Identifier(strings.SplitN(tab.Name, ".", 2)).Sanitize())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		values := rows.RawValues()
		fn(func(column string) ([]byte, bool) {
			v := values[place[column]]
			return v, v != nil
		})
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// explain shows the first rows that differ.
func explain(t testing.TB, db *database, def *definition.Definition, tab *definition.Table, view *featurestore.View) {
	t.Helper()
	const most = 300_000
	want, got := []string{}, []string{}
	eachSource(t, db, tab, func(value func(string) ([]byte, bool)) {
		if len(want) < most {
			want = append(want, show(tab, value))
		}
	})
	eachNewest(t, def, view, func(of *definition.Table, value func(string) ([]byte, bool)) {
		if of.Name == tab.Name && len(got) < most {
			got = append(got, show(of, value))
		}
	})
	slices.Sort(want)
	slices.Sort(got)
	shown := 0
	for i, j := 0, 0; (i < len(want) || j < len(got)) && shown < 20; {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			i++
			j++
		case j == len(got) || i < len(want) && want[i] < got[j]:
			t.Logf("only in the source: %s", want[i])
			i++
			shown++
		default:
			t.Logf("only in the store:  %s", got[j])
			j++
			shown++
		}
	}
}

// show writes a row for people: "id=1 n=NULL"; long values as length and hash.
func show(tab *definition.Table, value func(string) ([]byte, bool)) string {
	var b strings.Builder
	for i, c := range tab.Columns {
		if i > 0 {
			b.WriteByte(' ')
		}
		v, ok := value(c.Name)
		b.WriteString(c.Name + "=")
		switch {
		case !ok:
			b.WriteString("NULL")
		case len(v) > 100:
			b.WriteString(long(string(v)))
		default:
			b.Write(v)
		}
	}
	return b.String()
}

// long stands for a value of over 100 bytes in what show writes.
func long(v string) string { return fmt.Sprintf("(%d bytes, %x)", len(v), maphash.String(seed, v)) }

// version is a version of a row as a test names it: "id=1 n=2", "backfilled id=1
// n=2", "deleted", or "moved" for a row that lives on elsewhere.
type version struct {
	table, key string
	history.Version
	text string
}

// history returns all versions that the store holds, oldest first. A row is
// known by the text of its key columns, joined by commas; of one that was never
// there the encoded key is shown.
func (d *daemon) history() []version {
	d.t.Helper()
	var all []version
	if d.running() {
		d.catchUp()
	}
	def := d.setup.definition()
	d.read(func(s *featurestore.Store) {
		names := map[string]string{} // by table and encoded key
		eachRow(d.t, def, newest(d.t, s), func(held *history.Table, r *history.Row) error {
			tab := def.Table(held.Name)
			if tab == nil {
				return nil
			}
			id := tab.Name + "\x00" + string(r.Key)
			for _, v := range r.Versions {
				out := version{table: tab.Name, key: id, Version: v}
				out.Data = nil
				switch {
				case v.Moved:
					out.text = "moved"
				case v.Deleted:
					out.text = "deleted"
				default:
					cells, err := row.Decode(v.Data, make([]row.Cell, len(held.Columns)))
					if err != nil {
						return err
					}
					value := func(column string) ([]byte, bool) {
						c := cells[held.Slot(column)]
						if c.Kind == row.NotCaptured {
							return []byte("(not captured)"), true
						}
						return c.AppendText(nil), c.Kind != row.Null
					}
					var key []string
					for _, k := range tab.Key {
						v, _ := value(k)
						key = append(key, string(v))
					}
					names[id] = strings.Join(key, ",")
					out.text = show(tab, value)
					if v.Backfilled {
						out.text = "backfilled " + out.text
					}
				}
				all = append(all, out)
			}
			return nil
		})
		for i := range all {
			name, ok := names[all[i].key]
			if !ok {
				_, encoded, _ := strings.Cut(all[i].key, "\x00")
				name = hex.EncodeToString([]byte(encoded))
			}
			all[i].key = name
		}
	})
	slices.SortStableFunc(all, func(a, b version) int {
		if a.Version.Version != b.Version.Version {
			if a.Version.Version < b.Version.Version {
				return -1
			}
			return 1
		}
		return int(a.Ordinal) - int(b.Ordinal)
	})
	return all
}

// versionsOf returns the versions of one row, oldest first.
func (d *daemon) versionsOf(table, key string) []version {
	d.t.Helper()
	return slices.DeleteFunc(d.history(), func(v version) bool { return v.table != table || v.key != key })
}

// requireVersions wants a row to have exactly these versions, oldest first:
// each change once.
func requireVersions(t testing.TB, d *daemon, table, key string, want ...string) {
	t.Helper()
	got := []string{}
	for _, v := range d.versionsOf(table, key) {
		got = append(got, v.text)
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("versions of %s in %s (-want +got):\n%s", key, table, diff)
	}
}

// requireChanges wants a table to hold exactly so many versions of all its
// rows, tombstones among them: nothing came twice, nothing was left out.
func requireChanges(t testing.TB, d *daemon, table string, want int) {
	t.Helper()
	got := 0
	for _, v := range d.history() {
		if v.table == table {
			got++
		}
	}
	if got != want {
		t.Errorf("table %s: %d versions are held, want %d", table, got, want)
	}
}

// requireOrder wants the changes of all tables, backfill apart, in this order:
// "table: text".
func requireOrder(t testing.TB, d *daemon, want ...string) {
	t.Helper()
	got := []string{}
	for _, v := range d.history() {
		if !v.Backfilled {
			got = append(got, v.table+": "+v.text)
		}
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("changes in the order of the store (-want +got):\n%s", diff)
	}
}
