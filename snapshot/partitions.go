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

	"dreamfeed/snapshot/spill"
)

// slice is the finished rows of one partition, by file.
type slice []*spill.Batch

// partitioner is one worker of the last pass.
type partitioner interface {
	// partition fills s, whose batches are empty, with the rows of a partition.
	partition(ctx context.Context, p int, s slice) error
	// close is called once, after the worker's last partition.
	close() error
}

// writePartitions has the workers prepare partitions, at most Workers + 2 of
// them ahead of what is written, and appends them to the files in order.
func writePartitions[W partitioner](ctx context.Context, b *build, workers []W, files []*output) error {
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
					return w.close()
				}
				var s slice
				select {
				case s = <-free:
				default:
					kinds := b.plan.rowKinds()
					for range files {
						s = append(s, spill.NewBatch(kinds))
					}
				}
				for _, rows := range s {
					rows.Reset()
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
				for i, o := range files {
					if err := o.writer.Write(ctx, s[i]); err != nil {
						return fmt.Errorf("write %s: %w", o.file, err)
					}
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

// sorter reads whole partitions and puts their rows into the order of the
// files: by pseudonym of the entity, moment, pseudonym of the id.
type sorter struct {
	p       *plan
	scanner *spill.Scanner
	ids     *pseudonymizer
	rows    *spill.Batch // a whole partition

	kept   []int  // rows that are written, in order
	idRaw  []byte // pseudonyms of the kept rows' ids, idSize bytes each
	order  []int  // places in idRaw, in the order of kept
	places []int  // rows by place in idRaw
	keys   []sortKey
	hex    []byte
}

// sortKey is what tells most rows apart: the entity's first bytes and the moment
// stand beside each other, so that comparing them reads nothing else.
type sortKey struct {
	head   uint64
	moment int64
	place  int // in idRaw
}

// sorters makes one for each worker.
func (b *build) sorters() ([]sorter, error) {
	key, err := subKey(b.Key, b.plan.idColumn, b.Version, b.stable)
	if err != nil {
		return nil, err
	}
	all := make([]int, len(b.plan.kinds))
	for i := range all {
		all[i] = i
	}
	return each(b.Workers, func() sorter {
		return sorter{p: b.plan, scanner: b.set.Scanner(all), ids: newPseudonymizer(key, b.plan.idHex)}
	}), nil
}

func (s *sorter) load(ctx context.Context, p int) (err error) {
	s.rows, err = s.scanner.Load(ctx, p)
	return err
}

// sort finds the order of the rows that are kept; without keep all are.
func (s *sorter) sort(keep func(rows *spill.Batch, i int) bool) {
	s.kept, s.idRaw, s.order, s.places = s.kept[:0], s.idRaw[:0], s.order[:0], s.places[:0]
	ids := &s.rows.Columns[spillID]
	for i := range s.rows.Rows {
		if keep == nil || keep(s.rows, i) {
			s.places = append(s.places, i)
			s.idRaw = append(s.idRaw, s.ids.raw(borrow(ids.Text(i)))...)
		}
	}
	entity, moment := &s.rows.Columns[spillEntity], s.rows.Columns[spillTime].Ints
	s.keys = s.keys[:0]
	for place, i := range s.places {
		s.keys = append(s.keys, sortKey{head(entity.Text(i)), moment[i], place})
	}
	slices.SortFunc(s.keys, func(x, y sortKey) int {
		if c := cmp.Compare(x.head, y.head); c != 0 {
			return c
		}
		p, q := x.place, y.place
		a, b := s.places[p], s.places[q]
		if c := bytes.Compare(entity.Text(a), entity.Text(b)); c != 0 {
			return c
		}
		if c := cmp.Compare(x.moment, y.moment); c != 0 {
			return c
		}
		return cmp.Or(bytes.Compare(s.id(p), s.id(q)), bytes.Compare(ids.Text(a), ids.Text(b)))
	})
	for _, key := range s.keys {
		s.order = append(s.order, key.place)
		s.kept = append(s.kept, s.places[key.place])
	}
}

// id is the bytes of the id's pseudonym at a place of idRaw.
func (s *sorter) id(place int) []byte {
	size := (s.p.idHex + 1) / 2
	return s.idRaw[place*size : (place+1)*size]
}

// pseudonyms fills a column of pseudonyms.
func (s *sorter) pseudonyms(c *column, to func(k int) *spill.Column) error {
	if c.origin == entityPseudonym {
		entity := &s.rows.Columns[spillEntity]
		for k, i := range s.kept {
			if k == 0 || !bytes.Equal(entity.Text(i), entity.Text(s.kept[k-1])) {
				s.hex = hex.AppendEncode(s.hex[:0], entity.Text(i))[:s.p.entityHex]
			}
			to(k).AppendBytes(s.hex, true)
		}
		return nil
	}
	if c.name != s.p.idColumn {
		return fmt.Errorf("column %s: a second pseudonym of the example's id", c.name)
	}
	for k := range s.kept {
		s.hex = hex.AppendEncode(s.hex[:0], s.id(s.order[k]))[:s.p.idHex]
		to(k).AppendBytes(s.hex, true)
	}
	return nil
}
