package labels

// Facts are what is known of one example when it is labelled. Whoever reads
// rows fills them; the rules only compare.
type Facts struct {
	// Status is the status that counts: that of the row's last version known at
	// Deadline. nil is NULL, or nothing known by then.
	Status []byte
	// Set are the outcomes whose moment is not NULL in the last version known at
	// the as-of moment. Dated are those of them that can be placed in time: an
	// infinity cannot.
	Set, Dated Moments
	// At are the moments of the outcomes in Dated, µs since the epoch, by
	// outcome. It is only read if Dates says so.
	At []int64
}

// Dates says whether the rules compare moments, so that Facts.Dated and
// Facts.At are needed. Without a window, and by rank, it is enough that a
// moment is set.
func (r *Rules) Dates() bool { return r.window > 0 || r.latest }

// Window is W in µs, 0 if an outcome may come at any time.
func (r *Rules) Window() int64 { return r.window }

// Deadline is the moment of which the status counts for an example of moment t
// (all µs): the as-of moment, or the end of the window t + W if that is earlier.
func (r *Rules) Deadline(t, asOf int64) int64 {
	if r.window > 0 && t+r.window < asOf {
		return t + r.window
	}
	return asOf
}

// Censored says whether the window of an example of moment t passes the as-of
// moment (t + W > T), so that what has not come may still come. An example whose
// goal was reached before T is censored like any other: if those that reached it
// stayed while the others of their age went, the goal would be found more often
// among young examples than it is.
func (r *Rules) Censored(t, asOf int64) bool { return r.window > 0 && t+r.window > asOf }

// Outcome returns the index of the outcome of an example of moment t (µs). An
// outcome holds if the status is none of its Unless and
//
//   - its moment is set and, if there is a window, not after t + W: a moment
//     decides by itself, whenever it was recorded. One that lies before t counts,
//     as it does without a window: clocks that differ by a little must not make
//     a click into none;
//   - or it has no moment that can be placed in time, and the status is one of
//     its Statuses.
//
// Of those that hold the first counts; if the definition decides by the latest,
// the one with the latest moment, the first of equal ones, and the first of all
// as soon as one that holds has no moment to compare. The last outcome counts
// when no other holds. Nothing is allocated.
func (r *Rules) Outcome(f *Facts, t int64) int { return r.decide(f, r.window > 0, t+r.window) }

// Final is Outcome without the window: what became of the example in the end.
// Facts.Status is then that of the last version known at the as-of moment.
func (r *Rules) Final(f *Facts) int { return r.decide(f, false, 0) }

func (r *Rules) decide(f *Facts, windowed bool, limit int64) int {
	none := len(r.outcomes) - 1
	first, best := none, none
	for i := range none {
		if !r.holds(i, f, windowed, limit) {
			continue
		}
		if !r.latest {
			return i
		}
		if first == none {
			first, best = i, i
		}
		if !f.Dated.Has(i) {
			return first
		}
		if f.At[i] > f.At[best] {
			best = i
		}
	}
	return best
}

func (r *Rules) holds(i int, f *Facts, windowed bool, limit int64) bool {
	o := &r.outcomes[i]
	if lists(o.Unless, f.Status) {
		return false
	}
	if f.Set.Has(i) {
		if !windowed {
			return true
		}
		if f.Dated.Has(i) {
			return f.At[i] <= limit
		}
	}
	return lists(o.Statuses, f.Status)
}

// HasStatus says whether the status is one of those of outcome i.
func (r *Rules) HasStatus(i int, status []byte) bool { return lists(r.outcomes[i].Statuses, status) }

// lists says whether the status is in the list. One that is not known is in none.
func lists(list []string, status []byte) bool {
	if status == nil {
		return false
	}
	for _, s := range list {
		if string(status) == s {
			return true
		}
	}
	return false
}
