package definition

import (
	"math"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// numeric are the types that statistics can be taken of.
var numeric = []OutputType{Float32, Int32}

// outputColumn reads the name of a dataset column, or of a value too if values
// is set, whose type must be one of only.
func (l *loader) outputColumn(n *yaml.Node, what string, values bool, only ...OutputType) string {
	name := l.text(n, what)
	if name == "" {
		return ""
	}
	known := l.columnNames()
	if values {
		known = append(known, names(l.def.Values, func(c *Column) string { return c.Name })...)
	}
	if !slices.Contains(known, name) {
		if state := l.state[name]; state != nil && state.value {
			l.fault(n, "%s is %s, a value, and values are never released: name a column", what, name)
			return name
		}
		if !l.ahead[name] || l.state[name] != nil {
			l.fault(n, "%s in %s", unknown("column", name, known), what)
		}
		return name
	}
	if c := l.def.Column(name); len(only) > 0 && c.Type != "" && !slices.Contains(only, c.Type) {
		l.fault(n, "%s must be a %s column, %s is %s", what, typeList(only), name, c.Type)
	}
	return name
}

func (l *loader) cleaning(n *yaml.Node) {
	l.def.Deviations = 3
	f := l.fields(n, "cleaning", "outliers")
	if f["outliers"] == nil {
		return
	}
	o := l.fields(f["outliers"], "outliers", "of", "deviations")
	l.require(f["outliers"], "outliers", o, "of")
	l.texts(o["of"], "of of outliers")
	for _, item := range l.items(o["of"], "of of outliers") {
		if item.Kind == yaml.ScalarNode && !slices.Contains(l.def.Outliers, item.Value) {
			name := l.outputColumn(item, "an outlier", true, numeric...)
			l.isDerived(item, name, "an outlier")
			l.def.Outliers = append(l.def.Outliers, name)
		}
	}
	if d := o["deviations"]; d != nil {
		before := len(l.faults)
		l.def.Deviations = l.number(d, "deviations of outliers")
		if len(l.faults) == before && l.def.Deviations <= 0 {
			l.fault(d, "deviations of outliers must be above zero")
		}
	}
}

// isDerived refuses a column that is only made when the dataset is written.
func (l *loader) isDerived(n *yaml.Node, name, what string) {
	c := l.def.Column(name)
	switch state := l.state[name]; {
	case c == nil || state == nil || !state.late:
	case c.Derive.Alias != "":
		l.fault(n, "%s is %s, an alias: name its column, %s", what, name, c.Derive.Alias)
	default:
		l.fault(n, "%s is %s, which is only made when the dataset is written", what, name)
	}
}

func (l *loader) privacy(n *yaml.Node) {
	p := &l.def.Privacy
	p.MinUsers, p.Other = 10, "OTHER"
	f := l.fields(n, "privacy", "rare", "groups")
	rare := l.fields(f["rare"], "rare", "min_users", "other")
	if rare["min_users"] != nil {
		p.MinUsers = l.count(rare["min_users"], "min_users of rare", 1)
	}
	if rare["other"] != nil {
		p.Other = l.text(rare["other"], "other of rare")
		if p.Other == string(MissingUnknown) || strings.Contains(p.Other, ",") {
			l.fault(rare["other"], "other of rare must be a word without comma that is not %s, which means missing", MissingUnknown)
		}
	}
	if f["groups"] == nil {
		return
	}
	groups := l.fields(f["groups"], "groups", "of", "min_users")
	l.require(f["groups"], "groups", groups, "of")
	for _, item := range l.items(groups["of"], "of of groups") {
		name := l.outputColumn(item, "a column of groups", false)
		if c := l.def.Column(name); c != nil && l.state[name] != nil && c.Class != ClassQuasi && c.Class != "" {
			l.fault(item, "column %s of groups has class %s: groups are made of quasi columns", name, c.Class)
		}
		l.isDerived(item, name, "a column of groups")
		if slices.Contains(p.Groups, name) {
			l.fault(item, "%q stands twice in groups", name)
		}
		p.Groups = append(p.Groups, name)
	}
	if groups["min_users"] != nil {
		p.GroupMinUsers = l.count(groups["min_users"], "min_users of groups", 0)
	}
}

// metadata reads the figures of the metadata's labels block.
func (l *loader) metadata(n *yaml.Node) {
	for _, e := range l.entries(n, "metadata") {
		what := "metadata " + e.name()
		f := l.fields(e.value, what, "distribution", "mean")
		s := Statistic{Name: l.identifier(e.key, "the name of a statistic")}
		if (f["distribution"] == nil) == (f["mean"] == nil) {
			l.fault(e.key, "%s must have either distribution or mean", what)
			continue
		}
		if n := f["mean"]; n != nil {
			s.Of, s.Column = "mean", l.outputColumn(n, "mean of "+what, false, Float32, Int32, Boolean)
		} else {
			s.Of, s.Column = "distribution", l.outputColumn(f["distribution"], "distribution of "+what, false, String, Float32, Int32, Boolean)
		}
		l.noIdentifier(e.key, s.Column, what)
		l.def.Metadata = append(l.def.Metadata, s)
	}
}

// noIdentifier refuses to show the values of a pseudonym.
func (l *loader) noIdentifier(n *yaml.Node, name, what string) {
	if c := l.def.Column(name); c != nil && c.Class == ClassDirect {
		l.fault(n, "%s shows values of %s, which has class direct", what, name)
	}
}

func (l *loader) report(n *yaml.Node) {
	f := l.fields(n, "report", "charts")
	for _, item := range l.items(f["charts"], "charts") {
		c := l.fields(item, "a chart", "title", "kind", "column")
		if !l.require(item, "a chart", c, "title", "kind", "column") {
			continue
		}
		chart := Chart{Title: l.text(c["title"], "title of a chart")}
		what := "chart " + chart.Title
		chart.Kind = oneOf(l, c["kind"], "kind of chart", "bars", "histogram", "rate")
		only := map[string][]OutputType{
			"bars": {String, Float32, Int32, Boolean}, "histogram": numeric, "rate": {Float32, Int32, Boolean},
		}
		chart.Column = l.outputColumn(c["column"], what, false, only[chart.Kind]...)
		l.noIdentifier(item, chart.Column, what)
		l.def.Charts = append(l.def.Charts, chart)
	}
}

// gates reads the limits; one that is not given never warns.
func (l *loader) gates(n *yaml.Node) {
	g := &l.def.Gates
	*g = Gates{Rate: [2]float64{0, 1}, ClassShare: 1, Inexact: 1, UserOverlap: 1, OutlierClass: math.MaxFloat64}
	f := l.fields(n, "gates", "train_size", "test_size", "rate", "class_share", "inexact", "user_overlap", "outlier_class", "uniform")
	g.TrainBytes = l.size(f["train_size"], "train_size")
	g.TestBytes = l.size(f["test_size"], "test_size")
	if f["rate"] != nil {
		if low, high, ok := l.between(f["rate"], "rate"); ok {
			g.Rate = [2]float64{low, high}
			if low < 0 || high > 1 {
				l.fault(f["rate"], "rate must be two shares from 0 to 1")
			}
		}
	}
	for _, share := range []struct {
		key string
		to  *float64
	}{{"class_share", &g.ClassShare}, {"inexact", &g.Inexact}, {"user_overlap", &g.UserOverlap}} {
		if f[share.key] == nil {
			continue
		}
		if *share.to = l.number(f[share.key], share.key); *share.to < 0 || *share.to > 1 {
			l.fault(f[share.key], "%s must be a share from 0 to 1", share.key)
		}
	}
	if f["outlier_class"] != nil {
		before := len(l.faults)
		g.OutlierClass = l.number(f["outlier_class"], "outlier_class")
		if len(l.faults) == before && g.OutlierClass < 1 {
			l.fault(f["outlier_class"], "outlier_class is a factor, from 1 on")
		}
	}
	for _, e := range l.entries(f["uniform"], "uniform") {
		u := Uniform{Name: e.name()}
		for _, item := range l.items(e.value, "uniform "+e.name()) {
			if p, ok := l.path(item, "uniform "+e.name()); ok {
				u.Of = append(u.Of, p)
			}
		}
		if len(u.Of) == 0 {
			l.fault(e.key, "uniform %s names no column", e.name())
		}
		g.Uniform = append(g.Uniform, u)
	}
}

// path reads row.column, or row.column.field for a field of a JSON object.
func (l *loader) path(n *yaml.Node, what string) (Path, bool) {
	text := l.text(n, what)
	if text == "" {
		return Path{}, false
	}
	parts := strings.SplitN(text, ".", 3)
	if len(parts) < 2 || slices.Contains(parts, "") {
		l.fault(n, "%q in %s is no path: write row.column, or row.column.field for a field of a JSON object", text, what)
		return Path{}, false
	}
	p := Path{Ref: Ref{Row: parts[0], Column: parts[1]}}
	if len(parts) == 3 {
		p.Field = parts[2]
	}
	got, ok := l.typeOf(n, p.Ref, what)
	switch {
	case !ok:
	case p.Field != "" && got != JSON:
		l.fault(n, "%s in %s takes a field of %s, which is %s: only json has fields", text, what, p.Ref, got)
	case p.Field == "" && got != Text && got != Int:
		l.fault(n, "%s in %s must be text or int, or a field of json: %s is %s", text, what, p.Ref, got)
	}
	return p, true
}

func (l *loader) defaults(n *yaml.Node) {
	l.def.Defaults.Window = 90 * 24 * time.Hour
	f := l.fields(n, "defaults", "window")
	if f["window"] != nil {
		l.def.Defaults.Window = l.duration(f["window"], "window of defaults")
	}
}
