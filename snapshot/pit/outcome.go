package pit

import (
	"math"

	"dreamfeed/labels"
)

// labelled is the name under which faults of the labels are counted.
const labelled = "labels"

// outcome finds what became of the example (DESIGN §6.5, ADR 0016). Moments are
// read from the example's last version known at the as-of moment, so that one
// that was recorded late still counts; the status from the last version known at
// the deadline, which is the as-of moment itself unless a label window ends before.
func (j *Joiner) outcome() {
	p := j.program
	j.ex.Outcome, j.ex.Censored, j.ex.Goal, j.ex.GoalAfter = 0, false, false, 0
	if p.rules == nil {
		return
	}
	last, f := j.source[fromLast], &j.facts
	j.readMoments(f)
	measured := p.rules.Measured(j.t, j.moment)
	final := -1
	if p.rules.Window() == 0 || measured {
		f.Status = j.status(last)
		final = p.rules.Final(f)
	}
	if p.rules.Window() == 0 {
		j.ex.Outcome = final
	} else {
		f.Status = j.status(j.knownAt(j.own, p.rules.Deadline(j.t, j.moment)))
		j.ex.Outcome = p.rules.Outcome(f, j.t)
		j.ex.Censored = p.rules.Censored(j.t, j.moment)
	}
	for _, t := range p.censored {
		v := j.value(t)
		*v = Value{Valid: true}
		if j.ex.Censored {
			v.Int = 1
		}
	}
	if measured && p.rules.Goal(final) {
		j.ex.Goal, j.ex.GoalAfter = true, j.goalAfter(final)
	}
}

// readMoments reads the moments of the example's outcomes, in µs where the
// rules compare them. One that cannot be placed in time is a fault then.
func (j *Joiner) readMoments(f *labels.Facts) {
	p := j.program
	f.Set, f.Dated = 0, 0
	dates := p.rules.Dates()
	if dates && len(f.At) < len(p.moments) {
		f.At = make([]int64, len(p.moments))
	}
	for i := range p.moments {
		if p.moments[i].source == none {
			continue
		}
		c := p.moments[i].cell(j)
		if c == nil {
			continue
		}
		f.Set = f.Set.Set(i)
		if !dates {
			continue
		}
		m, bad := p.moment(c)
		if bad != "" {
			j.faults = append(j.faults, faultCount{labelled, bad})
			continue
		}
		f.Dated = f.Dated.Set(i)
		f.At[i] = m.Int
	}
}

// status is the status in a version, nil if it is NULL or there is no version.
// It is good until the next one is read.
func (j *Joiner) status(v *version) []byte {
	if v == nil || j.program.status.source == none {
		return nil
	}
	c, _ := j.cell(v, j.program.status.slot)
	if !present(c) {
		return nil
	}
	j.left = append(c.AppendText(j.left[:0]), 0) // never nil, even if empty
	return j.left[:len(j.left)-1]
}

// knownAt is the row's last version known at a moment, nil if the row was not
// known then, or deleted. Rule 2 (b) has no part here: a status that nobody knew
// within the window did not come within it, as far as anybody can tell.
func (j *Joiner) knownAt(r *rowState, at int64) *version {
	for i := range r.history {
		if h := &r.history[i]; h.Known <= at {
			if h.Deleted {
				return nil
			}
			return r.version(i)
		}
	}
	return nil
}

// goalAfter is the time from the example to its goal: to the goal's moment, else
// to when the first version with one of its statuses became known.
func (j *Joiner) goalAfter(goal int) int64 {
	p := j.program
	if o := &p.moments[goal]; o.source != none {
		if m, bad := o.moment(j); bad == "" && m.Valid {
			return m.Int - j.t
		}
	}
	for i := len(j.own.history) - 1; i >= 0; i-- {
		if h := &j.own.history[i]; !h.Deleted && p.rules.HasStatus(goal, j.status(j.own.version(i))) {
			return h.Known - j.t
		}
	}
	return math.MaxInt64
}
