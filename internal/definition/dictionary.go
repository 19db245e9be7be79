package definition

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Dictionary writes the data dictionary of a definition in Markdown: what each
// column means, where it comes from, how private it is, and what is read of
// the source. The same definition gives the same bytes.
func Dictionary(w io.Writer, d *Definition) error {
	p := &page{w: bufio.NewWriter(w)}
	p.line("# Data dictionary: %s", d.Name)
	p.line("")
	p.line("%s", d.Doc)
	p.line("")
	p.line("Written by `ingest definition --docs` from the definition with hash `%s`; do not edit.", d.Hash)
	p.example(d)
	p.columns(d)
	p.labels(d)
	p.rows(d)
	p.maps(d)
	p.tables(d)
	p.rules(d)
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("write dictionary of %s: %w", d.Name, err)
	}
	return nil
}

// Print writes the definition in force: a comment with its name and hash, then
// the file as it was read.
func Print(w io.Writer, d *Definition) error {
	if _, err := fmt.Fprintf(w, "# definition %s, hash %s\n%s", d.Name, d.Hash, d.Source); err != nil {
		return fmt.Errorf("print definition %s: %w", d.Name, err)
	}
	return nil
}

// page writes Markdown. The buffer keeps the first error until it is flushed.
type page struct {
	w *bufio.Writer
}

func (p *page) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.w, format+"\n", args...) // Flush returns the error
}

func (p *page) heading(text string) { p.line("\n## %s\n", text) }

// row writes a row of a table; a bar in a cell does not end it.
func (p *page) row(cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", `\|`)
	}
	p.line("| %s |", strings.Join(cells, " | "))
}

// header writes the head of a table.
func (p *page) header(cells ...string) {
	p.row(cells...)
	p.line("|%s", strings.Repeat(" --- |", len(cells)))
}

func (p *page) example(d *Definition) {
	x := d.Example
	p.heading("One row")
	p.line("One row of the dataset is one row of `%s`, at the moment in its `%s`.", x.Table, x.Time)
	p.line("Its outcome is read from %s of its last version; everything else is as it was", quoted(x.Outcome))
	p.line("known at that moment.")
	if x.Maturity > 0 {
		p.line("An outcome younger than %s counts as immature.", span(x.Maturity))
	}
	if x.DropImmature {
		p.line("Immature examples are left out, counted as `immature`.")
	}
	for _, n := range x.Needs {
		p.line("An example without row `%s` is left out, counted as `%s`.", n.Row, n.Reason)
	}
}

func (p *page) columns(d *Definition) {
	p.heading("Columns")
	p.line("In the order of the files. Classes and roles are explained below.")
	p.line("")
	p.header("#", "column", "type", "class", "role", "required", "if missing", "source", "meaning")
	for i := range d.Columns {
		c := &d.Columns[i]
		required := ""
		if c.Required {
			required = "yes"
		}
		p.row(strconv.Itoa(i+1), "`"+c.Name+"`", string(c.Type), string(c.Class), string(c.Role), required,
			missingWords(c), source(c), c.Doc)
	}
	if len(d.Values) == 0 {
		return
	}
	p.line("\nIntermediate values, which are never released:\n")
	p.header("value", "type", "source", "meaning")
	for i := range d.Values {
		c := &d.Values[i]
		p.row("`"+c.Name+"`", string(c.Type), source(c), c.Doc)
	}
}

// source says where a column comes from, and how it is clipped.
func source(c *Column) string {
	text := words(&c.Derive)
	if c.Clip != nil && c.Derive.Alias == "" {
		text += fmt.Sprintf(", clipped to %s..%s", decimal(c.Clip[0]), decimal(c.Clip[1]))
	}
	return text
}

func (p *page) labels(d *Definition) {
	p.heading("Labels")
	if d.Labels.Latest {
		p.line("The outcome of an example is, of these that hold, the one with the latest moment; the first,")
		p.line("if moments are equal or one that holds has none.")
	} else {
		p.line("The outcome of an example is the first of these that holds.")
	}
	p.line("")
	p.header("outcome", "score", "holds")
	for _, o := range d.Labels.Outcomes {
		var when []string
		if len(o.Statuses) > 0 {
			when = append(when, fmt.Sprintf("`%s` is %s", d.Labels.Status, strings.Join(o.Statuses, " or ")))
		}
		if o.Moment != "" {
			when = append(when, fmt.Sprintf("`%s` is set", o.Moment))
		}
		if len(when) == 0 {
			when = []string{"otherwise"}
		}
		holds := strings.Join(when, ", or ")
		if len(o.Unless) > 0 {
			holds += fmt.Sprintf("; not while `%s` is %s", d.Labels.Status, strings.Join(o.Unless, " or "))
		}
		p.row(o.Name, decimal(o.Score), holds)
	}
	p.line("\nThe goal is %s.", d.Labels.Goal)
	if d.Labels.Sampled != "" {
		p.line("Of the %s rows only a sample is kept.", d.Labels.Sampled)
	}
	p.labelsInTime(&d.Labels)
}

func (p *page) rows(d *Definition) {
	if len(d.Rows) == 0 {
		return
	}
	x := d.Table(d.Example.Table)
	p.heading("Rows that belong to an example")
	p.header("row", "table", "which")
	for _, r := range d.Rows {
		which := fmt.Sprintf("the one of the example's %s", x.Entity)
		if r.Last != nil {
			which = fmt.Sprintf("the last of the example's %s before the example, by %s", x.Entity, eventWords(r.Last))
		}
		if r.Match != nil {
			which = "the one with " + matchWords(r.Match)
		}
		p.row("`"+r.Name+"`", "`"+r.Table+"`", which+whereWords(r.Where))
	}
}

