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
	taken int // elements handed out since the last reset
}

func (s *slab[T]) take(n int) []T {
	if cap(s.buf)-len(s.buf) < n {
		s.buf = make([]T, 0, max(n, s.least, min(2*cap(s.buf), keepSlab)))
	}
	at := len(s.buf)
	s.buf = s.buf[:at+n]
	s.taken += n
	return s.buf[at : at+n : at+n]
}

func (s *slab[T]) reset() {
	s.taken = 0
	if cap(s.buf) > keepSlab {
		s.buf = nil
	}
	s.buf = s.buf[:0]
}

// memory holds what was decoded of one entity.
type memory struct {
	cells  slab[row.Cell]
	memos  slab[memo]
	floats slab[float64]
	shown  slab[shown]
	values slab[Value]
	// states of the rows' versions, and where those of each row stand.
	versions slab[version]
	states   slab[*version]
}

func newMemory(least int) *memory {
	return &memory{
		cells: slab[row.Cell]{least: least}, memos: slab[memo]{least: least}, floats: slab[float64]{least: least},
		shown: slab[shown]{least: least}, values: slab[Value]{least: least},
		versions: slab[version]{least: least}, states: slab[*version]{least: least},
	}
}

func (m *memory) reset() {
	m.cells.reset()
	m.memos.reset()
	m.floats.reset()
	m.shown.reset()
	m.values.reset()
	m.versions.reset()
	m.states.reset()
}

// bytes is the memory handed out.
func (m *memory) bytes() int64 {
	return int64(m.cells.taken)*int64(unsafe.Sizeof(row.Cell{})) +
		int64(m.memos.taken)*int64(unsafe.Sizeof(memo{})) + int64(m.floats.taken)*8 +
		int64(m.shown.taken)*int64(unsafe.Sizeof(shown{})) + int64(m.values.taken)*int64(unsafe.Sizeof(Value{})) +
		int64(m.versions.taken)*int64(unsafe.Sizeof(version{})) + int64(m.states.taken)*8
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
