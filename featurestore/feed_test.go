package featurestore_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

// OIDs of the test tables' types.
const (
	oidText      = 25
	oidInt8      = 20
	oidUUID      = 2950
	oidTimestamp = 1114
)

// testDefinition has a table of each kind that the store treats in its own
// way: place from the key, place through a locator, a composite key that holds
// the entity, and no entity.
func testDefinition() *definition.Definition {
	column := func(name string, t definition.Type) definition.SourceColumn {
		return definition.SourceColumn{Name: name, Type: t}
	}
	return &definition.Definition{
		Hash:     "h1",
		Entities: []definition.Entity{{Name: "user"}, {Name: "item"}},
		Tables: []definition.Table{
			{Name: "users", Entity: "user", By: "id", Key: []string{"id"}, Created: "created", Columns: []definition.SourceColumn{
				column("id", definition.Text), column("name", definition.Text), column("big", definition.Text), column("created", definition.Timestamp),
			}},
			{Name: "orders", Entity: "user", By: "user_id", Key: []string{"id"}, Created: "created", Updated: "updated", Columns: []definition.SourceColumn{
				column("id", definition.Text), column("user_id", definition.Text), column("name", definition.Text), column("big", definition.Text),
				column("created", definition.Timestamp), column("updated", definition.Timestamp),
			}},
			{Name: "shop.items", Entity: "item", By: "id", Key: []string{"lang", "id"}, Columns: []definition.SourceColumn{
				column("lang", definition.Text), column("id", definition.Text), column("name", definition.Text), column("big", definition.Text),
			}},
			{Name: "config", Key: []string{"id"}, Columns: []definition.SourceColumn{
				column("id", definition.Text), column("name", definition.Text), column("big", definition.Text),
			}},
		},
	}
}

// relations are the tables as published: with a column that the definition
// does not name, and in another order.
func relations() map[string]*change.Relation {
	text := func(name string, key bool) change.Column {
		return change.Column{Name: name, Type: oidText, Modifier: -1, Key: key}
	}
	at := func(name string) change.Column {
		return change.Column{Name: name, Type: oidTimestamp, Modifier: -1}
	}
	return map[string]*change.Relation{
		"users": {ID: 1, Schema: "public", Name: "users", Replica: 'd', Columns: []change.Column{
			text("extra", false), text("big", false), text("id", true), text("name", false), at("created"),
		}},
		"orders": {ID: 2, Schema: "public", Name: "orders", Replica: 'd', Columns: []change.Column{
			text("id", true), text("user_id", false), text("name", false), text("big", false), at("created"), at("updated"),
		}},
		"shop.items": {ID: 3, Schema: "shop", Name: "items", Replica: 'f', Columns: []change.Column{
			text("id", true), text("lang", true), text("name", false), text("big", false),
		}},
		"config": {ID: 4, Schema: "public", Name: "config", Replica: 'd', Columns: []change.Column{
			text("id", true), text("name", false), text("big", false),
		}},
	}
}

func value(s string) change.Value { return change.Value{Kind: change.Text, Text: []byte(s)} }

var null = change.Value{Kind: change.Null}

// values builds a row of a relation; columns that are not given are NULL.
func values(rel *change.Relation, given map[string]string) []change.Value {
	out := make([]change.Value, len(rel.Columns))
	for i, c := range rel.Columns {
		out[i] = null
		if s, ok := given[c.Name]; ok {
			out[i] = value(s)
		}
	}
	return out
}

// feed makes the messages of a stream that holds together.
type feed struct {
	incarnation, sequence uint64
	last                  change.Version
	batches               []*change.Batch
	// epoch counts from 0, zero is the version at which its LSNs begin.
	epoch change.Epoch
	zero  change.Version
	// scope goes with every backfill and refill.
	scope *change.Scope
}

func (f *feed) lsn(v change.Version) change.LSN { return change.LSN(v - f.zero) }

func (f *feed) add(entries []change.Entry, first, last change.Version, open bool, rest change.Header) *change.Batch {
	f.sequence++
	h := rest
	h.Epoch, h.Origin = 1+f.epoch, change.Origin{System: 77 + uint64(f.epoch), Timeline: 1}
	h.First, h.Last, h.Previous, h.Open = first, last, f.last, open
	b := &change.Batch{Incarnation: f.incarnation, Sequence: f.sequence, Header: h, Entries: entries, Bytes: 100}
	f.last = last
	f.batches = append(f.batches, b)
	return b
}

// transaction adds a transaction in the given number of parts. If it is left
// unfinished its last part is missing.
func (f *feed) transaction(kind change.Kind, v change.Version, rows []change.Row, parts int, unfinished bool) {
	parts = max(1, min(parts, len(rows)))
	for p := range parts {
		from, to := p*len(rows)/parts, (p+1)*len(rows)/parts
		last := p == parts-1 && !unfinished
		t := &change.Transaction{
			Kind: kind, Version: v, CommitTime: int64(v), CommitLSN: f.lsn(v), EndLSN: f.lsn(v) + 1,
			Part: uint32(p), Last: last, Rows: rows[from:to],
		}
		if p == 0 && kind != change.Live {
			t.Scope = f.scope
		}
		h := change.Header{CommitLSN: t.CommitLSN, EndLSN: t.EndLSN, Part: t.Part, OpenKind: kind}
		if to > from {
			h.FirstOrdinal, h.NextOrdinal = rows[from].Ordinal, rows[to-1].Ordinal+1
			if to < len(rows) {
				h.NextOrdinal = rows[to].Ordinal
			}
		}
		f.add([]change.Entry{{Transaction: t}}, v, v, !last, h)
	}
}

