package snapshot

import (
	"context"

	"dreamfeed/internal/definition"
	"dreamfeed/labels"
	"dreamfeed/snapshot/spill"
)

// sampling decides step 7: which rows of the sampled outcome stay.
func (b *build) sampling(ctx context.Context, found *collected) (labels.Threshold, error) {
	var positives int64
	for i, o := range b.Definition.Labels.Outcomes {
		if o.Score > 0 {
			positives += found.outcomes[i]
		}
	}
	if b.plan.sampled >= 0 {
		b.sampledAll = found.outcomes[b.plan.sampled]
	}
	b.sampledKept = labels.Kept(b.sampledAll, positives, b.ratio)
	resolver := found.negative.Resolve(b.sampledKept)
	if b.sampledKept == 0 || b.sampledKept == b.sampledAll {
		return resolver.Threshold(), nil // all or none
	}
	forks := each(b.Workers, resolver.Fork)
	err := b.scan(ctx, "negative sampling", []int{spillID, spillOutcome, spillNegative}, func(w int, rows *spill.Batch) error {
		outcome, hash, ids := &rows.Columns[spillOutcome], &rows.Columns[spillNegative], &rows.Columns[spillID]
		for i := range rows.Rows {
			if int(outcome.Int(i)) == b.plan.sampled {
				forks[w].Add(uint64(hash.Int(i)), borrow(ids.Text(ids.At(i))))
			}
		}
		return nil
	})
	for _, f := range forks {
		resolver.Merge(f)
	}
	return resolver.Threshold(), err
}

// cleaned is what step 8 found among the rows leaving step 7.
type cleaned struct {
	notSampled int64
	missing    []int64 // by required column
	looked     int64   // rows leaving 8 (b)
	classes    []int64 // the same by outcome
}

