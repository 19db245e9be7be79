package online

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// maxSlots bounds the entities that have a number of those kinds of which there
// is no index; the histories of further ones are read each time.
const maxSlots = 1 << 16

// base is what stays when the store goes on: the compiled program, an index of
// related entities, and the joiners with what they have decoded of those. It is
// made anew when the program must be compiled anew, or the index has lost count.
type base struct {
	program *pit.Program
	info    history.Info
	joiners *joiners
	keys    *pit.KeyReader // used by who advances
	indexed map[string]bool

	mu   sync.RWMutex
	seed maphash.Seed
	// slots are the entities that have a number; they are never taken back.
	slots []slot
	ids   map[entityRef]uint32 // place in slots
	// heads leads from the hash of (relation, key) to the newest link, whose next
	// leads on; 0 is none, n is link n−1.
	heads map[uint64]uint32
	links []link
	// unsure are the moments of pit.Related.Unsure, by relation: of each slot that
	// has one, and the latest.
	unsure []map[uint32]int64
	until  []int64
	fallen bool // until may be too late
	// newest is the moment up to which touches are known.
	newest change.Version
}

// entityRef names an entity.
type entityRef struct{ kind, id string }

// slot is an entity with the number that stands for its history. A number that
// is the slot's place and stamp stands for the history as of any moment from
// touched on, until the entity is touched again.
type slot struct {
	entityRef
	stamp   uint32
	touched change.Version
}

type link struct{ slot, next uint32 }

func newBase(program *pit.Program, info history.Info, workers int, cacheBytes int64) *base {
	_, indexed := program.RelatedKinds()
	b := &base{
		program: program, info: info, keys: program.KeyReader(), indexed: indexed,
		seed: maphash.MakeSeed(), ids: map[entityRef]uint32{}, heads: map[uint64]uint32{},
	}
	b.unsure, b.until = make([]map[uint32]int64, program.Relations()), make([]int64, program.Relations())
	b.joiners = newJoiners(b, workers, cacheBytes)
	return b
}

// fits says whether the program holds for a view. Names and slots of a store do
// not change while it is open, its birth and gaps do.
func (b *base) fits(info *history.Info) bool {
	return b.info.Birth == info.Birth && slices.Equal(b.info.Gaps, info.Gaps) &&
		slices.EqualFunc(b.info.Tables, info.Tables, func(x, y history.Table) bool {
			return x.ID == y.ID && x.Name == y.Name && len(x.Columns) == len(y.Columns)
		})
}

// build reads all entities of the kinds that need an index.
func (b *base) build(ctx context.Context, view pit.View) error {
	b.newest = view.Info().AsOf
	kinds, _ := b.program.RelatedKinds()
	for _, kind := range kinds {
		if !b.indexed[kind] {
			continue
		}
		ranges, err := view.Ranges(ctx, kind, 1)
		if err != nil {
			return fmt.Errorf("index the related rows of %s: %w", kind, err)
		}
		for _, r := range ranges {
			err := view.Scan(ctx, kind, r, func(e *history.Entity) error { return b.touch(kind, e.ID, e) })
			if err != nil {
				return fmt.Errorf("index the related rows of %s: %w", kind, err)
			}
		}
	}
	return nil
}

// update takes in what was touched since the moment before.
func (b *base) update(ctx context.Context, view pit.View, touched []entityRef) error {
	b.mu.Lock()
	b.newest = view.Info().AsOf
	b.mu.Unlock()
	for _, ref := range touched {
		var e *history.Entity
		if b.indexed[ref.kind] {
			var err error
			if e, err = view.Entity(ctx, ref.kind, ref.id); err != nil {
				return fmt.Errorf("read a related %s that changed: %w", ref.kind, err)
			}
		}
		if err := b.touch(ref.kind, ref.id, e); err != nil {
			return err
		}
	}
	b.settle()
	return nil
}

// touch takes in an entity as it is at b.newest: its keys, and a new number. It
// is called by who advances alone.
func (b *base) touch(kind, id string, e *history.Entity) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ref := entityRef{kind, id}
	at, known := b.ids[ref]
	switch {
	case known:
		b.slots[at].stamp++
		b.slots[at].touched = b.newest
	case !b.indexed[kind]:
		return nil // nobody has asked for it
	default:
		at = b.add(ref)
	}
	if !b.indexed[kind] || e == nil {
		return nil
	}
	return b.keys.Each(kind, e, func(relation int, key []byte) { b.link(relation, key, at) }, func(relation int, until int64) { b.doubt(relation, until, at) })
}

