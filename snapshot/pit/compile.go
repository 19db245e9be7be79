package pit

import (
	"fmt"

	"dreamfeed/internal/definition"
	"dreamfeed/labels"
)

// Sources of column values: the two versions of the example, then the named
// rows in the order in which they were compiled.
const (
	fromFirst   = 0 // the example's first version held
	fromLast    = 1 // its last version at the as-of moment
	fromRows    = 2
	fromDerived = -1 // a value or column derived earlier
)

// compiler orders rows and values by what they rest on and turns each into a
// step. It is used once.
type compiler struct {
	p     *Program
	memos map[string]int // places of shared memos by table and content
	rows  map[string]*namedRow
	order []step
	// done are the values and columns that have a step; doing guards against
	// circles.
	values, columns []progress
	// rest is what the step being compiled rests on, nil outside of one.
	rest *rest
	// on is step.on of the values and columns that have a step, sources the table
	// of each source.
	on      map[target]uint64
	sources []*table
	paths   int // paths of gates that have a step
}

type progress uint8

const (
	open progress = iota
	doing
	done
)

// namedRow is a row of the definition that is in use.
type namedRow struct {
	def    *definition.Row
	table  *table
	source int
	event  *event // of a last row
	state  progress
}

func (c *compiler) compile() error {
	p := c.p
	c.values = make([]progress, len(p.def.Values))
	c.columns = make([]progress, len(p.def.Columns))
	p.sources = fromRows

	var err error
	if p.relations, err = relations(p.def, p.tables); err != nil {
		return err
	}
	if err := c.example(); err != nil {
		return err
	}
	c.sources = []*table{fromFirst: p.example, fromLast: p.example}
	for _, n := range p.def.Example.Needs {
		r, err := c.row(n.Row)
		if err != nil {
			return fmt.Errorf("need %s: %w", n.Reason, err)
		}
		p.needs = append(p.needs, need{n.Reason, r.source})
	}
	p.needSteps, c.order = c.order, nil
	for i := range p.def.Values {
		if err := c.derived(target{true, i}); err != nil {
			return err
		}
	}
	for i := range p.def.Columns {
		if err := c.derived(target{false, i}); err != nil {
			return err
		}
	}
	p.steps, c.order = c.order, nil
	for _, u := range p.def.Gates.Uniform {
		p.uniforms = append(p.uniforms, len(u.Of))
		for _, path := range u.Of {
			if err := c.path(u.Name, path); err != nil {
				return fmt.Errorf("uniform %s: %w", u.Name, err)
			}
		}
	}
	p.plan, p.uniform = c.parts(p.steps), c.parts(c.order)
	return nil
}

// example compiles what is read of the example's own row.
func (c *compiler) example() error {
	p, d := c.p, c.p.def.Example
	p.example = c.table(d.Table)
	if p.example == nil {
		return fmt.Errorf("example: there is no table %q", d.Table)
	}
	p.id, p.time = p.example.slot(d.ID), p.example.slot(d.Time)
	if p.id < 0 {
		return fmt.Errorf("example: %w", &MissingError{Table: d.Table, Column: d.ID})
	}
	if p.time < 0 {
		return fmt.Errorf("example: %w", &MissingError{Table: d.Table, Column: d.Time})
	}
	if len(p.def.Labels.Outcomes) == 0 { // a feature set without a label
		return nil
	}
	var err error
	if p.rules, err = labels.NewRules(p.def.Labels); err != nil {
		return err
	}
	outcome := func(column string) (operand, error) {
		o, err := c.column(p.example, fromLast, column)
		if err != nil {
			return operand{source: none}, fmt.Errorf("labels: %w", err)
		}
		return o, nil
	}
	p.status = operand{source: none}
	if p.def.Labels.Status != "" {
		if p.status, err = outcome(p.def.Labels.Status); err != nil {
			return err
		}
	}
	for _, o := range p.def.Labels.Outcomes {
		moment := operand{source: none}
		if o.Moment != "" {
			if moment, err = outcome(o.Moment); err != nil {
				return err
			}
		}
		p.moments = append(p.moments, moment)
	}
	return nil
}

func (c *compiler) table(name string) *table {
	for _, t := range c.p.tables {
		if t.name == name {
			return t
		}
	}
	return nil
}

// derived compiles a value or column, after what it rests on.
func (c *compiler) derived(t target) error {
	list, state := c.p.def.Columns, c.columns
	if t.value {
		list, state = c.p.def.Values, c.values
	}
	column := &list[t.index]
	switch state[t.index] {
	case done:
		return nil
	case doing:
		return fmt.Errorf("column %s: rests on itself", column.Name)
	}
	state[t.index] = doing
	var derive derive
	rests, err := c.resting(func() (err error) {
		derive, err = c.derivation(column)
		return err
	})
	if err != nil {
		return fmt.Errorf("column %s: %w", column.Name, err)
	}
	state[t.index] = done
	if derive != nil {
		place := c.traced(rests, t)
		s := step{name: column.Name, derive: derive, out: c.p.out(t), place: place}
		if steady(&column.Derive) {
			c.steady(&s, rests)
		}
		c.on[t] = s.on
		c.order = append(c.order, s)
	}
	switch column.Derive.Quality {
	case definition.QualityExact:
		c.p.exact = append(c.p.exact, t)
	case definition.QualityCensored:
		c.p.censored = append(c.p.censored, t)
	}
	return nil
}

