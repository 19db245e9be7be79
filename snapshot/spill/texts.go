package spill

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Texts numbers the different texts of a column, for all who fill it: where few texts
// occur often, a row's number takes less memory than its text, and is compared with
// less of it. It is safe for concurrent use.
type Texts struct {
	mu      sync.Mutex
	numbers map[string]uint32
	bytes   int
	list    atomic.Pointer[[]string]
	full    atomic.Bool
}

// What a Texts holds at most. A column of more is hardly shorter as numbers.
const (
	MostTexts     = 1 << 14
	MostTextBytes = 1 << 20
)

// NewTexts returns one without texts.
func NewTexts() *Texts {
	t := &Texts{numbers: map[string]uint32{}}
	t.list.Store(&[]string{})
	return t
}

// Number is the number of a text, which it is given if there is room.
func (t *Texts) Number(text []byte) (uint32, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.numbers[string(text)]; ok {
		return n, true
	}
	list := *t.list.Load()
	if len(list) == MostTexts || t.bytes+len(text) > MostTextBytes {
		t.full.Store(true)
		return 0, false
	}
	n := uint32(len(list))
	t.bytes += len(text)
	// Readers of the list before do not look behind its end.
	list = append(list, string(text))
	t.numbers[list[n]] = n
	t.list.Store(&list)
	return n, true
}

// Full says that a text was given no number.
func (t *Texts) Full() bool { return t.full.Load() }

// List is the texts by number, those that have one by now. It does not change.
func (t *Texts) List() []string { return *t.list.Load() }

// AppendNumber adds a row's text, by its number in Texts, which must be set.
func (c *Column) AppendNumber(n uint32, ok bool) {
	c.Valid = append(c.Valid, ok)
	c.Ends = append(c.Ends, n)
}

// Spell puts the texts themselves into a column of their numbers.
func (c *Column) Spell() {
	if c.Texts == nil {
		return
	}
	list := c.Texts.List()
	c.Texts, c.Bytes = nil, c.Bytes[:0]
	for i, n := range c.Ends {
		if c.Valid[i] {
			c.Bytes = append(c.Bytes, list[n]...)
		}
		c.Ends[i] = uint32(len(c.Bytes))
	}
}

// appendTexts is AppendRange of texts, before which there were some rows; Valid is
// there already.
func (c *Column) appendTexts(from *Column, first, end, before int) {
	if before == 0 {
		c.Texts = from.Texts
	}
	if c.Texts != from.Texts {
		c.Spell()
		if from.Texts != nil { // of two ways to say them, one by one
			list := from.Texts.List()
			for i := first; i < end; i++ {
				if from.Valid[i] {
					c.Bytes = append(c.Bytes, list[from.Ends[i]]...)
				}
				c.Ends = append(c.Ends, uint32(len(c.Bytes)))
			}
			return
		}
	}
	if c.Texts != nil {
		c.Ends = append(c.Ends, from.Ends[first:end]...)
		return
	}
	start := uint32(0)
	if first > 0 {
		start = from.Ends[first-1]
	}
	shift := uint32(len(c.Bytes)) - start
	var ends []uint32
	c.Ends, ends = more(c.Ends, end-first)
	for i, e := range from.Ends[first:end] {
		ends[i] = e + shift
	}
	text := from.Bytes[start:from.Ends[end-1]]
	if need := len(c.Bytes) + len(text); need > cap(c.Bytes) {
		// Twice as much, not a quarter more: a group of a file grows to megabytes.
		c.Bytes = slices.Grow(c.Bytes, max(len(text), len(c.Bytes)))
	}
	c.Bytes = append(c.Bytes, text...)
}
