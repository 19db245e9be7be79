package featurestore

import (
	"bytes"
	"hash/maphash"
)

// placeCache remembers the newest place of rows that were looked up or written
// of late: hot rows are updated again and again. It is direct-mapped, 64 Ki
// slots whose buffers are reused.
type placeCache struct {
	seed  maphash.Seed
	slots []cachedPlace
}

type cachedPlace struct{ prefix, place []byte }

const placeSlots = 1 << 16

func newPlaceCache() placeCache {
	return placeCache{maphash.MakeSeed(), make([]cachedPlace, placeSlots)}
}

func (c placeCache) slot(prefix []byte) *cachedPlace {
	return &c.slots[maphash.Bytes(c.seed, prefix)%placeSlots]
}

func (c placeCache) get(prefix []byte) ([]byte, bool) {
	s := c.slot(prefix)
	if len(s.place) == 0 || !bytes.Equal(s.prefix, prefix) {
		return nil, false
	}
	return s.place, true
}

// set remembers a place; an empty one forgets it.
func (c placeCache) set(prefix, place []byte) {
	s := c.slot(prefix)
	if len(prefix)+len(place) > 512 {
		s.place = s.place[:0] // bounds the cache to 32 MiB
		return
	}
	s.prefix = append(s.prefix[:0], prefix...)
	s.place = append(s.place[:0], place...)
}

func (c placeCache) clear() {
	for i := range c.slots {
		c.slots[i].place = c.slots[i].place[:0]
	}
}
