package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"dreamfeed/snapshot/spill"
)

// fullText is the row's text as step 9 sees it: missing and empty ones filled.
func (c *column) fullText(from *spill.Column, row int) (text []byte, ok bool) {
	if row = from.At(row); from.Valid[row] {
		if text = from.Text(row); len(text) > 0 {
			return text, true
		}
	}
	if c.gap.Valid {
		return c.gapText, true
	}
	return text, from.Valid[row]
}

// userKey is enough of an entity's pseudonym to tell it from all others.
type userKey [16]byte

func keyOf(entity []byte) (k userKey) {
	copy(k[:], entity)
	return k
}

// holders are the users that hold a value.
type holders struct {
	users int64
	last  uint64 // number of the user counted last
	// few are the users while they are fewer than the limit.
	few []userKey
}

// recent is the value of a column that was counted last, and its user. Rows of a
// user follow each other, and what is known of a user hardly changes: mostly the
// next row has the same, and need not be looked up.
type recent struct {
	user  uint64
	value []byte
}

// again says whether the same user's same value was counted last, and notes it.
func (r *recent) again(value []byte, user uint64) bool {
	if r.user == user && bytes.Equal(r.value, value) {
		return true
	}
	r.user, r.value = user, append(r.value[:0], value...)
	return false
}

// census counts the distinct users of each value. One worker fills it, from
// rows of which those of one user follow each other.
type census struct {
	limit  int64
	values map[string]*holders
}

func newCensus(limit int) *census {
	return &census{limit: int64(limit), values: map[string]*holders{}}
}

func (c *census) add(value []byte, user uint64, entity []byte) {
	h := c.values[string(value)]
	if h == nil {
		h = &holders{}
		c.values[string(value)] = h
	}
	if h.last == user {
		return
	}
	h.last = user
	h.users++
	if h.users < c.limit {
		h.few = append(h.few, keyOf(entity))
	} else {
		h.few = nil
	}
}

// merge adds the counts of a worker that saw other users.
func (c *census) merge(o *census) {
	for value, from := range o.values {
		to := c.values[value]
		if to == nil {
			c.values[value] = from
			continue
		}
		to.users += from.users
		if to.users < c.limit {
			to.few = append(to.few, from.few...)
		} else {
			to.few = nil
		}
	}
}

// verdict says which values of a census stay.
type verdict struct {
	keep   map[string]struct{}
	merged int64 // distinct values that become other
}

// judge finds the rare values: those of fewer than limit users. While the
// merged ones together have some users, but fewer than limit, the next rarest
// joins them, ties by bytes (CONTRACT, "Privacy classes"). One is enough: it has
// limit users itself. A value that reads like other belongs to it.
func (c *census) judge(other string) verdict {
	type entry struct {
		value string
		*holders
	}
	var list []entry
	for v, h := range c.values {
		if v != other {
			list = append(list, entry{v, h})
		}
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.users, b.users), cmp.Compare(a.value, b.value))
	})
	first := 0
	together := map[userKey]struct{}{}
	enough := false
	join := func(h *holders) {
		enough = enough || h.users >= c.limit
		for _, k := range h.few {
			if enough {
				return
			}
			together[k] = struct{}{}
			enough = int64(len(together)) >= c.limit
		}
	}
	if h := c.values[other]; h != nil {
		join(h)
	}
	for ; first < len(list) && list[first].users < c.limit; first++ {
		join(list[first].holders)
	}
	if len(together) > 0 && !enough && first < len(list) {
		first++
	}
	v := verdict{keep: make(map[string]struct{}, len(list)-first), merged: int64(first)}
	for _, e := range list[first:] {
		v.keep[e.value] = struct{}{}
	}
	return v
}

func (v *verdict) keeps(value []byte) bool {
	_, ok := v.keep[string(value)]
	return ok
}

// rareMap maps the values of one quasi text column.
type rareMap struct {
	other    string
	list     bool
	elements verdict // of a list
	whole    verdict
	decided  bool // whole is set
}

// listScratch is what mapping a list needs; one for each worker.
type listScratch struct {
	parts [][]byte
	out   []byte
}

