package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Table is a table that both sides hold.
type Table struct {
	Name    string
	Columns []string
}

// CellKind tells what a column of a row holds.
type CellKind byte

// The kinds of a cell.
const (
	// NotCaptured is a column that the side does not know the value of.
	NotCaptured CellKind = iota
	Null
	Text
)

// Cell is one column of a row; Text is set for the kind Text.
type Cell struct {
	Kind CellKind
	Text []byte
}

// Row is a row of one side. Key identifies it within its table, in the same
// encoding on both sides; Cells are the table's columns. Broken says that the row
// could not be read: it has no cells.
type Row struct {
	Table  int // index in Config.Tables
	Key    []byte
	Cells  []Cell
	Broken bool

	scratch []byte
}

// Side is one of the two sides.
type Side interface {
	// Rows calls fn for every row of the tables for which wanted says true, in any
	// order, and for others if it likes. fn may be called by several goroutines at
	// once, each with a Row of its own, which is used again when fn returns. An
	// error of fn ends the reading and is returned.
	Rows(ctx context.Context, wanted func(table int) bool, fn func(*Row) error) error
}

// DefaultMaxKeys bounds the keys that are held to find those that differ.
const DefaultMaxKeys = 100_000

const (
	// parts is the number of parts of a table for which there are sums at a time.
	parts = 1 << 14
	// maxNarrowing is how often the parts that differ are cut into smaller ones,
	// with a pass over both sides each time.
	maxNarrowing = 3
)

// Config says what is compared.
type Config struct {
	Tables []Table
	// MaxKeys is DefaultMaxKeys when 0.
	MaxKeys int
}

// Compare compares the two sides. The error says that one of them could not be
// read, not that they differ.
func Compare(ctx context.Context, cfg Config, source, store Side) (*Report, error) {
	if cfg.MaxKeys <= 0 {
		cfg.MaxKeys = DefaultMaxKeys
	}
	c := &comparison{cfg: cfg, a: maphash.MakeSeed(), b: maphash.MakeSeed(), tables: make([]tableState, len(cfg.Tables))}
	for i := range c.tables {
		c.tables[i].begin()
	}
	open := func(table int) bool { return c.tables[table].open }
	for narrowed := 0; ; narrowed++ {
		if err := c.both(ctx, source, store, open, c.add); err != nil {
			return nil, err
		}
		if !c.narrow(narrowed < maxNarrowing) {
			break
		}
	}
	held := func(table int) bool { return len(c.tables[table].chosen) > 0 }
	for i := range c.tables {
		if held(i) {
			if err := c.both(ctx, source, store, held, c.hold); err != nil {
				return nil, err
			}
			break
		}
	}
	return c.report(), nil
}

// The sides of a comparison, as indices.
const (
	sourceSide = iota
	storeSide
)

type comparison struct {
	cfg    Config
	a, b   maphash.Seed
	tables []tableState

	mu sync.Mutex // guards the held rows of all tables
}

// tableState is what is known of one table.
type tableState struct {
	rows [2]uint64 // of the sides
	// open says that a pass fills sums; differing are its parts that differ then,
	// and keys how many rows the sides together hold in them.
	open      bool
	sums      [2][]part
	differing []uint32
	keys      uint64
	// levels say how parts that differ were cut into smaller ones.
	levels []level
	// chosen are the parts whose keys are held; left are those that differ too but
	// were too many, with leftRows rows.
	chosen   map[uint32]bool
	left     int
	leftRows uint64
	held     map[string]*pair
}

// level cuts each of some parts into split smaller ones.
type level struct {
	place map[uint32]uint32 // of a part among those that were cut
	split uint64
}

// part is the checksum of a part on one side. Sums are modulo 2^64, so that the
// order of rows does not matter.
type part struct{ count, a, b atomic.Uint64 }

func (p *part) equal(q *part) bool {
	return p.count.Load() == q.count.Load() && p.a.Load() == q.a.Load() && p.b.Load() == q.b.Load()
}

// pair is what the two sides hold under one key.
type pair [2]struct {
	count   uint32
	a, b    uint64
	columns []uint32 // hashes; nil when broken
	broken  bool
}

func (t *tableState) begin() {
	t.open = true
	t.sums = [2][]part{make([]part, parts), make([]part, parts)}
}

// locate returns the part of a key, given the key's hash; ok is false for a key
// of a part that was found equal.
func (t *tableState) locate(h uint64) (n uint32, ok bool) {
	n, h = uint32(h%parts), h/parts
	for i := range t.levels {
		l := &t.levels[i]
		place, ok := l.place[n]
		if !ok {
			return 0, false
		}
		n, h = uint32(uint64(place)*l.split+h%l.split), h/l.split
	}
	return n, true
}

// look finds the parts that differ after a pass.
func (t *tableState) look() {
	t.differing, t.keys = nil, 0
	for n := range parts {
		source, store := &t.sums[sourceSide][n], &t.sums[storeSide][n]
		if len(t.levels) == 0 {
			t.rows[sourceSide] += source.count.Load()
			t.rows[storeSide] += store.count.Load()
		}
		if !source.equal(store) {
			t.differing = append(t.differing, uint32(n))
			t.keys += source.count.Load() + store.count.Load()
		}
	}
}

// cut prepares another pass, over smaller parts; it returns false if there are
// too many that differ.
func (t *tableState) cut() bool {
	split := uint64(parts / len(t.differing))
	if split < 2 {
		return false
	}
	l := level{place: make(map[uint32]uint32, len(t.differing)), split: split}
	for i, n := range t.differing {
		l.place[n] = uint32(i)
	}
	t.levels = append(t.levels, l)
	t.begin()
	return true
}

