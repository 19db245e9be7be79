package pit

import (
	"math/bits"
	"unsafe"

	"dreamfeed/internal/row"
)

// versionCache keeps what a joiner decoded and derived of the versions of related
// rows that it met last. Of a row with two hundred versions an example looks at
// one, and among many rows seldom at one that an example shortly before looked at:
// so each version has a place for itself, in which the next one takes over the
// memory, and one that is not there costs no allocation.
//
// Versions that the entity at hand has met keep their places, so that pointers to
// them stay good, until it is done or they have become too many.
type versionCache struct {
	places []keptVersion // sets of ways places; a version's number says which set
	// numbers are those of the versions in places, 0 where there is none: those of a set
	// lie beside each other, while a place takes some lines of the processor's cache.
	numbers []uint64
	shift   int
	turn    uint // the way that makes room next
	limit   int64
	used    int64
	// met are the versions of the entity at hand; more are those of them for which
	// there is no place.
	met  []*keptVersion
	more map[uint64]*keptVersion
}

// keptVersion is a place. Its row is nil while the entity at hand has not met its
// version.
type keptVersion struct {
	version
	number  uint64 // of one that has no place
	own     memory
	counted int64 // bytes of own that the cache has counted
}

// used says that something was made of the version, in memory of its own.
func (v *keptVersion) used() bool { return v.cells != nil || v.memos != nil || v.shown != nil }

const ways = 4

// newVersionCache returns a cache with places for so many versions of the
// program's related rows as fill about limit bytes.
func newVersionCache(p *Program, limit int64) *versionCache {
	least := int64(unsafe.Sizeof(keptVersion{}))
	each := least
	for i := range p.relations {
		t := p.relations[i].table
		each = max(each, least+int64(t.width)*int64(unsafe.Sizeof(row.Cell{}))+int64(t.memos)*int64(unsafe.Sizeof(memo{}))+
			int64(t.shows)*int64(unsafe.Sizeof(shown{}))+int64(len(t.def.Columns))*int64(unsafe.Sizeof(Value{})))
	}
	sets := max(bits.Len64(uint64(limit/(each*ways))), 1) - 1
	c := &versionCache{
		places: make([]keptVersion, ways<<sets), numbers: make([]uint64, ways<<sets),
		shift: 64 - sets, limit: limit, more: map[uint64]*keptVersion{},
	}
	c.used = int64(len(c.places)) * (least + 8)
	return c
}

// version is the state of a version of a related row.
func (c *versionCache) version(r *rowState, i int) *version {
	number := r.first + uint64(i)
	// Numbers follow one another: multiplied by 2⁶⁴ ÷ φ they are spread.
	at := number * 0x9e3779b97f4a7c15 >> c.shift * ways
	numbers := c.numbers[at : at+ways : at+ways]
	set := c.places[at : at+ways : at+ways]
	for k := range numbers {
		if numbers[k] == number {
			v := &set[k]
			if v.row == nil {
				c.meet(v, r, i)
			}
			return &v.version
		}
	}
	c.turn++
	for k := range uint(ways) {
		k = (c.turn + k) % ways
		if v := &set[k]; v.row == nil {
			c.clear(v)
			numbers[k] = number
			c.meet(v, r, i)
			return &v.version
		}
	}
	v := c.more[number]
	if v == nil {
		v = &keptVersion{number: number}
		v.mem = &v.own
		c.more[number] = v
		c.meet(v, r, i)
	}
	return &v.version
}

func (c *versionCache) meet(v *keptVersion, r *rowState, i int) {
	v.row, v.Version, v.index = r, &r.history[i], i
	c.met = append(c.met, v)
}

// clear makes room for another version.
func (c *versionCache) clear(v *keptVersion) {
	if c.used > c.limit && v.counted > 0 {
		c.used -= v.counted
		v.own, v.counted = memory{}, 0
	}
	if v.used() {
		v.own.reset()
		v.version = version{}
	}
	v.mem = &v.own
}

// crowded says that versions should be released before the next example.
func (c *versionCache) crowded() bool { return len(c.more) > len(c.places) }

// release says that nothing points to the versions met any more. Nothing is kept of
// their histories, which may have made room for others.
func (c *versionCache) release() {
	for i, v := range c.met {
		v.row, v.Version = nil, nil
		if v.used() && v.number == 0 {
			now := v.own.bytes()
			c.used += now - v.counted
			v.counted = now
		}
		c.met[i] = nil
	}
	c.met = c.met[:0]
	clear(c.more)
}

// forget drops what was made of all versions, none of which is met.
func (c *versionCache) forget() {
	for i := range c.places {
		v := &c.places[i]
		c.clear(v)
		c.numbers[i] = 0
	}
}

// data is that of a version, in memory that stays as long as the version does.
func (c *versionCache) data(v *version) ([]byte, error) {
	r := v.row
	switch {
	case r.data != nil:
		at, size := r.data.place(r.from + v.index)
		return r.data.read(v.mem.data.take(size), at)
	case r.lent:
		return v.Data, nil
	}
	data := v.mem.data.take(len(v.Data))
	copy(data, v.Data)
	return data, nil
}