func matchWords(matches []Match) string {
	var list []string
	for _, m := range matches {
		var pairs []string
		for _, pair := range m {
			pairs = append(pairs, fmt.Sprintf("`%s` = %s", pair.Column, code(pair.Ref)))
		}
		list = append(list, strings.Join(pairs, " and "))
	}
	return strings.Join(list, ", else ")
}

func (p *page) maps(d *Definition) {
	if len(d.Maps) == 0 {
		return
	}
	p.heading("Maps")
	for i, m := range d.Maps {
		if i > 0 {
			p.line("")
		}
		p.line("`%s`: %s", m.Name, m.Doc)
		p.line("")
		p.header("label", "texts")
		texts := make(map[string][]string)
		for text, label := range m.Labels {
			texts[label] = append(texts[label], text)
		}
		labels := make([]string, 0, len(texts))
		for label, list := range texts {
			slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
			labels = append(labels, label)
		}
		slices.Sort(labels)
		for _, label := range labels {
			p.row(label, strings.Join(texts[label], " "))
		}
		if m.Else != "" {
			p.row(m.Else, "any other")
		}
	}
}

func (p *page) tables(d *Definition) {
	p.heading("What is read of the source")
	p.line("No other column leaves the source.")
	p.line("")
	p.header("table", "entity", "key", "columns")
	for _, t := range d.Tables {
		var columns []string
		for _, c := range t.Columns {
			columns = append(columns, fmt.Sprintf("`%s` %s", c.Name, c.Type))
		}
		entity := ""
		if t.Entity != "" {
			entity = fmt.Sprintf("%s, by `%s`", t.Entity, t.By)
		}
		p.row("`"+t.Name+"`", entity, quoted(t.Key), strings.Join(columns, ", "))
	}
}

func (p *page) rules(d *Definition) {
	if len(d.Outliers) > 0 {
		p.heading("Cleaning")
		p.line("Rows outside mean ± %s sample standard deviations of %s are outliers.", decimal(d.Deviations), quoted(d.Outliers))
	}
	p.heading("Privacy")
	p.line("A value of a quasi string column that fewer than %d users hold becomes %s.", d.Privacy.MinUsers, d.Privacy.Other)
	if len(d.Privacy.Groups) > 0 {
		p.line("Users are grouped by %s.", quoted(d.Privacy.Groups))
		if d.Privacy.GroupMinUsers > 0 {
			p.line("Rows of groups of fewer than %d users are suppressed.", d.Privacy.GroupMinUsers)
		}
	}
	p.line("")
	p.header("class", "columns", "which are")
	for _, class := range []struct {
		class Class
		doc   string
	}{
		{ClassDirect, "identifiers, released as keyed pseudonyms only"},
		{ClassTime, "moments of an example"},
		{ClassVector, "numbers that describe a person as a whole"},
		{ClassQuasi, "facts that together may single out a person"},
		{ClassSensitive, "what a person did or said"},
		{ClassCatalogue, "facts about things, not persons"},
		{ClassSafe, "facts that tell nothing of a person"},
	} {
		var columns []string
		for _, c := range d.Columns {
			if c.Class == class.class {
				columns = append(columns, c.Name)
			}
		}
		if len(columns) > 0 {
			p.row(string(class.class), quoted(columns), class.doc)
		}
	}
	p.heading("Roles")
	p.line("`id` and `time` tell rows apart, `feature` columns are what was known, `label` columns what came")
	p.line("of it (never an input of a model), `quality` columns say how good a row is, and an `alias` is an")
	p.line("equal copy of another column.")
	p.gates(&d.Gates)
}

// gates lists the limits that are set.
func (p *page) gates(g *Gates) {
	var list []string
	limit := func(set bool, format string, args ...any) {
		if set {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	limit(g.TrainBytes > 0, "train below %d bytes", g.TrainBytes)
	limit(g.TestBytes > 0, "test below %d bytes", g.TestBytes)
	limit(g.Rate != [2]float64{0, 1}, "a share of the goal outside of %s to %s", decimal(g.Rate[0]), decimal(g.Rate[1]))
	limit(g.ClassShare < 1, "one outcome above a share of %s", decimal(g.ClassShare))
	limit(g.Inexact < 1, "inexact rows above a share of %s", decimal(g.Inexact))
	limit(g.UserOverlap < 1, "over a share of %s of test entities also in train", decimal(g.UserOverlap))
	limit(g.OutlierClass < math.MaxFloat64, "an outlier rule that takes an outcome at over %s times its overall share", decimal(g.OutlierClass))
	for _, u := range g.Uniform {
		var paths []string
		for _, path := range u.Of {
			paths = append(paths, code(path))
		}
		list = append(list, fmt.Sprintf("several values of %s (%s)", u.Name, strings.Join(paths, ", ")))
	}
	if len(list) == 0 {
		return
	}
	p.heading("Warnings")
	p.line("The report warns of:")
	p.line("")
	for _, text := range list {
		p.line("- %s", text)
	}
}

func quoted(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return "`" + strings.Join(list, "`, `") + "`"
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
