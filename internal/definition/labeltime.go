package definition

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxRecall bounds the lengths of labels.recall: the report has a row for each.
const maxRecall = 8

// drops reads what to do with doubtful examples: keep them, the default, or
// drop them.
func (l *loader) drops(n *yaml.Node, what string) bool {
	if n == nil {
		return false
	}
	return oneOf(l, n, "word for "+what, "keep", "drop") == "drop"
}

// labelsInTime reads when an outcome counts. The outcomes stand already.
func (l *loader) labelsInTime(f map[string]*yaml.Node) {
	labels := &l.def.Labels
	if f["window"] != nil {
		labels.Window = l.duration(f["window"], "window of labels")
	}
	if n := f["censored"]; n != nil {
		labels.DropCensored = l.drops(n, "censored of labels")
		if f["window"] == nil {
			l.fault(n, "censored of labels is about examples whose window passes the as-of moment, but labels have no window: give labels.window, such as 14d")
		}
	}
	if n := f["decide"]; n != nil {
		labels.Latest = oneOf(l, n, "way to decide", "rank", "latest") == "latest"
		if labels.Latest && !slices.ContainsFunc(labels.Outcomes, func(o Outcome) bool { return o.Moment != "" }) {
			l.fault(n, "decide: latest compares the moments of outcomes, but no outcome has one")
		}
	}
	labels.Recall = DefaultRecall()
	if n := f["recall"]; n != nil {
		labels.Recall = l.recall(n)
	}
}

// recall reads lengths of time in any order, each once.
func (l *loader) recall(n *yaml.Node) []time.Duration {
	const what = "recall of labels"
	var list []time.Duration
	items := l.items(n, what)
	for _, item := range items {
		d := l.duration(item, "each of "+what)
		if d == 0 {
			continue
		}
		if slices.Contains(list, d) {
			l.fault(item, "%s stands twice in %s", item.Value, what)
			continue
		}
		list = append(list, d)
	}
	if len(items) == 0 || len(items) > maxRecall {
		l.fault(n, "%s must be 1 to %d lengths of time, such as [1d, 7d, 14d, 30d]", what, maxRecall)
	}
	slices.Sort(list)
	return list
}

// unless reads the statuses under which an outcome does not count.
func (l *loader) unless(n *yaml.Node, o *Outcome, what string) {
	o.Unless = l.texts(n, "unless of "+what)
	if l.def.Labels.Status == "" {
		l.fault(n, "%s has unless, but labels name no status column", what)
	}
	if len(o.Statuses) == 0 && o.Moment == "" {
		l.fault(n, "%s has unless but neither statuses nor moment: an outcome that holds when no other does cannot be taken back", what)
	}
	for _, s := range o.Unless {
		if slices.Contains(o.Statuses, s) {
			l.fault(n, "status %q of %s stands in its statuses and in its unless: it would never count by it", s, what)
		}
	}
	if len(l.items(n, "unless of "+what)) == 0 {
		l.fault(n, "unless of %s names no status", what)
	}
}

// labelsInTime says when an outcome counts, as far as the definition departs
// from the default.
func (p *page) labelsInTime(l *Labels) {
	if l.Window > 0 {
		p.line("An outcome counts only if it comes within %s of the example, by its moment; without one, if the", span(l.Window))
		p.line("status was known by then. Examples whose %s pass the as-of moment are censored, not without", span(l.Window))
		if l.DropCensored {
			p.line("outcome: they are left out, counted as `censored`.")
		} else {
			p.line("outcome: they are kept.")
		}
	}
	if !slices.Equal(l.Recall, DefaultRecall()) {
		var list []string
		for _, d := range l.Recall {
			list = append(list, span(d))
		}
		p.line("The share of final %s outcomes that had come is measured after %s.", l.Goal, strings.Join(list, ", "))
	}
}
