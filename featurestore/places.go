package featurestore

import "hash/maphash"

// placeCache remembers where rows lie that were looked up or written of late, for
// what is updated is mostly what is new or hot, and reading a locator costs more
// than all else in an update. It answers one question, whether a row lies at a
// place, so that 16 bytes do for a row: two hashes of 64 bits with seeds of their
// own. That some other row or place has both is as likely as guessing a key of 128
// bits.
type placeCache struct {
	seed, placed maphash.Seed
	sets         [][placeWays]cachedPlace
	buf          []byte
}

// cachedPlace is the hash of a locator's key without version, and that of key and
// place.
type cachedPlace struct{ key, both uint64 }

const (
	placeWays = 4
	placeSets = 1 << 18 // 16 MiB, of which only what is used is in memory
)

func newPlaceCache() placeCache {
	return placeCache{seed: maphash.MakeSeed(), placed: maphash.MakeSeed(), sets: make([][placeWays]cachedPlace, placeSets)}
}

// find returns the set of a key, its hash and the hash of both.
func (c *placeCache) find(prefix, place []byte) (set *[placeWays]cachedPlace, e cachedPlace) {
	c.buf = append(append(c.buf[:0], prefix...), place...)
	e.key, e.both = maphash.Bytes(c.seed, prefix)|1, maphash.Bytes(c.placed, c.buf) // a key of 0 is an empty entry
	return &c.sets[e.key>>1%placeSets], e
}

// holds says that the row of a locator's prefix lies at a place; false says nothing.
func (c *placeCache) holds(prefix, place []byte) bool {
	set, e := c.find(prefix, place)
	for i := range set {
		if set[i] == e {
			return true
		}
	}
	return false
}

// set remembers a place; an empty one forgets it.
func (c *placeCache) set(prefix, place []byte) {
	set, e := c.find(prefix, place)
	at := int(e.both % placeWays)
	for i := range set {
		if set[i].key == e.key {
			at = i
		}
	}
	switch {
	case len(place) > 0:
		set[at] = e
	case set[at].key == e.key:
		set[at] = cachedPlace{}
	}
}

// clear forgets everything: what was hashed with other seeds is not found.
func (c *placeCache) clear() { c.seed, c.placed = maphash.MakeSeed(), maphash.MakeSeed() }
