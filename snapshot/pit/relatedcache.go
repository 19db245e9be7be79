package pit

import (
	"unsafe"

	"dreamfeed/internal/history"
)

// relatedCache keeps the related entities that a joiner met last, and apart from
// them what it decoded and derived of their versions, each within about half of a
// number of bytes.
type relatedCache struct {
	from     Related
	versions *versionCache
	derived  *derivedWriter // nil if entities are not lent
	limit    int64
	used     int64
	rows     uint64 // number of the next row's first version
	entries  map[uint64]*relatedEntity
	ring     relatedEntity // newest is ring.next, oldest ring.previous
}

// lender is a Related that keeps entities for as long as it is open: they take no
// memory of a cache, and need not be copied. Rows go with those of the entity,
// which is nil if it is not kept.
type lender interface {
	lend(number uint64) (e *history.Entity, rows []lentRow)
	// derived is what joiners of the program with the options share, nil if they
	// share nothing.
	derived(p *Program, o Options) *derivedStore
}

// lentRow is what is known of a row beside its history.
type lentRow struct {
	known []int64     // rowState.known of all its versions
	data  *spilledRow // where the versions' data are, if not with the versions
	first uint64      // number of the row's first version among all that are lent
	plain int         // rowState.plain of all its versions
}

// bytesOf is the memory that an entity takes, of which data is that of the
// versions' data.
func bytesOf(e *history.Entity) (all, data int64) {
	for i := range e.Rows {
		all += int64(len(e.Rows[i].Versions)) * int64(unsafe.Sizeof(history.Version{}))
		for k := range e.Rows[i].Versions {
			data += int64(len(e.Rows[i].Versions[k].Data))
		}
	}
	return all + data + int64(len(e.ID)) + int64(unsafe.Sizeof(*e)) + int64(len(e.Rows))*int64(unsafe.Sizeof(history.Row{})), data
}

// relatedEntity is an entity with its row states.
type relatedEntity struct {
	number         uint64
	id             string
	rows           []rowState
	bytes          int64
	met            bool // since it was the oldest
	next, previous *relatedEntity
}

func newRelatedCache(from Related, p *Program, o Options) *relatedCache {
	limit := o.CacheBytes
	// Number 0 is that of no version.
	c := &relatedCache{from: from, versions: newVersionCache(p, limit/2), limit: limit / 2, rows: 1, entries: make(map[uint64]*relatedEntity)}
	c.ring.next, c.ring.previous = &c.ring, &c.ring
	if from, ok := from.(lender); ok {
		if d := from.derived(p, o); d != nil {
			c.derived = d.writer()
		}
	}
	return c
}

// load returns an entity, which stays good when it makes room for others.
func (c *relatedCache) load(j *Joiner, number uint64) (*relatedEntity, error) {
	if e := c.entries[number]; e != nil {
		e.met = true
		return e, nil
	}
	e := &relatedEntity{number: number}
	var h *history.Entity
	var rows []lentRow
	if from, ok := c.from.(lender); ok {
		h, rows = from.lend(number)
	}
	lent := h != nil
	if !lent {
		var err error
		if h, err = c.from.Entity(number); err != nil {
			return nil, err
		}
		e.bytes, _ = bytesOf(h)
	}
	e.id = h.ID
	e.bytes += int64(unsafe.Sizeof(*e)) + int64(len(h.Rows))*int64(unsafe.Sizeof(rowState{}))
	e.rows = j.load(h, make([]rowState, 0, len(h.Rows)), func(r *rowState, row, from int) {
		r.kept, r.first, r.lent = c.versions, c.rows, lent
		c.rows += uint64(len(r.history))
		if !lent {
			r.ordered = ordered(r.history)
			return
		}
		r.data, r.from, r.number = rows[row].data, from, rows[row].first+uint64(from)
		if known := rows[row].known; known != nil {
			r.known = known[from : from+len(r.history)]
			r.plain = min(max(rows[row].plain-from, 0), len(r.history))
		}
	})
	c.used += e.bytes
	for c.used > c.limit && c.ring.previous != &c.ring {
		oldest := c.ring.previous
		oldest.unlink()
		if oldest.met { // a second chance
			oldest.met = false
			c.push(oldest)
			continue
		}
		delete(c.entries, oldest.number)
		c.used -= oldest.bytes
	}
	c.entries[number] = e
	c.push(e)
	return e, nil
}

func (c *relatedCache) push(e *relatedEntity) {
	e.next, e.previous = c.ring.next, &c.ring
	e.next.previous, c.ring.next = e, e
}

func (e *relatedEntity) unlink() {
	e.next.previous, e.previous.next = e.previous, e.next
}
