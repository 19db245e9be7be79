package featurestore_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

// world is a source, the feed that tells of it, and what a store should hold,
// all as plain maps: for stores whose definition, feed and source part ways and
// come together again.
type world struct {
	r    *rand.Rand
	rels map[string]*change.Relation
	f    *feed
	now  change.Version
	def  *definition.Definition

	src map[string]map[string]map[string]string // table → key → column → value
	// What the store should hold:
	m       *model
	rows    map[string]map[string]*heldRow
	emptied map[string]change.Version // newest TRUNCATE by table
	marks   map[string]*unfilledTable
	known   map[string]map[string]bool // columns by table that the store has a slot for
	ends    map[change.Version]uint32
	gaps    []change.Version // From, To, From, …
	snap    *snapshot
	done    []completed // transactions of the epoch
}

// heldRow is the newest version of a row.
type heldRow struct {
	alive   bool
	version change.Version
	place   string
	cells   map[string]string // uncaptured ones included, NULLs not
}

type unfilledTable struct {
	rows    bool
	since   change.Version
	columns map[string]bool
	again   change.Version
}

// snapshot is what a refill read.
type snapshot struct {
	low    change.Version
	tables []string
	rows   map[string]map[string]map[string]string
}

type completed struct {
	lsn     change.LSN
	version change.Version
}

var worldTables = []string{"users", "orders", "shop.items", "config"}

func newWorld(r *rand.Rand) *world {
	w := &world{
		r: r, rels: relations(), f: newFeed(), now: 1_700_000_000_000_000, m: newModel(),
		src: map[string]map[string]map[string]string{}, rows: map[string]map[string]*heldRow{},
		emptied: map[string]change.Version{}, marks: map[string]*unfilledTable{},
		known: map[string]map[string]bool{}, ends: map[change.Version]uint32{},
	}
	for _, t := range worldTables {
		w.src[t], w.rows[t] = map[string]map[string]string{}, map[string]*heldRow{}
	}
	w.def = w.definition()
	for i := range w.def.Tables {
		w.learn(&w.def.Tables[i])
	}
	return w
}

// definition is testDefinition with some tables and columns left out, or one added.
func (w *world) definition() *definition.Definition {
	def := testDefinition()
	def.Hash = strconv.FormatUint(w.r.Uint64(), 16)
	def.Tables = slices.DeleteFunc(def.Tables, func(t definition.Table) bool { return t.Name != "users" && w.r.IntN(3) == 0 })
	for i := range def.Tables {
		t := &def.Tables[i]
		t.Columns = slices.DeleteFunc(t.Columns, func(c definition.SourceColumn) bool { return c.Name == "big" && w.r.IntN(3) == 0 })
		if t.Name == "users" && w.r.IntN(2) == 0 {
			t.Columns = append(t.Columns, definition.SourceColumn{Name: "extra", Type: definition.Text})
		}
	}
	return def
}

func (w *world) learn(t *definition.Table) (fresh bool) {
	if fresh = w.known[t.Name] == nil; fresh {
		w.known[t.Name] = map[string]bool{}
	}
	for _, c := range t.Columns {
		w.known[t.Name][c.Name] = true
	}
	return fresh
}

// redefine takes another definition: what it adds is unfilled, and what it
// leaves out will be if it comes back.
func (w *world) redefine() {
	w.def, w.snap = w.definition(), nil
	mark := func(t string) *unfilledTable {
		if w.marks[t] == nil {
			w.marks[t] = &unfilledTable{columns: map[string]bool{}}
		}
		return w.marks[t]
	}
	for _, name := range worldTables {
		t := w.def.Table(name)
		switch {
		case t == nil && w.known[name] != nil:
			m := mark(name)
			m.rows, m.since = true, w.f.last
		case t != nil && w.known[name] == nil:
			mark(name).rows = true
			w.learn(t)
		case t != nil:
			for _, c := range t.Columns {
				if !w.known[name][c.Name] {
					mark(name).columns[c.Name] = true
				}
			}
			for c := range w.known[name] {
				if t.Column(c) == nil {
					mark(name).columns[c] = true
				}
			}
			w.learn(t)
		}
	}
}