// choose picks the parts whose keys are held: as many as there is room for.
func (t *tableState) choose(room uint64) {
	t.chosen, t.held = map[uint32]bool{}, map[string]*pair{}
	for _, n := range t.differing {
		// All keys may be different ones.
		keys := t.sums[sourceSide][n].count.Load() + t.sums[storeSide][n].count.Load()
		if keys > room {
			t.left++
			t.leftRows += keys
			continue
		}
		room -= keys
		t.chosen[n] = true
	}
}

// narrow looks at the sums after a pass. It returns true if another one is needed,
// over smaller parts; else the keys to hold are chosen. Each table that differs
// has the same share of them.
func (c *comparison) narrow(further bool) bool {
	differ := 0
	for i := range c.tables {
		t := &c.tables[i]
		if t.open {
			t.look()
			t.open = false
		}
		if len(t.differing) > 0 {
			differ++
		}
	}
	if differ == 0 {
		return false
	}
	room := uint64(max(c.cfg.MaxKeys/differ, 1))
	again := false
	for i := range c.tables {
		if t := &c.tables[i]; further && t.keys > room && t.cut() {
			again = true
		}
	}
	if again {
		return true
	}
	for i := range c.tables {
		c.tables[i].choose(room)
	}
	return false
}

// both reads the two sides at once.
func (c *comparison) both(ctx context.Context, source, store Side, wanted func(int) bool, fn func(side int, r *Row) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for side, from := range [...]Side{sourceSide: source, storeSide: store} {
		group.Go(func() error {
			return from.Rows(ctx, wanted, func(r *Row) error {
				if r.Table < 0 || r.Table >= len(c.tables) || !r.Broken && len(r.Cells) != len(c.cfg.Tables[r.Table].Columns) {
					return fmt.Errorf("compare: a row of table %d has %d columns", r.Table, len(r.Cells))
				}
				return fn(side, r)
			})
		})
	}
	return group.Wait()
}

// hash returns the row's hash of 128 bits.
func (c *comparison) hash(r *Row) (a, b uint64) {
	s := binary.AppendUvarint(r.scratch[:0], uint64(len(r.Key)))
	s = append(s, r.Key...)
	for i := range r.Cells {
		s = append(s, byte(r.Cells[i].Kind))
		if r.Cells[i].Kind == Text {
			s = binary.AppendUvarint(s, uint64(len(r.Cells[i].Text)))
			s = append(s, r.Cells[i].Text...)
		}
	}
	if r.Broken {
		s = append(s, 0xff)
	}
	r.scratch = s
	return maphash.Bytes(c.a, s), maphash.Bytes(c.b, s)
}

func (c *comparison) locate(r *Row) (uint32, bool) {
	return c.tables[r.Table].locate(maphash.Bytes(c.a, r.Key))
}

// add adds a row to the sums of a pass.
func (c *comparison) add(side int, r *Row) error {
	t := &c.tables[r.Table]
	if !t.open {
		return nil
	}
	n, ok := c.locate(r)
	if !ok {
		return nil
	}
	a, b := c.hash(r)
	p := &t.sums[side][n]
	p.count.Add(1)
	p.a.Add(a)
	p.b.Add(b)
	return nil
}

// hold keeps what the last pass sees of the chosen parts.
func (c *comparison) hold(side int, r *Row) error {
	t := &c.tables[r.Table]
	if n, ok := c.locate(r); !ok || !t.chosen[n] {
		return nil
	}
	a, b := c.hash(r)
	var columns []uint32
	if !r.Broken {
		columns = make([]uint32, len(r.Cells))
		for i := range r.Cells {
			r.scratch = append(append(r.scratch[:0], byte(r.Cells[i].Kind)), r.Cells[i].Text...)
			columns[i] = uint32(maphash.Bytes(c.b, r.scratch))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := t.held[string(r.Key)]
	if p == nil {
		p = new(pair)
		t.held[string(r.Key)] = p
	}
	h := &p[side]
	h.count++
	h.a += a
	h.b += b
	h.columns, h.broken = columns, h.broken || r.Broken
	return nil
}

// report makes the report of what the passes found.
func (c *comparison) report() *Report {
	out := &Report{Tables: make([]TableReport, len(c.tables))}
	for i := range c.tables {
		t, r := &c.tables[i], &out.Tables[i]
		r.Name, r.SourceRows, r.StoreRows = c.cfg.Tables[i].Name, t.rows[sourceSide], t.rows[storeSide]
		r.UnnamedParts, r.UnnamedRows = t.left, t.leftRows
		for key, p := range t.held {
			if d, differs := p.difference(c.cfg.Tables[i].Columns); differs {
				d.Key = []byte(key)
				r.Differences = append(r.Differences, d)
			}
		}
		slices.SortFunc(r.Differences, func(a, b Difference) int { return bytes.Compare(a.Key, b.Key) })
	}
	return out
}

func (p *pair) difference(names []string) (d Difference, differs bool) {
	source, store := &p[sourceSide], &p[storeSide]
	switch {
	case source.count == store.count && source.a == store.a && source.b == store.b:
		return d, false
	case store.broken:
		d.Kind = Unreadable
	case store.count == 0:
		d.Kind = Missing
	case source.count == 0:
		d.Kind = Extra
	case source.count != store.count:
		d.Kind = Repeated
	default:
		d.Kind = Different
		for i := range min(len(source.columns), len(store.columns), len(names)) {
			if source.columns[i] != store.columns[i] {
				d.Columns = append(d.Columns, names[i])
			}
		}
	}
	return d, true
}
