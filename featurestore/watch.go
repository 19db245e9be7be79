package featurestore

import (
	"slices"
	"sync"

	"dreamfeed/internal/change"
)

// Newest returns the newest closed moment, that of View(0), without a view. It
// fails with ErrEmpty before the first backfill is complete.
func (s *Store) Newest() (change.Version, error) { return s.published.Load().state.moment(0) }

// Watch notes which entities of some kinds the store writes rows of, for who
// keeps something made of them in memory. It holds at most limit entities that
// nobody took; with more it forgets them all and says so.
type Watch struct {
	store    *Store
	kinds    [256]bool
	tables   map[uint16]bool // of those kinds, by number
	entities []string        // by kind
	limit    int

	mu sync.Mutex
	// touched has the versions of each, by kind and encoded id.
	touched map[string]period
	// lost has the versions at which it is not known what was touched.
	lost period
}

// period is from the oldest to the newest of some versions; the zero one is none.
type period struct{ from, to change.Version }

func (p period) with(v change.Version) period {
	if p.to == 0 {
		return period{v, v}
	}
	return period{min(p.from, v), max(p.to, v)}
}

// after is what is left of it after a moment.
func (p period) after(v change.Version) period {
	if p.to <= v {
		return period{}
	}
	return period{max(p.from, v+1), p.to}
}

// watches are those that are open. Their lock is held while a group is noted
// and shown, so that a watch knows of everything that becomes visible after it
// was begun.
type watches struct {
	mu   sync.Mutex
	list []*Watch
}

// Watch begins to watch entity kinds, which the catalog must have. Everything
// that a view taken afterwards shows and one taken before does not is noted. The
// caller closes it.
func (s *Store) Watch(entities []string, limit int) (*Watch, error) {
	w := &Watch{store: s, limit: max(limit, 1), entities: make([]string, 256), tables: map[uint16]bool{}, touched: map[string]period{}}
	for _, e := range entities {
		k := s.catalog.kind(e)
		if k <= noKind {
			return nil, &EntityError{Entity: e}
		}
		w.kinds[k], w.entities[k] = true, e
	}
	for i := range s.catalog.Tables {
		if t := &s.catalog.Tables[i]; slices.Contains(entities, t.Entity) {
			w.tables[t.ID] = true
		}
	}
	s.watches.mu.Lock()
	defer s.watches.mu.Unlock()
	s.watches.list = append(s.watches.list, w)
	return w, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	w.store.watches.mu.Lock()
	defer w.store.watches.mu.Unlock()
	w.store.watches.list = slices.DeleteFunc(w.store.watches.list, func(o *Watch) bool { return o == w })
}

// Take calls fn with every entity of which a row was written since it was taken
// last, and forgets those whose newest version is at or before asOf. One that an
// open transaction has written is told at once, and again until it is closed.
//
// It returns false if it does not know all that changed up to asOf: too many
// were touched since the last call, or a table was truncated. Then everything
// may have changed, and fn is not called.
func (w *Watch) Take(asOf change.Version, fn func(entity, id string)) (whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	whole = w.lost.to == 0 || asOf < w.lost.from
	if !whole {
		w.lost = w.lost.after(asOf)
	}
	for key, p := range w.touched {
		if whole {
			fn(w.entities[key[0]], string(appendIDText(nil, []byte(key[1:]))))
		}
		if p = p.after(asOf); p.to == 0 {
			delete(w.touched, key)
		} else {
			w.touched[key] = p
		}
	}
	return whole
}

// show publishes what a group that is written says, after telling the watches.
func (s *Store) show(g *group) {
	s.watches.mu.Lock()
	defer s.watches.mu.Unlock()
	for _, w := range s.watches.list {
		w.note(g)
	}
	s.publish(g.state, g.voids)
}

// note takes in a group. Pieces of values and what is no row are passed over.
func (w *Watch) note(g *group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range g.entries {
		e := &g.entries[i]
		if e.removed {
			continue
		}
		key := g.bytes(e.key)
		switch {
		case key[0] == prefixRow && e.prefix > 0 && w.kinds[key[1]]:
			n := skipPlace(key[1:])
			if n < 0 {
				continue
			}
			v, _ := suffix(key)
			if len(w.touched) >= w.limit {
				if _, ok := w.touched[string(key[1:1+n])]; !ok {
					w.forget()
				}
			}
			w.touched[string(key[1:1+n])] = w.touched[string(key[1:1+n])].with(v)
		case key[0] == prefixTruncate:
			if table, v, _, ok := parseTruncateKey(key); ok && w.tables[table] {
				w.lost = w.lost.with(v)
			}
		}
	}
}

// forget gives up what was noted.
func (w *Watch) forget() {
	for _, p := range w.touched {
		w.lost = w.lost.with(p.from).with(p.to)
	}
	clear(w.touched)
}
