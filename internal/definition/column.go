package definition

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// columnKeys are the keys of a column that are no derivation.
var columnKeys = []string{"type", "required", "missing", "clip", "class", "role", "doc", "list"}

// derivedColumns reads the values and then the columns, which may refer to
// values and to what stands above them.
func (l *loader) derivedColumns(values, columns *yaml.Node) {
	first := l.entries(values, "values")
	rest := l.entries(columns, "columns")
	for _, e := range append(slices.Clone(first), rest...) {
		l.ahead[e.name()] = true
	}
	for _, e := range first {
		if c, ok := l.derivedColumn(e, true); ok {
			l.def.Values = append(l.def.Values, c)
		}
	}
	for _, e := range rest {
		if c, ok := l.derivedColumn(e, false); ok {
			l.def.Columns = append(l.def.Columns, c)
		}
	}
}

// derivedColumn reads a value or a column.
func (l *loader) derivedColumn(e entry, value bool) (Column, bool) {
	what := "column " + e.name()
	if value {
		what = "value " + e.name()
	}
	name := l.identifier(e.key, "the name of a column")
	if other, ok := l.state[name]; ok {
		l.fault(e.key, "%s has the name of a value on line %d: columns and values share their names", what, other.line)
		return Column{}, false
	}
	f := l.fields(e.value, what, append(slices.Clone(columnKeys), derivations...)...)
	state := &derived{line: e.key.Line, value: value}
	l.current = state
	c := Column{Name: name, Doc: l.text(f["doc"], "doc of "+what)}
	if f["alias"] != nil {
		l.alias(e, f, &c, what)
	} else {
		l.require(e.key, what, f, "type", "doc")
		c.Type = oneOf(l, f["type"], "type", String, Float32, Int32, Boolean, TimeStamp)
		c.Required = l.boolean(f["required"], "required of "+what)
		l.derivation(e, f, &c, what)
		l.role(e, f, &c, what)
		l.class(e, f, &c, what)
		l.missing(f, &c, what)
		l.clip(f["clip"], &c, what)
		l.list(f["list"], &c, what)
	}
	if value {
		for _, key := range []string{"class", "role", "required", "missing", "list", "alias"} {
			if f[key] != nil {
				l.fault(f[key], "%s has %s, which is for columns: a value is never released", what, key)
			}
		}
		for _, key := range []string{"pseudonym", "quality"} {
			if f[key] != nil {
				l.fault(f[key], "%s is a %s, which is only made when the dataset is written: make it a column", what, key)
			}
		}
		c.Missing, c.Role, c.Class = MissingNull, "", ""
	}
	l.current = nil
	l.state[name] = state
	return c, true
}

// alias completes a column that is an equal copy of another.
func (l *loader) alias(e entry, f map[string]*yaml.Node, c *Column, what string) {
	for _, key := range append(slices.Clone(columnKeys), derivations...) {
		if f[key] != nil && key != "alias" && key != "doc" {
			l.fault(f[key], "%s is an alias: it has %s of its column and none of its own", what, key)
		}
	}
	l.current.late = true
	name := l.text(f["alias"], "alias of "+what)
	state := l.state[name]
	target := l.def.Column(name)
	switch {
	case name == "":
		return
	case state == nil && l.ahead[name]:
		l.fault(f["alias"], "%s is a copy of %q, which stands below it: aliases come after their columns", what, name)
		return
	case state == nil || target == nil:
		l.fault(f["alias"], "%s in %s", unknown("column", name, l.columnNames()), what)
		return
	case state.value:
		l.fault(f["alias"], "%s is a copy of value %s, and values are never released", what, name)
		return
	case target.Derive.Alias != "":
		l.fault(f["alias"], "%s is an alias of alias %s: name its column, %s", what, name, target.Derive.Alias)
		return
	}
	doc := c.Doc
	*c = *target
	c.Name, c.Derive, c.Role, c.Doc = e.name(), Derivation{Alias: name}, RoleAlias, doc
	if c.Doc == "" {
		c.Doc = "Equal copy of " + name + "."
	}
}

// columnNames lists the dataset columns read so far.
func (l *loader) columnNames() []string {
	return names(l.def.Columns, func(c *Column) string { return c.Name })
}

