package pit

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/row"
)

// derive makes a value of the example at hand. What it leaves alone is
// missing; the fault says that it is so because of what the source holds.
type derive func(j *Joiner, out *Value) fault

// derivation compiles how a column comes about, nil if the dataset fills it.
func (c *compiler) derivation(column *definition.Column) (derive, error) {
	d := &column.Derive
	o := output{column.Type, column.Clip}
	switch {
	case d.Value != nil:
		return c.value(*d.Value, o)
	case d.Element != nil:
		return c.element(d.Element, o)
	case d.Bound != nil:
		return c.bound(d.Bound, o)
	case d.Total != nil:
		return c.total(d.Total, o)
	case d.Lookup != nil:
		return c.lookup(d.Lookup)
	case d.Bins != nil:
		return c.bins(d.Bins)
	case d.DatePart != nil:
		return c.datePart(d.DatePart, o)
	case d.Age != nil:
		return c.age(*d.Age, o)
	case d.Between != nil:
		return c.between(d.Between, o)
	case d.Count != nil:
		return c.count(d.Count, o)
	case d.Mean != nil:
		return c.mean(d.Mean, o)
	case d.Since != nil:
		return c.since(d.Since, o)
	case d.Member != nil:
		return c.member(d.Member)
	case d.Joined != nil:
		return c.joined(*d.Joined)
	case d.Constant != nil:
		return constant(*d.Constant, o)
	case d.CEL != nil:
		return c.expression(d.CEL, o)
	case d.Label != definition.LabelNone:
		return c.label(d.Label, o)
	case d.Pseudonym != nil, d.Alias != "", d.Quality != definition.QualityNone:
		return nil, nil
	}
	return nil, errors.New("has no derivation")
}

// once compiles what depends on one version of one row only, so that it is
// derived once for all examples that see it. The text says what is derived, so
// that the same derivation shares a place.
func (c *compiler) once(of operand, text string, read func(*Joiner, *version, *memo)) func(*Joiner) *memo {
	place := c.memo(of.table, text)
	return func(j *Joiner) *memo {
		v := of.version(j)
		if v == nil {
			return nil
		}
		m := j.memo(v, place, read)
		if m.late {
			j.late(of.source)
		}
		return m
	}
}

// fromCell is once for a value made of one cell that is not NULL.
func (c *compiler) fromCell(of operand, text string, read func(*version, *memo, []byte)) func(*Joiner) *memo {
	slot := of.slot
	return c.once(of, text+"\x00"+strconv.Itoa(slot), func(j *Joiner, v *version, m *memo) {
		cell, late := j.cell(v, slot)
		m.late = late
		if !present(cell) {
			return
		}
		if cell.Kind == row.Text {
			read(v, m, cell.Bytes)
			return
		}
		j.right = cell.AppendText(j.right[:0])
		read(v, m, j.right)
	})
}

// take is a derive that hands on what once made.
func take(get func(*Joiner) *memo) derive {
	return func(j *Joiner, out *Value) fault {
		m := get(j)
		if m == nil {
			return ""
		}
		*out = m.value
		return m.fault
	}
}

func (c *compiler) value(r definition.Ref, o output) (derive, error) {
	of, err := c.ref(r)
	if err != nil {
		return nil, err
	}
	if of.source == fromDerived {
		return func(j *Joiner, out *Value) fault { return o.convert(out, j.value(of.target), of.output) }, nil
	}
	return func(j *Joiner, out *Value) fault {
		cell := of.cell(j)
		if cell == nil {
			return ""
		}
		return o.set(j, out, cell, of.typ)
	}, nil
}

// convert copies a derived value to another type.
func (o output) convert(out, in *Value, typ definition.OutputType) fault {
	switch {
	case !in.Valid:
		return ""
	case typ == definition.Float32:
		return o.setFloat(out, float64(in.Float))
	case typ == definition.String:
		if o.typ != definition.String {
			f, err := strconv.ParseFloat(in.Text, 64)
			if err != nil {
				return notANumber
			}
			return o.setFloat(out, f)
		}
		*out = *in
		return ""
	}
	return o.setInt(out, in.Int)
}

