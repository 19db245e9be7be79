package definition

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func (l *loader) tables(n *yaml.Node) {
	seen := make(map[string]int)
	for _, e := range l.entries(n, "tables") {
		full := e.name()
		if !strings.Contains(full, ".") {
			full = "public." + full
		}
		if line, ok := seen[full]; ok {
			l.fault(e.key, "table %s is table %s of line %d again", e.name(), full, line)
			continue
		}
		seen[full] = e.key.Line
		l.def.Tables = append(l.def.Tables, l.sourceTable(e))
	}
}

// sourceTable reads one table. Its own columns are read first, since the rest
// refers to them.
func (l *loader) sourceTable(e entry) Table {
	what := "table " + e.name()
	f := l.fields(e.value, what, "entity", "by", "key", "created", "updated", "columns")
	l.require(e.key, what, f, "key", "columns")
	t := Table{Name: e.name()}
	if schema, rest, ok := strings.Cut(t.Name, "."); ok && (schema == "" || rest == "" || strings.Contains(rest, ".")) {
		l.fault(e.key, "table %q must be written schema.table, or table when it is in schema public", t.Name)
	}
	for _, c := range l.entries(f["columns"], "columns of "+what) {
		if strings.Contains(c.name(), ".") {
			l.fault(c.key, "column %q of %s has a dot in its name, which cannot be referred to", c.name(), what)
		}
		kind := oneOf(l, c.value, "type", Text, Int, Float, Bool, Timestamp, JSON, List)
		t.Columns = append(t.Columns, SourceColumn{Name: c.name(), Type: kind})
	}
	t.Key = l.columnList(&t, f["key"], "key of "+what, Text, Int, Timestamp, Bool)
	if f["created"] != nil {
		t.Created = l.column(&t, f["created"], "created of "+what, Timestamp)
	}
	if f["updated"] != nil {
		t.Updated = l.column(&t, f["updated"], "updated of "+what, Timestamp)
	}
	if n := f["entity"]; n != nil {
		t.Entity = l.text(n, "entity of "+what)
		if t.Entity != "" && !slices.Contains(l.entityNames(), t.Entity) {
			l.fault(n, "%s in %s", unknown("entity", t.Entity, l.entityNames()), what)
		}
		if l.require(e.key, what+", which has an entity,", f, "by") {
			t.By = l.column(&t, f["by"], "by of "+what, Text, Int)
		}
	} else if f["by"] != nil {
		l.fault(f["by"], "by of %s says whose its rows are, but the table has no entity", what)
	}
	return t
}

func (l *loader) example(n *yaml.Node) {
	if isNull(n) {
		return
	}
	f := l.fields(n, "example", "table", "id", "time", "item", "outcome", "maturity", "immature", "needs")
	if !l.require(n, "example", f, "table", "id", "time", "outcome") {
		return
	}
	x := &l.def.Example
	t := l.table(f["table"], "table of example")
	if t == nil {
		return
	}
	x.Table = t.Name
	if t.Entity == "" {
		l.fault(f["table"], "table %s has no entity: examples must belong to one", t.Name)
	}
	x.ID = l.column(t, f["id"], "id of example", Text, Int)
	if t.Column(x.ID) != nil && len(t.Key) > 0 && !slices.Equal(t.Key, []string{x.ID}) {
		l.fault(f["id"], "id of example must be the key of table %s, which is %s", t.Name, strings.Join(t.Key, ", "))
	}
	x.Time = l.column(t, f["time"], "time of example", Timestamp)
	x.Outcome = l.columnList(t, f["outcome"], "outcome of example")
	for _, name := range []string{x.ID, x.Time, t.By} {
		if slices.Contains(x.Outcome, name) {
			l.fault(f["outcome"], "%s of example is fixed when the example comes to be: it cannot be an outcome column", name)
		}
	}
	if f["item"] != nil {
		x.Item = l.column(t, f["item"], "item of example", Text, Int)
		if x.Item != "" && (x.Item == x.ID || x.Item == x.Time || x.Item == t.By || slices.Contains(x.Outcome, x.Item)) {
			l.fault(f["item"], "item of example is what it shows: column %s is its id, its time, its %s or its outcome", x.Item, t.Entity)
		}
	}
	x.Maturity = DefaultMaturity
	if f["maturity"] != nil {
		x.Maturity = l.duration(f["maturity"], "maturity of example")
	}
	x.DropImmature = l.drops(f["immature"], "immature of example")
}