// doubt notes until when a column that a slot is found by was not captured.
func (b *base) doubt(relation int, until int64, at uint32) {
	before := b.unsure[relation][at]
	switch {
	case until == before:
		return
	case until == 0:
		delete(b.unsure[relation], at)
	default:
		if b.unsure[relation] == nil {
			b.unsure[relation] = map[uint32]int64{}
		}
		b.unsure[relation][at] = until
	}
	b.until[relation] = max(b.until[relation], until)
	b.fallen = b.fallen || until < before
}

// settle brings the moments of Unsure down to those that are left.
func (b *base) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fallen {
		return
	}
	b.fallen = false
	for relation, slots := range b.unsure {
		b.until[relation] = 0
		for _, until := range slots {
			b.until[relation] = max(b.until[relation], until)
		}
	}
}

// add gives an entity a number.
func (b *base) add(ref entityRef) uint32 {
	at := uint32(len(b.slots))
	b.slots = append(b.slots, slot{entityRef: ref, touched: b.newest})
	b.ids[ref] = at
	return at
}

// link adds a key of a relation, once.
func (b *base) link(relation int, key []byte, at uint32) {
	h := b.hash(relation, key)
	for n := b.heads[h]; n != 0; n = b.links[n-1].next {
		if b.links[n-1].slot == at {
			return
		}
	}
	b.links = append(b.links, link{slot: at, next: b.heads[h]})
	b.heads[h] = uint32(len(b.links))
}

func (b *base) hash(relation int, key []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	_ = h.WriteByte(byte(relation)) // relations are few; more would only find too much
	_, _ = h.Write(key)
	return h.Sum64()
}

// size is the number of entities and of their keys.
func (b *base) size() (entities, keys int) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.slots), len(b.links)
}

// once begins the numbers that stand for a history as it is read for one
// question: they are never given again.
const once = 1 << 63

// lookup is the pit.Related of one joiner: of the question at hand.
type lookup struct {
	ctx   context.Context
	base  *base
	view  pit.View
	asOf  change.Version
	once  map[uint64]entityRef
	refs  map[entityRef]uint64 // the same, the other way round
	given *atomic.Uint64       // numbers that are given once
}

// begin turns to another question.
func (l *lookup) begin(ctx context.Context, m *moment) {
	l.ctx, l.view, l.asOf = ctx, m.view, m.version
	clear(l.once)
	clear(l.refs)
}

// end lets go of it.
func (l *lookup) end() { l.ctx, l.view = nil, nil }

// Find implements pit.Related.
func (l *lookup) Find(numbers []uint64, relation int, key []byte) ([]uint64, error) {
	b := l.base
	kind, byID := b.program.Relation(relation)
	b.mu.RLock()
	defer b.mu.RUnlock()
	if byID {
		at, ok := b.ids[entityRef{kind, string(key)}]
		switch {
		case ok:
			return append(numbers, l.number(at)), nil
		case b.indexed[kind]:
			return numbers, nil // every entity of the kind has a number
		}
		return append(numbers, l.giveOnce(entityRef{kind, string(key)})), nil
	}
	for n := b.heads[b.hash(relation, key)]; n != 0; n = b.links[n-1].next {
		numbers = append(numbers, l.number(b.links[n-1].slot))
	}
	return numbers, nil
}

// Unsure implements pit.Related.
func (l *lookup) Unsure(relation int) int64 {
	l.base.mu.RLock()
	defer l.base.mu.RUnlock()
	return l.base.until[relation]
}

// number is that of a slot, if the history as of the question's moment is what
// it stands for.
func (l *lookup) number(at uint32) uint64 {
	s := &l.base.slots[at]
	if s.touched > l.asOf {
		return l.giveOnce(s.entityRef)
	}
	return uint64(at)<<32 | uint64(s.stamp)
}

func (l *lookup) giveOnce(ref entityRef) uint64 {
	n, ok := l.refs[ref]
	if !ok {
		n = once | l.given.Add(1)
		l.once[n], l.refs[ref] = ref, n
	}
	return n
}

// Entity implements pit.Related.
func (l *lookup) Entity(number uint64) (*history.Entity, error) {
	ref, alone := l.once[number]
	if !alone {
		l.base.mu.RLock()
		ref = l.base.slots[number>>32].entityRef
		l.base.mu.RUnlock()
	}
	e, err := l.view.Entity(l.ctx, ref.kind, ref.id)
	if err != nil {
		return nil, fmt.Errorf("read a related %s: %w", ref.kind, err)
	}
	if e == nil {
		return &history.Entity{ID: ref.id}, nil
	}
	if alone {
		l.base.remember(ref)
	}
	return e, nil
}

// remember gives an entity that is there a number, for the next question.
func (b *base) remember(ref entityRef) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.ids[ref]; !known && !b.indexed[ref.kind] && len(b.slots) < maxSlots {
		b.add(ref)
	}
}
