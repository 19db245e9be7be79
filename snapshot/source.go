package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// exampleSource hands out the examples of the window. All examples of one
// entity come one after another, in one part.
type exampleSource interface {
	// parts cuts the work into about n parts and returns their number.
	parts(ctx context.Context, n int) (int, error)
	// scan hands every example of a part to emit, and returns what it met.
	// Different parts may be scanned at once. The example is reused.
	scan(ctx context.Context, part int, emit func(*pit.Example) error) (*pit.Tally, error)
	// Close frees what the source holds. The join calls it at its end, so that the
	// passes have the memory; calling it again does nothing.
	Close() error
}

// relatedBytes is the memory for the histories of related entities (items);
// beyond it they go to a temporary file.
const relatedBytes = 128 << 20

// decodedBytes is what a worker keeps of decoded related rows: the hot ones. More
// is dear, not cheap: measured with 1 million candidates and 100,000 versions of
// items, 32 MiB for each of two workers took the whole build 26 s of CPU, most of
// the difference for the collector, 4 MiB 18 s.
const decodedBytes = 4 << 20

// pitSource joins a view.
type pitSource struct {
	k       *checked
	program *pit.Program
	related *pit.RelatedStore
	ranges  []history.Range
	joiners sync.Pool // of *pit.Joiner, so that each worker reuses one
}

func newPitSource(k *checked) (*pitSource, error) {
	info := k.View.Info()
	program, err := pit.Compile(k.Definition, &info)
	if err != nil {
		return nil, err
	}
	return &pitSource{k: k, program: program}, nil
}

func (s *pitSource) parts(ctx context.Context, n int) (int, error) {
	var err error
	o := pit.Options{AsOf: s.k.AsOf, Window: s.k.Window, CacheBytes: decodedBytes}
	if s.related, err = pit.LoadRelated(ctx, s.k.View, s.k.Definition, o, s.k.TempDir, relatedBytes); err != nil {
		return 0, err
	}
	s.joiners.New = func() any { return s.program.NewJoiner(s.related, o) }
	s.ranges, err = s.k.View.Ranges(ctx, s.program.Entity(), n)
	return len(s.ranges), err
}

func (s *pitSource) scan(ctx context.Context, part int, emit func(*pit.Example) error) (*pit.Tally, error) {
	tally := &pit.Tally{}
	if part == 0 { // what is read once for all parts counts in one
		addLateness(&tally.Lateness, s.related.Lateness())
	}
	joiner, ok := s.joiners.Get().(*pit.Joiner)
	if !ok {
		return nil, errors.New("scan before parts")
	}
	defer s.joiners.Put(joiner)
	err := s.k.View.Scan(ctx, s.program.Entity(), s.ranges[part], func(e *history.Entity) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return joiner.Entity(e, tally, emit)
	})
	if err != nil {
		return nil, fmt.Errorf("range %d of %d: %w", part+1, len(s.ranges), err)
	}
	return tally, nil
}

func (s *pitSource) Close() error {
	if s.related == nil {
		return nil
	}
	related := s.related
	s.related, s.joiners = nil, sync.Pool{}
	return related.Close()
}
