package snapshot

import (
	"unsafe"

	"dreamfeed/labels"
	"dreamfeed/snapshot/spill"
)

// fate is what becomes of a spilled row.
type fate uint16

const (
	stays      fate = iota
	notSampled      // left out by step 7
	suppressed      // left out by step 9
	fateFixed       // then: lacking required column i, outside outlier rule i
)

// sieve says which rows leave the steps decided so far. It is immutable while
// a pass runs; each worker has a mark of its own.
type sieve struct {
	p         *plan
	negatives labels.Threshold
	bounds    []bound // nil: step 8 (c) is not decided
	drop      bool    // outliers are dropped
	groups    *groups // nil: none is suppressed
}

func (s *sieve) missing(i int) fate { return fateFixed + fate(i) }
func (s *sieve) outlier(i int) fate { return fateFixed + fate(len(s.p.required)+i) }
func (s *sieve) fates() int         { return int(fateFixed) + len(s.p.required) + len(s.p.outliers) }

// columns are the spill columns that mark reads, and the further ones given.
func (s *sieve) columns(more ...int) []int {
	cols := append([]int{spillEntity, spillID, spillOutcome, spillNegative, spillMissing}, more...)
	if s.bounds != nil {
		for _, o := range s.p.outliers {
			cols = append(cols, o.spill)
		}
	}
	if s.groups != nil {
		for _, at := range s.p.groups {
			cols = append(cols, s.p.columns[at].spill)
		}
	}
	return unique(cols)
}

// mark sets the fate of each row of the batch: the first step that leaves it
// out, and within step 8 the first cause in the order of the definition.
func (s *sieve) mark(b *spill.Batch, fates []fate, scratch *groupScratch) []fate {
	fates = fates[:0]
	outcome, negative := &b.Columns[spillOutcome], &b.Columns[spillNegative]
	missing, ids := &b.Columns[spillMissing], &b.Columns[spillID]
	for i := range b.Rows {
		f := stays
		switch {
		case int(outcome.Int(i)) == s.p.sampled && !s.negatives.Keep(uint64(negative.Int(i)), borrow(ids.Text(ids.At(i)))):
			f = notSampled
		case missing.Int(i) > 0:
			f = s.missing(int(missing.Int(i)) - 1)
		}
		fates = append(fates, f)
	}
	if s.bounds == nil {
		return fates
	}
	small := s.groups.in(b, scratch)
	for i := range b.Rows {
		if fates[i] != stays {
			continue
		}
		if s.drop {
			for o := range s.p.outliers {
				if v, ok := s.p.outliers[o].value(b, i); ok && s.bounds[o].outside(v) {
					fates[i] = s.outlier(o)
					break
				}
			}
		}
		if fates[i] == stays && s.groups != nil && small.of(i) {
			fates[i] = suppressed
		}
	}
	return fates
}

// value is the number that the rule looks at, if there is one.
func (o *outlier) value(b *spill.Batch, row int) (float64, bool) {
	c := &b.Columns[o.spill]
	row = c.At(row)
	if !c.Valid[row] {
		return 0, false
	}
	if o.float {
		return float64(c.Floats[row]), true
	}
	return float64(c.Ints[row]), true
}

// borrow is the bytes as a string, good as long as they are.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func unique(list []int) []int {
	seen := map[int]bool{}
	out := list[:0]
	for _, v := range list {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// users numbers the entities of a scan; rows of one entity follow each other.
type users struct {
	last []byte
	n    uint64
}

// of appends the numbers of the rows' entities. alone says that there is just one.
func (u *users) of(rows *spill.Batch, list []uint64) (numbers []uint64, alone bool) {
	entity := &rows.Columns[spillEntity]
	number := uint64(0)
	for i := range rows.Rows {
		if i == 0 || !entity.Once {
			number = u.at(entity.Text(i))
		}
		list = append(list, number)
	}
	return list, entity.Once
}

// at is the number of the row's entity, from 1.
func (u *users) at(entity []byte) uint64 {
	if u.n == 0 || string(u.last) != string(entity) {
		u.last = append(u.last[:0], entity...)
		u.n++
	}
	return u.n
}
