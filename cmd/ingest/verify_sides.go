package main

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
	"dreamfeed/internal/verify"
)

// verifyWorkers is how many sessions read the source, and how many ranges of the
// store are read, at once.
const verifyWorkers = 2

// entityColumn stands, in a comparison, for the place at which the store holds a
// row: under the entity that the row's own column names.
const entityColumn = "(entity)"

// compared lists the columns of a table that are compared.
func compared(t *definition.Table) verify.Table {
	out := verify.Table{Name: t.Name}
	for i := range t.Columns {
		out.Columns = append(out.Columns, t.Columns[i].Name)
	}
	if t.Entity != "" {
		out.Columns = append(out.Columns, entityColumn)
	}
	return out
}

// sourceRows is the source's side of a comparison.
type sourceRows struct {
	snapshot *cdc.Snapshot
	tables   []*definition.Table
}

// Rows reads the tables one after the other.
func (s *sourceRows) Rows(ctx context.Context, wanted func(table int) bool, fn func(*verify.Row) error) error {
	for i, t := range s.tables {
		if !wanted(i) {
			continue
		}
		rel := s.snapshot.Relation(t.Name)
		place := func(name string) int {
			return slices.IndexFunc(rel.Columns, func(c change.Column) bool { return c.Name == name })
		}
		var key, columns []int
		for _, name := range t.Key {
			key = append(key, place(name))
		}
		for c := range t.Columns {
			columns = append(columns, place(t.Columns[c].Name))
		}
		if t.Entity != "" {
			columns = append(columns, place(t.By))
		}
		if slices.Contains(key, -1) || slices.Contains(columns, -1) {
			return fmt.Errorf("read table %s: the source lacks a column that the definition names: run `ingest check`", t.Name)
		}
		rows := make([]verify.Row, verifyWorkers)
		err := s.snapshot.Read(ctx, t.Name, verifyWorkers, func(worker int, values []change.Value) error {
			r := &rows[worker]
			r.Table, r.Key, r.Cells = i, r.Key[:0], r.Cells[:0]
			for _, k := range key {
				r.Key = featurestore.AppendKey(r.Key, values[k].Text)
			}
			for _, c := range columns {
				cell := verify.Cell{Kind: verify.Null}
				if v := &values[c]; v.Kind == change.Text {
					cell = verify.Cell{Kind: verify.Text, Text: v.Text}
				}
				r.Cells = append(r.Cells, cell)
			}
			return fn(r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// storeRows is the store's side of a comparison, read through the daemon.
type storeRows struct {
	view   *featurestore.RemoteView
	tables []*definition.Table
}

// storeTable is a table of the definition as the store holds it.
type storeTable struct {
	index int // among the tables compared
	slots []int
	// placed says that the place of a row is compared as its last column.
	placed bool
}

// Rows reads the entity kinds of the tables one after the other. Rows whose entity
// is NULL lie among those without entity.
func (s *storeRows) Rows(ctx context.Context, wanted func(table int) bool, fn func(*verify.Row) error) error {
	info := s.view.Info()
	held := map[uint16]*storeTable{}
	kinds := []string{""}
	for i, t := range s.tables {
		if !wanted(i) {
			continue
		}
		have := info.Table(t.Name)
		if have == nil {
			return fmt.Errorf("read table %s: the store does not hold it: start ingest with this definition", t.Name)
		}
		st := &storeTable{index: i, placed: t.Entity != ""}
		for c := range t.Columns {
			st.slots = append(st.slots, have.Slot(t.Columns[c].Name))
		}
		held[have.ID] = st
		if !slices.Contains(kinds, t.Entity) {
			kinds = append(kinds, t.Entity)
		}
	}
	for _, kind := range kinds {
		ranges, err := s.view.Ranges(ctx, kind, 4*verifyWorkers)
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(verifyWorkers)
		for _, r := range ranges {
			group.Go(func() error {
				reader := &storeReader{held: held, kind: kind, fn: fn}
				return s.view.ScanLatest(ctx, kind, r, reader.entity)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// storeReader decodes the rows of one range; its memory is used again.
type storeReader struct {
	held map[uint16]*storeTable
	kind string
	fn   func(*verify.Row) error

	cells []row.Cell
	text  []byte
	row   verify.Row
}

func (s *storeReader) entity(e *history.Entity) error {
	for i := range e.Rows {
		t := s.held[e.Rows[i].Table]
		if t == nil {
			continue
		}
		if err := s.decode(t, e, &e.Rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *storeReader) decode(t *storeTable, e *history.Entity, from *history.Row) error {
	r := &s.row
	r.Table, r.Key, r.Cells = t.index, from.Key, r.Cells[:0]
	var err error
	s.cells, err = row.Decode(from.Versions[0].Data, s.cells)
	if r.Broken = err != nil; r.Broken {
		return s.fn(r) // it is named among the differences
	}
	s.text = s.text[:0]
	for _, slot := range t.slots {
		cell := verify.Cell{}
		if slot >= 0 && slot < len(s.cells) {
			switch c := &s.cells[slot]; c.Kind {
			case row.NotCaptured:
			case row.Null:
				cell.Kind = verify.Null
			default:
				// What was cut from text before stays good when it moves.
				start := len(s.text)
				s.text = c.AppendText(s.text)
				cell = verify.Cell{Kind: verify.Text, Text: s.text[start:]}
			}
		}
		r.Cells = append(r.Cells, cell)
	}
	if t.placed {
		cell := verify.Cell{Kind: verify.Null}
		if s.kind != "" {
			start := len(s.text)
			s.text = append(s.text, e.ID...)
			cell = verify.Cell{Kind: verify.Text, Text: s.text[start:]}
		}
		r.Cells = append(r.Cells, cell)
	}
	return s.fn(r)
}
