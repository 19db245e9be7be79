package pit

import (
	"cmp"
	"slices"

	"dreamfeed/internal/definition"
)

// part is a piece of the plan by which an example is derived: one step, or those
// that rest on the same row and nothing else. From one example of an entity to
// the next most rows are the same versions, so that most values are: a part whose
// rows did not change is passed over, and its values stand. What rests on one row
// alone is kept with the row's version, and shown again for every example that
// sees it: of the hundred columns of an example few are derived.
type part struct {
	steps []step
	// on has a bit for each source that the steps rest on, and always the one of
	// the entity; 0 says that they must be run for every example.
	on uint64
	// source is that of the row if there is just one, else none; place says which
	// of its version's shows the part has.
	source, place int
	number        int       // among all parts of the program
	packings      []packing // of the steps
	runs          []run
}

// run is a number of steps whose values stand one behind another, so that they
// are copied at once: values hold pointers, and copying each would be dear while
// the collector is at work.
type run struct{ step, out, n int }

// entityBit is set in Joiner.changed when an entity begins, and in the on of
// every part that may be passed over.
const (
	entityBit  = 1 << 63
	mostSteady = 63 // sources that have a bit
)

// standing is what the steps of a part left behind beside their values.
type standing struct {
	late   bool // a column was taken from a newer version
	faults []faultCount
}

// shown is what a part's steps make of one version of a row.
type shown struct {
	done bool
	standing
	values []Value
}

// steady says of a derivation that it makes the same of the same rows: it looks
// neither at the example's moment nor at all rows of a table.
func steady(d *definition.Derivation) bool {
	return d.Value != nil || d.Element != nil || d.Bound != nil || d.Total != nil || d.Lookup != nil || d.Bins != nil ||
		d.DatePart != nil || d.Between != nil || d.Joined != nil || d.Constant != nil || d.CEL != nil
}

// steady fills in what a step of a steady derivation rests on: nothing if that
// is more than named rows, and values that rest on them.
func (c *compiler) steady(s *step, r *rest) {
	s.on, s.alone = c.bits(r), true
	for i := range r.on {
		s.alone = s.alone && r.on[i].kind == onRow
	}
}

func (c *compiler) bits(r *rest) uint64 {
	on := uint64(entityBit)
	for i := range r.on {
		switch f := &r.on[i]; f.kind {
		case onRow:
			if f.index >= mostSteady {
				return 0
			}
			on |= 1 << f.index
		case onTarget:
			of := c.on[f.target]
			if of == 0 {
				return 0
			}
			on |= of
		default:
			return 0
		}
	}
	return on
}

// parts puts the steps together. The steps of one row go where the first of them
// stands, behind the step that finds the row; the order of all others is kept.
func (c *compiler) parts(steps []step) []part {
	var list []part
	for _, s := range steps {
		p := part{steps: []step{s}, on: s.on, source: none}
		if s.on != 0 && s.alone { // what rests on values keeps its place behind them
			for source := fromRows; source < min(len(c.sources), mostSteady); source++ {
				if s.on == entityBit|1<<source {
					p.source = source
				}
			}
		}
		if p.source != none {
			at := slices.IndexFunc(list, func(o part) bool { return o.source == p.source })
			if at >= 0 {
				list[at].steps = append(list[at].steps, s)
				continue
			}
			t := c.sources[p.source]
			p.place = t.shows
			t.shows++
		}
		p.number = c.p.parts
		c.p.parts++
		list = append(list, p)
	}
	for i := range list {
		p := &list[i]
		slices.SortStableFunc(p.steps, func(a, b step) int { return cmp.Compare(a.out, b.out) })
		for k := range p.steps {
			p.packings = append(p.packings, packingOf(c.p.output(p.steps[k].out)))
			if n := len(p.runs); n > 0 && p.steps[k].out == p.steps[k-1].out+1 {
				p.runs[n-1].n++
				continue
			}
			p.runs = append(p.runs, run{k, p.steps[k].out, 1})
		}
	}
	return list
}

// follow runs a plan for the example at hand.
func (j *Joiner) follow(plan []part) {
	for i := range plan {
		p := &plan[i]
		if p.on == 0 {
			j.do(&p.steps[0])
			continue
		}
		s := &j.standing[p.number]
		changed := j.changed&p.on != 0
		if changed {
			j.renew(p, s)
		}
		if steady := &j.steady[p.number]; *steady == changed {
			*steady = !changed
			for _, r := range p.runs {
				for k := range r.n {
					j.ex.Same[r.out+k] = !changed
				}
			}
		}
		j.inexact = j.inexact || s.late
		if len(s.faults) > 0 {
			j.faults = append(j.faults, s.faults...)
		}
	}
}

// renew brings the values of a part up to date.
func (j *Joiner) renew(p *part, s *standing) {
	if p.source == none || j.source[p.source] == nil {
		j.make(p, s)
		return
	}
	v := j.source[p.source]
	lent := v.row.lent && j.related.derived != nil
	if lent && j.related.derived.show(v.row.number+uint64(v.index), p, j.values, s) {
		return
	}
	if v.shown == nil {
		v.shown = v.mem.shown.take(v.row.table.shows)
		clear(v.shown)
	}
	m := &v.shown[p.place]
	if m.done {
		for _, r := range p.runs {
			copy(j.values[r.out:r.out+r.n], m.values[r.step:])
		}
	} else {
		j.make(p, &m.standing)
		m.done, m.values = true, v.mem.values.take(len(p.steps))
		for _, r := range p.runs {
			copy(m.values[r.step:r.step+r.n], j.values[r.out:])
		}
		if lent && j.err == nil {
			j.related.derived.keep(v.row.number+uint64(v.index), p, j.values, &m.standing)
		}
	}
	*s = m.standing
}

// make runs the steps of a part, and keeps what they leave behind to itself.
func (j *Joiner) make(p *part, s *standing) {
	before, n := j.inexact, len(j.faults)
	j.inexact = false
	for i := range p.steps {
		j.do(&p.steps[i])
	}
	*s = standing{late: j.inexact}
	if len(j.faults) > n {
		s.faults = slices.Clone(j.faults[n:])
	}
	j.inexact, j.faults = before, j.faults[:n]
}

// run derives one thing after another.
func (j *Joiner) run(steps []step) {
	for i := range steps {
		j.do(&steps[i])
	}
}

// do runs one step.
func (j *Joiner) do(s *step) {
	j.step = s
	var bad fault
	if s.find != nil {
		var v *version
		if v, bad = s.find(j); v != j.source[s.source] {
			j.source[s.source] = v
			if s.source < mostSteady {
				j.changed |= 1 << s.source
			}
		}
	} else {
		out := &j.values[s.out]
		*out = Value{}
		bad = s.derive(j, out)
	}
	if bad != "" {
		j.faults = append(j.faults, faultCount{s.name, bad})
	}
}
