package featurestore_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

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