// unfilled names the tables that need a refill.
func (w *world) unfilled() []string {
	var names []string
	for _, name := range worldTables {
		t, m := w.def.Table(name), w.marks[name]
		if t == nil || m == nil {
			continue
		}
		need := m.rows
		for c := range m.columns {
			need = need || t.Column(c) != nil
		}
		if need {
			names = append(names, name)
		}
	}
	return names
}

// isNull stands for NULL among cells.
const isNull = "(null)"

// cells are a row's cells in the definition's columns: what is captured.
func (w *world) cells(table string, v map[string]string) map[string]string {
	out := map[string]string{}
	for _, c := range w.def.Table(table).Columns {
		out[c.Name] = isNull
		if s, ok := v[c.Name]; ok {
			out[c.Name] = s
		}
	}
	return out
}

// lacks says whether cells lack a column of the definition.
func (w *world) lacks(table string, cells map[string]string) bool {
	return slices.ContainsFunc(w.def.Table(table).Columns, func(c definition.SourceColumn) bool {
		_, ok := cells[c.Name]
		return !ok
	})
}

// put writes a row in the model.
func (w *world) put(table, key string, at change.Version, o uint32, known int64, backfilled bool, place string, cells map[string]string) {
	w.rows[table][key] = &heldRow{true, at, place, cells}
	w.m.add(place, table, key, modelVersion{version: at, ordinal: o, known: known, backfilled: backfilled, table: table, cells: cells})
}

// end writes a tombstone in the model.
func (w *world) end(table, key, place string, at change.Version, o uint32, moved bool) {
	g := gone(at, o)
	g.moved = moved
	w.m.add(place, table, key, g)
}

// row returns what the store holds of a key, never nil.
func (w *world) row(table, key string) *heldRow {
	if h := w.rows[table][key]; h != nil {
		return h
	}
	return &heldRow{}
}

// write is a live insert or update.
func (w *world) write(table, oldKey string, v map[string]string, unchanged bool, at change.Version, o uint32) {
	if w.def.Table(table) == nil {
		return
	}
	key, place := keyOf(table, v), placeOf(table, v)
	old := w.row(table, oldKey)
	mark := w.marks[table]
	rows := mark != nil && mark.rows
	cells := w.cells(table, v)
	if _, read := cells["big"]; unchanged && read {
		big, held := old.cells["big"]
		switch {
		case rows && (!old.alive || old.version <= mark.since):
			delete(cells, "big")
		case !old.alive:
			panic("a row went missing: " + table + " " + oldKey)
		case !held:
			delete(cells, "big")
		default:
			cells["big"] = big
		}
	}
	if old.alive && (oldKey != key || old.place != place) {
		w.end(table, oldKey, old.place, at, o, true)
	}
	if oldKey != key {
		place := placeOf(table, map[string]string{"id": oldKey[strings.Index(oldKey, "+")+1:]})
		if !old.alive && table != "orders" {
			w.end(table, oldKey, place, at, o, false)
		}
		w.rows[table][oldKey] = &heldRow{version: at}
		if mark != nil && w.lacks(table, cells) {
			mark.again = at
		}
	}
	w.put(table, key, at, o, int64(at), false, place, cells)
}

