package snapshot

// GatesOfVector is what the gates say of rows with the values in the column, as
// if nothing had clipped them on their way: the first row goes to test, all
// others to train.
func GatesOfVector(c Config, column int, values ...float32) ([]Gate, error) {
	k, err := c.check()
	if err != nil {
		return nil, err
	}
	p, err := newPlan(k.Definition, k.Stage)
	if err != nil {
		return nil, err
	}
	s := newStatistics(p, make([][]float64, len(k.Definition.Charts)))
	x := &exporter{test: make([]bool, len(values)), user: make([]uint64, len(values))}
	e := &exported{stats: s, train: &output{}, test: &output{}}
	for i, v := range values {
		x.test[i], x.user[i] = i == 0, uint64(i)+1
		s.number(column, x, i, float64(v), v, true)
		if i == 0 {
			e.test.rows++
		} else {
			e.train.rows++
		}
	}
	d := &decisions{cleaned: &cleaned{}, divided: &divided{outside: make([][]int64, len(p.outliers))}}
	return (&build{checked: k, plan: p}).gates(d, e), nil
}
