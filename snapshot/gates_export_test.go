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
	e := &exported{stats: s, train: &output{}, test: &output{}}
	for i, v := range values {
		split, out := inTrain, e.train
		if i == 0 {
			split, out = inTest, e.test
		}
		out.rows++
		s.numbers(column, split, &part{rows: []int{i}, user: []uint64{uint64(i) + 1}, distinct: 1}, []bool{true}, []float32{v})
	}
	d := &decisions{cleaned: &cleaned{}, divided: &divided{outside: make([][]int64, len(p.outliers))}}
	return (&build{checked: k, plan: p}).gates(d, e), nil
}
