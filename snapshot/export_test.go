package snapshot

import (
	"context"

	"dreamfeed/snapshot/pit"
)

// TestSource hands out the examples of parts, those of one entity in one part
// and one after another.
type TestSource struct {
	Parts [][]pit.Example
	// Before runs before each example is handed out; its error ends the build.
	Before func() error
	Tally  pit.Tally // added once
	// Make, if set, makes the examples of Count parts instead.
	Make  func(part int, emit func(*pit.Example) error) error
	Count int
}

func (s *TestSource) parts(context.Context, int) (int, error) {
	return max(len(s.Parts), s.Count), nil
}

func (s *TestSource) scan(_ context.Context, part int, emit func(*pit.Example) error) (*pit.Tally, error) {
	t := &pit.Tally{}
	if part == 0 {
		addTally(t, &s.Tally)
	}
	if s.Make != nil {
		return t, s.Make(part, func(e *pit.Example) error {
			t.Candidates++
			t.Exactness[e.Exact]++
			return emit(e)
		})
	}
	for i := range s.Parts[part] {
		if s.Before != nil {
			if err := s.Before(); err != nil {
				return nil, err
			}
		}
		e := s.Parts[part][i]
		t.Candidates++
		t.Exactness[e.Exact]++
		if e.Immature {
			t.Immature++
		}
		if err := emit(&e); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Close implements exampleSource.
func (s *TestSource) Close() error { return nil }

// BuildFrom is Build with another source of examples.
func BuildFrom(ctx context.Context, c Config, s *TestSource) (*Result, error) {
	k, err := c.check()
	if err != nil {
		return nil, err
	}
	return buildFrom(ctx, k, s)
}

// Moments exposes the exact sums.
type Moments struct{ m moments }

func (m *Moments) Float(v float32) { m.m.addFloat(v) }
func (m *Moments) Int(v int64)     { m.m.addInt(v) }
func (m *Moments) Merge(o *Moments) {
	m.m.merge(&o.m)
}
func (m *Moments) Mean() (float64, bool)      { return m.m.mean() }
func (m *Moments) Deviation() (float64, bool) { return m.m.deviation() }
func (m *Moments) Outside(k, v float64) bool {
	b := m.m.bound(k)
	return b.outside(v)
}

// RoundEdges exposes the choice of bins.
var RoundEdges = roundEdges