// row compiles a named row, after what its match rests on.
func (c *compiler) row(name string) (*namedRow, error) {
	r := c.rows[name]
	if r == nil {
		d := c.p.def.Row(name)
		if d == nil {
			return nil, fmt.Errorf("there is no row %q", name)
		}
		r = &namedRow{def: d, table: c.table(d.Table)}
		if r.table == nil {
			return nil, fmt.Errorf("row %s: there is no table %q", name, d.Table)
		}
		c.rows[name] = r
	}
	switch r.state {
	case done:
		return r, nil
	case doing:
		return nil, fmt.Errorf("row %s: rests on itself", name)
	}
	r.state = doing
	var run func(*Joiner) (*version, fault)
	var gone func(*Joiner) bool
	rests, err := c.resting(func() (err error) {
		run, gone, err = c.find(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("row %s: %w", name, err)
	}
	r.source = c.p.sources
	c.p.sources++
	r.state = done
	c.sources = append(c.sources, r.table)
	c.order = append(c.order, step{name: name, find: run, source: r.source, place: c.tracedRow(rests, r.source, gone)})
	return r, nil
}

// find compiles how a named row is found, and whether one was held that is
// deleted at the cut-off.
func (c *compiler) find(r *namedRow) (run func(*Joiner) (*version, fault), gone func(*Joiner) bool, err error) {
	where, err := c.filter(r.table, r.def.Where)
	if err != nil {
		return nil, nil, err
	}
	if len(r.def.Match) > 0 {
		return c.match(r, where)
	}
	if r.table.def.Entity != c.p.example.def.Entity {
		return nil, nil, fmt.Errorf("table %s belongs to entity %q, not to the example's: give match", r.table.name, r.table.def.Entity)
	}
	t := r.table.index
	c.rest.note(footing{kind: onTable, index: t})
	if len(r.def.Last) == 0 {
		return func(j *Joiner) (*version, fault) {
			var best *version
			for _, v := range j.hold(t) {
				if where.pass(j, v) && (best == nil || j.later(v, best)) {
					best = v
				}
			}
			return best, ""
		}, func(j *Joiner) bool { return j.buriedIn(t, where, nil) }, nil
	}
	if r.event, err = c.event(r.table, r.def.Last); err != nil {
		return nil, nil, err
	}
	event := r.event
	return func(j *Joiner) (*version, fault) {
		var best *version
		var newest int64
		for _, v := range j.hold(t) {
			if !where.pass(j, v) {
				continue
			}
			e := event.of(j, v)
			if !e.value.Valid || e.value.Int >= j.t {
				continue
			}
			if at := e.value.Int; best == nil || at > newest || at == newest && j.later(v, best) {
				best, newest = v, at
			}
		}
		return best, ""
	}, func(j *Joiner) bool { return j.buriedIn(t, where, event) }, nil
}

// ref compiles a reference.
func (c *compiler) ref(r definition.Ref) (operand, error) {
	switch r.Row {
	case "":
		for i := range c.p.def.Values {
			if c.p.def.Values[i].Name == r.Column {
				t := target{true, i}
				c.rest.note(footing{kind: onTarget, target: t})
				return operand{source: fromDerived, target: t, output: c.p.def.Values[i].Type}, c.derived(t)
			}
		}
		for i := range c.p.def.Columns {
			if c.p.def.Columns[i].Name == r.Column {
				t := target{false, i}
				c.rest.note(footing{kind: onTarget, target: t})
				return operand{source: fromDerived, target: t, output: c.p.def.Columns[i].Type}, c.derived(t)
			}
		}
		return operand{}, fmt.Errorf("there is no value or column %q", r.Column)
	case "example":
		source := fromFirst
		for _, column := range c.p.def.Example.Outcome {
			if column == r.Column {
				source = fromLast
			}
		}
		c.rest.note(footing{kind: onOwn})
		return c.column(c.p.example, source, r.Column)
	}
	named, err := c.row(r.Row)
	if err != nil {
		return operand{}, err
	}
	c.rest.note(footing{kind: onRow, index: named.source})
	return c.column(named.table, named.source, r.Column)
}

func (c *compiler) column(t *table, source int, name string) (operand, error) {
	column := t.def.Column(name)
	if column == nil {
		return operand{}, fmt.Errorf("table %s has no column %q", t.name, name)
	}
	return operand{source: source, slot: t.slot(name), typ: column.Type, table: t}, nil
}

// memo reserves a place for what is derived from a version of the table; the
// same content shares one place.
func (c *compiler) memo(t *table, content string) int {
	key := t.name + "\x00" + content
	place, ok := c.memos[key]
	if !ok {
		place = t.memos
		t.memos++
		c.memos[key] = place
	}
	return place
}
