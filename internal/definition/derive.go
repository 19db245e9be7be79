package definition

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// derivations are the keys that say how a column comes about; a column has
// exactly one.
var derivations = []string{
	"value", "element", "bound", "total", "lookup", "bins", "part", "age", "between", "count", "mean",
	"since", "member", "joined", "constant", "cel", "label", "pseudonym", "quality", "alias",
}

// derivation reads the one derivation of a column.
func (l *loader) derivation(e entry, f map[string]*yaml.Node, c *Column, what string) {
	kind := ""
	for _, key := range derivations {
		if f[key] == nil {
			continue
		}
		if kind != "" {
			l.fault(f[key], "%s has both %s and %s: it comes about in one way", what, kind, key)
			continue
		}
		kind = key
	}
	if kind == "" {
		l.fault(e.key, "%s does not say how it comes about: give it one of %s", what, typeList(derivations))
		return
	}
	n, what := f[kind], kind+" of "+what
	d := &c.Derive
	switch kind {
	case "value":
		l.value(n, c, what)
	case "element":
		d.Element = l.element(n, c, what)
	case "bound":
		l.output(n, c, what, Float32)
		f := l.fields(n, what, "of", "take")
		l.require(n, what, f, "of", "take")
		d.Bound = &Bound{Of: l.refs(f["of"], what, JSON), Take: oneOf(l, f["take"], "take", "min", "max")}
	case "total":
		l.output(n, c, what, Int32)
		f := l.fieldsOrRef(n, what, "of", "parts")
		ref, _ := l.ref(f["of"], what, JSON)
		d.Total = &Total{Of: ref, Parts: l.texts(f["parts"], "parts of "+what)}
	case "lookup":
		d.Lookup = l.lookup(n, c, what)
	case "bins":
		d.Bins = l.bins(n, c, what)
	case "part":
		d.DatePart = l.datePart(n, c, what)
	case "age":
		l.output(n, c, what, Int32)
		ref, _ := l.ref(n, what, Timestamp)
		d.Age = &ref
	case "between":
		d.Between = l.span(n, c, what)
	case "count":
		l.output(n, c, what, Int32)
		d.Count = l.aggregate(n, what, false)
	case "mean":
		l.output(n, c, what, Float32)
		d.Mean = l.aggregate(n, what, true)
	case "since":
		d.Since = l.since(n, c, what)
	case "member":
		d.Member = l.member(n, c, what)
	case "joined":
		l.output(n, c, what, String)
		ref, _ := l.ref(n, what, List)
		d.Joined = &ref
	case "constant":
		if text := l.text(n, what); text != "" {
			if c.Type != "" && !constant(text, c.Type) {
				l.fault(n, "%s, %q, is no %s", what, text, c.Type)
			}
			d.Constant = &text
		}
	case "cel":
		d.CEL = l.expression(n, c.Type, what)
	case "label":
		l.label(n, c, what)
	case "pseudonym":
		d.Pseudonym = l.pseudonym(n, c, what)
	case "quality":
		l.current.late = true
		d.Quality = oneOf(l, n, "quality", QualityExact, QualityWeight, QualityCensored)
		l.output(n, c, what, map[QualityPart]OutputType{QualityExact: Boolean, QualityWeight: Float32, QualityCensored: Boolean}[d.Quality])
		if d.Quality == QualityCensored && l.def.Labels.Window == 0 {
			l.fault(n, "%s marks examples whose label window passes the as-of moment, but labels have no window: give labels.window, such as 14d", what)
		}
	}
}

// output refuses a derivation whose result has another type than the column.
func (l *loader) output(n *yaml.Node, c *Column, what string, only ...OutputType) {
	if c.Type == "" || slices.Contains(only, "") || slices.Contains(only, c.Type) {
		return
	}
	l.fault(n, "%s gives %s, the column's type is %s", what, typeList(only), c.Type)
}

// fieldsOrRef reads a mapping with keys, or a text that stands for its "of".
func (l *loader) fieldsOrRef(n *yaml.Node, what string, keys ...string) map[string]*yaml.Node {
	if n = deref(n); n.Kind == yaml.ScalarNode && !isNull(n) {
		return map[string]*yaml.Node{"of": n}
	}
	f := l.fields(n, what, keys...)
	l.require(n, what, f, "of")
	return f
}

// conversions are the source types that a column's value may have.
var conversions = map[OutputType][]Type{
	String:    {Text, Int},
	Float32:   {Float, Int},
	Int32:     {Int},
	Boolean:   {Bool},
	TimeStamp: {Timestamp},
}

func (l *loader) value(n *yaml.Node, c *Column, what string) {
	ref, got := l.ref(n, what)
	if from := conversions[c.Type]; got != "" && from != nil && !slices.Contains(from, got) {
		l.fault(n, "%s: %s is %s, a %s column takes %s", what, ref, got, c.Type, typeList(from))
	}
	c.Derive.Value = &ref
}

