package pit

import (
	"encoding/json"
	"fmt"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/row"
)

// filter says which versions of a table's rows count. The nil filter lets all
// pass. What it says of a version is kept with the version.
type filter struct {
	place  int
	derive func(*Joiner, *version, *memo)
}

// pass says whether the version counts. A column that the version did not
// capture makes the example inexact; an expression that cannot be evaluated
// does not hold, and is a fault of what is being derived.
func (f *filter) pass(j *Joiner, v *version) bool {
	if f == nil {
		return true
	}
	m := j.memo(v, f.place, f.derive)
	if m.late {
		j.inexact = true
	}
	if m.fault != "" {
		j.faults = append(j.faults, faultCount{j.step.name, m.fault})
	}
	return m.value.Int == 1
}

// filter compiles a Where over the rows of a table.
func (c *compiler) filter(t *table, w *definition.Filter) (*filter, error) {
	if w == nil {
		return nil, nil
	}
	refs := w.Refs()
	slots := make([]int, len(refs))
	typs := make([]definition.Type, len(refs))
	for i, r := range refs {
		column := t.def.Column(r.Column)
		if column == nil {
			return nil, fmt.Errorf("filter %q: table %s has no column %q", w.Source, t.name, r.Column)
		}
		slots[i], typs[i] = t.slot(r.Column), column.Type
	}
	f := &filter{place: c.memo(t, "where\x00"+w.Source)}
	if list, ok := w.Texts(); ok && len(slots) == 1 {
		slot := slots[0]
		f.derive = func(j *Joiner, v *version, m *memo) {
			cell, late := j.cell(v, slot)
			m.late = late
			if cell.Kind == row.Null || cell.Kind == row.NotCaptured {
				return
			}
			j.left = cell.AppendText(j.left[:0])
			for _, text := range list {
				if string(j.left) == text {
					m.value.Int = 1
				}
			}
		}
		return f, nil
	}
	f.derive = func(j *Joiner, v *version, m *memo) {
		ok, err := w.Bool(func(i int) any {
			cell, late := j.cell(v, slots[i])
			m.late = m.late || late
			return j.program.variable(cell, typs[i])
		})
		if err != nil {
			m.fault = expression
		}
		if ok {
			m.value.Int = 1
		}
	}
	return f, nil
}

// variable is a cell as an expression sees it: nil when it is NULL or cannot be
// read as its column's type.
func (p *Program) variable(c *row.Cell, typ definition.Type) any {
	if c == nil || c.Kind == row.Null || c.Kind == row.NotCaptured {
		return nil
	}
	switch typ {
	case definition.Int:
		if _, n, exact, ok := number(c); ok && exact {
			return n
		}
		return nil
	case definition.Float:
		if f, _, _, ok := number(c); ok {
			return f
		}
		return nil
	case definition.Bool:
		if c.Kind == row.True || c.Kind == row.False {
			return c.Kind == row.True
		}
		return nil
	case definition.Timestamp:
		m, _ := p.moment(c)
		if !m.Valid {
			return nil
		}
		return time.UnixMicro(m.Int).UTC()
	case definition.JSON:
		return json.RawMessage(c.AppendText(nil))
	case definition.List:
		list := []string{}
		if !parseArray(c.AppendText(nil), func(e []byte) { list = append(list, string(e)) }) {
			return nil
		}
		return list
	}
	return c.String()
}

// variable is the operand as an expression sees it.
func (o *operand) variable(j *Joiner) any {
	if o.source != fromDerived {
		return j.program.variable(o.cell(j), o.typ)
	}
	v := j.value(o.target)
	if !v.Valid {
		return nil
	}
	switch o.output {
	case definition.String:
		return v.Text
	case definition.Float32:
		return float64(v.Float)
	case definition.Boolean:
		return v.Int == 1
	case definition.TimeStamp:
		return time.UnixMicro(v.Int).UTC()
	}
	return v.Int
}

// expression compiles a column that is an expression.
func (c *compiler) expression(e *definition.Filter, o output) (derive, error) {
	refs := e.Refs()
	operands := make([]operand, len(refs))
	for i, r := range refs {
		var err error
		if operands[i], err = c.ref(r); err != nil {
			return nil, fmt.Errorf("expression %q: %w", e.Source, err)
		}
	}
	return func(j *Joiner, out *Value) fault {
		result, err := e.Value(func(i int) any { return operands[i].variable(j) })
		if err != nil {
			return expression
		}
		switch x := result.(type) {
		case string:
			*out = Value{Valid: true, Text: x}
		case int64:
			return o.setInt(out, x)
		case float64:
			return o.setFloat(out, x)
		case bool:
			*out = Value{Valid: true}
			if x {
				out.Int = 1
			}
		case time.Time:
			*out = Value{Valid: true, Int: x.UnixMicro()}
		}
		return ""
	}, nil
}
