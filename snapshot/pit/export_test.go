package pit

// Forget makes a joiner derive the next example of an entity as if it were the
// first: nothing that was made of rows before it is used again.
func (j *Joiner) Forget() {
	j.release()
	if j.related != nil {
		j.related.versions.forget()
		j.related.derived = nil
	}
	for i := range j.tables {
		for _, r := range j.tables[i].rows {
			for _, v := range r.states {
				if v != nil {
					v.cells, v.memos, v.shown = nil, nil, nil
				}
			}
		}
	}
}

// Plain makes a program derive each value of each example on its own: no part of
// the plan stands.
func (p *Program) Plain() {
	alone := func(steps []step) (plan []part) {
		for i := range steps {
			plan = append(plan, part{steps: steps[i : i+1]})
		}
		return plan
	}
	var gates []step
	for i := range p.uniform {
		gates = append(gates, p.uniform[i].steps...)
	}
	p.plan, p.uniform = alone(p.steps), alone(gates)
}

// Derived is the number of records that the store's joiners share.
func (s *RelatedStore) Derived() (n int) {
	for i := range s.shared.refs {
		if s.shared.refs[i].Load() != 0 {
			n++
		}
	}
	return n
}

// Shares says whether the joiner shares what it derives with others.
func (j *Joiner) Shares() bool { return j.related.derived != nil }
