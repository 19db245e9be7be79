package pit

import (
	"fmt"
	"strings"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/row"
)

// event is the moment of an event row: the first of its columns that holds one.
type event struct {
	place  int
	derive func(*Joiner, *version, *memo)
}

func (e *event) of(j *Joiner, v *version) *memo {
	m := j.memo(v, e.place, e.derive)
	if m.late {
		j.inexact = true
	}
	return m
}

func (c *compiler) event(t *table, columns []string) (*event, error) {
	slots := make([]int, len(columns))
	for i, name := range columns {
		if slots[i] = t.slot(name); slots[i] < 0 || t.def.Column(name) == nil {
			return nil, fmt.Errorf("table %s has no column %q", t.name, name)
		}
	}
	return &event{c.memo(t, "event\x00"+strings.Join(columns, "\x00")), func(j *Joiner, v *version, m *memo) {
		for _, slot := range slots {
			cell, late := j.cell(v, slot)
			m.late = m.late || late
			value, fault := j.program.moment(cell)
			if value.Valid {
				m.value, m.fault = value, ""
				return
			}
			if fault != "" {
				m.fault = fault
			}
		}
	}}, nil
}

// aggregate compiles the rows that an aggregate is over, in memory that is
// valid until the next one is asked for. The fault is that of a row that had to
// be left out.
func (c *compiler) aggregate(a *definition.Aggregate) (*table, func(*Joiner) ([]*version, fault), error) {
	t := c.table(a.Table)
	if t == nil {
		return nil, nil, fmt.Errorf("there is no table %q", a.Table)
	}
	c.rest.note(footing{kind: onTable, index: t.index})
	where, err := c.filter(t, a.Where)
	if err != nil {
		return nil, nil, err
	}
	var ev *event
	if len(a.Time) > 0 {
		if ev, err = c.event(t, a.Time); err != nil {
			return nil, nil, err
		}
	}
	window := a.Window.Microseconds()
	return t, func(j *Joiner) ([]*version, fault) {
		var bad fault
		rows := j.rows[:0]
		for _, v := range j.hold(t.index) {
			if !where.pass(j, v) {
				continue
			}
			if ev != nil {
				m := ev.of(j, v)
				if m.fault != "" {
					bad = m.fault
				}
				if at := m.value.Int; !m.value.Valid || at >= j.t || window > 0 && at < j.t-window {
					continue
				}
			}
			rows = append(rows, v)
		}
		j.rows = rows
		return rows, bad
	}, nil
}

func (c *compiler) count(a *definition.Aggregate, o output) (derive, error) {
	_, each, err := c.aggregate(a)
	if err != nil {
		return nil, err
	}
	return func(j *Joiner, out *Value) fault {
		rows, bad := each(j)
		if fault := o.setInt(out, int64(len(rows))); fault != "" {
			return fault
		}
		return bad
	}, nil
}

// mean compiles the mean of a column. The sum is exact, so that it does not
// depend on the order of the rows.
func (c *compiler) mean(a *definition.Aggregate, o output) (derive, error) {
	t, each, err := c.aggregate(a)
	if err != nil {
		return nil, err
	}
	if t.def.Column(a.Column) == nil {
		return nil, fmt.Errorf("table %s has no column %q", t.name, a.Column)
	}
	slot := t.slot(a.Column)
	return func(j *Joiner, out *Value) fault {
		var s sum
		rows, bad := each(j)
		for _, v := range rows {
			cell, late := j.cell(v, slot)
			if late {
				j.inexact = true
			}
			s.add(cell)
		}
		if s.bad {
			bad = notANumber
		}
		if s.n == 0 {
			return bad
		}
		if fault := o.setFloat(out, s.mean()); fault != "" {
			return fault
		}
		return bad
	}, nil
}

func (c *compiler) since(s *definition.Since, o output) (derive, error) {
	r, err := c.row(s.Row)
	if err != nil {
		return nil, err
	}
	c.rest.note(footing{kind: onRow, index: r.source})
	if r.event == nil {
		return nil, fmt.Errorf("row %s has no event time: give it last", s.Row)
	}
	unit, err := micros(s.Unit)
	if err != nil {
		return nil, err
	}
	return func(j *Joiner, out *Value) fault {
		v := j.source[r.source]
		if v == nil {
			return ""
		}
		return o.setInt(out, floorDiv(j.t-r.event.of(j, v).value.Int, unit))
	}, nil
}

// member compiles whether a row of the table with the wanted value holds.
func (c *compiler) member(m *definition.Member) (derive, error) {
	t := c.table(m.Table)
	if t == nil {
		return nil, fmt.Errorf("there is no table %q", m.Table)
	}
	if t.def.Column(m.Column) == nil {
		return nil, fmt.Errorf("table %s has no column %q", m.Table, m.Column)
	}
	c.rest.note(footing{kind: onTable, index: t.index})
	where, err := c.filter(t, m.Where)
	if err != nil {
		return nil, err
	}
	wanted, err := c.ref(m.Equals)
	if err != nil {
		return nil, err
	}
	slot := t.slot(m.Column)
	return func(j *Joiner, out *Value) fault {
		*out = Value{Valid: true}
		rows := j.hold(t.index)
		text, ok := wanted.appendText(j, j.key[:0])
		j.key = text[:0]
		if !ok {
			return ""
		}
		for _, v := range rows {
			if !where.pass(j, v) {
				continue
			}
			cell, late := j.cell(v, slot)
			if late {
				j.inexact = true
			}
			if j.same(cell, text) {
				out.Int = 1
			}
		}
		return ""
	}, nil
}

// same says whether a cell that is not NULL has the text.
func (j *Joiner) same(c *row.Cell, text []byte) bool {
	switch c.Kind {
	case row.Null, row.NotCaptured:
		return false
	case row.Text:
		return string(c.Bytes) == string(text)
	}
	j.left = c.AppendText(j.left[:0])
	return string(j.left) == string(text)
}

func micros(unit time.Duration) (int64, error) {
	if unit < time.Microsecond {
		return 0, fmt.Errorf("unit %s is below a microsecond", unit)
	}
	return unit.Microseconds(), nil
}
