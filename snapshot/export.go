package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
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
	b       *build
	d       *decisions
	scanner *spill.Scanner
	rows    *spill.Batch // a whole partition
	fates   []fate
	scratch groupScratch
	ids     *pseudonymizer
	idOut   *spill.Writer // pseudonyms of all ids, to find duplicates
	stats   *statistics

	kept  []int    // rows that are written, in order
	idRaw []byte   // pseudonyms of the kept rows' ids, idSize bytes each
	order []int    // places in idRaw, in the order of kept
	test  []bool   // by place in kept
	user  []uint64 // number of the user, by place in kept
	users uint64
	hex   []byte
	w     float32 // sample weight of the sampled outcome
}

// export writes both files: partition by partition, each filtered, mapped,
// filled and sorted by a worker, and appended in the order of partitions.
func (b *build) export(ctx context.Context, d *decisions, s *stage) (_ *exported, err error) {
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
	if err := b.exportPartitions(ctx, workers, e); err != nil {
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
	key, err := subKey(b.Key, b.plan.idColumn, b.Version, b.stable)
	if err != nil {
		return nil, err
	}
	bins := b.chartBins(d.numbers)
	all := make([]int, len(b.plan.kinds))
	for i := range all {
		all[i] = i
	}
	workers := make([]*exporter, b.Workers)
	for i := range workers {
		workers[i] = &exporter{
			b: b, d: d, scanner: b.set.Scanner(all), ids: newPseudonymizer(key, b.plan.idHex),
			idOut: ids.Writer(i), stats: newStatistics(b.plan, bins),
			w: labels.Weight(b.sampledAll, b.sampledKept),
		}
	}
	return workers, nil
}

// exportPartitions has the workers prepare partitions, at most Workers + 2 of
// them ahead of what is written, and writes them in order.
func (b *build) exportPartitions(ctx context.Context, workers []*exporter, e *exported) error {
	ahead := b.Workers + 2
	tokens := make(chan struct{}, ahead) // full: a worker waits for the writer
	free := make(chan slice, ahead)      // empty: a worker makes new batches
	results := make([]chan slice, partitions)
	for i := range results {
		results[i] = make(chan slice, 1)
	}
	step := b.step("export", partitions)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range workers {
		group.Go(func() error {
			for {
				select {
				case tokens <- struct{}{}:
				case <-ctx.Done():
					return ctx.Err()
				}
				p := int(next.Add(1)) - 1
				if p >= partitions {
					<-tokens
					return w.idOut.Flush()
				}
				var s slice
				select {
				case s = <-free:
				default:
					kinds := b.plan.rowKinds()
					s = slice{spill.NewBatch(kinds), spill.NewBatch(kinds)}
				}
				if err := w.partition(ctx, p, s); err != nil {
					return fmt.Errorf("export: %w", err)
				}
				results[p] <- s
			}
		})
	}
	group.Go(func() error {
		for p := range partitions {
			select {
			case s := <-results[p]:
				if err := e.train.writer.Write(ctx, s.train); err != nil {
					return fmt.Errorf("write %s: %w", e.train.file, err)
				}
				if err := e.test.writer.Write(ctx, s.test); err != nil {
					return fmt.Errorf("write %s: %w", e.test.file, err)
				}
				select {
				case free <- s:
				default:
				}
				<-tokens
				step(1)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

// partition fills s with the finished rows of a partition.
func (x *exporter) partition(ctx context.Context, p int, s slice) error {
	s.train.Reset()
	s.test.Reset()
	var err error
	if x.rows, err = x.scanner.Load(ctx, p); err != nil {
		return err
	}
	x.fates = x.d.sieve.mark(x.rows, x.fates, &x.scratch)
	x.sort()
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
	for _, test := range x.test {
		if test {
			s.test.Rows++
		} else {
			s.train.Rows++
		}
	}
	return nil
}

// sort puts the rows that stay into the order of the files.
func (x *exporter) sort() {
	x.kept, x.idRaw, x.order = x.kept[:0], x.idRaw[:0], x.order[:0]
	ids := &x.rows.Columns[spillID]
	size := (x.b.plan.idHex + 1) / 2
	var rows []int
	for i, f := range x.fates {
		if f == stays {
			x.order = append(x.order, len(rows))
			rows = append(rows, i)
			x.idRaw = append(x.idRaw, x.ids.raw(borrow(ids.Text(i)))...)
		}
	}
	entity, moment := &x.rows.Columns[spillEntity], x.rows.Columns[spillTime].Ints
	id := func(place int) []byte { return x.idRaw[place*size : (place+1)*size] }
	slices.SortFunc(x.order, func(p, q int) int {
		a, b := rows[p], rows[q]
		if c := bytes.Compare(entity.Text(a), entity.Text(b)); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(moment[a], moment[b]), bytes.Compare(id(p), id(q)),
			bytes.Compare(ids.Text(a), ids.Text(b)))
	})
	for _, place := range x.order {
		x.kept = append(x.kept, rows[place])
	}
}

// divide tells train from test, numbers the users, and keeps the ids.
func (x *exporter) divide() error {
	x.test, x.user = x.test[:0], x.user[:0]
	entity := &x.rows.Columns[spillEntity]
	size := (x.b.plan.idHex + 1) / 2
	var last []byte
	for k, i := range x.kept {
		x.test = append(x.test, x.d.split.test(x.rows, i))
		if k == 0 || !bytes.Equal(last, entity.Text(i)) {
			last = entity.Text(i)
			x.users++
		}
		x.user = append(x.user, x.users)
		id := x.idRaw[x.order[k]*size : (x.order[k]+1)*size]
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
	train, test := &s.train.Columns[at], &s.test.Columns[at]
	to := func(k int) *spill.Column {
		if x.test[k] {
			return test
		}
		return train
	}
	switch c.origin {
	case alias:
		train.AppendRange(&s.train.Columns[c.base], 0, len(s.train.Columns[c.base].Valid))
		test.AppendRange(&s.test.Columns[c.base], 0, len(s.test.Columns[c.base].Valid))
	case entityPseudonym:
		entity := &x.rows.Columns[spillEntity]
		for k, i := range x.kept {
			x.hex = hex.AppendEncode(x.hex[:0], entity.Text(i))[:x.b.plan.entityHex]
			to(k).AppendBytes(x.hex, true)
		}
	case idPseudonym:
		size := (x.b.plan.idHex + 1) / 2
		digits := hexDigits(c.Derive.Pseudonym.Length)
		if c.name != x.b.plan.idColumn {
			return fmt.Errorf("column %s: a second pseudonym of the example's id", c.name)
		}
		for k := range x.kept {
			from := x.order[k] * size
			x.hex = hex.AppendEncode(x.hex[:0], x.idRaw[from:from+size])[:digits]
			to(k).AppendBytes(x.hex, true)
		}
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
		value, filled := float32(0), c.Missing == definition.MissingZero
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
		value, filled := int64(0), c.Missing == definition.MissingZero || c.Missing == definition.MissingFalse
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
