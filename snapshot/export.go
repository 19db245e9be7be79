package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
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
	b     *build
	d     *decisions
	list  listScratch
	idOut *spill.Writer // pseudonyms of all ids, to find duplicates
	stats *statistics

	test  []bool   // by place in kept
	user  []uint64 // number of the user, by place in kept
	users uint64
	w     float32 // sample weight of the sampled outcome
	parts [2]part // by split
	text  writtenText
	known []knownTexts // by output column
}

// part are a partition's rows of one split, in order.
type part struct {
	rows     []int // of the spill
	user     []uint64
	distinct int64 // users
}

// export writes both files: partition by partition, each filtered, mapped,
// filled and sorted by a worker, and appended in the order of partitions.
func (b *build) export(ctx context.Context, d *decisions, s *staging) (_ *exported, err error) {
	e := &exported{}
	var tests int64
	for _, n := range d.divided.tests {
		tests += n
	}
	staying := d.divided.fates[stays]
	if e.train, err = b.newOutput("train", staying-tests, b.Workers, s); err != nil {
		return nil, err
	}
	defer e.train.abort()
	if e.test, err = b.newOutput("test", tests, 1, s); err != nil {
		return nil, err
	}
	defer e.test.abort()

	ids, err := spill.New(b.TempDir, []spill.Kind{spill.Text}, nil, partitions, b.Workers)
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
	// The last groups of both files are encoded side by side, and one file's disk is
	// not waited for by the other.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		e.duplicates, err = b.duplicates(ctx, ids)
		return err
	})
	for _, o := range []*output{e.train, e.test} {
		group.Go(func() error {
			return o.finish(ctx, func(digest string) map[string]string { return b.fileMetadata(o, digest) })
		})
	}
	return e, group.Wait()
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
			w: labels.Weight(b.sampledAll, b.sampledKept), known: make([]knownTexts, len(b.plan.columns)),
		}
	}
	for at := range b.plan.columns {
		if c := &b.plan.columns[at]; c.Type == definition.String && c.origin == stored {
			numbers := spill.NewTexts()
			for _, x := range workers {
				x.known[at] = knownTexts{numbers: numbers, byText: map[string]*writtenText{}}
			}
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
	x.sort(x.d.split.stays)
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
	for split := range x.parts {
		s[split].Rows = len(x.parts[split].rows)
	}
	return nil
}

// close implements partitioner.
func (x *exporter) close() error { return x.idOut.Flush() }

// divide tells train from test, numbers the users, and keeps the ids.
func (x *exporter) divide() error {
	x.test, x.user = x.test[:0], x.user[:0]
	for split := range x.parts {
		p := &x.parts[split]
		p.rows, p.user, p.distinct = p.rows[:0], p.user[:0], 0
	}
	entity := &x.rows.Columns[spillEntity]
	var last []byte
	for k, i := range x.kept {
		test := x.d.split.test(x.rows, i)
		if k == 0 || !bytes.Equal(last, entity.Text(i)) {
			last = entity.Text(i)
			x.users++
		}
		x.test = append(x.test, test)
		x.user = append(x.user, x.users)
		p := &x.parts[x.in(k)]
		if n := len(p.user); n == 0 || p.user[n-1] != x.users {
			p.distinct++
		}
		p.rows = append(p.rows, i)
		p.user = append(p.user, x.users)
		id := x.id(x.order[k])
		x.idOut.Row(int(id[0])).Set(0).AppendBytes(id, true)
		if err := x.idOut.Done(int(id[0])); err != nil {
			return err
		}
	}
	return nil
}

// column fills one output column of both splits, each in one go: a column's
// values stand side by side in the spill and in the file.
func (x *exporter) column(at int, s slice) error {
	c := &x.b.plan.columns[at]
	switch c.origin {
	case alias: // the file copies its base
		return nil
	case entityPseudonym, idPseudonym:
		train, test := &s[inTrain].Columns[at], &s[inTest].Columns[at]
		return x.pseudonyms(c, func(k int) *spill.Column {
			if x.test[k] {
				return test
			}
			return train
		})
	}
	for split := range x.parts {
		p, to := &x.parts[split], &s[split].Columns[at]
		switch {
		case len(p.rows) == 0:
		case c.origin == weight:
			x.weights(p, to)
			x.stats.numbers(at, split, p, to.Valid, to.Floats)
		default:
			x.values(at, c, split, p, to)
		}
	}
	return nil
}

func (x *exporter) weights(p *part, to *spill.Column) {
	outcome := x.rows.Columns[spillOutcome].Ints
	for _, i := range p.rows {
		w := float32(1)
		if int(outcome[i]) == x.b.plan.sampled {
			w = x.w
		}
		to.AppendFloat(w, true)
	}
}

// values fills a column of a split from the spill: rare values mapped, gaps
// filled. What is counted of numbers is counted before the gaps are filled.
func (x *exporter) values(at int, c *column, split int, p *part, to *spill.Column) {
	from := &x.rows.Columns[c.spill]
	var fill fill
	if c.isMedian() {
		fill = x.d.numbers.fills[c.numeric]
	}
	switch from.Kind {
	case spill.Text:
		x.texts(at, c, split, p, from, to)
	case spill.Float32:
		to.AppendRows(from, p.rows)
		x.stats.numbers(at, split, p, to.Valid, to.Floats)
		value, filled := c.gap.Float, c.gap.Valid
		if fill.ok {
			value, filled = keyFloat(fill.key), true
		}
		if filled {
			fillGaps(to.Valid, to.Floats, value)
		}
	default:
		to.AppendRows(from, p.rows)
		x.stats.integers(at, split, p, to.Valid, to.Ints)
		value, filled := c.gap.Int, c.gap.Valid
		if fill.ok {
			value, filled = keyInt(fill.key), true
		}
		if filled {
			fillGaps(to.Valid, to.Ints, value)
		}
	}
}

func fillGaps[T any](valid []bool, list []T, value T) {
	for i, ok := range valid {
		if !ok {
			valid[i], list[i] = true, value
		}
	}
}

// writtenText is what becomes of a text, and where it is counted.
type writtenText struct {
	text                 []byte
	ok, missing, changed bool
	number               uint32 // in knownTexts.numbers
	numbered             bool
	cells                [2]*tally // by split
	counted              [2]bool   // cells are set
}

// knownTexts is what a worker knows of a column's texts: there are mostly few. It keeps
// no more than spill.Texts does.
type knownTexts struct {
	numbers *spill.Texts            // of what is written, for all workers
	byText  map[string]*writtenText // by text before rare ones are mapped
	bytes   int                     // of its texts
	absent  *writtenText            // what becomes of a missing one
}

// texts fills a column of texts. Rows of a user follow each other, and what is
// known of a user hardly changes: what was found for the row before mostly holds.
func (x *exporter) texts(at int, c *column, split int, p *part, from, to *spill.Column) {
	stats := &x.stats.columns[at][split]
	if numbers := x.known[at].numbers; !numbers.Full() {
		to.Texts = numbers
	}
	var w *writtenText
	for k, i := range p.rows {
		if k == 0 || !sameText(from, p.rows[k-1], i) {
			w = x.known[at].find(x, c, from, i)
			if !w.counted[split] {
				w.counted[split], w.cells[split] = true, x.stats.text(at, split, w)
			}
		}
		x.stats.seen(at, stats, p.user[k], !w.missing)
		if w.changed {
			stats.changed.add(p.user[k])
		}
		if cell := w.cells[split]; cell != nil {
			cell.add(p.user[k])
		}
		if to.Texts != nil {
			if w.numbered {
				to.AppendNumber(w.number, w.ok)
				continue
			}
			to.Spell()
		}
		to.AppendBytes(w.text, w.ok)
	}
}

// find finds what becomes of a row's text. Of a text that is not kept it is good until
// the next one is looked for, and as long as the rows are.
func (n *knownTexts) find(x *exporter, c *column, from *spill.Column, row int) *writtenText {
	raw, ok := c.fullText(from, row)
	missing := !from.Valid[row] || len(from.Text(row)) == 0 && c.Missing == definition.MissingUnknown
	if missing && n.absent != nil {
		return n.absent
	}
	if w := n.byText[string(raw)]; w != nil && !missing {
		return w
	}
	w := &x.text
	*w = writtenText{ok: ok, missing: missing, numbered: !ok}
	w.text = raw
	if ok && c.rare >= 0 {
		w.text = x.b.rare[c.rare].apply(raw, &x.list)
		w.changed = !bytes.Equal(w.text, raw)
	}
	if !missing && (len(n.byText) == spill.MostTexts || n.bytes+len(raw) > spill.MostTextBytes) {
		return w
	}
	if ok {
		w.number, w.numbered = n.numbers.Number(w.text)
	}
	kept := *w
	kept.text = bytes.Clone(w.text)
	if missing {
		n.absent = &kept
	} else {
		n.bytes += len(raw)
		n.byText[string(raw)] = &kept
	}
	return &kept
}

func sameText(c *spill.Column, i, j int) bool {
	return c.Valid[i] == c.Valid[j] && bytes.Equal(c.Text(i), c.Text(j))
}

// headed is a row with the first bytes of its text, which tell most texts apart.
type headed struct {
	head uint64
	row  int
}

// head is the first bytes of a text, in their order.
func head(text []byte) uint64 {
	var first [8]byte
	copy(first[:], text)
	return binary.BigEndian.Uint64(first[:])
}

// duplicates counts the rows whose id's pseudonym another row has too.
func (b *build) duplicates(ctx context.Context, ids *spill.Set) (int64, error) {
	var total atomic.Int64
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range b.Workers {
		group.Go(func() error {
			scanner := ids.Scanner([]int{0})
			var list []headed
			for {
				p := int(next.Add(1)) - 1
				if p >= partitions {
					return nil
				}
				rows, err := scanner.Load(ctx, p)
				if err != nil {
					return fmt.Errorf("look for duplicate ids: %w", err)
				}
				ids := &rows.Columns[0]
				list = list[:0]
				for i := range rows.Rows {
					list = append(list, headed{head(ids.Text(i)), i})
				}
				slices.SortFunc(list, func(x, y headed) int {
					if c := cmp.Compare(x.head, y.head); c != 0 {
						return c
					}
					return bytes.Compare(ids.Text(x.row), ids.Text(y.row))
				})
				for i := 1; i < len(list); i++ {
					if list[i].head == list[i-1].head && bytes.Equal(ids.Text(list[i].row), ids.Text(list[i-1].row)) {
						total.Add(1)
					}
				}
			}
		})
	}
	err := group.Wait()
	return total.Load(), err
}