// change makes a random change of the source; the model hears of it if live.
func (w *world) change(at change.Version, o uint32, live bool) (change.Row, bool) {
	g := &generator{r: w.r}
	table := pick(w.r, []string{"users", "orders", "orders", "shop.items", "config"})
	rel, rows := w.rels[table], w.src[table]
	what := w.r.IntN(20)
	if len(rows) == 0 {
		what = 0
	}
	switch {
	case what < 8:
		v := g.fresh(table)
		v["extra"] = fmt.Sprint("x", w.r.IntN(10))
		key := keyOf(table, v)
		if _, taken := rows[key]; taken {
			return change.Row{}, false
		}
		rows[key] = v
		if live {
			w.write(table, key, v, false, at, o)
		}
		return change.Row{Relation: rel, Op: change.Insert, Ordinal: o, New: values(rel, v)}, true
	case what < 15:
		return w.update(g, table, at, o, live)
	case what < 19:
		key := pick(w.r, sorted(rows))
		v := rows[key]
		delete(rows, key)
		if live && w.def.Table(table) != nil {
			if h := w.row(table, key); h.alive {
				w.end(table, key, h.place, at, o, false)
			} else if table != "orders" {
				w.end(table, key, placeOf(table, v), at, o, false)
			}
			w.rows[table][key] = &heldRow{version: at}
		}
		return change.Row{Relation: rel, Op: change.Delete, Ordinal: o, Old: g.old(rel, v), OldFull: rel.Replica == 'f'}, true
	}
	if w.r.IntN(4) > 0 {
		return change.Row{}, false
	}
	clear(rows)
	if live && w.def.Table(table) != nil {
		w.emptied[table] = at
		for _, key := range sorted(w.rows[table]) {
			if h := w.rows[table][key]; h.alive {
				w.end(table, key, h.place, at, o, false)
				w.rows[table][key] = &heldRow{version: h.version}
			}
		}
	}
	return change.Row{Relation: rel, Op: change.Truncate, Ordinal: o}, true
}

func (w *world) update(g *generator, table string, at change.Version, o uint32, live bool) (change.Row, bool) {
	rel, rows := w.rels[table], w.src[table]
	key := pick(w.r, sorted(rows))
	old := rows[key]
	v, next := maps.Clone(old), g.fresh(table)
	v["name"] = next["name"]
	if id, ok := next["user_id"]; ok && w.r.IntN(3) == 0 {
		v["user_id"] = id
	}
	if w.r.IntN(4) == 0 {
		v["id"] = next["id"]
		if lang, ok := next["lang"]; ok {
			v["lang"] = lang
		}
	}
	moved := keyOf(table, v) != key
	if _, taken := rows[keyOf(table, v)]; moved && taken {
		return change.Row{}, false
	}
	_, big := v["big"]
	// A whole old row (REPLICA IDENTITY FULL) tells the unchanged value itself.
	unchanged := big && w.r.IntN(2) == 0 && rel.Replica != 'f'
	if s, ok := next["big"]; ok && !unchanged {
		v["big"] = s
	}
	r := change.Row{Relation: rel, Op: change.Update, Ordinal: o, New: values(rel, v)}
	for i, c := range rel.Columns {
		if c.Name == "big" && unchanged {
			r.New[i] = change.Value{Kind: change.Unchanged}
		}
	}
	if moved || rel.Replica == 'f' {
		r.Old, r.OldFull = g.old(rel, old), rel.Replica == 'f'
	}
	delete(rows, key)
	rows[keyOf(table, v)] = v
	if live {
		w.write(table, key, v, unchanged, at, o)
	}
	return r, true
}

func (w *world) tick() {
	w.now += change.Version(1 + w.r.IntN(1_000_000))
	w.f.tick(w.now)
}

// live is a transaction of the source.
func (w *world) live() {
	w.now += change.Version(1 + w.r.IntN(1_000_000))
	var rows []change.Row
	o := uint32(0)
	for range w.r.IntN(14) {
		if r, ok := w.change(w.now, o, true); ok {
			rows = append(rows, r)
			o += uint32(1 + w.r.IntN(2))
		}
	}
	w.f.transaction(change.Live, w.now, rows, 1+w.r.IntN(4), false)
	w.complete()
}

func (w *world) complete() { w.done = append(w.done, completed{w.f.lsn(w.now) + 1, w.now}) }

// drift is what the source does while nobody listens.
func (w *world) drift() {
	for range w.r.IntN(30) {
		w.change(0, 0, false)
	}
}

// read takes a snapshot of tables of the source.
func (w *world) read(tables []string) {
	w.snap = &snapshot{tables: tables, rows: map[string]map[string]map[string]string{}}
	if w.snap.low = w.f.last; len(w.done) > 0 {
		w.snap.low = w.done[len(w.done)-1].version
	}
	for _, t := range tables {
		w.snap.rows[t] = maps.Clone(w.src[t]) // rows are replaced, never changed
	}
}

