package pit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"os"
	"slices"
	"strings"
	"sync"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

// Related finds entities whose rows belong to examples of others, such as the
// thing that an offer offers. It is safe for concurrent use; what it returns does
// not change.
type Related interface {
	// Find appends the numbers of the entities that may have a row that
	// matches key in a relation of the program: whose columns had these values
	// in any version. It may append others too.
	Find(numbers []uint64, relation int, key []byte) ([]uint64, error)
	// Unsure is the moment, in µs, before which some row of a relation that does
	// not go by an entity's id had not captured a column that it is found by
	// (since the definition was widened): what is looked up there before is
	// inexact. It is 0 if there is none, the usual thing.
	Unsure(relation int) int64
	// Entity returns the entity of a number that Find gave.
	Entity(number uint64) (*history.Entity, error)
}

// RelatedStore is a Related made of one scan of a view. Histories are kept in
// memory up to half of a budget, taken apart already, so that joiners share them.
// Of those beyond that only the heads of the versions are, up to the whole budget,
// so that a joiner finds the one version that it needs, and reads the data of that
// alone from a temporary file that has no name any more. The rest is in the file
// as a whole. The index is in memory, 20 bytes for each entity and relation and 16
// for each entity, beside the budget; it holds hashes, which a reader verifies.
type RelatedStore struct {
	seed     maphash.Seed
	asOf     change.Version
	horizon  change.Version
	budget   int64
	held     []heldEntity
	rows     slab[history.Row]
	versions slab[history.Version]
	lent     slab[lentRow]
	spilled  slab[spilledRow]
	known    slab[int64]
	ends     slab[uint32]
	lentOut  uint64 // versions in held
	sharing  sync.Once
	shared   *derivedStore
	chunk    []byte // data of versions
	used     int64
	file     *os.File
	written  int64
	pending  []byte // what is to be written to the file next
	places   []place
	late     map[string]*Lateness
	// indexes are the relations' keys, by hash.
	indexes []index
	unsure  []int64 // by relation
}

// place is where a history stands: in memory, as held[offset], if the length is
// 0, else in the file, encoded.
type place struct {
	offset int64
	length uint32
}

// heldEntity is an entity in memory. If it is spilled, the data of the versions are
// in the file.
type heldEntity struct {
	history.Entity
	rows    []lentRow
	spilled bool
}

// index finds numbers by hash. Hashes are spread evenly, so that those that begin
// with the same bits, as many as there are entries, are few: starts says where.
type index struct {
	list   []indexed // by hash, then number
	starts []uint32
}

func (x *index) sort() {
	slices.SortFunc(x.list, func(a, b indexed) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.number, b.number))
	})
	x.starts = make([]uint32, len(x.list)+1)
	for i := len(x.list) - 1; i >= 0; i-- {
		x.starts[x.place(x.list[i].hash)] = uint32(i)
	}
	// What begins nowhere begins where the next does.
	next := uint32(len(x.list))
	for i := len(x.starts) - 1; i >= 0; i-- {
		if at := x.starts[i]; int(at) < len(x.list) && x.place(x.list[at].hash) == i {
			next = at
		}
		x.starts[i] = next
	}
}

// place is the place of a hash among len(list) ones that are spread evenly.
func (x *index) place(hash uint64) int {
	hi, _ := bits.Mul64(hash, uint64(len(x.list)))
	return int(hi)
}

type indexed struct {
	hash   uint64
	number uint32
}

const (
	memoryChunk = 1 << 20
	writeChunk  = 1 << 20
)

// LoadRelated reads the entities that the definition's rows are found among,
// each kind once. Of their histories budget bytes stay in memory, the others go
// to a temporary file in dir. With no row that is found by match it reads
// nothing. Only the versions from the horizon to the as-of moment of o are kept,
// which must be those of the joiners. The caller closes the store.
func LoadRelated(ctx context.Context, view View, def *definition.Definition, o Options, dir string, budget int64) (*RelatedStore, error) {
	info := view.Info()
	if o.AsOf == 0 {
		o.AsOf = info.AsOf
	}
	tables, byID, err := catalog(def, &info)
	if err != nil {
		return nil, fmt.Errorf("load related rows: %w", err)
	}
	rels, err := relations(def, tables)
	if err != nil {
		return nil, fmt.Errorf("load related rows: %w", err)
	}
	s := &RelatedStore{seed: maphash.MakeSeed(), asOf: o.AsOf, horizon: o.horizon(), budget: budget, indexes: make([]index, len(rels)), unsure: make([]int64, len(rels))}
	if err := s.scan(ctx, view, def, rels, byID, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("load related rows: %w", err), s.Close())
	}
	for i := range s.indexes {
		s.indexes[i].sort()
	}
	return s, nil
}