// needs reads the example's needs, after the rows that they name.
func (l *loader) needs(n *yaml.Node) {
	if n = deref(n); n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "needs" {
			continue
		}
		for _, e := range l.entries(n.Content[i+1], "needs") {
			need := Need{Reason: l.identifier(e.key, "the reason of a need"), Row: l.text(e.value, "need "+e.name())}
			if slices.Contains(funnel, need.Reason) {
				l.fault(e.key, "reason %q is a step of the funnel already: give it another name", need.Reason)
			}
			if need.Row != "" && l.def.Row(need.Row) == nil {
				l.fault(e.value, "%s in need %s", unknown("row", need.Row, l.rowNames()), e.name())
			}
			l.def.Example.Needs = append(l.def.Example.Needs, need)
		}
		return
	}
}

// funnel are the keys of the funnel that the program itself counts.
var funnel = []string{
	"candidates", "deleted", "deletion_pending", "consent", "inexact", "immature", "censored",
	"not_sampled", "missing_required", "outlier", "suppressed", "embargo", "train", "test",
}

func (l *loader) rows(n *yaml.Node) {
	for _, e := range l.entries(n, "rows") {
		if e.name() == "example" || e.name() == "row" {
			l.fault(e.key, "row %q has a name with a meaning of its own: give it another", e.name())
			continue
		}
		l.def.Rows = append(l.def.Rows, l.namedRow(e))
	}
}

func (l *loader) namedRow(e entry) Row {
	what := "row " + e.name()
	f := l.fields(e.value, what, "table", "match", "last", "where")
	row := Row{Name: l.identifier(e.key, "the name of a row")}
	if !l.require(e.key, what, f, "table") {
		return row
	}
	t := l.table(f["table"], "table of "+what)
	if t == nil {
		return row
	}
	row.Table = t.Name
	if f["match"] != nil && f["last"] != nil {
		l.fault(e.key, "%s has both match and last: it is found by its columns or as the newest event, not both", what)
	}
	if f["match"] != nil {
		row.Match = l.matches(f["match"], t, what)
		if t.Entity == "" {
			l.fault(f["table"], "table %s of %s has no entity: a row of it cannot be found", t.Name, what)
		}
	} else {
		l.ofExample(f["table"], t, what)
	}
	if f["last"] != nil {
		row.Last = l.columnList(t, f["last"], "last of "+what, Timestamp)
		if len(row.Last) == 0 {
			l.fault(f["last"], "last of %s names no column", what)
		}
	}
	row.Where = l.where(f["where"], t, what)
	return row
}

// ofExample refuses a table whose rows do not belong to the example's entity.
func (l *loader) ofExample(n *yaml.Node, t *Table, what string) {
	x := l.def.Table(l.def.Example.Table)
	if x == nil || t.Entity == x.Entity {
		return
	}
	l.fault(n, "rows of table %s in %s do not belong to the example's entity %s: find one by match", t.Name, what, x.Entity)
}

func (l *loader) matches(n *yaml.Node, t *Table, what string) []Match {
	var list []Match
	n = deref(n)
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = l.items(n, "match of "+what)
	}
	for _, node := range nodes {
		var m Match
		for _, e := range l.entries(node, "match of "+what) {
			p := Pair{Column: l.column(t, e.key, "match of "+what, Text, Int)}
			ref, ok := l.parseRef(e.value, "match of "+what)
			if !ok {
				continue
			}
			if ref.Row != "example" {
				l.fault(e.value, "match of %s compares with a column of the example, such as example.%s: %q is none", what, l.def.Example.ID, ref)
				continue
			}
			p.Ref = ref
			if got, ok := l.typeOf(e.value, ref, "match of "+what); ok {
				if c := t.Column(p.Column); c != nil && c.Type != "" && c.Type != got {
					l.fault(e.value, "match of %s compares %s column %s with %s column %s", what, c.Type, p.Column, got, ref)
				}
			}
			if slices.Contains(l.def.Example.Outcome, ref.Column) {
				l.fault(e.value, "match of %s uses outcome column %s: what happened later must not choose a feature's row", what, ref)
			}
			m = append(m, p)
		}
		if len(m) == 0 {
			l.fault(node, "an alternative of match of %s has no column", what)
			continue
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		l.fault(n, "match of %s has no alternative", what)
	}
	return list
}

