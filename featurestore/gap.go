package featurestore

import (
	"slices"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// gap is a time without changes, with the epoch that it ended: what lies at or
// before From has LSNs of that epoch.
type gap struct {
	history.Gap
	Epoch  change.Epoch  `json:"epoch"`
	Origin change.Origin `json:"origin"`
}

// turn takes in the epoch of a batch. A new one of a store that holds data
// opens a gap: what happens until its backfill is complete is not known.
func (s *state) turn(h *change.Header) {
	if h.Epoch == s.Epoch {
		return
	}
	if s.Birth != 0 && s.openGap() == nil {
		g := gap{Gap: history.Gap{From: s.Version}, Epoch: s.Epoch, Origin: s.Origin}
		s.Gaps = append(slices.Clip(s.Gaps), g)
	}
	// Positions of another epoch say nothing here.
	s.Epoch, s.Origin, s.EndLSN = h.Epoch, h.Origin, 0
}

// openGap is the gap that has no end yet, nil if there is none.
func (s *state) openGap() *gap {
	if n := len(s.Gaps); n > 0 && s.Gaps[n-1].To == 0 {
		return &s.Gaps[n-1]
	}
	return nil
}

// closeGap ends the open gap with a backfill. The list is not changed in
// place: readers hold it.
func (s *state) closeGap(v change.Version) {
	if s.openGap() != nil {
		s.Gaps = slices.Clone(s.Gaps)
		s.openGap().To = v
	}
}

// newest is the newest moment that a view can be of, 0 if there is none.
func (s *state) newest() change.Version {
	if g := s.openGap(); g != nil {
		return min(g.From, s.closed())
	}
	if s.Birth == 0 {
		return 0
	}
	return s.closed()
}

// moment checks that a view as of a moment can be given, and returns the moment
// that 0 stands for.
func (s *state) moment(asOf change.Version) (change.Version, error) {
	newest := s.newest()
	switch {
	case s.Birth == 0:
		return 0, ErrEmpty
	case asOf == 0:
		return newest, nil
	case asOf < s.Birth:
		return 0, &TooEarlyError{AsOf: asOf, Earliest: s.Birth}
	case asOf > s.closed():
		return 0, &NotClosedError{AsOf: asOf, Newest: newest}
	}
	for i := range s.Gaps {
		if g := &s.Gaps[i]; g.Holds(asOf) {
			return 0, &GapError{AsOf: asOf, Gap: g.Gap}
		}
	}
	return asOf, nil
}

// describe fills in what the state says of a view: its epoch, and the gaps
// before it. It returns the version from which on LSNs are of that epoch.
func (s *state) describe(info *history.Info) (since change.Version) {
	info.Epoch, info.Origin = s.Epoch, s.Origin
	for i := range s.Gaps {
		g := &s.Gaps[i]
		if info.AsOf <= g.From {
			info.Epoch, info.Origin = g.Epoch, g.Origin
			break
		}
		info.Gaps = append(info.Gaps, g.Gap)
		since = g.To
	}
	return since
}