func (s *RelatedStore) scan(ctx context.Context, view View, def *definition.Definition, rels []relation, byID []*table, dir string) error {
	var kinds []string
	for i := range rels {
		if kind := rels[i].table.def.Entity; !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	watch := newStopwatch(def, s.horizon)
	for _, kind := range kinds {
		l := &loading{store: s, kind: kind, rels: rels, byID: byID, dir: dir}
		if example := def.Table(def.Example.Table); example == nil || example.Entity != kind {
			l.watch = watch
		}
		ranges, err := view.Ranges(ctx, kind, 1)
		if err != nil {
			return fmt.Errorf("ranges of %s: %w", kind, err)
		}
		for _, r := range ranges {
			if err := view.Scan(ctx, kind, r, l.entity); err != nil {
				return fmt.Errorf("scan of %s: %w", kind, err)
			}
		}
	}
	s.late = watch.found
	s.chunk = nil
	return s.flush()
}

// Close gives the memory and the temporary file back.
func (s *RelatedStore) Close() error {
	s.held, s.indexes, s.places, s.chunk, s.shared = nil, nil, nil, nil, nil
	s.rows, s.versions = slab[history.Row]{}, slab[history.Version]{}
	s.lent, s.spilled, s.known, s.ends = slab[lentRow]{}, slab[spilledRow]{}, slab[int64]{}, slab[uint32]{}
	if s.file == nil {
		return nil
	}
	name := s.file.Name()
	err := s.file.Close()
	s.file = nil
	if e := os.Remove(name); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// Lateness is that of the related tables, by name, of entities of another kind
// than the examples': a Joiner counts those of the examples' own.
func (s *RelatedStore) Lateness() map[string]*Lateness { return s.late }

// Spilled is the number of bytes in the temporary file.
func (s *RelatedStore) Spilled() int64 { return s.written }

// Find implements Related.
func (s *RelatedStore) Find(numbers []uint64, relation int, key []byte) ([]uint64, error) {
	x := &s.indexes[relation]
	hash := maphash.Bytes(s.seed, key)
	for i := int(x.starts[x.place(hash)]); i < len(x.list) && x.list[i].hash <= hash; i++ {
		if x.list[i].hash == hash {
			numbers = append(numbers, uint64(x.list[i].number))
		}
	}
	return numbers, nil
}

// Unsure implements Related.
func (s *RelatedStore) Unsure(relation int) int64 { return s.unsure[relation] }

// Entity implements Related.
func (s *RelatedStore) Entity(number uint64) (*history.Entity, error) {
	if number >= uint64(len(s.places)) {
		return nil, fmt.Errorf("read related entity %d: there are %d", number, len(s.places))
	}
	p := s.places[number]
	if p.length == 0 {
		h := &s.held[p.offset]
		if !h.spilled {
			return &h.Entity, nil
		}
		e, err := readRows(&h.Entity, h.rows)
		if err != nil {
			return nil, fmt.Errorf("read related entity %d: %w", number, err)
		}
		return e, nil
	}
	data := make([]byte, p.length)
	if _, err := s.file.ReadAt(data, p.offset); err != nil {
		return nil, fmt.Errorf("read related entity %d from %s: %w", number, s.file.Name(), err)
	}
	return decodeEntity(data)
}

// lend implements lender.
func (s *RelatedStore) lend(number uint64) (*history.Entity, []lentRow) {
	if number >= uint64(len(s.places)) || s.places[number].length != 0 {
		return nil, nil
	}
	h := &s.held[s.places[number].offset]
	return &h.Entity, h.rows
}

// derived implements lender. The first program has it, for joins as of the moment
// of the store: what a version shows may rest on newer ones.
func (s *RelatedStore) derived(p *Program, o Options) *derivedStore {
	if o.AsOf != s.asOf || o.horizon() != s.horizon {
		return nil
	}
	s.sharing.Do(func() { s.shared = newDerivedStore(p, s.lentOut, derivedBytes) })
	if s.shared.program != p {
		return nil
	}
	return s.shared
}

// hold keeps a copy of a history in memory, or of the heads of its versions, if
// there is room for that.
func (s *RelatedStore) hold(e *history.Entity, dir string) (held bool, err error) {
	size, data := bytesOf(e)
	size += bytesOfLent(e)
	whole := s.used+size <= s.budget/2
	if !whole {
		size += bytesOfSpilled(e) - data
		if data > math.MaxUint32 || s.used+size > s.budget {
			return false, nil
		}
		if err := s.open(dir); err != nil {
			return false, err
		}
	}
	s.used += size
	h := heldEntity{Entity: history.Entity{ID: strings.Clone(e.ID), Rows: s.rows.take(len(e.Rows))}, rows: s.lent.take(len(e.Rows)), spilled: !whole}
	for i := range e.Rows {
		from, to := &e.Rows[i], &h.Rows[i]
		*to = history.Row{Table: from.Table, Versions: s.versions.take(len(from.Versions))}
		h.rows[i].first = s.lentOut
		s.lentOut += uint64(len(from.Versions))
		copy(to.Versions, from.Versions)
		if len(to.Versions) > manyVersions && ordered(to.Versions) {
			h.rows[i].known = s.known.take(len(to.Versions))
			for k := range to.Versions {
				h.rows[i].known[k] = to.Versions[k].Known
			}
			exotic := func(v history.Version) bool { return v.Deleted || v.Backfilled }
			if h.rows[i].plain = slices.IndexFunc(to.Versions, exotic); h.rows[i].plain < 0 {
				h.rows[i].plain = len(to.Versions)
			}
		}
		if !whole {
			h.rows[i].data = &s.spilled.take(1)[0]
			if err := s.spillRow(to.Versions, h.rows[i].data); err != nil {
				return false, err
			}
			continue
		}
		for k := range to.Versions {
			v := &to.Versions[k]
			if cap(s.chunk)-len(s.chunk) < len(v.Data) {
				s.chunk = make([]byte, 0, max(len(v.Data), min(memoryChunk, int(s.budget))))
			}
			at := len(s.chunk)
			s.chunk = append(s.chunk, v.Data...)
			v.Data = s.chunk[at:len(s.chunk):len(s.chunk)]
		}
	}
	s.places = append(s.places, place{int64(len(s.held)), 0})
	s.held = append(s.held, h)
	return true, nil
}

// spillRow writes the data of a row's versions to the temporary file.
func (s *RelatedStore) spillRow(versions []history.Version, to *spilledRow) error {
	*to = spilledRow{file: s.file, offset: s.written + int64(len(s.pending)), ends: s.ends.take(len(versions))}
	end := uint32(0)
	for i := range versions {
		s.pending = append(s.pending, versions[i].Data...)
		end += uint32(len(versions[i].Data))
		to.ends[i], versions[i].Data = end, nil
	}
	if len(s.pending) >= writeChunk {
		return s.flush()
	}
	return nil
}

// open creates the temporary file, if there is none.
func (s *RelatedStore) open(dir string) error {
	if s.file != nil {
		return nil
	}
	f, err := os.CreateTemp(dir, "related-*.tmp")
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	s.file = f
	// Without a name the file goes with the process, however that ends. Where
	// an open file cannot be removed, Close does it.
	_ = os.Remove(f.Name())
	return nil
}

// spill writes an encoded history to the temporary file.
func (s *RelatedStore) spill(data []byte, dir string) error {
	if uint64(len(data)) > 1<<32-1 {
		return fmt.Errorf("history of a related entity has %d bytes, more than the 4 GiB that are possible", len(data))
	}
	if err := s.open(dir); err != nil {
		return err
	}
	s.places = append(s.places, place{s.written + int64(len(s.pending)), uint32(len(data))})
	s.pending = append(s.pending, data...)
	if len(s.pending) >= writeChunk {
		return s.flush()
	}
	return nil
}

func (s *RelatedStore) flush() error {
	if len(s.pending) == 0 {
		return nil
	}
	n, err := s.file.WriteAt(s.pending, s.written)
	if err != nil {
		return fmt.Errorf("write related rows to %s: %w", s.file.Name(), err)
	}
	s.written += int64(n)
	s.pending = s.pending[:0]
	return nil
}

// loading takes in the entities of one kind.
type loading struct {
	store *RelatedStore
	kind  string
	rels  []relation
	byID  []*table
	dir   string
	data  []byte
	keys  keyReader
	watch *stopwatch    // nil where joiners count
	rows  []history.Row // of the entity at hand, those that are kept
}

func (l *loading) entity(e *history.Entity) error {
	s := l.store
	number := uint32(len(s.places))
	if e = l.seen(e); len(e.Rows) == 0 {
		return nil
	}
	if l.watch != nil {
		if err := l.watch.entity(e, l.byID); err != nil {
			return err
		}
	}
	held, err := s.hold(e, l.dir)
	if err != nil {
		return err
	}
	if !held {
		l.data = appendEntity(l.data[:0], e)
		if err := s.spill(l.data, l.dir); err != nil {
			return err
		}
	}
	for n := range l.rels {
		rel := &l.rels[n]
		if rel.table.def.Entity != l.kind {
			continue
		}
		if rel.byEntity >= 0 {
			x := &s.indexes[n]
			x.list = append(x.list, indexed{maphash.String(s.seed, e.ID), number})
			continue
		}
		list := &s.indexes[n].list
		from := len(*list)
		for i := range e.Rows {
			if e.Rows[i].Table != rel.table.info.ID {
				continue
			}
			unsure, err := l.keys.each(&e.Rows[i], rel, func(key []byte) {
				x := indexed{maphash.Bytes(s.seed, key), number}
				if !slices.Contains((*list)[from:], x) {
					*list = append(*list, x)
				}
			})
			if err != nil {
				return err
			}
			s.unsure[n] = max(s.unsure[n], unsure)
		}
	}
	return nil
}

// seen is what a join may look at of an entity: the rows that relations find,
// from the horizon on. It is overwritten by the next.
func (l *loading) seen(e *history.Entity) *history.Entity {
	l.rows = l.rows[:0]
	for i := range e.Rows {
		r := e.Rows[i]
		if int(r.Table) >= len(l.byID) || l.byID[r.Table] == nil ||
			!slices.ContainsFunc(l.rels, func(rel relation) bool { return rel.table == l.byID[r.Table] }) {
			continue
		}
		if r.Versions = look(r.Versions, l.store.asOf, l.store.horizon); len(r.Versions) > 0 {
			l.rows = append(l.rows, r)
		}
	}
	return &history.Entity{ID: e.ID, Rows: l.rows}
}
