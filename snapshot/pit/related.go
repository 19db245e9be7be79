package pit

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"os"
	"slices"
	"strings"

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
// memory up to a budget, taken apart already, so that joiners share them; the rest
// in a temporary file that has no name any more. The index is in memory, 20 bytes
// for each entity and relation and 16 for each entity, beside the budget; it holds
// hashes, which a reader verifies.
type RelatedStore struct {
	seed     maphash.Seed
	asOf     change.Version
	horizon  change.Version
	budget   int64
	held     []history.Entity // those in memory
	rows     slab[history.Row]
	versions slab[history.Version]
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
	s.held, s.indexes, s.places, s.chunk = nil, nil, nil, nil
	s.rows, s.versions = slab[history.Row]{}, slab[history.Version]{}
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
		return &s.held[p.offset], nil
	}
	data := make([]byte, p.length)
	if _, err := s.file.ReadAt(data, p.offset); err != nil {
		return nil, fmt.Errorf("read related entity %d from %s: %w", number, s.file.Name(), err)
	}
	return decodeEntity(data)
}

func (s *RelatedStore) holds(number uint64) bool { return s.places[number].length == 0 }

// hold keeps a copy of a history in memory, if there is room for it.
func (s *RelatedStore) hold(e *history.Entity) bool {
	size := bytesOf(e)
	if s.file != nil || s.used+size > s.budget {
		return false
	}
	s.used += size
	copied := history.Entity{ID: strings.Clone(e.ID), Rows: s.rows.take(len(e.Rows))}
	for i := range e.Rows {
		from, to := &e.Rows[i], &copied.Rows[i]
		*to = history.Row{Table: from.Table, Versions: s.versions.take(len(from.Versions))}
		copy(to.Versions, from.Versions)
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
	s.held = append(s.held, copied)
	return true
}

// spill writes an encoded history to the temporary file.
func (s *RelatedStore) spill(data []byte, dir string) error {
	if uint64(len(data)) > 1<<32-1 {
		return fmt.Errorf("history of a related entity has %d bytes, more than the 4 GiB that are possible", len(data))
	}
	if s.file == nil {
		f, err := os.CreateTemp(dir, "related-*.tmp")
		if err != nil {
			return fmt.Errorf("create temporary file: %w", err)
		}
		s.file = f
		// Without a name the file goes with the process, however that ends. Where
		// an open file cannot be removed, Close does it.
		_ = os.Remove(f.Name())
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
	if !s.hold(e) {
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

// The form in which a history is kept, all numbers varints:
//
//	entity  = id length | id | row count | row × count
//	row     = table | version count | version × count
//	version = version | ordinal | known − version (signed) | flags | length | data
const (
	flagBackfilled = 1 << iota
	flagDeleted
	flagMoved
	flagArrived
)

func appendEntity(dst []byte, e *history.Entity) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(e.ID)))
	dst = append(dst, e.ID...)
	dst = binary.AppendUvarint(dst, uint64(len(e.Rows)))
	for i := range e.Rows {
		r := &e.Rows[i]
		dst = binary.AppendUvarint(dst, uint64(r.Table))
		dst = binary.AppendUvarint(dst, uint64(len(r.Versions)))
		for k := range r.Versions {
			v := &r.Versions[k]
			dst = binary.AppendUvarint(dst, uint64(v.Version))
			dst = binary.AppendUvarint(dst, uint64(v.Ordinal))
			dst = binary.AppendVarint(dst, v.Known-int64(v.Version))
			var flags uint64
			for i, set := range [...]bool{v.Backfilled, v.Deleted, v.Moved, v.Arrived} {
				if set {
					flags |= 1 << i
				}
			}
			dst = binary.AppendUvarint(dst, flags)
			dst = binary.AppendUvarint(dst, uint64(len(v.Data)))
			dst = append(dst, v.Data...)
		}
	}
	return dst
}

// errHistory says that a kept history cannot be read back.
var errHistory = errors.New("kept history of a related entity is corrupt")

// decodeEntity reads what appendEntity wrote; the entity borrows data.
func decodeEntity(data []byte) (*history.Entity, error) {
	bad := false
	number := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			bad, data = true, nil
			return 0
		}
		data = data[n:]
		return v
	}
	bytes := func() []byte {
		n := number()
		if n > uint64(len(data)) {
			bad, data = true, nil
			return nil
		}
		b := data[:n:n]
		data = data[n:]
		return b
	}
	e := &history.Entity{ID: string(bytes())}
	rows := number()
	if rows > uint64(len(data)) {
		return nil, errHistory
	}
	e.Rows = make([]history.Row, 0, rows)
	for range rows {
		r := history.Row{Table: uint16(number())}
		versions := number()
		if versions > uint64(len(data)) {
			return nil, errHistory
		}
		r.Versions = make([]history.Version, versions)
		for i := range r.Versions {
			v := &r.Versions[i]
			v.Version = change.Version(number())
			v.Ordinal = uint32(number())
			zigzag := number()
			v.Known = int64(v.Version) + (int64(zigzag>>1) ^ -int64(zigzag&1))
			flags := number()
			v.Backfilled, v.Deleted, v.Moved = flags&flagBackfilled != 0, flags&flagDeleted != 0, flags&flagMoved != 0
			v.Arrived = flags&flagArrived != 0
			v.Data = bytes()
		}
		e.Rows = append(e.Rows, r)
	}
	if bad || len(data) != 0 {
		return nil, errHistory
	}
	return e, nil
}
