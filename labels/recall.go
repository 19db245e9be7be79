package labels

import "sort"

// The recall of the goal says how much of it a label window would see: of the
// examples that reached the goal in the end, the share that did so within a
// length of time. Only examples at least as old as the longest length are
// looked at: of a younger one nobody knows yet what it will have missed.

// Recall is the number of lengths of time, 0 if nothing is measured.
func (r *Rules) Recall() int {
	if r.goal < 0 || r.goal == len(r.outcomes)-1 {
		return 0 // a goal that is reached by nothing happening has no moment
	}
	return len(r.recall)
}

// RecallLength is the i-th length, in µs. They rise.
func (r *Rules) RecallLength(i int) int64 { return r.recall[i] }

// Measured says whether an example of moment t is old enough at the as-of
// moment (µs) to be looked at.
func (r *Rules) Measured(t, asOf int64) bool {
	n := r.Recall()
	return n > 0 && asOf-t >= r.recall[n-1]
}

// RecallPlace is the first of the lengths within which something lies that came
// after µs after the example, Recall if it came later than all. What came before
// the example lies within each.
func (r *Rules) RecallPlace(after int64) int {
	return sort.Search(r.Recall(), func(i int) bool { return after <= r.recall[i] })
}