// publish publishes the snapshot as a backfill or refill, perhaps after an
// attempt that is abandoned.
func (w *world) publish(kind change.Kind) {
	snap := w.snap
	w.snap = nil
	w.f.scope = &change.Scope{Low: snap.low}
	var rows []change.Row
	var names [][2]string
	for _, t := range snap.tables {
		rel := w.rels[t]
		w.f.scope.Tables = append(w.f.scope.Tables, change.Table{Schema: rel.Schema, Name: rel.Name})
		for _, key := range sorted(snap.rows[t]) {
			rows = append(rows, change.Row{Relation: rel, Op: change.Insert, New: values(rel, snap.rows[t][key])})
			names = append(names, [2]string{t, key})
		}
	}
	w.f.scope.Tables = append(w.f.scope.Tables, change.Table{Schema: "public", Name: "nobody's"})
	w.r.Shuffle(len(rows), func(i, j int) {
		rows[i], rows[j] = rows[j], rows[i]
		names[i], names[j] = names[j], names[i]
	})
	for i := range rows {
		rows[i].Ordinal = uint32(i)
	}
	w.now += change.Version(1 + w.r.IntN(1_000_000))
	if w.r.IntN(4) == 0 {
		w.f.transaction(kind, w.now, rows, 1+w.r.IntN(5), true)
		w.f.abandon(w.now)
		w.now += change.Version(1 + w.r.IntN(1_000_000))
	}
	w.f.transaction(kind, w.now, rows, 1+w.r.IntN(5), false)
	w.ends[w.now] = uint32(len(rows))
	first := len(w.gaps) == 0 && kind == change.Backfill
	found := map[string]bool{}
	for i, name := range names {
		table, key := name[0], name[1]
		found[table+"/"+key] = true
		w.refilled(table, key, snap.rows[table][key], snap.low, uint32(i), kind, first)
	}
	for _, table := range snap.tables {
		if w.def.Table(table) == nil {
			continue
		}
		for _, key := range sorted(w.rows[table]) {
			h := w.rows[table][key]
			if h.alive && h.version <= snap.low && !found[table+"/"+key] {
				w.end(table, key, h.place, w.now, atEnd, false)
				w.rows[table][key] = &heldRow{version: w.now}
			}
		}
		if m := w.marks[table]; m != nil {
			m.since = 0
			if m.again <= snap.low {
				maps.DeleteFunc(m.columns, func(c string, _ bool) bool { return w.def.Table(table).Column(c) != nil })
				m.rows, m.again = false, 0
			}
			if !m.rows && len(m.columns) == 0 {
				delete(w.marks, table)
			}
		}
	}
	if n := len(w.gaps); n%2 == 1 {
		w.gaps = append(w.gaps, w.now)
	}
	w.complete()
}

// refilled is the rule for one row of a refill.
func (w *world) refilled(table, key string, v map[string]string, low change.Version, o uint32, kind change.Kind, first bool) {
	h := w.row(table, key)
	k := int64(w.now)
	if kind == change.Backfill {
		k = known(table, v, kind, w.now)
		if n := len(w.gaps); n > 0 {
			k = max(k, int64(w.gaps[n-1])+1)
		}
	}
	cells, place := w.cells(table, v), placeOf(table, v)
	if max(h.version, w.emptied[table]) > low {
		if !h.alive {
			return
		}
		filled := maps.Clone(cells)
		maps.Copy(filled, h.cells)
		if len(filled) == len(h.cells) {
			return
		}
		cells, place = filled, h.place
	} else if h.alive {
		same := h.place == place
		for _, c := range w.def.Table(table).Columns {
			held, ok := h.cells[c.Name]
			same = same && ok && held == cells[c.Name]
		}
		if same {
			return
		}
		if h.place != place {
			w.end(table, key, h.place, w.now, o, true)
		}
	}
	w.put(table, key, w.now, o, k, first, place, cells)
}