// maxOutcomes is what the number of an outcome can tell apart.
const maxOutcomes = 255

func (l *loader) labels(n *yaml.Node) {
	if isNull(n) {
		return
	}
	f := l.fields(n, "labels", "status", "goal", "sampled", "outcomes", "window", "censored", "decide", "recall")
	if !l.require(n, "labels", f, "goal", "outcomes") {
		return
	}
	t := l.def.Table(l.def.Example.Table)
	labels := &l.def.Labels
	if f["status"] != nil {
		labels.Status = l.column(t, f["status"], "status of labels", Text)
		l.isOutcome(f["status"], labels.Status, "status of labels")
	}
	seen, statuses := []string{}, map[string]string{}
	outcomes := l.items(f["outcomes"], "outcomes")
	for i, node := range outcomes {
		o := l.outcome(node, t, statuses)
		if o.Name != "" && slices.Contains(seen, o.Name) {
			l.fault(node, "outcome %q stands twice", o.Name)
		}
		seen = append(seen, o.Name)
		open := len(o.Statuses) == 0 && o.Moment == ""
		switch last := i == len(outcomes)-1; {
		case last && !open:
			l.fault(node, "the last outcome, %q, must hold for all other examples: it has neither statuses nor moment", o.Name)
		case !last && open:
			l.fault(node, "outcome %q has neither statuses nor moment: it holds always, so it must be the last", o.Name)
		}
		labels.Outcomes = append(labels.Outcomes, o)
	}
	if len(outcomes) < 2 || len(outcomes) > maxOutcomes {
		l.fault(f["outcomes"], "there must be 2 to %d outcomes, not %d", maxOutcomes, len(outcomes))
	}
	for _, which := range []struct {
		key string
		to  *string
	}{{"goal", &labels.Goal}, {"sampled", &labels.Sampled}} {
		if f[which.key] == nil {
			continue
		}
		*which.to = l.text(f[which.key], which.key+" of labels")
		if *which.to != "" && !slices.Contains(seen, *which.to) {
			l.fault(f[which.key], "%s in %s of labels", unknown("outcome", *which.to, seen), which.key)
		}
	}
	if labels.Goal != "" && labels.Goal == labels.Sampled {
		l.fault(f["sampled"], "outcome %q is the goal: it cannot be sampled, all of its examples stay", labels.Goal)
	}
	l.labelsInTime(f)
}

func (l *loader) outcome(n *yaml.Node, t *Table, statuses map[string]string) Outcome {
	f := l.fields(n, "an outcome", "name", "score", "statuses", "moment", "unless")
	l.require(n, "an outcome", f, "name", "score")
	o := Outcome{Name: l.text(f["name"], "name of an outcome"), Score: l.number(f["score"], "score of an outcome")}
	what := "outcome " + o.Name
	if f["statuses"] != nil {
		o.Statuses = l.texts(f["statuses"], "statuses of "+what)
		if l.def.Labels.Status == "" {
			l.fault(f["statuses"], "%s has statuses, but labels name no status column", what)
		}
	}
	for _, s := range o.Statuses {
		if other, ok := statuses[s]; ok {
			l.fault(f["statuses"], "status %q belongs to outcome %q already", s, other)
		}
		statuses[s] = o.Name
	}
	if f["moment"] != nil {
		o.Moment = l.column(t, f["moment"], "moment of "+what, Timestamp)
		l.isOutcome(f["moment"], o.Moment, "moment of "+what)
	}
	if f["unless"] != nil {
		l.unless(f["unless"], &o, what)
	}
	return o
}

// isOutcome refuses a column that labels read but the example's list of
// outcome columns lacks.
func (l *loader) isOutcome(n *yaml.Node, name, what string) {
	t := l.def.Table(l.def.Example.Table)
	if t == nil || t.Column(name) == nil || slices.Contains(l.def.Example.Outcome, name) {
		return
	}
	l.fault(n, "%s is column %s, which must be in the example's outcome list, since it is read from the last version", what, name)
}