func (l *loader) element(n *yaml.Node, c *Column, what string) *Element {
	l.output(n, c, what, Float32)
	f := l.fields(n, what, "from", "index", "length")
	l.require(n, what, f, "from", "index", "length")
	ref, _ := l.ref(f["from"], what, JSON)
	x := &Element{From: ref, Index: l.count(f["index"], "index of "+what, 0), Length: l.count(f["length"], "length of "+what, 1)}
	if f["index"] != nil && x.Length > 0 && x.Index >= x.Length {
		l.fault(f["index"], "index %d of %s is outside of an array of %d, which counts from 0", x.Index, what, x.Length)
	}
	return x
}

func (l *loader) mapName(n *yaml.Node, what string) string {
	name := l.text(n, "map of "+what)
	list := names(l.def.Maps, func(m *Map) string { return m.Name })
	if name != "" && !slices.Contains(list, name) {
		l.fault(n, "%s in %s", unknown("map", name, list), what)
	}
	return name
}

func (l *loader) lookup(n *yaml.Node, c *Column, what string) *Lookup {
	l.output(n, c, what, String)
	f := l.fields(n, what, "of", "map", "trim", "upper")
	l.require(n, what, f, "of", "map")
	ref, _ := l.ref(f["of"], what, Text)
	return &Lookup{
		Of: ref, Map: l.mapName(f["map"], what),
		Trim: l.boolean(f["trim"], "trim of "+what), Upper: l.boolean(f["upper"], "upper of "+what),
	}
}

func (l *loader) bins(n *yaml.Node, c *Column, what string) *Bins {
	l.output(n, c, what, String)
	f := l.fields(n, what, "of", "bins", "faults")
	l.require(n, what, f, "of", "bins")
	ref, _ := l.ref(f["of"], what, Int)
	b := &Bins{Of: ref}
	for _, e := range l.entries(f["bins"], "bins") {
		b.Bins = append(b.Bins, l.bin(e, what))
	}
	for _, e := range l.entries(f["faults"], "faults") {
		b.Faults = append(b.Faults, l.bin(e, what))
	}
	all := append(slices.Clone(b.Bins), b.Faults...)
	for i := range all {
		for j := range i {
			if overlap(all[i], all[j]) {
				l.fault(n, "bins %q and %q in %s overlap", all[j].Name, all[i].Name, what)
			}
		}
	}
	return b
}

// bin reads a range [from, to], of which either may be null for an open end.
func (l *loader) bin(e entry, what string) Bin {
	b := Bin{Name: e.name()}
	ends := l.items(e.value, "bin "+b.Name)
	if len(ends) != 2 {
		l.fault(e.key, "bin %q in %s must be a range, [from, to], null for an open end", b.Name, what)
		return b
	}
	before := len(l.faults)
	for i, to := range []**int64{&b.From, &b.To} {
		if !isNull(ends[i]) {
			v := l.integer(ends[i], "an end of bin "+b.Name)
			*to = &v
		}
	}
	if len(l.faults) == before && b.From != nil && b.To != nil && *b.From > *b.To {
		l.fault(e.key, "bin %q in %s is reversed: %d is above %d", b.Name, what, *b.From, *b.To)
	}
	return b
}

func overlap(a, b Bin) bool {
	return (a.From == nil || b.To == nil || *a.From <= *b.To) && (b.From == nil || a.To == nil || *b.From <= *a.To)
}

func (l *loader) datePart(n *yaml.Node, c *Column, what string) *DatePart {
	f := l.fields(n, what, "of", "part", "map", "in")
	l.require(n, what, f, "of", "part")
	ref, _ := l.ref(f["of"], what, Timestamp)
	p := &DatePart{Of: ref, Part: oneOf(l, f["part"], "part", "month", "weekday", "hour", "day")}
	if f["map"] != nil {
		p.Map = l.mapName(f["map"], what)
	}
	limits := map[string][2]int64{"month": {1, 12}, "weekday": {0, 6}, "hour": {0, 23}, "day": {1, 31}}
	for _, item := range l.items(f["in"], "in of "+what) {
		v := l.integer(item, "in of "+what)
		if limit, ok := limits[p.Part]; ok && (v < limit[0] || v > limit[1]) {
			l.fault(item, "in of %s: a %s is %d to %d, not %d", what, p.Part, limit[0], limit[1], v)
		}
		p.In = append(p.In, v)
	}
	switch {
	case p.Map != "" && len(p.In) > 0:
		l.fault(n, "%s has both map and in: a text comes from map, a bool from in", what)
	case p.Map != "":
		l.output(n, c, what+" through a map", String)
	case len(p.In) > 0:
		l.output(n, c, what+" with in", Boolean)
	default:
		l.output(n, c, what+" without map or in", Int32)
	}
	return p
}