// reset begins a new epoch, whose backfill finds another source.
func (w *world) reset() {
	if len(w.gaps)%2 == 0 {
		w.gaps = append(w.gaps, w.f.last)
	}
	w.snap, w.done = nil, nil
	w.now += change.Version(1 + w.r.IntN(1_000_000))
	w.f.reset(w.now)
	w.drift()
}

// tables are those of the definition.
func (w *world) tables() []string {
	return slices.DeleteFunc(slices.Clone(worldTables), func(t string) bool { return w.def.Table(t) == nil })
}

// asOf renders what a view should show.
func (w *world) asOf(info history.Info) map[string][]string {
	for _, versions := range w.m.all {
		for i := range versions {
			if v := &versions[i]; !v.deleted {
				table := info.Table(v.table)
				given := map[string]string{}
				for _, c := range table.Columns {
					if s, ok := v.cells[c]; !ok {
						given[c] = uncaptured
					} else if s != isNull {
						given[c] = s
					}
				}
				v.data = render(table.Columns, given)
			}
		}
	}
	return w.m.asOf(info.AsOf)
}

// TestRefilledStoreEqualsSource: whatever mixture of changes, wider and narrower
// definitions, refills read at one moment and published at another, lost feeds
// with new epochs, redeliveries, half-applied messages and reopenings, the store
// shows what the model holds at every closed moment (I3, I4), a refill changes no
// view of before it, and what was refilled equals the source.
func TestRefilledStoreEqualsSource(t *testing.T) {
	r := seed(t)
	for round := range 6 {
		t.Run(fmt.Sprint(round), func(t *testing.T) { worldRound(t, r) })
	}
}

// tested is a store under test.
type tested struct {
	*world
	t       *testing.T
	dir     string
	o       featurestore.Options
	s       *featurestore.Store
	applied int
	moments []change.Version
}