// labels compiles a Map.
func (c *compiler) labels(name string) (func(text string) Value, error) {
	i := slices.IndexFunc(c.p.def.Maps, func(m definition.Map) bool { return m.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no map %q", name)
	}
	m := &c.p.def.Maps[i]
	return func(text string) Value {
		label, ok := m.Labels[text]
		if !ok {
			label = m.Else
		}
		return Value{Valid: label != "", Text: label}
	}, nil
}

func (c *compiler) lookup(l *definition.Lookup) (derive, error) {
	label, err := c.labels(l.Map)
	if err != nil {
		return nil, err
	}
	of, err := c.ref(l.Of)
	if err != nil {
		return nil, err
	}
	find := func(b []byte) Value {
		text := string(b)
		if l.Trim {
			text = strings.TrimSpace(text)
		}
		if l.Upper {
			text = strings.ToUpper(text)
		}
		if text == "" { // as good as absent: it is not a text that no label lists
			return Value{}
		}
		return label(text)
	}
	if of.source == fromDerived {
		return func(j *Joiner, out *Value) fault {
			text, ok := of.appendText(j, j.left[:0])
			j.left = text[:0]
			if ok {
				*out = find(text)
			}
			return ""
		}, nil
	}
	return take(c.fromCell(of, fmt.Sprint("lookup\x00", l.Map, l.Trim, l.Upper), func(_ *version, m *memo, text []byte) {
		m.value = find(text)
	})), nil
}

func (c *compiler) bins(b *definition.Bins) (derive, error) {
	number, err := c.value(b.Of, output{typ: definition.Int32})
	if err != nil {
		return nil, err
	}
	holds := func(bin definition.Bin, n int64) bool {
		return (bin.From == nil || n >= *bin.From) && (bin.To == nil || n <= *bin.To)
	}
	return func(j *Joiner, out *Value) fault {
		n := &j.number
		*n = Value{}
		if fault := number(j, n); fault != "" || !n.Valid {
			return fault
		}
		for _, bin := range b.Faults {
			if holds(bin, n.Int) {
				return bin.Name
			}
		}
		for _, bin := range b.Bins {
			if holds(bin, n.Int) {
				*out = Value{Valid: true, Text: bin.Name}
				return ""
			}
		}
		return noBin
	}, nil
}

func (c *compiler) datePart(d *definition.DatePart, o output) (derive, error) {
	of, err := c.ref(d.Of)
	if err != nil {
		return nil, err
	}
	if _, ok := partOf(d.Part, 0); !ok {
		return nil, fmt.Errorf("part %q: want month, weekday, hour or day", d.Part)
	}
	var label func(string) Value
	if d.Map != "" {
		if label, err = c.labels(d.Map); err != nil {
			return nil, err
		}
	}
	return func(j *Joiner, out *Value) fault {
		m, fault := of.moment(j)
		if !m.Valid {
			return fault
		}
		n, _ := partOf(d.Part, m.Int)
		switch {
		case label != nil:
			*out = label(strconv.FormatInt(n, 10))
		case o.typ == definition.Boolean && len(d.In) > 0:
			*out = Value{Valid: true}
			if slices.Contains(d.In, n) {
				out.Int = 1
			}
		default:
			return o.setInt(out, n)
		}
		return ""
	}, nil
}

func (c *compiler) age(r definition.Ref, o output) (derive, error) {
	of, err := c.ref(r)
	if err != nil {
		return nil, err
	}
	return func(j *Joiner, out *Value) fault {
		birth, fault := of.moment(j)
		if fault != "" {
			return badBirthDate // an infinity, or a year before 1 or after 9999
		}
		if !birth.Valid {
			return ""
		}
		if birth.Int > j.t {
			return badBirthDate
		}
		years := age(birth.Int, j.t)
		if years > 120 {
			return badBirthDate
		}
		return o.setInt(out, years)
	}, nil
}

func (c *compiler) between(b *definition.Between, o output) (derive, error) {
	from, err := c.ref(b.From)
	if err != nil {
		return nil, err
	}
	var to []operand
	err = c.any(func() error {
		for _, r := range b.To {
			of, err := c.ref(r)
			if err != nil {
				return err
			}
			to = append(to, of)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	unit, err := micros(b.Unit)
	if err != nil {
		return nil, err
	}
	return func(j *Joiner, out *Value) fault {
		start, bad := from.moment(j)
		var end Value
		for i := range to {
			m, fault := to[i].moment(j)
			if fault != "" {
				bad = fault
			}
			if m.Valid && (!end.Valid || m.Int < end.Int) {
				end = m
			}
		}
		if !start.Valid || !end.Valid {
			return bad
		}
		n := floorDiv(end.Int-start.Int, unit)
		if b.NegativeNull && n < 0 {
			return negative
		}
		return o.setInt(out, n)
	}, nil
}

func (c *compiler) joined(r definition.Ref) (derive, error) {
	of, err := c.ref(r)
	if err != nil {
		return nil, err
	}
	if of.source == fromDerived {
		return nil, fmt.Errorf("%s is no source column", r)
	}
	return take(c.fromCell(of, "joined", func(_ *version, m *memo, text []byte) {
		list, ok := joined(text)
		if !ok {
			m.fault = notAList
			return
		}
		m.value = Value{Valid: true, Text: list}
	})), nil
}

// constant converts the text once.
func constant(text string, o output) (derive, error) {
	var v Value
	var bad fault
	switch o.typ {
	case definition.String:
		v = Value{Valid: true, Text: text}
	case definition.Boolean:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("constant %q is no bool", text)
		}
		v.Valid = true
		if b {
			v.Int = 1
		}
	case definition.TimeStamp:
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, fmt.Errorf("constant %q is no RFC 3339 moment", text)
		}
		v = Value{Valid: true, Int: t.UnixMicro()}
	default:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("constant %q is no number", text)
		}
		bad = o.setFloat(&v, f)
	}
	if bad != "" {
		return nil, fmt.Errorf("constant %q does not fit %s: %s", text, o.typ, bad)
	}
	return func(_ *Joiner, out *Value) fault { *out = v; return "" }, nil
}

func (c *compiler) label(part definition.LabelPart, o output) (derive, error) {
	rules := c.p.rules
	if rules == nil {
		return nil, errors.New("no outcomes are defined")
	}
	switch part {
	case definition.LabelName:
		return func(j *Joiner, out *Value) fault {
			*out = Value{Valid: true, Text: rules.Name(j.ex.Outcome)}
			return ""
		}, nil
	case definition.LabelScore:
		return func(j *Joiner, out *Value) fault { return o.setFloat(out, rules.Score(j.ex.Outcome)) }, nil
	case definition.LabelGoal:
		return func(j *Joiner, out *Value) fault {
			var n int64
			if rules.Goal(j.ex.Outcome) {
				n = 1
			}
			return o.setInt(out, n)
		}, nil
	}
	return nil, fmt.Errorf("label part %q: want name, score or goal", part)
}
