package labels

import (
	"container/heap"
	"strings"
)

// selectorBits is the number of leading bits of a hash that a Selector counts
// by: 65,536 buckets of 8 bytes, 512 KiB.
const selectorBits = 16

// Selector finds the m smallest (hash, id) pairs of a set that is too large to
// sort in memory. It is used in passes over the same pairs, in any order and
// split between workers in any way:
//
//  1. every worker Adds the hashes to a Selector of its own; the Selectors are
//     Merged. They hold counts only.
//  2. Resolve gives a Resolver; every worker Adds the pairs to a Fork of it;
//     the forks are Merged. A Resolver holds the pairs of one bucket only, about
//     1 in 65,536 of all, since SHA-256 spreads the hashes evenly.
//  3. Threshold.Keep tells of each pair whether it is among the m smallest.
//
// Ids are expected to be distinct: of two equal pairs both stay or both go.
type Selector struct {
	shift  uint
	total  int64
	counts []int64
}

// NewSelector returns an empty Selector.
func NewSelector() *Selector { return newSelector(selectorBits) }

func newSelector(bits uint) *Selector {
	return &Selector{shift: 64 - bits, counts: make([]int64, 1<<bits)}
}

// Add counts one pair by its hash.
func (s *Selector) Add(hash uint64) {
	s.total++
	s.counts[hash>>s.shift]++
}

// Merge adds the counts of another Selector.
func (s *Selector) Merge(other *Selector) {
	s.total += other.total
	for i, n := range other.counts {
		s.counts[i] += n
	}
}

// Len is the number of pairs that were added.
func (s *Selector) Len() int64 { return s.total }

// Resolve ends the first pass: it finds the bucket in which the m-th smallest
// pair lies. With m ≤ 0 nothing is chosen, with m ≥ Len everything; the second
// pass may then be left out.
func (s *Selector) Resolve(m int64) *Resolver {
	r := &Resolver{shift: s.shift}
	switch {
	case m <= 0:
		r.fixed, r.all = true, false
	case m >= s.total:
		r.fixed, r.all = true, true
	default:
		var below int64
		for i, n := range s.counts {
			if below+n >= m {
				r.bucket, r.want = uint64(i), m-below
				break
			}
			below += n
		}
	}
	return r
}

// Resolver finds the exact border inside the bucket that Resolve found.
type Resolver struct {
	shift  uint
	fixed  bool // the answer needs no second pass: all or nothing
	all    bool
	bucket uint64
	want   int64 // how many pairs of the bucket are chosen, at least 1
	// pairs are the smallest want pairs of the bucket, the largest on top.
	pairs pairHeap
}

// Fork returns an empty Resolver of the same border for another worker.
func (r *Resolver) Fork() *Resolver {
	f := *r
	f.pairs = nil
	return &f
}

// Add looks at one pair. The id is copied, and only if the pair is near the border.
func (r *Resolver) Add(hash uint64, id string) {
	if r.fixed || hash>>r.shift != r.bucket {
		return
	}
	p := pair{hash, id}
	if int64(len(r.pairs)) < r.want {
		heap.Push(&r.pairs, p.clone())
	} else if p.less(r.pairs[0]) {
		r.pairs[0] = p.clone()
		heap.Fix(&r.pairs, 0)
	}
}

// Merge adds what a Fork has seen.
func (r *Resolver) Merge(other *Resolver) {
	for _, p := range other.pairs {
		r.Add(p.hash, p.id)
	}
}

// Threshold ends the second pass.
func (r *Resolver) Threshold() Threshold {
	switch {
	case r.fixed && r.all:
		return Threshold{all: true}
	case r.fixed || len(r.pairs) == 0:
		return Threshold{none: true}
	}
	return Threshold{last: r.pairs[0]}
}

// Threshold is the largest chosen pair. It is a value, safe to copy and to use
// concurrently.
type Threshold struct {
	all, none bool
	last      pair
}

// Keep says whether the pair is among the m smallest.
func (t Threshold) Keep(hash uint64, id string) bool {
	if t.all || t.none {
		return t.all
	}
	return !t.last.less(pair{hash, id})
}

type pair struct {
	hash uint64
	id   string
}

func (p pair) clone() pair { return pair{p.hash, strings.Clone(p.id)} }

func (p pair) less(q pair) bool {
	return p.hash < q.hash || p.hash == q.hash && p.id < q.id
}

// pairHeap is a max-heap by (hash, id).
type pairHeap []pair

func (h pairHeap) Len() int           { return len(h) }
func (h pairHeap) Less(i, j int) bool { return h[j].less(h[i]) }
func (h pairHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *pairHeap) Push(x any)        { *h = append(*h, x.(pair)) }
func (h *pairHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
