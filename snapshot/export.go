package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dreamfeed/internal/definition"
	"dreamfeed/labels"
	"dreamfeed/snapshot/spill"
)

// exported is what the last pass wrote and counted.
type exported struct {
	train, test *output
	stats       *statistics
	duplicates  int64
}

// exporter is one worker of the last pass.
type exporter struct {
	sorter
	b       *build
	d       *decisions
	fates   []fate
	scratch groupScratch
	idOut   *spill.Writer // pseudonyms of all ids, to find duplicates
	stats   *statistics

	test  []bool   // by place in kept
	user  []uint64 // number of the user, by place in kept
	users uint64
	w     float32 // sample weight of the sampled outcome
}

// export writes both files: partition by partition, each filtered, mapped,
// filled and sorted by a worker, and appended in the order of partitions.
func (b *build) export(ctx context.Context, d *decisions, s *staging) (_ *exported, err error) {
	e := &exported{}
	if e.train, err = b.newOutput("train", b.Workers, s); err != nil {
		return nil, err
	}
	defer e.train.abort()
	if e.test, err = b.newOutput("test", 1, s); err != nil {
		return nil, err
	}
	defer e.test.abort()

	ids, err := spill.New(b.TempDir, []spill.Kind{spill.Text}, partitions, b.Workers)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	defer func() {
		if closed := ids.Close(); err == nil {
			err = closed
		}
	}()
	workers, err := b.exporters(d, ids)
	if err != nil {
		return nil, err
	}
	if err := writePartitions(ctx, b, workers, []*output{inTrain: e.train, inTest: e.test}); err != nil {
		return nil, err
	}
	e.stats = workers[0].stats
	for _, w := range workers[1:] {
		e.stats.merge(w.stats)
	}
	if e.duplicates, err = b.duplicates(ctx, ids); err != nil {
		return nil, err
	}
	for _, o := range []*output{e.train, e.test} {
		if err := o.finish(ctx, func(digest string) map[string]string { return b.fileMetadata(o, digest) }); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (b *build) exporters(d *decisions, ids *spill.Set) ([]*exporter, error) {
	sorters, err := b.sorters()
	if err != nil {
		return nil, err
	}
	bins := b.chartBins(d.numbers)
	workers := make([]*exporter, b.Workers)
	for i := range workers {
		workers[i] = &exporter{
			sorter: sorters[i], b: b, d: d, idOut: ids.Writer(i), stats: newStatistics(b.plan, bins),
			w: labels.Weight(b.sampledAll, b.sampledKept),
		}
	}
	return workers, nil
}

// partition implements partitioner: train and test rows that are filtered,
// mapped, filled and sorted.
func (x *exporter) partition(ctx context.Context, p int, s slice) error {
	if err := x.load(ctx, p); err != nil {
		return err
	}
	x.fates = x.d.sieve.mark(x.rows, x.fates, &x.scratch)
	x.sort(x.fates)
	if err := x.divide(); err != nil {
		return err
	}
	x.stats.rows(x)
	for i := range x.b.plan.columns {
		if err := x.column(i, s); err != nil {
			return err
		}
	}
	for i, n := range x.stats.nulls {
		if n > 0 {
			return &GateError{Gates: []Gate{nullGate(x.b.plan.columns[i].name, n)}}
		}
	}
	for k := range x.test {
		s[x.in(k)].Rows++
	}
	return nil
}

// close implements partitioner.
func (x *exporter) close() error { return x.idOut.Flush() }

// divide tells train from test, numbers the users, and keeps the ids.
func (x *exporter) divide() error {
	x.test, x.user = x.test[:0], x.user[:0]
	entity := &x.rows.Columns[spillEntity]
	var last []byte
	for k, i := range x.kept {
		x.test = append(x.test, x.d.split.test(x.rows, i))
		if k == 0 || !bytes.Equal(last, entity.Text(i)) {
			last = entity.Text(i)
			x.users++
		}
		x.user = append(x.user, x.users)
		id := x.id(x.order[k])
		out := x.idOut.Row(int(id[0]))
		out.Columns[0].AppendBytes(id, true)
		if err := x.idOut.Done(int(id[0])); err != nil {
			return err
		}
	}
	return nil
}

// column fills one output column.
func (x *exporter) column(at int, s slice) error {
	c := &x.b.plan.columns[at]
	train, test := &s[inTrain].Columns[at], &s[inTest].Columns[at]
	to := func(k int) *spill.Column {
		if x.test[k] {
			return test
		}
		return train
	}
	switch c.origin {
	case alias:
		s.alias(at, c.base)
	case entityPseudonym, idPseudonym:
		return x.pseudonyms(c, to)
	case weight:
		outcome := x.rows.Columns[spillOutcome].Ints
		for k, i := range x.kept {
			w := float32(1)
			if int(outcome[i]) == x.b.plan.sampled {
				w = x.w
			}
			x.stats.number(at, x, k, float64(w), w, true)
			to(k).AppendFloat(w, true)
		}
	default:
		x.values(at, c, &x.rows.Columns[c.spill], to)
	}
	return nil
}

// values fills a column from the spill: rare values mapped, gaps filled.
func (x *exporter) values(at int, c *column, from *spill.Column, to func(int) *spill.Column) {
	switch from.Kind {
	case spill.Text:
		for k, i := range x.kept {
			text, ok := c.fullText(from, i)
			missing := !from.Valid[i] || len(from.Text(i)) == 0 && c.Missing == definition.MissingUnknown
			changed := false
			if ok && c.rare >= 0 {
				mapped := x.b.rare[c.rare].apply(text, &x.scratch.list)
				changed = !bytes.Equal(mapped, text)
				text = mapped
			}
			x.stats.text(at, x, k, text, ok, missing, changed)
			to(k).AppendBytes(text, ok)
		}
	case spill.Float32:
		value, filled := c.gap.Float, c.gap.Valid
		if c.isMedian() && x.d.numbers.fills[c.numeric].ok {
			value, filled = keyFloat(x.d.numbers.fills[c.numeric].key), true
		}
		for k, i := range x.kept {
			v, ok := from.Floats[i], from.Valid[i]
			x.stats.number(at, x, k, float64(v), v, ok)
			if !ok && filled {
				v, ok = value, true
			}
			to(k).AppendFloat(v, ok)
		}
	default:
		value, filled := c.gap.Int, c.gap.Valid
		if c.isMedian() && x.d.numbers.fills[c.numeric].ok {
			value, filled = keyInt(x.d.numbers.fills[c.numeric].key), true
		}
		for k, i := range x.kept {
			v, ok := from.Ints[i], from.Valid[i]
			x.stats.integer(at, x, k, v, ok)
			if !ok && filled {
				v, ok = value, true
			}
			to(k).AppendInt(v, ok)
		}
	}
}

// duplicates counts the rows whose id's pseudonym another row has too.
func (b *build) duplicates(ctx context.Context, ids *spill.Set) (int64, error) {
	var total atomic.Int64
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range b.Workers {
		group.Go(func() error {
			scanner := ids.Scanner([]int{0})
			var list [][]byte
			for {
				p := int(next.Add(1)) - 1
				if p >= partitions {
					return nil
				}
				rows, err := scanner.Load(ctx, p)
				if err != nil {
					return fmt.Errorf("look for duplicate ids: %w", err)
				}
				list = list[:0]
				for i := range rows.Rows {
					list = append(list, rows.Columns[0].Text(i))
				}
				slices.SortFunc(list, bytes.Compare)
				for i := 1; i < len(list); i++ {
					if bytes.Equal(list[i], list[i-1]) {
						total.Add(1)
					}
				}
			}
		})
	}
	err := group.Wait()
	return total.Load(), err
}
