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
	// rows are those of the entity that were not handed to out yet, at most
	// spill.ChunkRows. They go to one partition, all at once.
	rows      *spill.Batch
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
			b: b, out: b.set.Writer(i), rows: spill.NewBatchOf(b.plan.kinds, spill.ChunkRows), entities: newPseudonymizer(key, b.plan.entityHex),
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
					return errors.Join(c.hand(), c.out.Flush())
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
		return nil
	case labelled && e.Immature && def.Example.DropImmature:
		c.found.immature++
		return nil
	case labelled && e.Censored && def.Labels.DropCensored:
		c.found.censored++
		return nil
	}
	if e.EntityID != c.entity || c.pseudonym == nil || c.rows.Rows == spill.ChunkRows {
		if err := c.hand(); err != nil {
			return err
		}
		c.entity = e.EntityID
		c.pseudonym = append(c.pseudonym[:0], c.entities.raw(e.EntityID)...)
	}
	cols := c.rows.Columns
	cols[spillEntity].AppendBytes(c.pseudonym, true)
	cols[spillID].AppendText(e.ID, true)
	cols[spillTime].AppendInt(e.Time, true)
	cols[spillExact].AppendInt(int64(e.Exact), true)
	c.found.exact[e.Exact]++
	if labelled {
		c.dataset(e, cols)
	} else {
		c.features(e, cols)
	}
	c.rows.Rows++
	return nil
}

// hand hands the entity's rows to its partition.
func (c *collector) hand() error {
	if c.rows.Rows == 0 {
		return nil
	}
	err := c.out.Add(int(c.pseudonym[0]), c.rows)
	c.rows.Reset()
	return err
}

// features adds what step 5 shows of the example.
func (c *collector) features(e *pit.Example, cols []spill.Column) {
	for i := range c.b.plan.columns {
		if col := &c.b.plan.columns[i]; col.spill >= 0 {
			v := pit.Fill(col.Column, e.Columns[col.derived])
			appendValue(&cols[col.spill], &v)
		}
	}
}

// dataset adds the example as it was found, gaps and all, since steps 8 to 10
// look at them, and what decides whether and where its row goes.
func (c *collector) dataset(e *pit.Example, cols []spill.Column) {
	p := c.b.plan
	cols[spillOutcome].AppendInt(int64(e.Outcome), true)
	c.found.outcomes[e.Outcome]++
	if e.Outcome == p.sampled {
		h := c.negatives.Hash(e.ID)
		c.found.negative.Add(h)
		cols[spillNegative].AppendInt(int64(h), true)
	} else {
		cols[spillNegative].AppendInt(0, false)
	}
	cols[spillSplit].AppendInt(int64(c.splits.Hash(e.ID)), true)

	for i := range p.stored.floats {
		s := &p.stored.floats[i]
		v := &e.Columns[s.derived]
		f, finite := float32(0), false
		if v.Valid {
			f, finite = pit.Clip(s.clip, v.Float)
		}
		cols[s.spill].AppendFloat(f, finite)
	}
	for i := range p.stored.ints {
		s := &p.stored.ints[i]
		v := &e.Columns[s.derived]
		cols[s.spill].AppendInt(v.Int, v.Valid)
	}
	for i := range p.stored.texts {
		s := &p.stored.texts[i]
		v := &e.Columns[s.derived]
		cols[s.spill].AppendText(v.Text, v.Valid)
	}
	missing := int64(0)
	for i, at := range p.required {
		col := &p.columns[at]
		valid := cols[col.spill].Valid
		if !valid[len(valid)-1] {
			missing = int64(i) + 1
			break
		}
	}
	cols[spillMissing].AppendInt(missing, true)
	for _, v := range p.values {
		appendValue(&cols[v.spill], &e.Values[v.value])
	}
	for rule, places := range p.uniform {
		for path, at := range places {
			v := pit.Value{}
			if rule < len(e.Uniform) && path < len(e.Uniform[rule]) {
				v = e.Uniform[rule][path]
			}
			appendValue(&cols[at], &v)
		}
	}
}
