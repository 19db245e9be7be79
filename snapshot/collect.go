package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dreamfeed/labels"
	"dreamfeed/snapshot/pit"
	"dreamfeed/snapshot/spill"
)

// partitions is the number of partitions of the spill: one for each first byte
// of the entity's pseudonym, so that their order is the order of the files.
const partitions = 256

// partsPerWorker is how many parts each worker finds on average, so that none
// waits long for the last one.
const partsPerWorker = 8

// collected is what the join met.
type collected struct {
	tally    pit.Tally
	inexact  int64 // dropped for being inexact
	immature int64 // dropped for being immature
	censored int64 // dropped for being censored
	passing  int64 // examples whose label window passes T, dropped or not
	recall   *recall
	exact    [4]int64 // examples kept, by pit.Exactness
	outcomes []int64  // the same by outcome; of a dataset only
	negative *labels.Selector
}

// kept is the number of examples that were spilled.
func (f *collected) kept() (n int64) {
	for _, of := range f.exact {
		n += of
	}
	return n
}

// collector is one worker of the join.
type collector struct {
	b         *build
	out       *spill.Writer
	entity    string
	pseudonym []byte
	rows      *spill.Pending // of the entity's partition
	// whole says that the row before is not that of the example before.
	whole     bool
	entities  *pseudonymizer
	negatives *labels.Hasher
	splits    *labels.Hasher
	found     collected
}

// collect joins all examples and spills those that enter step 7.
func (b *build) collect(ctx context.Context, source exampleSource) (*collected, error) {
	n, err := source.parts(ctx, b.Workers*partsPerWorker)
	if err != nil {
		return nil, fmt.Errorf("cut the entities into ranges: %w", err)
	}
	rules, err := labels.NewRules(b.Definition.Labels)
	if err != nil {
		return nil, err
	}
	key, err := subKey(b.Key, b.plan.entityColumn, b.Version, b.stable)
	if err != nil {
		return nil, err
	}
	workers := make([]*collector, b.Workers)
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	step := b.step("join", int64(n))
	for i := range workers {
		c := &collector{
			b: b, out: b.set.Writer(i), entities: newPseudonymizer(key, b.plan.entityHex),
			negatives: labels.NewHasher(labels.DomainNegatives, b.Seed),
			splits:    labels.NewHasher(labels.DomainSplit, b.Seed),
			found: collected{
				outcomes: make([]int64, len(b.Definition.Labels.Outcomes)),
				negative: labels.NewSelector(),
				recall:   newRecall(rules),
			},
		}
		workers[i] = c
		group.Go(func() error {
			for {
				part := int(next.Add(1)) - 1
				if part >= n {
					return c.out.Flush()
				}
				tally, err := source.scan(ctx, part, c.add)
				if err != nil {
					return fmt.Errorf("join the examples: %w", err)
				}
				addTally(&c.found.tally, tally)
				step(1)
			}
		})
	}
	if err := errors.Join(group.Wait(), source.Close()); err != nil {
		return nil, err
	}
	total := &workers[0].found
	for _, c := range workers[1:] {
		addTally(&total.tally, &c.found.tally)
		total.inexact += c.found.inexact
		addCounts(total.exact[:], c.found.exact[:])
		total.immature += c.found.immature
		total.censored += c.found.censored
		total.passing += c.found.passing
		total.recall.merge(c.found.recall)
		for i, n := range c.found.outcomes {
			total.outcomes[i] += n
		}
		total.negative.Merge(c.found.negative)
	}
	return total, nil
}

func addTally(t, o *pit.Tally) {
	t.Candidates += o.Candidates
	t.Immature += o.Immature
	for i, n := range o.Exactness {
		t.Exactness[i] += n
	}
	add := func(to *map[string]int64, from map[string]int64) {
		if *to == nil {
			*to = maps.Clone(from)
			return
		}
		for k, n := range from {
			(*to)[k] += n
		}
	}
	add(&t.Dropped, o.Dropped)
	add(&t.Faults, o.Faults)
	addLateness(&t.Lateness, o.Lateness)
}