// extremes decides the bounds of step 8 (c) from the rows leaving (b).
func (b *build) extremes(ctx context.Context, s *sieve) (*cleaned, []bound, error) {
	p := b.plan
	type worker struct {
		fates   []fate
		counts  []int64
		classes []int64
		moments []moments
	}
	workers := each(b.Workers, func() *worker {
		return &worker{
			counts: make([]int64, s.fates()), classes: make([]int64, len(b.Definition.Labels.Outcomes)),
			moments: make([]moments, len(p.outliers)),
		}
	})
	var more []int
	for _, o := range p.outliers {
		more = append(more, o.spill)
	}
	err := b.scan(ctx, "outlier bounds", s.columns(more...), func(at int, rows *spill.Batch) error {
		w := workers[at]
		w.fates = s.mark(rows, w.fates, nil)
		outcome := &rows.Columns[spillOutcome]
		for i, f := range w.fates {
			w.counts[f]++
			if f == stays {
				w.classes[outcome.Int(i)]++
			}
		}
		for o := range p.outliers {
			rule, m := &p.outliers[o], &w.moments[o]
			c := &rows.Columns[rule.spill]
			for i, f := range w.fates {
				switch row := c.At(i); {
				case f != stays || !c.Valid[row]:
				case rule.float:
					m.addFloat(c.Floats[row])
				default:
					m.addInt(c.Ints[row])
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	total := workers[0]
	for _, w := range workers[1:] {
		addCounts(total.counts, w.counts)
		addCounts(total.classes, w.classes)
		for i := range w.moments {
			total.moments[i].merge(&w.moments[i])
		}
	}
	c := &cleaned{notSampled: total.counts[notSampled], looked: total.counts[stays], classes: total.classes}
	for i := range p.required {
		c.missing = append(c.missing, total.counts[s.missing(i)])
	}
	deviations := b.Definition.Deviations
	if deviations == 0 {
		deviations = 3
	}
	bounds := make([]bound, len(p.outliers))
	for i := range bounds {
		bounds[i] = total.moments[i].bound(deviations)
	}
	return c, bounds, nil
}

func addCounts(to, from []int64) {
	for i, n := range from {
		to[i] += n
	}
}

// divided is what the pass over the split found.
type divided struct {
	fates      []int64   // rows by fate
	outside    [][]int64 // rows outside each outlier rule by outcome, of those leaving 8 (b)
	classes    []int64   // rows to split by outcome
	users      int64     // distinct users of those rows
	smallUsers int64     // users of a group that is too small, if groups are only measured
	tests      []int64   // rows that go to test by outcome
}

// divide decides step 10: in each class the rows with the smallest hashes go
// to test. measured are groups that suppress nothing, or nil.
func (b *build) divide(ctx context.Context, s *sieve, measured *groups) (*divided, splitter, error) {
	p := b.plan
	kept := newKeptRows(b.set)
	classes := len(b.Definition.Labels.Outcomes)
	type worker struct {
		staying, small users
		fates          []fate
		found          divided
		selectors      []*labels.Selector
		scratch        groupScratch
	}
	workers := each(b.Workers, func() *worker {
		w := &worker{found: divided{fates: make([]int64, s.fates())}}
		for range classes {
			w.selectors = append(w.selectors, labels.NewSelector())
		}
		for range p.outliers {
			w.found.outside = append(w.found.outside, make([]int64, classes))
		}
		return w
	})
	more := []int{spillSplit}
	for _, o := range p.outliers {
		more = append(more, o.spill)
	}
	if measured != nil {
		for _, at := range p.groups {
			more = append(more, p.columns[at].spill)
		}
	}
	err := b.scan(ctx, "split", s.columns(more...), func(at int, rows *spill.Batch) error {
		w := workers[at]
		w.fates = s.mark(rows, w.fates, &w.scratch)
		outcome, hash, entity := &rows.Columns[spillOutcome], &rows.Columns[spillSplit], &rows.Columns[spillEntity]
		small := measured.in(rows, &w.scratch)
		for i, f := range w.fates {
			w.found.fates[f]++
			if f != notSampled && (f < fateFixed || f >= s.outlier(0)) {
				for o := range p.outliers {
					if v, ok := p.outliers[o].value(rows, i); ok && s.bounds[o].outside(v) {
						w.found.outside[o][outcome.Int(i)]++
					}
				}
			}
			if f != stays {
				continue
			}
			kept.note(rows, i, rowStays)
			w.selectors[outcome.Int(i)].Add(uint64(hash.Int(i)))
			user := entity.Text(entity.At(i))
			w.staying.at(user)
			if measured != nil && small.of(i) {
				w.small.at(user)
			}
		}
		return nil
	})
	if err != nil {
		return nil, splitter{}, err
	}
	total := workers[0]
	for _, w := range workers[1:] {
		addCounts(total.found.fates, w.found.fates)
		for o := range w.found.outside {
			addCounts(total.found.outside[o], w.found.outside[o])
		}
		for i, sel := range w.selectors {
			total.selectors[i].Merge(sel)
		}
		total.staying.n += w.staying.n
		total.small.n += w.small.n
	}
	d := &total.found
	d.users, d.smallUsers = int64(total.staying.n), int64(total.small.n)
	resolvers := make([]*labels.Resolver, classes)
	for i, sel := range total.selectors {
		d.classes = append(d.classes, sel.Len())
		d.tests = append(d.tests, labels.TestCount(b.testSize, sel.Len()))
		resolvers[i] = sel.Resolve(d.tests[i])
	}
	thresholds, err := b.resolve(ctx, kept, resolvers)
	return d, splitter{kept, thresholds}, err
}

// resolve finds the exact border of each class.
func (b *build) resolve(ctx context.Context, kept *keptRows, resolvers []*labels.Resolver) ([]labels.Threshold, error) {
	workers := each(b.Workers, func() (forks []*labels.Resolver) {
		for _, r := range resolvers {
			forks = append(forks, r.Fork())
		}
		return forks
	})
	err := b.scan(ctx, "split border", []int{spillID, spillOutcome, spillSplit}, func(w int, rows *spill.Batch) error {
		outcome, hash, ids := &rows.Columns[spillOutcome], &rows.Columns[spillSplit], &rows.Columns[spillID]
		for i := range rows.Rows {
			if kept.is(rows, i, rowStays) {
				workers[w][outcome.Int(i)].Add(uint64(hash.Int(i)), borrow(ids.Text(ids.At(i))))
			}
		}
		return nil
	})
	thresholds := make([]labels.Threshold, len(resolvers))
	for i, r := range resolvers {
		for _, w := range workers {
			r.Merge(w[i])
		}
		thresholds[i] = r.Threshold()
	}
	return thresholds, err
}

// splitter tells test rows from train rows, of those that stay.
type splitter struct {
	kept       *keptRows
	thresholds []labels.Threshold // by outcome
}

// columns are those of the spill that decide reads.
func (s *splitter) columns(more ...int) []int {
	return unique(append([]int{spillID, spillOutcome, spillSplit}, more...))
}

// decide decides on the rows of a batch, once for all.
func (s *splitter) decide(rows *spill.Batch) {
	outcome, hash, ids := &rows.Columns[spillOutcome], &rows.Columns[spillSplit], &rows.Columns[spillID]
	for i := range rows.Rows {
		if s.stays(rows, i) && s.thresholds[outcome.Int(i)].Keep(uint64(hash.Int(i)), borrow(ids.Text(ids.At(i)))) {
			s.kept.note(rows, i, rowTests)
		}
	}
}

func (s *splitter) stays(rows *spill.Batch, i int) bool { return s.kept.is(rows, i, rowStays) }

// test says whether a row that stays goes to test; decide was there before.
func (s *splitter) test(rows *spill.Batch, i int) bool { return s.kept.is(rows, i, rowTests) }

// isMedian says whether the column's gaps are filled with a median.
func (c *column) isMedian() bool {
	return c.Missing == definition.MissingMedian && !c.Required && c.numeric >= 0
}
