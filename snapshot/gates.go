package snapshot

import (
	"fmt"
	"strings"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/report"
)

// Gate is one measured condition on a dataset.
type Gate = report.Gate

// GateError says that a dataset was not published, because of its Gates.
type GateError struct {
	Gates []Gate
}

func (e *GateError) Error() string {
	parts := make([]string, len(e.Gates))
	for i, g := range e.Gates {
		parts[i] = g.Name + ": " + strings.TrimSuffix(g.Sentence, ".")
	}
	return "nothing was published, because the dataset fails its quality gates: " + strings.Join(parts, "; ")
}

// failed is the error of the gates that do not pass.
func failed(gates []Gate, strict bool) error {
	var bad []Gate
	for _, g := range gates {
		if g.Verdict == report.Fail || strict && g.Verdict == report.Warn {
			bad = append(bad, g)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &GateError{Gates: bad}
}

// nullGate fails for nulls in a required column; such rows cannot be written.
func nullGate(column string, n int64) Gate {
	return Gate{
		Name: "Required values", Figure: report.Count(n), Unit: report.Values, Threshold: report.AtMost(0), Verdict: report.Fail,
		Sentence: fmt.Sprintf("The required column %s holds nulls: check its derivation.", column),
	}
}

// classesKnown are the privacy classes that a column may have.
var classesKnown = map[definition.Class]bool{
	definition.ClassDirect: true, definition.ClassTime: true, definition.ClassVector: true,
	definition.ClassQuasi: true, definition.ClassSensitive: true, definition.ClassCatalogue: true,
	definition.ClassSafe: true,
}

// unclassified is the gate that is decided before any work.
func unclassified(def *definition.Definition) error {
	var names []string
	for i := range def.Columns {
		if c := &def.Columns[i]; c.Derive.Alias == "" && !classesKnown[c.Class] {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &GateError{Gates: []Gate{{
		Name: "Unclassified columns", Figure: report.Count(int64(len(names))), Unit: report.Columns,
		Threshold: report.AtMost(0), Verdict: report.Fail,
		Sentence: fmt.Sprintf("no privacy class is given for %s: set class in the definition.", strings.Join(names, ", ")),
	}}}
}

// gates judges train and test together (CONTRACT, "Gates").
func (b *build) gates(d *decisions, e *exported) []Gate {
	var list []Gate
	add := func(bad report.Verdict, name string, value float64, u report.Unit, t report.Threshold, passed, sentence string) {
		g := Gate{Name: name, Figure: report.Of(value), Unit: u, Threshold: t, Verdict: report.Pass, Sentence: passed}
		if t.Low != nil && value < *t.Low || t.High != nil && value > *t.High {
			g.Verdict, g.Sentence = bad, sentence
		}
		list = append(list, g)
	}
	fail := func(name string, n int64, u report.Unit, passed, sentence string) {
		add(report.Fail, name, float64(n), u, report.AtMost(0), passed, sentence)
	}
	s, g := e.stats, b.Definition.Gates
	fail("Required values", 0, report.Values, "Every required column is filled.", "") // else the export stopped
	fail("Vector range", s.vectors, report.Values, "Every vector element is in its range.", "Vector elements lie outside their range.")
	fail("Label set", s.badLabels, report.Values, "Every label is one of the definition's.", "Labels occur that the definition does not name.")
	fail("Goal against score", s.badGoals, report.Rows, "Goal and score of every row agree.", "Rows have the goal without its score, or the score without the goal.")
	fail("Duplicate ids", e.duplicates, report.Rows, "No id occurs twice.", "Several rows have the same id: check that the example's id is unique in its table.")
	fail("Unclassified columns", 0, report.Columns, "Every column has a privacy class.", "")
	rows := e.train.rows + e.test.rows
	add(report.Fail, "Smaller split", float64(min(e.train.rows, e.test.rows)), report.Rows, report.AtLeast(1),
		"Both splits have rows.", "A split is empty: widen --window-days, or look in the funnel for the step that takes the rows.")

	const more = "widen --window-days or wait for more data."
	if g.TrainBytes > 0 {
		add(report.Warn, "Size of train", float64(e.train.size), report.Bytes, report.AtLeast(float64(g.TrainBytes)),
			"Train is large enough.", "Train is small: "+more)
	}
	if g.TestBytes > 0 {
		add(report.Warn, "Size of test", float64(e.test.size), report.Bytes, report.AtLeast(float64(g.TestBytes)),
			"Test is large enough.", "Test is small: "+more)
	}
	b.classGates(s, rows, add)
	if g.Inexact > 0 {
		add(report.Warn, "Inexact features", ratio(s.exact[2]+s.exact[3], rows), report.Share, report.AtMost(g.Inexact),
			"Features are known as of their examples.", "Many examples are older than the feed: their features are those of the backfill; --inexact drop leaves them out.")
	}
	if g.UserOverlap > 0 {
		add(report.Warn, "Test users in train", ratio(s.overlap, s.split[inTest].users), report.Share, report.AtMost(g.UserOverlap),
			"Most test users are new to the model.", "Most test users are in train too: a model that remembers users looks better than it is.")
	}
	if g.OutlierClass > 0 {
		for i, o := range b.plan.outliers {
			name, times := b.worstClass(d, i)
			if name != "" {
				add(report.Warn, "Outliers by class: "+o.name, times, report.Times, report.AtMost(g.OutlierClass),
					"The rule takes no class much more than the others.",
					fmt.Sprintf("The rule takes %s rows much more often than others: --outliers keep, or another rule in the definition.", name))
			}
		}
	}
	for i, u := range g.Uniform {
		add(report.Warn, "Uniform: "+u.Name, float64(min(len(s.uniform[i]), uniformMost)), report.Values, report.AtMost(1),
			"There is one value.", "There are several values of "+u.Name+", and they are not converted into one another.")
	}
	return list
}

// classGates judges the shares of the outcomes.
func (b *build) classGates(s *statistics, rows int64, add func(report.Verdict, string, float64, report.Unit, report.Threshold, string, string)) {
	g := b.Definition.Gates
	outcomes := b.Definition.Labels.Outcomes
	count := func(i int) int64 { return s.outcomes[i][inTrain].rows + s.outcomes[i][inTest].rows }
	if b.plan.goal >= 0 && g.Rate[1] > 0 {
		add(report.Warn, "Share of "+outcomes[b.plan.goal].Name, ratio(count(b.plan.goal), rows), report.Share, report.Within(g.Rate[0], g.Rate[1]),
			"The share of the goal is as expected.", "The share of the goal is unusual: check the source and the window.")
	}
	most := 0
	var missing []string
	for i, o := range outcomes {
		if count(i) > count(most) {
			most = i
		}
		if count(i) == 0 {
			missing = append(missing, o.Name)
		}
	}
	if g.ClassShare > 0 {
		add(report.Warn, "Largest class", ratio(count(most), rows), report.Share, report.AtMost(g.ClassShare),
			"No class dwarfs the others.", "Most rows are "+outcomes[most].Name+": lower --negative-ratio or weigh the classes.")
	}
	add(report.Warn, "Classes without rows", float64(len(missing)), report.Values, report.AtMost(0),
		"Every class occurs.", "No row is "+strings.Join(missing, ", ")+": a model cannot learn it.")
}

// worstClass is the class of which the rule takes the largest share, compared
// with its share of all rows; "" if the rule takes none.
func (b *build) worstClass(d *decisions, rule int) (name string, times float64) {
	var outside int64
	for _, n := range d.divided.outside[rule] {
		outside += n
	}
	overall := ratio(outside, d.cleaned.looked)
	if overall == 0 {
		return "", 0
	}
	for i, o := range b.Definition.Labels.Outcomes {
		if t := ratio(d.divided.outside[rule][i], d.cleaned.classes[i]) / overall; t > times {
			name, times = o.Name, t
		}
	}
	return name, times
}

// ratio is a ÷ b, 0 if b is 0.
func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
