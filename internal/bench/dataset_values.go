package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// values are the columns of one version by name. A value of another type than
// asked for is an error, kept until the row is complete: a benchmark of data that
// were read wrongly would prove nothing.
type values struct {
	table *history.Table
	cells []row.Cell
	bytes []byte // of the text that is being made
	err   error
}

// read takes a row apart; one that was deleted has no bytes, and no value.
func (v *values) read(t *history.Table, data []byte) (err error) {
	v.table = t
	if len(data) == 0 {
		v.cells = v.cells[:0]
		return nil
	}
	v.cells, err = row.Decode(data, v.cells[:0])
	return err
}

// cell is the cell of a column, nil if it has no value.
func (v *values) cell(column string) *row.Cell {
	slot := v.table.Slot(column)
	if slot < 0 {
		v.err = fmt.Errorf("no column %s", column)
		return nil
	}
	if slot >= len(v.cells) || v.cells[slot].Kind == row.NotCaptured || v.cells[slot].Kind == row.Null {
		return nil
	}
	return &v.cells[slot]
}

// string is the text of a cell.
func (v *values) string(c *row.Cell) string {
	v.bytes = c.AppendText(v.bytes[:0])
	return string(v.bytes)
}

func (v *values) text(column string) *string {
	c := v.cell(column)
	if c == nil {
		return nil
	}
	s := v.string(c)
	return &s
}

func (v *values) number(column string) *float64 {
	c := v.cell(column)
	if c == nil {
		return nil
	}
	f, err := strconv.ParseFloat(v.string(c), 64)
	v.err = errors.Join(v.err, err)
	return &f
}

func (v *values) whole(column string) *int32 {
	c := v.cell(column)
	if c == nil {
		return nil
	}
	if c.Kind != row.Int {
		v.err = fmt.Errorf("column %s is no whole number", column)
		return nil
	}
	n := int32(c.Int)
	return &n
}

func (v *values) moment(column string) *int64 {
	c := v.cell(column)
	if c == nil {
		return nil
	}
	if c.Kind != row.Timestamp {
		v.err = fmt.Errorf("column %s is no moment", column)
		return nil
	}
	at := c.Int // the cells are used again
	return &at
}

func (v *values) truth(column string) *bool {
	c := v.cell(column)
	if c == nil {
		return nil
	}
	t := c.Kind == row.True
	return &t
}

// json reads a column into a value, which is left as it is if there is none.
func (v *values) json(column string, to any) {
	if c := v.cell(column); c != nil {
		v.err = errors.Join(v.err, json.Unmarshal(c.Bytes, to))
	}
}

// elements are those of a vector.
func (v *values) elements(column string) (e vectorElements) {
	var list []*float32
	v.json(column, &list)
	if len(list) == 8 {
		e = vectorElements{list[0], list[1], list[2], list[3], list[4], list[5], list[6], list[7]}
	}
	return e
}

// joined are the elements of an array, sorted and joined by commas; the source
// makes only such as need no quotes.
func (v *values) joined(column string) *string {
	text := v.text(column)
	if text == nil {
		return nil
	}
	list := strings.Split(strings.Trim(*text, "{}"), ",")
	slices.Sort(list)
	s := strings.Join(slices.Compact(list), ",")
	return &s
}

// budget is a range of a JSON object, as it stands there.
func (v *values) budget(column string) (b budgetRange) {
	v.json(column, &b)
	return b
}

// passengers are counted in the one form that the source makes here.
func (v *values) passengers(column string) *int32 {
	if v.cell(column) == nil {
		return nil
	}
	var p struct{ Adults, Children, Infants int32 }
	v.json(column, &p)
	n := p.Adults + p.Children + p.Infants
	return &n
}
