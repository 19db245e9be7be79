package pit_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
	"dreamfeed/snapshot/pit"
)

// fact is one stored version of one row, as a test writes it down. A column
// that Values lacks was not captured; nil is NULL.
type fact struct {
	Entity, Table, Key string
	Version            int64
	Ordinal            uint32
	Known              int64
	Backfilled         bool
	Deleted, Moved     bool
	Arrived            bool
	Values             map[string]any
}

// cols are the columns of a row: text in PostgreSQL's format, or nil.
type cols = map[string]any

func load(t testing.TB, file string) *definition.Definition {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	def, err := definition.Load(data, file)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// catalog is what a store that holds the definition's tables says of itself.
// Slot 0 of each table is a column that the definition does not name.
func catalog(def *definition.Definition, birth, asOf int64) history.Info {
	info := history.Info{Birth: change.Version(birth), Floor: change.Version(birth), AsOf: change.Version(asOf), Applied: change.Version(asOf)}
	for i, t := range def.Tables {
		h := history.Table{ID: uint16(7 + 2*i), Name: t.Name, Entity: t.Entity, Key: t.Key, Columns: []string{"unread"}}
		for _, c := range t.Columns {
			h.Columns = append(h.Columns, c.Name)
		}
		info.Tables = append(info.Tables, h)
	}
	return info
}

// encode makes the stored form of a row.
func encode(t testing.TB, def *definition.Definition, info *history.Info, table string, values cols) []byte {
	t.Helper()
	oids := map[definition.Type]uint32{
		definition.Text: 25, definition.Int: 23, definition.Float: 1700, definition.Bool: 16,
		definition.Timestamp: 1114, definition.JSON: 3802, definition.List: 1009,
	}
	h := info.Table(table)
	cells := make([]row.Cell, len(h.Columns))
	for name, v := range values {
		slot := h.Slot(name)
		if slot < 0 {
			t.Fatalf("table %s has no column %s", table, name)
		}
		if v == nil {
			cells[slot] = row.Cell{Kind: row.Null}
			continue
		}
		oid := oids[def.Table(table).Column(name).Type]
		text := v.(string)
		if oid == 1700 && !strings.Contains(text, ".") {
			oid = 701
		}
		cells[slot] = row.Parse(oid, []byte(text))
	}
	return row.Append(nil, cells)
}

// view holds facts as a store would hand them out.
type view struct {
	info     history.Info
	entities map[string][]*history.Entity // by kind, in order
}

func build(t testing.TB, def *definition.Definition, info history.Info, facts []fact) *view {
	t.Helper()
	v := &view{info: info, entities: map[string][]*history.Entity{}}
	byEntity := map[[2]string]map[[2]string][]fact{}
	for _, f := range facts {
		e := [2]string{def.Table(f.Table).Entity, f.Entity}
		if byEntity[e] == nil {
			byEntity[e] = map[[2]string][]fact{}
		}
		r := [2]string{fmt.Sprintf("%05d", info.Table(f.Table).ID), f.Key}
		byEntity[e][r] = append(byEntity[e][r], f)
	}
	for e, rows := range byEntity {
		h := &history.Entity{ID: e[1]}
		keys := make([][2]string, 0, len(rows))
		for k := range rows {
			keys = append(keys, k)
		}
		sort.Slice(keys, func(i, j int) bool { return keys[i][0]+"\x00"+keys[i][1] < keys[j][0]+"\x00"+keys[j][1] })
		for _, k := range keys {
			list := rows[k]
			sort.SliceStable(list, func(i, j int) bool {
				return list[i].Version > list[j].Version || list[i].Version == list[j].Version && list[i].Ordinal > list[j].Ordinal
			})
			r := history.Row{Table: info.Table(list[0].Table).ID, Key: []byte(k[1])}
			for _, f := range list {
				x := history.Version{Version: change.Version(f.Version), Ordinal: f.Ordinal, Known: f.Known, Backfilled: f.Backfilled, Deleted: f.Deleted, Moved: f.Moved, Arrived: f.Arrived}
				if !f.Deleted {
					x.Data = encode(t, def, &info, f.Table, f.Values)
				}
				r.Versions = append(r.Versions, x)
			}
			h.Rows = append(h.Rows, r)
		}
		v.entities[e[0]] = append(v.entities[e[0]], h)
	}
	for _, list := range v.entities {
		sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	}
	return v
}

func (v *view) Info() history.Info { return v.info }
func (v *view) Ranges(context.Context, string, int) ([]history.Range, error) {
	return []history.Range{{}}, nil
}

func (v *view) Scan(_ context.Context, kind string, _ history.Range, fn func(*history.Entity) error) error {
	for _, e := range v.entities[kind] {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func (v *view) Entity(_ context.Context, kind, id string) (*history.Entity, error) {
	for _, e := range v.entities[kind] {
		if e.ID == id {
			return e, nil
		}
	}
	return nil, nil
}
func (v *view) Close() error { return nil }

// related loads the related rows for the length of the test.
func related(t testing.TB, v *view, def *definition.Definition, o pit.Options, budget int64) *pit.RelatedStore {
	t.Helper()
	s, err := pit.LoadRelated(context.Background(), v, def, o, t.TempDir(), budget)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// got is an example as a test compares it.
type got struct {
	Entity  string
	Time    int64
	CutOff  int64
	Outcome int
	Exact   pit.Exactness
	Columns map[string]string // missing ones are absent
}

// join runs the real thing over a view. budget bounds the related rows in
// memory, cache those decoded.
func join(t testing.TB, def *definition.Definition, v pit.View, window time.Duration, budget, cache int64) (map[string]got, pit.Tally) {
	t.Helper()
	ctx := context.Background()
	info := v.Info()
	p, err := pit.Compile(def, &info)
	if err != nil {
		t.Fatal(err)
	}
	o := pit.Options{Window: window, CacheBytes: cache}
	// Its file has no name: nothing is left behind.
	related, err := pit.LoadRelated(ctx, v, def, o, os.TempDir(), budget)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := related.Close(); err != nil {
			t.Error(err)
		}
	}()
	all := map[string]got{}
	tally := joinWith(t, def, v, p, p.NewJoiner(related, o), all)
	// Another joiner finds what the first one left to all.
	again := map[string]got{}
	second := joinWith(t, def, v, p, p.NewJoiner(related, o), again)
	if diff := cmp.Diff(all, again) + cmp.Diff(tally, second); diff != "" {
		t.Errorf("a second joiner joins otherwise (-first +second):\n%s", diff)
	}
	if late := related.Lateness(); len(late) > 0 {
		if tally.Lateness == nil {
			tally.Lateness = map[string]*pit.Lateness{}
		}
		maps.Copy(tally.Lateness, late)
	}
	return all, tally
}

// joinWith joins all entities of the view, and holds Example.Same against what the
// example before had.
func joinWith(t testing.TB, def *definition.Definition, v pit.View, p *pit.Program, j *pit.Joiner, all map[string]got) pit.Tally {
	t.Helper()
	ctx := context.Background()
	var tally pit.Tally
	var before []pit.Value
	var entity string
	one := func(e *history.Entity) error {
		return j.Entity(e, &tally, func(x *pit.Example) error {
			if _, twice := all[x.ID]; twice {
				t.Errorf("example %s is handed out twice", x.ID)
			}
			g := got{x.EntityID, x.Time, x.CutOff, x.Outcome, x.Exact, map[string]string{}}
			for i := range def.Values {
				render(g.Columns, &def.Values[i], x.Values[i])
			}
			for i := range def.Columns {
				render(g.Columns, &def.Columns[i], x.Columns[i])
			}
			all[strings.Clone(x.ID)] = g
			now := slices.Concat(x.Columns, x.Values, slices.Concat(x.Uniform...))
			for i, same := range x.Same {
				if same && (x.EntityID != entity || now[i] != before[i]) {
					t.Errorf("example %s of %s after one of %s: value %d is said to be the same, and is %+v", x.ID, x.EntityID, entity, i, now[i])
				}
			}
			if before, entity = now, x.EntityID; len(x.Same) != len(now) {
				t.Errorf("%d values are said to be the same or not, of %d", len(x.Same), len(now))
			}
			return nil
		})
	}
	ranges, err := v.Ranges(ctx, p.Entity(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ranges {
		if err := v.Scan(ctx, p.Entity(), r, one); err != nil {
			t.Fatal(err)
		}
	}
	return tally
}

func render(into map[string]string, c *definition.Column, v pit.Value) {
	if !v.Valid {
		return
	}
	switch c.Type {
	case definition.String:
		into[c.Name] = v.Text
	case definition.Float32:
		into[c.Name] = strconv.FormatFloat(float64(v.Float), 'g', -1, 32)
	case definition.Boolean:
		into[c.Name] = strconv.FormatBool(v.Int == 1)
	default:
		into[c.Name] = strconv.FormatInt(v.Int, 10)
	}
}
