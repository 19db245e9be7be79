package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/spill"
)

// groups are the combinations of values that k-anonymity looks at, with the
// distinct users of each. Texts count after rare values merged; a number or
// truth value that is missing counts as a value of its own.
type groups struct {
	b      *build
	limit  int64 // a group of fewer users is small
	census *census
	kMin   int64 // users of the smallest group that stays, 0 if there is none
	count  int64 // groups that stay
}

// groupScratch is what forming a group's key needs; one for each worker.
type groupScratch struct {
	key  []byte
	list listScratch
	// What isSmall said last, and of which group: mostly the next row is of the same.
	last  []byte
	small bool
}

// key is the row's group.
func (g *groups) key(rows *spill.Batch, i int, s *groupScratch) []byte {
	s.key = s.key[:0]
	for _, at := range g.b.plan.groups {
		c := &g.b.plan.columns[at]
		from := &rows.Columns[c.spill]
		if c.Type == definition.String {
			text, ok := c.fullText(from, i)
			if !ok {
				s.key = append(s.key, 0)
				continue
			}
			if c.rare >= 0 {
				text = g.b.rare[c.rare].apply(text, &s.list)
			}
			s.key = append(s.key, 1)
			s.key = binary.AppendUvarint(s.key, uint64(len(text)))
			s.key = append(s.key, text...)
			continue
		}
		row := from.At(i)
		if !from.Valid[row] {
			s.key = append(s.key, 0)
			continue
		}
		s.key = append(s.key, 1)
		if c.Type == definition.Float32 {
			s.key = binary.LittleEndian.AppendUint32(s.key, math.Float32bits(from.Floats[row]))
		} else {
			s.key = binary.AppendVarint(s.key, from.Ints[row])
		}
	}
	return s.key
}

// once says that all rows are of the same group.
func (g *groups) once(rows *spill.Batch) bool {
	for _, at := range g.b.plan.groups {
		if !rows.Columns[g.b.plan.columns[at].spill].Once {
			return false
		}
	}
	return true
}

// smallRows says which rows of a batch are of a group that has too few users.
type smallRows struct {
	g       *groups
	rows    *spill.Batch
	scratch *groupScratch
	once    bool // all rows are of the same group
	known   bool // small is what was said last
	small   bool
}

// in is the small rows of a batch; of no groups it must not be asked.
func (g *groups) in(rows *spill.Batch, s *groupScratch) smallRows {
	return smallRows{g: g, rows: rows, scratch: s, once: g != nil && g.once(rows)}
}

// of says whether a row's group is small.
func (r *smallRows) of(i int) bool {
	if !r.known || !r.once {
		r.known, r.small = true, r.g.isSmall(r.rows, i, r.scratch)
	}
	return r.small
}

// isSmall says whether the row's group has too few users.
func (g *groups) isSmall(rows *spill.Batch, i int, s *groupScratch) bool {
	key := g.key(rows, i, s)
	if len(s.last) == 0 || !bytes.Equal(key, s.last) {
		h := g.census.values[string(key)]
		s.last, s.small = append(s.last[:0], key...), h == nil || h.users < g.limit
	}
	return s.small
}

// smallGroups counts the users of each group among the rows leaving step 8.
// The result is nil without group columns.
func (b *build) smallGroups(ctx context.Context, s *sieve) (*groups, error) {
	p := b.plan
	if len(p.groups) == 0 {
		return nil, nil
	}
	limit := b.Definition.Privacy.GroupMinUsers
	suppress := limit > 0
	if !suppress {
		limit = b.Definition.Privacy.MinUsers
	}
	g := &groups{b: b, limit: int64(limit)}
	var spilled []int
	for _, at := range p.groups {
		spilled = append(spilled, p.columns[at].spill)
	}
	type worker struct {
		users   users
		user    []uint64
		fates   []fate
		census  *census
		recent  recent
		scratch groupScratch
	}
	workers := each(b.Workers, func() *worker { return &worker{census: newCensus(0)} })
	err := b.scan(ctx, "small groups", s.columns(spilled...), func(at int, rows *spill.Batch) error {
		w := workers[at]
		w.fates = s.mark(rows, w.fates, nil)
		var alone bool
		w.user, alone = w.users.of(rows, w.user[:0])
		alone = alone && g.once(rows)
		entity := &rows.Columns[spillEntity]
		for i, f := range w.fates {
			if f != stays {
				continue
			}
			if key := g.key(rows, i, &w.scratch); !w.recent.again(key, w.user[i]) {
				w.census.add(key, w.user[i], entity.Text(entity.At(i)))
			}
			if alone {
				break // the others are the same user's, and of the same group
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, w := range workers[1:] {
		workers[0].census.merge(w.census)
	}
	g.census = workers[0].census
	for _, h := range g.census.values {
		if suppress && h.users < g.limit {
			continue
		}
		g.count++
		if g.kMin == 0 || h.users < g.kMin {
			g.kMin = h.users
		}
	}
	return g, nil
}
