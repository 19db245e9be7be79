package online_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
	"dreamfeed/snapshot/online"
	"dreamfeed/snapshot/pit"
)

const second = 1_000_000

// epoch is the birth of the stores of these tests.
var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func stamp(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02 15:04:05.999999")
}

// club is the definition of package pit's tests, with a column for items.
func club(t testing.TB) *definition.Definition {
	t.Helper()
	data, err := os.ReadFile("../pit/testdata/club.yaml")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte("  time: made\n"), []byte("  time: made\n  item: thing\n"), 1)
	def, err := definition.Load(data, "club.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// memory is a feature store in memory: every version of every row, visible up
// to the newest closed moment.
type memory struct {
	def *definition.Definition

	mu       sync.Mutex
	newest   change.Version
	gaps     []history.Gap
	floor    change.Version
	entities map[[2]string]map[[2]string][]history.Version // kind, id → table, key → newest first
	watches  []*memoryWatch
	// viewed counts views, failing makes the next reads fail.
	viewed, failing, closed int
}

func newMemory(def *definition.Definition) *memory {
	return &memory{def: def, entities: map[[2]string]map[[2]string][]history.Version{}}
}

// change is one row that a transaction of the memory writes; nil Values delete.
type changed struct {
	Entity, Table, Key string
	Values             map[string]any
}

// commit writes rows at a version and shows them.
func (m *memory) commit(v change.Version, rows ...changed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := m.info(v)
	for i, r := range rows {
		kind := m.def.Table(r.Table).Entity
		e := [2]string{kind, r.Entity}
		if m.entities[e] == nil {
			m.entities[e] = map[[2]string][]history.Version{}
		}
		x := history.Version{Version: v, Ordinal: uint32(i), Known: int64(v), Deleted: r.Values == nil}
		if r.Values != nil {
			x.Data = encode(m.def, &info, r.Table, r.Values)
		}
		k := [2]string{r.Table, r.Key}
		m.entities[e][k] = append([]history.Version{x}, m.entities[e][k]...)
		for _, w := range m.watches {
			w.touch(kind, r.Entity, v)
		}
	}
	m.newest = v
}

func encode(def *definition.Definition, info *history.Info, table string, values map[string]any) []byte {
	oids := map[definition.Type]uint32{
		definition.Text: 25, definition.Int: 23, definition.Float: 701, definition.Bool: 16,
		definition.Timestamp: 1114, definition.JSON: 3802, definition.List: 1009,
	}
	h := info.Table(table)
	cells := make([]row.Cell, len(h.Columns))
	for name, v := range values {
		cells[h.Slot(name)] = row.Cell{Kind: row.Null}
		if text, ok := v.(string); ok {
			cells[h.Slot(name)] = row.Parse(oids[def.Table(table).Column(name).Type], []byte(text))
		}
	}
	return row.Append(nil, cells)
}

func (m *memory) info(asOf change.Version) history.Info {
	info := history.Info{
		Birth: change.Version(epoch), Floor: max(change.Version(epoch), m.floor), AsOf: asOf, Applied: m.newest, Gaps: slices.Clone(m.gaps),
	}
	for i, t := range m.def.Tables {
		h := history.Table{ID: uint16(1 + i), Name: t.Name, Entity: t.Entity, Key: t.Key}
		for _, c := range t.Columns {
			h.Columns = append(h.Columns, c.Name)
		}
		info.Tables = append(info.Tables, h)
	}
	return info
}

func (m *memory) Newest() (change.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest, nil
}

func (m *memory) View(asOf change.Version, window time.Duration) (pit.View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if asOf == 0 {
		asOf = m.newest
	}
	if asOf > m.newest {
		return nil, &online.RequestError{Err: fmt.Errorf("the moment %s is not closed", asOf)}
	}
	m.viewed++
	return &memoryView{m: m, info: m.info(asOf)}, nil
}

// memoryView is the memory as of a moment.
type memoryView struct {
	m    *memory
	info history.Info
}

func (v *memoryView) Info() history.Info { return v.info }
func (v *memoryView) Ranges(context.Context, string, int) ([]history.Range, error) {
	return []history.Range{{}}, nil
}

func (v *memoryView) Scan(_ context.Context, kind string, _ history.Range, fn func(*history.Entity) error) error {
	v.m.mu.Lock()
	var ids []string
	for e := range v.m.entities {
		if e[0] == kind {
			ids = append(ids, e[1])
		}
	}
	v.m.mu.Unlock()
	slices.Sort(ids)
	for _, id := range ids {
		e, err := v.Entity(context.Background(), kind, id)
		if err != nil {
			return err
		}
		if e != nil {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *memoryView) Entity(_ context.Context, kind, id string) (*history.Entity, error) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	if v.m.failing > 0 {
		v.m.failing--
		return nil, fmt.Errorf("the lease is gone")
	}
	e := &history.Entity{ID: id}
	rows := v.m.entities[[2]string{kind, id}]
	var keys [][2]string
	for k := range rows {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b [2]string) int { return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1]) })
	for _, k := range keys {
		r := history.Row{Table: v.info.Table(k[0]).ID, Key: []byte(k[1])}
		for _, x := range rows[k] {
			if x.Version <= v.info.AsOf {
				r.Versions = append(r.Versions, x)
			}
		}
		if len(r.Versions) > 0 {
			e.Rows = append(e.Rows, r)
		}
	}
	if len(e.Rows) == 0 {
		return nil, nil
	}
	return e, nil
}

func (v *memoryView) Close() error {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	v.m.closed++
	return nil
}

// memoryWatch notes what was touched.
type memoryWatch struct {
	m       *memory
	kinds   []string
	limit   int
	touched map[[2]string]change.Version
	lost    bool
}

func (m *memory) Watch(kinds []string, limit int) (online.Watch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &memoryWatch{m: m, kinds: kinds, limit: limit, touched: map[[2]string]change.Version{}}
	m.watches = append(m.watches, w)
	return w, nil
}

func (w *memoryWatch) touch(kind, id string, v change.Version) {
	if !slices.Contains(w.kinds, kind) {
		return
	}
	w.touched[[2]string{kind, id}] = v
	if len(w.touched) > w.limit {
		clear(w.touched)
		w.lost = true
	}
}

func (w *memoryWatch) Take(asOf change.Version, fn func(entity, id string)) bool {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.lost {
		w.lost = false
		return false
	}
	for e, v := range w.touched {
		fn(e[0], e[1])
		if v <= asOf {
			delete(w.touched, e)
		}
	}
	return true
}

func (w *memoryWatch) Close() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.m.watches = slices.DeleteFunc(w.m.watches, func(o *memoryWatch) bool { return o == w })
}