// merge makes one message of the last n, which must be whole transactions and ticks.
func (f *feed) merge(n int) {
	tail := f.batches[len(f.batches)-n:]
	m := *tail[0]
	m.Entries = nil
	for _, b := range tail {
		m.Entries = append(m.Entries, b.Entries...)
	}
	m.Header.Last = tail[n-1].Header.Last
	f.sequence -= uint64(n - 1)
	f.batches = append(f.batches[:len(f.batches)-n], &m)
}

func (f *feed) tick(v change.Version) {
	f.add([]change.Entry{{Tick: &change.Tick{Moment: v, LSN: f.lsn(v)}}}, v, v, false, change.Header{})
}

// reset begins a new epoch, as a tick at the beginning of another server's log.
func (f *feed) reset(v change.Version) {
	f.epoch++
	f.zero = v
	f.tick(v)
}

func (f *feed) abandon(v change.Version) {
	f.add([]change.Entry{{Abandoned: v}}, f.last, f.last, false, change.Header{})
}

func insert(rel *change.Relation, ordinal uint32, given map[string]string) change.Row {
	return change.Row{Relation: rel, Op: change.Insert, Ordinal: ordinal, New: values(rel, given)}
}

func newFeed() *feed { return &feed{incarnation: 9} }

// modelVersion is a version of a row as the model has it.
type modelVersion struct {
	version    change.Version
	ordinal    uint32
	known      int64
	backfilled bool
	deleted    bool
	moved      bool // deleted because it moved
	data       string
	table      string            // of cells
	cells      map[string]string // in place of data: those captured, NULL as isNull
}

func (m modelVersion) String() string {
	if m.deleted {
		return fmt.Sprintf("%d.%d gone, moved %t", m.version, m.ordinal, m.moved)
	}
	return fmt.Sprintf("%d.%d known %d backfilled %t: %s", m.version, m.ordinal, m.known, m.backfilled, m.data)
}

// model is the store as plain maps: where a row is, what it holds, and all
// versions by place and key.
type model struct {
	live map[string]map[string]liveRow // table → key → row
	all  map[string][]modelVersion     // "kind/entity/table/key" → oldest first
}

type liveRow struct {
	place  string
	values map[string]string
}

func newModel() *model {
	return &model{live: map[string]map[string]liveRow{}, all: map[string][]modelVersion{}}
}

func (m *model) clone() *model {
	c := newModel()
	for t, rows := range m.live {
		c.live[t] = maps.Clone(rows)
	}
	for k, v := range m.all {
		c.all[k] = v[:len(v):len(v)]
	}
	return c
}

func (m *model) add(place, table, key string, v modelVersion) {
	k := place + "/" + table + "/" + key
	m.all[k] = append(m.all[k], v)
}

// asOf renders all rows as of a moment.
func (m *model) asOf(v change.Version) map[string][]string {
	out := map[string][]string{}
	for k, versions := range m.all {
		var lines []string
		alive := false
		for i := len(versions) - 1; i >= 0; i-- {
			if versions[i].version <= v {
				lines = append(lines, versions[i].String())
				alive = alive || !versions[i].deleted
			}
		}
		if alive { // a row of which only tombstones are held has no name
			out[k] = lines
		}
	}
	return out
}

// uncaptured stands for a cell that is not captured.
const uncaptured = "(not captured)"

// atEnd stands for the ordinal of a tombstone at the end of a refill.
const atEnd = 1 << 30

func render(columns []string, given map[string]string) string {
	var parts []string
	for _, c := range columns {
		if s, ok := given[c]; ok {
			parts = append(parts, c+"="+s)
		} else {
			parts = append(parts, c+" null")
		}
	}
	return strings.Join(parts, ",")
}

// reader is what both kinds of view offer.
type reader interface {
	Info() history.Info
	Ranges(ctx context.Context, entity string, n int) ([]history.Range, error)
	Scan(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error
	Entity(ctx context.Context, entity, id string) (*history.Entity, error)
	Close() error
}

func open(t testing.TB, dir string, o featurestore.Options) *featurestore.Store {
	t.Helper()
	if o.Definition == nil && !o.ReadOnly {
		o.Definition = testDefinition()
	}
	if o.Memory == 0 {
		o.Memory = 48 << 20
	}
	s, err := featurestore.Open(dir, o)
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

func apply(t testing.TB, s *featurestore.Store, batches ...*change.Batch) {
	t.Helper()
	if err := s.Apply(t.Context(), batches...); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, s *featurestore.Store, asOf change.Version) *featurestore.View {
	t.Helper()
	v, err := s.View(asOf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// pick returns an element at random.
func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