// role reads the role and holds it against what the column tells.
func (l *loader) role(e entry, f map[string]*yaml.Node, c *Column, what string) {
	c.Role = RoleFeature
	if f["role"] != nil {
		c.Role = oneOf(l, f["role"], "role", RoleID, RoleTime, RoleFeature, RoleLabel, RoleQuality)
	}
	if l.current.value || c.Role == "" {
		return
	}
	at := f["role"]
	if at == nil {
		at = e.key
	}
	switch {
	case c.Derive.Label != LabelNone && c.Role != RoleLabel:
		l.fault(at, "%s is a part of the label: its role must be label, not %s", what, c.Role)
	case l.current.outcome != "" && c.Role != RoleLabel:
		l.fault(at, "%s has role %s but tells the outcome by %s: a trainer would learn from what happened later (role label releases it)",
			what, c.Role, l.current.outcome)
	case c.Derive.Pseudonym != nil && c.Role != RoleID:
		l.fault(at, "%s is a pseudonym: its role must be id, not %s", what, c.Role)
	case c.Derive.Quality != QualityNone && c.Role != RoleQuality:
		l.fault(at, "%s is a quality of the row: its role must be quality, not %s", what, c.Role)
	case c.Role == RoleTime && c.Type != TimeStamp && c.Type != "":
		l.fault(at, "%s has role time: its type must be timestamp, not %s", what, c.Type)
	}
}

// class reads the privacy class. An unclassified column is refused, not released.
func (l *loader) class(e entry, f map[string]*yaml.Node, c *Column, what string) {
	if l.current.value {
		return
	}
	if isNull(f["class"]) {
		l.fault(e.key, "%s has no class: an unclassified column is refused, not released", what)
		return
	}
	c.Class = oneOf(l, f["class"], "class", ClassDirect, ClassTime, ClassVector, ClassQuasi, ClassSensitive, ClassCatalogue, ClassSafe)
	pseudonym := c.Derive.Pseudonym != nil
	switch {
	case c.Class == ClassDirect && !pseudonym:
		l.fault(f["class"], "%s has class direct: direct identifiers leave only as pseudonyms", what)
	case c.Class != ClassDirect && c.Class != "" && pseudonym:
		l.fault(f["class"], "%s is a pseudonym: its class must be direct, not %s", what, c.Class)
	case c.Class == ClassTime && c.Type != TimeStamp && c.Type != "":
		l.fault(f["class"], "%s has class time: its type must be timestamp, not %s", what, c.Type)
	case c.Class == ClassVector && c.Type != Float32 && c.Type != "":
		l.fault(f["class"], "%s has class vector: its type must be float32, not %s", what, c.Type)
	}
}

// missing reads the rule for missing values, or sets the one of the type.
func (l *loader) missing(f map[string]*yaml.Node, c *Column, what string) {
	c.Missing = defaultMissing(c)
	n := f["missing"]
	if n == nil {
		return
	}
	rule := MissingNull
	if !isNull(n) {
		rule = oneOf(l, n, "missing rule", MissingNull, MissingUnknown, MissingFalse, MissingZero, MissingMedian)
	}
	fits := map[Missing][]OutputType{
		MissingNull:    {String, Float32, Int32, Boolean, TimeStamp},
		MissingUnknown: {String},
		MissingFalse:   {Boolean},
		MissingZero:    {Float32, Int32},
		MissingMedian:  {Float32, Int32},
	}
	switch {
	case rule == "":
	case c.Required:
		l.fault(n, "%s is required: rows that lack it are dropped, so it has no missing rule", what)
	case c.Type != "" && !slices.Contains(fits[rule], c.Type):
		l.fault(n, "missing: %s does not fit %s, whose type is %s", rule, what, c.Type)
	case c.Role == RoleLabel && (rule == MissingMedian || rule == MissingZero || rule == MissingFalse):
		l.fault(n, "%s is a label: a missing one must not be made up, so missing can only be null", what)
	default:
		c.Missing = rule
	}
}

// defaultMissing is the rule of a column that names none: a required column
// and a label have no substitute, a count is zero, any other number the median.
func defaultMissing(c *Column) Missing {
	switch {
	case c.Required:
		return MissingNull
	case c.Type == String:
		return MissingUnknown
	case c.Role == RoleLabel:
		return MissingNull
	case c.Type == Boolean:
		return MissingFalse
	case c.Derive.Count != nil:
		return MissingZero
	case c.Type == Float32 || c.Type == Int32:
		return MissingMedian
	}
	return MissingNull
}

func (l *loader) clip(n *yaml.Node, c *Column, what string) {
	if n == nil {
		return
	}
	low, high, ok := l.between(n, "clip of "+what)
	if !ok {
		return
	}
	if c.Type != Float32 && c.Type != Int32 && c.Type != "" {
		l.fault(n, "clip of %s: only numbers are clipped, its type is %s", what, c.Type)
		return
	}
	if c.Type == Int32 && (low != math.Trunc(low) || high != math.Trunc(high)) {
		l.fault(n, "clip of %s, whose type is int32, must be whole numbers", what)
		return
	}
	c.Clip = &[2]float64{low, high}
}