// add spills one example.
func (c *collector) add(e *pit.Example) error {
	p := c.b.plan
	if e.Outcome < 0 || e.Outcome >= len(c.found.outcomes) || len(e.Columns) != len(p.def.Columns) {
		return fmt.Errorf("example with outcome %d and %d columns does not fit the definition", e.Outcome, len(e.Columns))
	}
	labelled := c.b.Stage == StageDataset
	// What is measured of the labels is measured before anything is dropped.
	if labelled && e.Censored {
		c.found.passing++
	}
	if labelled && e.Goal {
		c.found.recall.add(e.EntityID, e.GoalAfter)
	}
	switch def := c.b.Definition; {
	case e.Exact >= pit.Inexact && c.b.Inexact == Drop:
		c.found.inexact++
		c.whole = true
		return nil
	case labelled && e.Immature && def.Example.DropImmature:
		c.found.immature++
		c.whole = true
		return nil
	case labelled && e.Censored && def.Labels.DropCensored:
		c.found.censored++
		c.whole = true
		return nil
	}
	if e.EntityID != c.entity || c.rows == nil {
		c.entity, c.whole = e.EntityID, true
		c.pseudonym = append(c.pseudonym[:0], c.entities.raw(e.EntityID)...)
		var err error
		if c.rows, err = c.out.Group(int(c.pseudonym[0])); err != nil {
			return err
		}
	}
	row := row{Pending: c.rows, same: e.Same}
	if c.whole || c.rows.Rows == 0 || len(row.same) != p.places {
		row.same = nil
	}
	c.whole = false
	if row.same == nil {
		row.Set(spillEntity).AppendBytes(c.pseudonym, true)
	}
	row.Set(spillID).AppendText(e.ID, true)
	row.Set(spillTime).AppendInt(e.Time, true)
	row.Set(spillExact).AppendInt(int64(e.Exact), true)
	c.found.exact[e.Exact]++
	if labelled {
		c.dataset(e, row)
	} else {
		c.features(e, row)
	}
	return c.out.DoneInGroup()
}

// row is the row that an example is added as.
type row struct {
	*spill.Pending
	same []bool // pit.Example.Same, nil if it does not hold of the row before
}

// holds says whether the row before has the value that stands in a place of
// pit.Example.Same.
func (r *row) holds(place int) bool { return r.same != nil && r.same[place] }

// features adds what step 5 shows of the example.
func (c *collector) features(e *pit.Example, row row) {
	for i := range c.b.plan.columns {
		if col := &c.b.plan.columns[i]; col.spill >= 0 && !row.holds(col.derived) {
			v := pit.Fill(col.Column, e.Columns[col.derived])
			appendValue(row.Set(col.spill), &v)
		}
	}
}

// dataset adds the example as it was found, gaps and all, since steps 8 to 10
// look at them, and what decides whether and where its row goes.
func (c *collector) dataset(e *pit.Example, row row) {
	p := c.b.plan
	row.Set(spillOutcome).AppendInt(int64(e.Outcome), true)
	c.found.outcomes[e.Outcome]++
	if e.Outcome == p.sampled {
		h := c.negatives.Hash(e.ID)
		c.found.negative.Add(h)
		row.Set(spillNegative).AppendInt(int64(h), true)
	} else {
		row.Set(spillNegative).AppendInt(0, false)
	}
	row.Set(spillSplit).AppendInt(int64(c.splits.Hash(e.ID)), true)

	for i := range p.stored.floats {
		s := &p.stored.floats[i]
		if row.holds(s.derived) {
			continue
		}
		v := &e.Columns[s.derived]
		f, finite := float32(0), false
		if v.Valid {
			f, finite = pit.Clip(s.clip, v.Float)
		}
		row.Set(s.spill).AppendFloat(f, finite)
	}
	for i := range p.stored.ints {
		s := &p.stored.ints[i]
		if row.holds(s.derived) {
			continue
		}
		v := &e.Columns[s.derived]
		row.Set(s.spill).AppendInt(v.Int, v.Valid)
	}
	for i := range p.stored.texts {
		s := &p.stored.texts[i]
		if row.holds(s.derived) {
			continue
		}
		v := &e.Columns[s.derived]
		row.Set(s.spill).AppendText(v.Text, v.Valid)
	}
	missing := int64(0)
	for i, at := range p.required {
		if !row.Has(p.columns[at].spill) {
			missing = int64(i) + 1
			break
		}
	}
	row.Set(spillMissing).AppendInt(missing, true)
	for _, v := range p.values {
		if !row.holds(len(e.Columns) + v.value) {
			appendValue(row.Set(v.spill), &e.Values[v.value])
		}
	}
	path := len(e.Columns) + len(e.Values)
	for rule, places := range p.uniform {
		for k, at := range places {
			if !row.holds(path) {
				v := pit.Value{}
				if rule < len(e.Uniform) && k < len(e.Uniform[rule]) {
					v = e.Uniform[rule][k]
				}
				appendValue(row.Set(at), &v)
			}
			path++
		}
	}
}