func (l *loader) span(n *yaml.Node, c *Column, what string) *Between {
	l.output(n, c, what, Int32)
	f := l.fields(n, what, "from", "to", "unit", "negative")
	l.require(n, what, f, "from", "to", "unit")
	from, _ := l.ref(f["from"], what, Timestamp)
	b := &Between{From: from, To: l.refs(f["to"], what, Timestamp), Unit: l.unit(f["unit"], "unit of "+what)}
	if neg := f["negative"]; neg != nil {
		if b.NegativeNull = isNull(neg) || neg.Value == "null"; !b.NegativeNull {
			l.fault(neg, "negative of %s can only be null: a negative result is then missing", what)
		}
	}
	return b
}

func (l *loader) aggregate(n *yaml.Node, what string, mean bool) *Aggregate {
	keys := []string{"table", "time", "window", "where"}
	if mean {
		keys = append(keys, "column")
	}
	f := l.fields(n, what, keys...)
	l.require(n, what, f, "table")
	t := l.table(f["table"], what)
	a := &Aggregate{}
	if t != nil {
		a.Table = t.Name
		l.ofExample(f["table"], t, what)
	}
	if mean && l.require(n, what, f, "column") {
		a.Column = l.column(t, f["column"], "column of "+what, Float, Int)
	}
	a.Time = l.columnList(t, f["time"], "time of "+what, Timestamp)
	if f["window"] != nil {
		a.Window = l.duration(f["window"], "window of "+what)
		if len(a.Time) == 0 {
			l.fault(f["window"], "%s has a window but no time: say which column tells when its rows happened", what)
		}
	}
	a.Where = l.where(f["where"], t, what)
	return a
}

func (l *loader) since(n *yaml.Node, c *Column, what string) *Since {
	l.output(n, c, what, Int32)
	f := l.fields(n, what, "row", "unit")
	l.require(n, what, f, "row", "unit")
	s := &Since{Row: l.text(f["row"], "row of "+what), Unit: l.unit(f["unit"], "unit of "+what)}
	if s.Row == "" {
		return s
	}
	switch row := l.def.Row(s.Row); {
	case row == nil:
		l.fault(f["row"], "%s in %s", unknown("row", s.Row, l.rowNames()), what)
	case len(row.Last) == 0:
		l.fault(f["row"], "%s needs a row that is found by last, since its event is what time has passed from: %s is not", what, s.Row)
	}
	return s
}

func (l *loader) member(n *yaml.Node, c *Column, what string) *Member {
	l.output(n, c, what, Boolean)
	f := l.fields(n, what, "table", "column", "equals", "where")
	l.require(n, what, f, "table", "column", "equals")
	m := &Member{}
	t := l.table(f["table"], what)
	if t != nil {
		m.Table = t.Name
		l.ofExample(f["table"], t, what)
	}
	m.Column = l.column(t, f["column"], "column of "+what, Text, Int)
	ref, got := l.ref(f["equals"], what, Text, Int)
	m.Equals = ref
	if t != nil && got != "" {
		if col := t.Column(m.Column); col != nil && (col.Type == Text || col.Type == Int) && col.Type != got {
			l.fault(f["equals"], "%s compares %s column %s with %s %s", what, col.Type, m.Column, got, ref)
		}
	}
	m.Where = l.where(f["where"], t, what)
	return m
}

func (l *loader) label(n *yaml.Node, c *Column, what string) {
	part := oneOf(l, n, "part of the label", LabelName, LabelScore, LabelGoal)
	c.Derive.Label = part
	if part == "" {
		return
	}
	l.current.outcome = "the label"
	types := map[LabelPart][]OutputType{LabelName: {String}, LabelScore: {Float32}, LabelGoal: {Int32}}
	l.output(n, c, what, types[part]...)
}

func (l *loader) pseudonym(n *yaml.Node, c *Column, what string) *Pseudonym {
	l.output(n, c, what, String)
	l.current.late, l.current.pseudonym = true, true
	f := l.fieldsOrRef(n, what, "of", "length")
	p := &Pseudonym{}
	if f["of"] != nil {
		p.Of, _ = l.ref(f["of"], what, Text, Int)
		x := l.def.Table(l.def.Example.Table)
		if x != nil && p.Of.Column != "" && p.Of != (Ref{"example", l.def.Example.ID}) && p.Of != (Ref{"example", x.By}) {
			l.fault(f["of"], "%s is made of the example's id or its entity's, example.%s or example.%s, not of %s",
				what, l.def.Example.ID, x.By, p.Of)
		}
		for i := range l.def.Columns {
			if d := l.def.Columns[i].Derive.Pseudonym; d != nil && d.Of == p.Of && p.Of.Column != "" {
				l.fault(f["of"], "%s repeats column %s, the pseudonym of %s: make it an alias", what, l.def.Columns[i].Name, p.Of)
			}
		}
	}
	if f["length"] != nil {
		before := len(l.faults)
		p.Length = l.count(f["length"], "length of "+what, 1)
		if len(l.faults) == before && (p.Length < 16 || p.Length > 64) {
			l.fault(f["length"], "length of %s must be 16 to 64 hex digits: shorter ones collide", what)
		}
	}
	return p
}
