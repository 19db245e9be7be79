package pit

import (
	"slices"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// Status says what a value of an Answer rests on. It tells apart what a missing
// value alone does not: a value that the source has as NULL, and a row that was
// never there.
type Status uint8

const (
	// StatusPresent is a value that was known as it is at the cut-off. A count of
	// nothing is 0, and present.
	StatusPresent Status = iota
	// StatusInexact is a value, or the lack of one, that rests on a first version
	// chosen by rule (b), on a column taken from a newer version, or on history in
	// a gap (DESIGN §6).
	StatusInexact
	// StatusNull is a missing value whose row is there: its columns are NULL, or
	// hold what the column's rule cannot use.
	StatusNull
	// StatusNeverSeen is a missing value of a row that was not held by the cut-off.
	StatusNeverSeen
	// StatusDeleted is a missing value of a row that was held and is gone at the
	// cut-off.
	StatusDeleted

	statusOpen Status = 0xff // not decided yet
)

var statusNames = [...]string{"present", "inexact", "null", "never_seen", "deleted"}

// String is the name that answers show.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// trace is what is known of a step beside what it does: what it rests on, and
// what it makes.
type trace struct {
	rest   []footing
	stored bool // rests on anything but the example's own row
	// gone says, for a step that finds a row, whether one that would have been
	// found was deleted by the cut-off.
	gone func(*Joiner) bool
}

// traced adds the trace of a value or column.
func (c *compiler) traced(r *rest, t target) int {
	list := &c.p.columnTraces
	if t.value {
		list = &c.p.valueTraces
	}
	return c.trace(r, list, t.index, nil)
}

// tracedRow adds the trace of a named row.
func (c *compiler) tracedRow(r *rest, source int, gone func(*Joiner) bool) int {
	return c.trace(r, &c.p.rowTraces, source, gone)
}

func (c *compiler) trace(r *rest, list *[]int, index int, gone func(*Joiner) bool) int {
	place := len(c.p.traces)
	for len(*list) <= index {
		*list = append(*list, -1)
	}
	(*list)[index] = place
	stored := slices.ContainsFunc(r.on, func(f footing) bool {
		at := c.p.traceOf(&f)
		return f.kind != onOwn && (at < 0 || f.kind != onTarget || c.p.traces[at].stored)
	})
	c.p.traces = append(c.p.traces, trace{rest: r.on, stored: stored, gone: gone})
	return place
}

// traceOf is where the step stands that made what is rested on, -1 if none did.
func (p *Program) traceOf(f *footing) int {
	list, index := p.rowTraces, f.index
	switch f.kind {
	case onOwn, onTable:
		return -1
	case onTarget:
		if list, index = p.columnTraces, f.target.index; f.target.value {
			list = p.valueTraces
		}
	}
	if index >= len(list) {
		return -1
	}
	return list[index]
}

// tracing is what a joiner notes of one answer.
type tracing struct {
	own      []bool   // by place: the step is inexact, kept while it is not run again
	inexact  []bool   // by place: the step, or what it rests on, is inexact
	statuses []Status // by place, of values and columns; of rows why there is none
	gap      bool
}

// begin makes the tracing ready for an example.
func (t *tracing) begin(p *Program, c int64) {
	t.own = slices.Grow(t.own[:0], len(p.traces))[:len(p.traces)]
	t.inexact = slices.Grow(t.inexact[:0], len(p.traces))[:len(p.traces)]
	t.statuses = slices.Grow(t.statuses[:0], len(p.traces))[:len(p.traces)]
	for i := range t.statuses {
		t.inexact[i], t.statuses[i] = false, statusOpen
	}
	t.gap = slices.ContainsFunc(p.gaps, func(g history.Gap) bool { return g.Holds(change.Version(c)) })
}

// runTraced runs steps, noting of each whether it is inexact. The example is
// inexact as if the steps had run without it. What rests on rows alone stands
// while they are the same: a question of a hundred items asks of one user.
func (j *Joiner) runTraced(steps []step) {
	p, t := j.program, &j.tracing
	whole := j.inexact
	for i := range steps {
		s := &steps[i]
		place := s.place
		if s.on == 0 || j.changed&s.on != 0 {
			j.inexact = false
			j.do(s)
			t.own[place] = j.inexact
		}
		whole = whole || t.own[place]
		t.inexact[place] = t.own[place]
		for k := range p.traces[place].rest {
			if at := p.traceOf(&p.traces[place].rest[k]); at >= 0 && t.inexact[at] {
				t.inexact[place] = true
			}
		}
	}
	j.inexact = whole
}

// valueStatus is that of a value or column whose steps have run.
func (j *Joiner) valueStatus(place int, v *Value) Status {
	t := &j.tracing
	s := &t.statuses[place]
	if *s == statusOpen {
		switch tr := &j.program.traces[place]; {
		case t.inexact[place], t.gap && tr.stored:
			*s = StatusInexact
		case v.Valid:
			*s = StatusPresent
		default:
			*s = j.lack(tr.rest)
		}
	}
	return *s
}

// lack says why a value is missing: because of the first thing that it rests on
// of which there is nothing. Of things of which one is enough there is nothing if
// there is none.
func (j *Joiner) lack(rest []footing) Status {
	for i := 0; i < len(rest); {
		group, worst := rest[i].group, StatusNeverSeen
		for ; i < len(rest) && rest[i].group == group; i++ {
			switch s := j.footing(&rest[i]); {
			case s == StatusNull:
				worst = StatusNull
			case s == StatusDeleted && worst != StatusNull:
				worst = StatusDeleted
			}
		}
		if worst != StatusNull {
			return worst
		}
	}
	return StatusNull
}

// footing is StatusNull if there is what is rested on, else why there is nothing.
func (j *Joiner) footing(f *footing) Status {
	switch f.kind {
	case onOwn:
		return StatusNull
	case onTable:
		switch {
		case len(j.hold(f.index)) > 0:
			return StatusNull
		case j.buriedIn(f.index, nil, nil):
			return StatusDeleted
		}
		return StatusNeverSeen
	case onTarget:
		at, v := j.program.traceOf(f), j.value(f.target)
		if at < 0 || v.Valid {
			return StatusNull
		}
		if s := j.valueStatus(at, v); s == StatusDeleted || s == StatusNeverSeen {
			return s
		}
		return StatusNull
	}
	if j.source[f.index] != nil {
		return StatusNull
	}
	at := j.program.traceOf(f)
	s := &j.tracing.statuses[at]
	if *s == statusOpen {
		if *s = StatusNeverSeen; j.program.traces[at].gone(j) {
			*s = StatusDeleted
		}
	}
	return *s
}

// buried returns the version that a row had before it was deleted, if it is
// deleted at the cut-off; nil if that version is not held any more.
func (j *Joiner) buried(r *rowState) (v *version, gone bool) {
	i := slices.IndexFunc(r.history, func(h history.Version) bool { return h.Known <= j.c })
	if i < 0 || !r.history[i].Deleted {
		return nil, false
	}
	for ; i < len(r.history); i++ {
		if !r.history[i].Deleted {
			return r.version(i), true
		}
	}
	return nil, true
}

// buriedIn says whether the entity held a row of a table that counted, and is
// deleted at the cut-off. Of one whose last version is not held any more nobody
// knows whether it passed a filter: it does not count where there is one.
func (j *Joiner) buriedIn(table int, where *filter, ev *event) bool {
	for _, r := range j.tables[table].rows {
		if r == j.own {
			continue
		}
		v, gone := j.buried(r)
		switch {
		case !gone:
		case v == nil:
			if where == nil && ev == nil {
				return true
			}
		case where.pass(j, v):
			if ev == nil {
				return true
			}
			if m := ev.of(j, v); m.value.Valid && m.value.Int < j.t {
				return true
			}
		}
	}
	return false
}

// buriedMatch says whether a row of another entity would have been found that
// is deleted at the cut-off.
func (j *Joiner) buriedMatch(alternatives []alternative, where *filter) bool {
	if j.related == nil {
		return false
	}
	for i := range alternatives {
		a := &alternatives[i]
		// The entity's id alone is in the key of the row, whatever is left of it.
		byKey := where == nil && a.relation.byEntity >= 0 && len(a.operands) == 1
		for _, n := range j.candidates(a) {
			e, err := j.related.load(j, n)
			if err != nil {
				if j.err == nil {
					j.err = err
				}
				return false
			}
			for i := range e.rows {
				r := &e.rows[i]
				if r.table != a.relation.table {
					continue
				}
				v, gone := j.buried(r)
				switch {
				case !gone:
				case v == nil:
					if byKey {
						return true
					}
				default:
					if same, _ := j.matches(v, a.relation, a.operands); same && where.pass(j, v) {
						return true
					}
				}
			}
		}
	}
	return false
}