func worldRound(t *testing.T, r *rand.Rand) {
	w := newWorld(r)
	x := &tested{world: w, t: t, dir: t.TempDir(), o: featurestore.Options{GroupEntries: 1 + r.IntN(60), Definition: w.def}}
	x.s = open(t, x.dir, x.o)
	w.drift()
	w.read(w.tables())
	w.publish(change.Backfill)
	for range 60 {
		switch n := r.IntN(30); {
		case n < 16:
			w.live()
		case n < 18:
			w.tick()
		case n < 22 && w.snap == nil:
			tables := w.tables()
			w.r.Shuffle(len(tables), func(i, j int) { tables[i], tables[j] = tables[j], tables[i] })
			w.read(tables[:1+r.IntN(len(tables))])
		case n < 24 && w.snap != nil:
			x.refill()
		case n == 24 && w.snap == nil: // changes that no feed told of
			w.drift()
			w.read(w.tables())
			x.refill()
		case n == 25:
			x.redefine()
		case n == 26:
			x.reset()
		default:
			x.sync()
		}
	}
	for names := w.unfilled(); len(names) > 0; names = w.unfilled() {
		w.read(names)
		x.refill()
	}
	x.sync()
	for _, asOf := range x.moments {
		v := view(t, x.s, asOf)
		sameRows(t, w.asOf(v.Info()), dump(t, v, 1, w.ends))
	}
	for _, table := range w.tables() {
		want, got := map[string]map[string]string{}, map[string]map[string]string{}
		for key, v := range w.src[table] {
			want[key] = w.cells(table, v)
		}
		for key, h := range w.rows[table] {
			if h.alive {
				got[key] = w.cells(table, map[string]string{})
				for c := range got[key] {
					var ok bool
					if got[key][c], ok = h.cells[c]; !ok {
						got[key][c] = uncaptured
					}
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("table %s: the store differs from the source (-source +store):\n%.2000s", table, diff)
		}
		if n := x.s.Status().Rows[table]; n != int64(len(want)) {
			t.Errorf("table %s: the store counts %d live rows, the source has %d", table, n, len(want))
		}
	}
}

// sync applies what is published, with redeliveries and crashes, and compares.
func (x *tested) sync() {
	x.t.Helper()
	feed := x.f.batches
	for x.applied < len(feed) {
		if x.r.IntN(3) == 0 {
			halfApplied(x.t, x.s, feed[x.applied])
		}
		if x.r.IntN(6) == 0 {
			x.reopen()
		}
		to := x.applied + 1 + x.r.IntN(len(feed)-x.applied)
		apply(x.t, x.s, feed[x.applied-x.r.IntN(x.applied+1):to]...)
		x.applied = to
	}
	if diff := cmp.Diff(x.unfilled(), x.s.Unfilled(), cmpopts.EquateEmpty(), cmpopts.SortSlices(strings.Compare)); diff != "" {
		x.t.Errorf("unfilled tables differ (-model +store):\n%s", diff)
	}
	v := view(x.t, x.s, 0)
	info := v.Info()
	want := x.f.last
	if n := len(x.gaps); n%2 == 1 {
		want = x.gaps[n-1]
	}
	if info.AsOf != want || len(info.Gaps) != len(x.gaps)/2 {
		x.t.Fatalf("a view is as of %d with gaps %v, want %d and %v", info.AsOf, info.Gaps, want, x.gaps)
	}
	x.moments = append(x.moments, info.AsOf)
	sameRows(x.t, x.asOf(info), dump(x.t, v, 1+x.r.IntN(3), x.ends))
	x.positions()
}

// positions compares the index of positions with a list.
func (x *tested) positions() {
	x.t.Helper()
	end := x.s.Watermark().EndLSN
	for range 20 {
		lsn := change.LSN(x.r.Uint64N(uint64(end) + 1))
		if n := len(x.done); n > 0 && x.r.IntN(2) == 0 {
			lsn = x.done[x.r.IntN(n)].lsn
		}
		var want change.Version
		for _, d := range x.done {
			if d.lsn <= lsn {
				want = d.version
			}
		}
		got, err := x.s.VersionBefore(lsn)
		var none *featurestore.IndexError
		if got != want || (want == 0) != errors.As(err, &none) || want != 0 && err != nil {
			x.t.Fatalf("version before %d: %d (%v), want %d", lsn, got, err, want)
		}
	}
	var ahead *featurestore.NotAppliedError
	if _, err := x.s.VersionBefore(end + 1); !errors.As(err, &ahead) || ahead.Applied != end {
		x.t.Errorf("version before what is not applied: %v", err)
	}
}

func (x *tested) reopen() {
	if err := x.s.Close(); err != nil {
		x.t.Fatal(err)
	}
	x.s = open(x.t, x.dir, x.o)
}

// refill publishes the snapshot: no view of before changes.
func (x *tested) refill() {
	x.t.Helper()
	x.sync()
	v := view(x.t, x.s, 0)
	before := dump(x.t, v, 1)
	x.publish(change.Refill)
	x.sync()
	sameRows(x.t, before, dump(x.t, view(x.t, x.s, v.Info().AsOf), 1))
}

func (x *tested) redefine() {
	x.t.Helper()
	x.sync()
	x.world.redefine()
	x.o.Definition = x.def
	x.reopen()
	x.sync()
}

// reset begins a new epoch: views are refused in its gap only.
func (x *tested) reset() {
	x.t.Helper()
	x.sync()
	for range 1 + x.r.IntN(2) {
		x.world.reset()
		for range x.r.IntN(3) {
			x.tick()
			x.drift()
		}
		x.sync()
	}
	from, in := x.gaps[len(x.gaps)-1], x.f.last
	gapped := func(asOf change.Version) bool {
		var g *featurestore.GapError
		_, err := x.s.View(asOf)
		return errors.As(err, &g) && g.AsOf == asOf && g.Gap.From == from
	}
	var ahead *featurestore.NotClosedError
	if _, err := x.s.View(in + 1); !gapped(from+1) || !gapped(in) || !errors.As(err, &ahead) || ahead.Newest != from {
		x.t.Errorf("views in the open gap after %d: %v", from, err)
	}
	x.read(x.tables())
	x.publish(change.Backfill)
	x.sync()
	if gapped(from) || !gapped(from+1) || !gapped(x.f.last-1) || gapped(x.f.last) {
		x.t.Errorf("views around the gap from %d to %d", from, x.f.last)
	}
}
