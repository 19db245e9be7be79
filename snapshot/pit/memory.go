package pit

import (
	"bytes"
	"unsafe"

	"dreamfeed/internal/row"
)

// keepSlab is the number of elements above which a slab is given back to the
// collector rather than kept for the next entity.
const keepSlab = 1 << 16

// slab hands out slices of one growing array, to be freed together.
type slab[T any] struct {
	buf   []T
	least int // elements of a new array, at least
}

func (s *slab[T]) take(n int) []T {
	if cap(s.buf)-len(s.buf) < n {
		s.buf = make([]T, 0, max(n, s.least, min(2*cap(s.buf), keepSlab)))
	}
	at := len(s.buf)
	s.buf = s.buf[:at+n]
	return s.buf[at : at+n : at+n]
}

func (s *slab[T]) reset() {
	if cap(s.buf) > keepSlab {
		s.buf = nil
	}
	s.buf = s.buf[:0]
}

// memory holds what was decoded of row versions.
type memory struct {
	cells  slab[row.Cell]
	memos  slab[memo]
	floats slab[float64]
	shown  slab[shown]
	values slab[Value]
	data   slab[byte] // copies of rows
}

func (m *memory) reset() {
	m.cells.reset()
	m.memos.reset()
	m.floats.reset()
	m.shown.reset()
	m.values.reset()
	m.data.reset()
}

// bytes is the memory that is kept for reuse.
func (m *memory) bytes() int64 {
	return int64(cap(m.cells.buf))*int64(unsafe.Sizeof(row.Cell{})) +
		int64(cap(m.memos.buf))*int64(unsafe.Sizeof(memo{})) + int64(cap(m.floats.buf))*8 +
		int64(cap(m.shown.buf))*int64(unsafe.Sizeof(shown{})) + int64(cap(m.values.buf))*int64(unsafe.Sizeof(Value{})) +
		int64(cap(m.data.buf))
}

// scratch is the memory of one entity, with the states of its rows' versions and
// where those of each row stand.
type scratch struct {
	memory
	versions slab[version]
	states   slab[*version]
}

func newScratch(least int) *scratch {
	return &scratch{
		memory: memory{
			cells: slab[row.Cell]{least: least}, memos: slab[memo]{least: least}, floats: slab[float64]{least: least},
			shown: slab[shown]{least: least}, values: slab[Value]{least: least},
		},
		versions: slab[version]{least: least}, states: slab[*version]{least: least},
	}
}

func (s *scratch) reset() {
	s.memory.reset()
	s.versions.reset()
	s.states.reset()
}

// texts makes strings out of bytes, many in one allocation. The bytes behind a
// string are written once and never again, so that the strings stay what they
// are for as long as anybody holds them.
type texts struct{ buf []byte }

const textChunk = 4096

func (t *texts) string(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if cap(t.buf)-len(t.buf) < len(b) {
		t.buf = make([]byte, 0, max(textChunk, len(b)))
	}
	at := len(t.buf)
	t.buf = append(t.buf, b...)
	return unsafe.String(&t.buf[at], len(b))
}

func compareBytes(a, b []byte) int { return bytes.Compare(a, b) }
