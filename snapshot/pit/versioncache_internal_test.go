package pit

import (
	"math/rand/v2"
	"testing"

	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// TestVersionCacheKeepsToItsLimit meets many more versions than there are places, of
// which each takes memory of its own, and holds what the cache says that it uses
// against what it does; and that a version which is met keeps what was made of it.
func TestVersionCacheKeepsToItsLimit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	const limit = 1 << 20
	for _, cells := range []int{40, 2} { // beyond the limit, and below it
		keepsToItsLimit(t, r, limit, cells)
	}
}

func keepsToItsLimit(t *testing.T, r *rand.Rand, limit int64, cells int) {
	const versions = 20_000
	c := newVersionCache(&Program{}, limit)
	of := &rowState{table: &table{}, history: make([]history.Version, versions), first: 1}
	most := 0
	for range 400 {
		met := map[int]*version{}
		for range 1 + r.IntN(2*len(c.places)/ways) {
			i := r.IntN(versions)
			v := c.version(of, i)
			if before := met[i]; before != nil && before != v {
				t.Fatalf("version %d has two states", i)
			}
			if v.Version != &of.history[i] || v.index != i || v.row != of {
				t.Fatalf("version %d is %d", i, v.index)
			}
			if v.cells == nil && r.IntN(3) > 0 {
				v.cells = v.mem.cells.take(1 + r.IntN(cells))
				clear(v.cells)
				v.cells[0] = row.Cell{Bytes: []byte{byte(i), byte(i >> 8)}}
			}
			met[i] = v
		}
		for i, v := range met {
			if v.cells != nil && string(v.cells[0].Bytes) != string([]byte{byte(i), byte(i >> 8)}) {
				t.Fatalf("version %d has what was made of another", i)
			}
		}
		c.release()
		used := int64(0)
		for i := range c.places {
			v := &c.places[i]
			if v.row != nil || v.number != 0 {
				t.Fatal("a version is met after its release")
			}
			if v.counted != v.own.bytes() {
				t.Fatalf("a place takes %d bytes, and counts %d", v.own.bytes(), v.counted)
			}
			used += v.counted
			most = max(most, cap(v.own.cells.buf))
		}
		if base := c.used - used; base != newVersionCache(&Program{}, limit).used {
			t.Fatalf("%d bytes are counted beside those of the places", base)
		}
	}
	// Beyond the limit a place gives up what it has when it changes hands: all of them
	// were met since, so that there is hardly more than the limit.
	if c.used > 2*limit {
		t.Errorf("%d bytes are used, of %d", c.used, limit)
	}
	if most > 2*cells {
		t.Errorf("a place has room for %d cells, of %d that a version takes", most, cells)
	}
	c.forget()
	for i := range c.places {
		if v := c.version(of, i); v.cells != nil {
			t.Fatal("what was forgotten is there")
		}
	}
}