// mapElements replaces the rare elements of a list. Elements stay distinct and
// sorted. The result is good until the next call with the scratch.
func (m *rareMap) mapElements(text []byte, s *listScratch) []byte {
	s.parts = s.parts[:0]
	for part := range bytes.SplitSeq(text, []byte{','}) {
		if !m.elements.keeps(part) {
			part = []byte(m.other)
		}
		s.parts = append(s.parts, part)
	}
	slices.SortFunc(s.parts, bytes.Compare)
	s.parts = slices.CompactFunc(s.parts, bytes.Equal)
	s.out = s.out[:0]
	for i, part := range s.parts {
		if i > 0 {
			s.out = append(s.out, ',')
		}
		s.out = append(s.out, part...)
	}
	return s.out
}

// apply is what the value becomes.
func (m *rareMap) apply(text []byte, s *listScratch) []byte {
	if m.list {
		text = m.mapElements(text, s)
	}
	if m.decided && !m.whole.keeps(text) {
		return []byte(m.other)
	}
	return text
}

// rareValues counts the users of every value of the quasi text columns among
// the rows leaving step 8, elements of lists first, then the lists so changed.
func (b *build) rareValues(ctx context.Context, s *sieve) error {
	p := b.plan
	limit, other := b.Definition.Privacy.MinUsers, b.Definition.Privacy.Other
	if other == "" {
		other = "OTHER"
	}
	b.rare = make([]rareMap, len(p.rare))
	for i, at := range p.rare {
		b.rare[i] = rareMap{other: other, list: p.columns[at].List}
	}
	round := func(name string, columns []int, count func(c *census, rare int, text []byte, user uint64, entity []byte, s *listScratch)) ([]*census, error) {
		var spilled []int
		for _, r := range columns {
			spilled = append(spilled, p.columns[p.rare[r]].spill)
		}
		type worker struct {
			users  users
			user   []uint64
			fates  []fate
			census []*census
			recent []recent
			list   listScratch
		}
		workers := each(b.Workers, func() *worker {
			w := &worker{recent: make([]recent, len(p.rare))}
			for range p.rare {
				w.census = append(w.census, newCensus(limit))
			}
			return w
		})
		err := b.scan(ctx, name, s.columns(spilled...), func(at int, rows *spill.Batch) error {
			w := workers[at]
			w.fates = s.mark(rows, w.fates, nil)
			var alone bool
			w.user, alone = w.users.of(rows, w.user[:0])
			entity := &rows.Columns[spillEntity]
			for _, r := range columns {
				c := &p.columns[p.rare[r]]
				from := &rows.Columns[c.spill]
				for i, f := range w.fates {
					if f != stays {
						continue
					}
					if text, ok := c.fullText(from, i); ok && !w.recent[r].again(text, w.user[i]) {
						count(w.census[r], r, text, w.user[i], entity.Text(entity.At(i)), &w.list)
					}
					if alone && from.Once {
						break // the others are the same user's, and have the same
					}
				}
			}
			return nil
		})
		for _, w := range workers[1:] {
			for i, c := range w.census {
				workers[0].census[i].merge(c)
			}
		}
		return workers[0].census, err
	}

	var all, lists []int
	for i := range b.rare {
		all = append(all, i)
		if b.rare[i].list {
			lists = append(lists, i)
		}
	}
	if len(all) == 0 {
		return nil
	}
	found, err := round("rare values", all, func(c *census, r int, text []byte, user uint64, entity []byte, _ *listScratch) {
		if !b.rare[r].list {
			c.add(text, user, entity)
			return
		}
		for part := range bytes.SplitSeq(text, []byte{','}) {
			c.add(part, user, entity)
		}
	})
	if err != nil {
		return err
	}
	for i := range b.rare {
		if b.rare[i].list {
			b.rare[i].elements = found[i].judge(other)
		} else {
			b.rare[i].whole, b.rare[i].decided = found[i].judge(other), true
		}
	}
	if len(lists) == 0 {
		return nil
	}
	found, err = round("rare lists", lists, func(c *census, r int, text []byte, user uint64, entity []byte, s *listScratch) {
		c.add(b.rare[r].mapElements(text, s), user, entity)
	})
	if err != nil {
		return err
	}
	for _, i := range lists {
		b.rare[i].whole, b.rare[i].decided = found[i].judge(other), true
	}
	return nil
}
