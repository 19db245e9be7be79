package main

import (
	"context"
	"errors"
	"fmt"
)

const (
	// smokeName is the section under which the smallest sizes stand: their ratios
	// are others than those of the large ones, since starting weighs more.
	smokeName = "smoke"
	// smokeRounds are the runs of each.
	smokeRounds = 3
	// smokeFactor is by how much a ratio may be worse than the recorded one. It is
	// to find what went wrong, not what became a little slower: other machines,
	// and neighbours, make ratios differ too.
	smokeFactor = 2
)

func smokeSection() section {
	return section{name: smokeName, run: runSmokeSizes, doc: "the smallest sizes, whose ratios `make bench-smoke` compares with these"}
}

// runSmokeSizes runs the sections that have a smallest size with it.
func runSmokeSizes(ctx context.Context, s *suite) error {
	full := s.full
	s.smoke, s.full = true, false
	defer func() { s.smoke, s.full = false, full }()
	for _, part := range sections() {
		if !part.smoke {
			continue
		}
		if err := part.run(ctx, s); err != nil {
			return fmt.Errorf("smallest size of section %s: %w", part.name, err)
		}
	}
	return nil
}

// runSmoke measures the smallest sizes, and fails if a ratio is far from what was
// recorded.
func (s *suite) runSmoke(ctx context.Context) error {
	recorded, err := readRecord(s.baseline)
	if err != nil {
		return err
	}
	if err := runSmokeSizes(ctx, s); err != nil {
		return err
	}
	if err := writeTable(s.stdout, s.figures); err != nil {
		return err
	}
	unknown, worse := compare(s.figures, recorded.Figures)
	for _, name := range unknown {
		s.say("%s is not in %s: `make bench` records it", name, s.baseline)
	}
	errs := make([]error, 0, len(worse))
	for _, text := range worse {
		errs = append(errs, errors.New(text))
	}
	if len(errs) > 0 {
		errs = append(errs, fmt.Errorf("the ratios above are far from those in %s; `make bench` measures all, and records what is meant", s.baseline))
	}
	return errors.Join(errs...)
}

// compare holds guarded ratios against recorded ones of the same section and name:
// which were never recorded, and a sentence for each whose best run is worse than
// the recorded median by smokeFactor. What went wrong shows in every run; a busy
// neighbour does not.
func compare(figures, recorded []*Figure) (unknown, worse []string) {
	type key struct{ section, name string }
	before := map[key]*Figure{}
	for _, f := range recorded {
		before[key{f.Section, f.Name}] = f
	}
	for _, f := range figures {
		if !f.Guard {
			continue
		}
		old := before[key{f.Section, f.Name}]
		switch {
		case old == nil:
			unknown = append(unknown, f.Name)
		case f.Lower && f.Min > old.Median*smokeFactor:
			worse = append(worse, fmt.Sprintf("%s is %s at best, above twice the recorded %s", f.Name, short(f.Min), short(old.Median)))
		case !f.Lower && f.Max < old.Median/smokeFactor:
			worse = append(worse, fmt.Sprintf("%s is %s at best, below half of the recorded %s", f.Name, short(f.Max), short(old.Median)))
		}
	}
	return unknown, worse
}