func (l *loader) list(n *yaml.Node, c *Column, what string) {
	if n == nil {
		return
	}
	c.List = l.boolean(n, "list of "+what)
	if c.List && c.Derive.Joined == nil {
		l.fault(n, "list of %s: only a joined column holds several elements", what)
	}
}

// parseRef splits a reference into row and column.
func (l *loader) parseRef(n *yaml.Node, what string) (Ref, bool) {
	text := l.text(n, what)
	if text == "" {
		return Ref{}, false
	}
	row, column, dotted := strings.Cut(text, ".")
	if !dotted {
		return Ref{Column: row}, true
	}
	if row == "" || column == "" || strings.Contains(column, ".") {
		l.fault(n, "%q in %s is no reference: write row.column, or the name of a value or column above", text, what)
		return Ref{}, false
	}
	return Ref{Row: row, Column: column}, true
}

// ref reads a reference whose type must be one of only.
func (l *loader) ref(n *yaml.Node, what string, only ...Type) (Ref, Type) {
	r, ok := l.parseRef(n, what)
	if !ok {
		return r, ""
	}
	got, ok := l.typeOf(n, r, what)
	if ok && len(only) > 0 && !slices.Contains(only, got) {
		l.fault(n, "%s needs %s, %s is %s", what, typeList(only), r, got)
		return r, ""
	}
	return r, got
}

// refs reads a list of references, of which a single one is a list of one.
func (l *loader) refs(n *yaml.Node, what string, only ...Type) []Ref {
	var list []Ref
	for _, item := range l.items(n, what) {
		r, _ := l.ref(item, what, only...)
		list = append(list, r)
	}
	return list
}

// typeOf resolves a reference, and notes in the current column what follows
// from using it.
func (l *loader) typeOf(n *yaml.Node, r Ref, what string) (Type, bool) {
	if r.Row == "" {
		return l.typeOfColumn(n, r, what)
	}
	t := l.def.Table(l.def.Example.Table)
	if r.Row != "example" {
		row := l.def.Row(r.Row)
		if row == nil {
			l.fault(n, "%s in %s", unknown("row", r.Row, append([]string{"example"}, l.rowNames()...)), what)
			return "", false
		}
		t = l.def.Table(row.Table)
	}
	if t == nil {
		return "", false // refused where the example or the row stands
	}
	c := t.Column(r.Column)
	if c == nil {
		l.fault(n, "%s of %s (table %s) in %s", unknown("column", r.Column, t.columnNames()), r.Row, t.Name, what)
		return "", false
	}
	if l.current != nil {
		l.use(n, r, t, what)
	}
	return c.Type, c.Type != ""
}

// use notes that the current column reads a source column.
func (l *loader) use(n *yaml.Node, r Ref, t *Table, what string) {
	x := l.def.Table(l.def.Example.Table)
	if r.Row == "example" && slices.Contains(l.def.Example.Outcome, r.Column) && l.current.outcome == "" {
		l.current.outcome = r.String()
	}
	if l.current.pseudonym || x == nil || t.Entity != x.Entity {
		return
	}
	if r.Column == t.By || slices.Contains(t.Key, r.Column) {
		l.fault(n, "%s reads %s, which identifies one %s: identifiers leave only as pseudonyms", what, r, x.Entity)
	}
}

// typeOfColumn resolves a bare name: a value, or a column above.
func (l *loader) typeOfColumn(n *yaml.Node, r Ref, what string) (Type, bool) {
	state, c := l.state[r.Column], l.def.Column(r.Column)
	if state == nil || c == nil {
		if l.ahead[r.Column] {
			l.fault(n, "%s refers to %q, which does not stand above it", what, r.Column)
			return "", false
		}
		l.fault(n, "%s in %s (a column of a row is written row.column)",
			unknown("value or column", r.Column, append(names(l.def.Values, func(c *Column) string { return c.Name }), l.columnNames()...)), what)
		return "", false
	}
	if state.late {
		l.fault(n, "%s refers to %q, which is only made when the dataset is written", what, r.Column)
		return "", false
	}
	if l.current != nil && l.current.outcome == "" {
		l.current.outcome = state.outcome
	}
	switch c.Type {
	case String:
		return Text, true
	case Float32:
		return Float, true
	case Int32:
		return Int, true
	case Boolean:
		return Bool, true
	case TimeStamp:
		return Timestamp, true
	}
	return "", false
}

// constant checks that a text can be converted to the type.
func constant(text string, t OutputType) bool {
	var err error
	switch t {
	case Float32:
		var v float64
		v, err = strconv.ParseFloat(text, 32)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	case Int32:
		_, err = strconv.ParseInt(text, 10, 32)
	case Boolean:
		return text == "true" || text == "false"
	case TimeStamp:
		_, err = time.Parse(time.RFC3339, text)
	}
	return err == nil
}
