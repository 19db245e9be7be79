package featurestore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

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
		// Its end went unseen while nobody followed the table.
		if stale := w.row(table, key); stale.alive && stale.place != placeOf(table, v) {
			w.end(table, key, stale.place, at, o, true)
		}
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

var worldTables = []string{"users", "orders", "shop.items", "config"}

// isNull stands for NULL among cells.
const isNull = "(null)"
