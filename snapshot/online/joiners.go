package online

import (
	"context"
	"sync/atomic"

	"dreamfeed/snapshot/pit"
)

// joiners are the joiners of a base: as many as there may be answers under way.
// Further questions wait for one.
type joiners struct {
	base  *base
	cache int64
	// free holds those that nobody uses; nil stands for one that is not made yet.
	free  chan *worker
	given atomic.Uint64
}

// worker is a joiner with its way to related rows.
type worker struct {
	*pit.Joiner
	related *lookup
}

func newJoiners(b *base, n int, cacheBytes int64) *joiners {
	s := &joiners{base: b, cache: max(cacheBytes/int64(n), 1), free: make(chan *worker, n)}
	for range n {
		s.free <- nil
	}
	return s
}

// take waits for a joiner, which give takes back.
func (s *joiners) take(ctx context.Context) (*worker, error) {
	select {
	case w := <-s.free:
		if w == nil {
			l := &lookup{base: s.base, once: map[uint64]entityRef{}, refs: map[entityRef]uint64{}, given: &s.given}
			w = &worker{s.base.program.NewAnswerer(l, s.cache), l}
		}
		return w, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *joiners) give(w *worker) {
	w.related.end()
	s.free <- w
}
