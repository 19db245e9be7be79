package snapshot

import (
	"dreamfeed/labels"
	"dreamfeed/snapshot/report"
)

// recall counts how long after their examples the goals came. Each worker has
// one; workers see different entities, so that counts of them add up.
type recall struct {
	rules  *labels.Rules
	entity string
	user   uint64
	// between[i][k] are the examples whose goal came after length i − 1 and within
	// length i + k, over all places; the last place is "later than all". There is
	// one for every range of places, since the users of two places are not the sum
	// of their users. definition bounds the lengths by 8, which makes 45 ranges.
	between [][]tally
}

func newRecall(rules *labels.Rules) *recall {
	r := &recall{rules: rules}
	if n := rules.Recall(); n > 0 {
		r.between = make([][]tally, n+1)
		for i := range r.between {
			r.between[i] = make([]tally, n+1-i)
		}
	}
	return r
}

// add counts an example of an entity whose goal came so long after it, in µs.
// The examples of an entity follow each other.
func (r *recall) add(entity string, after int64) {
	if r.user == 0 || r.entity != entity {
		r.entity = entity
		r.user++
	}
	place := r.rules.RecallPlace(after)
	for i := 0; i <= place && i < len(r.between); i++ {
		for k := place - i; k < len(r.between[i]); k++ {
			r.between[i][k].add(r.user)
		}
	}
}

func (r *recall) merge(o *recall) {
	for i := range r.between {
		for k := range r.between[i] {
			r.between[i][k].merge(&o.between[i][k])
		}
	}
}

// from are the examples in the places i to j, both included.
func (r *recall) from(i, j int) tally { return r.between[i][j-i] }

// reportLabelTime says when outcomes count and how soon the goal comes.
func (b *build) reportLabelTime(d *decisions, examples int64, r *report.Data) {
	def := &b.Definition.Labels
	if def.Window > 0 {
		r.LabelWindow = &report.LabelWindow{
			Seconds: int64(def.Window.Seconds()), Censored: d.found.passing, Examples: examples,
			Share: ratio(d.found.passing, examples), Dropped: def.DropCensored,
		}
	}
	r.GoalRecall = b.goalRecall(d.found.recall)
}

// goalRecall masks what is about too few users. A count within a length is only
// shown if what it adds to the last one shown, and what is left beyond it, are
// about nobody or about enough users: differences of figures tell as much as
// figures.
func (b *build) goalRecall(r *recall) *report.GoalRecall {
	later := len(r.between) - 1 // the last place
	if later < 0 {
		return nil
	}
	masked := report.Figure{Hidden: report.Masked}
	all := r.from(0, later)
	out := &report.GoalRecall{
		Goal: b.Definition.Labels.Goal, AgeSeconds: r.rules.RecallLength(later-1) / 1_000_000, Examples: report.Count(all.rows),
	}
	var shown []int // lengths whose figures may stand
	if b.masked(all) {
		out.Examples = masked
	} else {
		begin := 0
		for i := range later {
			if !b.masked(r.from(begin, i)) {
				shown = append(shown, i)
				begin = i + 1
			}
		}
		for len(shown) > 0 && b.masked(r.from(shown[len(shown)-1]+1, later)) {
			shown = shown[:len(shown)-1]
		}
	}
	for i := range later {
		w := report.Reached{Seconds: r.rules.RecallLength(i) / 1_000_000, Examples: masked, Share: masked}
		if len(shown) > 0 && shown[0] == i {
			shown = shown[1:]
			n := r.from(0, i).rows
			w.Examples, w.Share = report.Count(n), report.Figure{Hidden: report.None}
			if all.rows > 0 {
				w.Share = report.Of(ratio(n, all.rows))
			}
		}
		out.Within = append(out.Within, w)
	}
	return out
}
