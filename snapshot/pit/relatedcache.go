package pit

import (
	"fmt"
	"math"
	"unsafe"

	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// keyReader reads the keys that the versions of a row have in a relation.
type keyReader struct {
	cells []row.Cell
	key   []byte
	last  []byte
	until []int64
}

// each calls fn with the key of each version that has all columns of the
// relation; equal keys of versions that follow one another are given once. A
// column that a version did not capture is that of a newer one. Before the moment
// unsure (µs) nobody knew what a version's key is, since it had not captured a
// column; 0 if every version has all.
func (k *keyReader) each(r *history.Row, rel *relation, fn func(key []byte)) (unsure int64, err error) {
	newer := make([][]byte, len(rel.slots)) // text of each column in the version before
	known := make([]bool, len(rel.slots))
	k.last, k.until = k.last[:0], k.until[:0] // until: known time of the newer version that has the column
	for range rel.slots {
		k.until = append(k.until, math.MaxInt64)
	}
	for i := range r.Versions {
		v := &r.Versions[i]
		if v.Deleted {
			clear(known)
			for n := range k.until {
				k.until[n] = v.Known
			}
			continue
		}
		if len(k.cells) < rel.table.width {
			k.cells = make([]row.Cell, rel.table.width)
		}
		var err error
		if k.cells, err = row.DecodeSome(v.Data, k.cells, rel.table.wanted); err != nil {
			return 0, fmt.Errorf("decode a row of table %s at version %s: %w", rel.table.name, v.Version, err)
		}
		k.key = k.key[:0]
		whole := true
		for n, slot := range rel.slots {
			c := &k.cells[slot]
			switch {
			case c.Kind == row.Null:
				known[n], k.until[n] = false, v.Known
			case c.Kind != row.NotCaptured:
				newer[n], known[n], k.until[n] = c.AppendText(newer[n][:0]), true, v.Known
			default:
				unsure = max(unsure, k.until[n])
			}
			whole = whole && known[n]
			k.key = appendPart(k.key, newer[n])
		}
		if whole && string(k.key) != string(k.last) {
			fn(k.key)
			k.last = append(k.last[:0], k.key...)
		}
	}
	return unsure, nil
}

// relatedCache keeps the related entities that a joiner met last, with what it
// decoded and derived of them, within about a number of bytes.
type relatedCache struct {
	from    Related
	limit   int64
	used    int64
	entries map[uint64]*relatedEntity
	ring    relatedEntity // newest is ring.next, oldest ring.previous
}

// holder is a Related that keeps some entities as it hands them out: they take
// no memory of a cache.
type holder interface{ holds(number uint64) bool }

// bytesOf is the memory that an entity takes.
func bytesOf(e *history.Entity) int64 {
	n := int64(len(e.ID)) + int64(unsafe.Sizeof(*e)) + int64(len(e.Rows))*int64(unsafe.Sizeof(history.Row{}))
	for i := range e.Rows {
		n += int64(len(e.Rows[i].Versions)) * int64(unsafe.Sizeof(history.Version{}))
		for k := range e.Rows[i].Versions {
			n += int64(len(e.Rows[i].Versions[k].Data))
		}
	}
	return n
}

// relatedEntity is an entity with its row states.
type relatedEntity struct {
	number         uint64
	rows           []*rowState
	mem            *memory
	fixed          int64 // bytes of the history and its states
	counted        int64 // bytes that the cache has counted for it
	next, previous *relatedEntity
}

func newRelatedCache(from Related, limit int64) *relatedCache {
	c := &relatedCache{from: from, limit: limit, entries: make(map[uint64]*relatedEntity)}
	c.ring.next, c.ring.previous = &c.ring, &c.ring
	return c
}

// load returns an entity, valid until the example is done: at least the one
// used last stays, however large.
func (c *relatedCache) load(j *Joiner, number uint64) (*relatedEntity, error) {
	if e := c.entries[number]; e != nil {
		c.count(e)
		if c.ring.next != e {
			e.unlink()
			c.push(e)
		}
		return e, nil
	}
	h, err := c.from.Entity(number)
	if err != nil {
		return nil, err
	}
	e := &relatedEntity{number: number, mem: newMemory(0)}
	j.load(h, e.mem, make([]rowState, 0, len(h.Rows)), func(r *rowState) { e.rows = append(e.rows, r) })
	e.fixed = int64(len(h.Rows)) * int64(unsafe.Sizeof(rowState{}))
	if s, ok := c.from.(holder); !ok || !s.holds(number) {
		e.fixed += bytesOf(h)
	}
	c.entries[number] = e
	c.push(e)
	c.count(e)
	for c.used > c.limit {
		oldest := c.ring.previous
		if oldest == e || oldest == &c.ring {
			break
		}
		oldest.unlink()
		delete(c.entries, oldest.number)
		c.used -= oldest.counted
	}
	return e, nil
}

// count brings the bytes of an entity up to date: it grows as more of its
// versions are decoded.
func (c *relatedCache) count(e *relatedEntity) {
	now := e.fixed + e.mem.bytes()
	c.used += now - e.counted
	e.counted = now
}

func (c *relatedCache) push(e *relatedEntity) {
	e.next, e.previous = c.ring.next, &c.ring
	e.next.previous, c.ring.next = e, e
}

func (e *relatedEntity) unlink() {
	e.next.previous, e.previous.next = e.previous, e.next
}
