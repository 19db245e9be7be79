package snapshot

import "fmt"

// FunnelStep is one entry of the funnel. The first counts the candidates; of
// those that follow, Removed is what the step took and Count what it left; the
// last two, train and test, are where the rows went.
type FunnelStep struct {
	Key     string `json:"key"`
	Count   int64  `json:"count"`
	Removed int64  `json:"removed"`
}

// funnel keeps account of every example.
type funnel struct {
	steps []FunnelStep
	left  int64
}

func newFunnel(candidates int64) *funnel {
	return &funnel{steps: []FunnelStep{{Key: "candidates", Count: candidates}}, left: candidates}
}

func (f *funnel) remove(key string, n int64) {
	f.left -= n
	f.steps = append(f.steps, FunnelStep{Key: key, Count: f.left, Removed: n})
}

// check holds the account against a count taken elsewhere.
func (f *funnel) check(where string, counted int64) error {
	if f.left != counted {
		return fmt.Errorf("account for the rows: %d should be left after %s, but %d are; this is a fault of the program, please report it", f.left, where, counted)
	}
	return nil
}

// split ends the funnel.
func (f *funnel) split(train, test int64) error {
	if err := f.check("the split", train+test); err != nil {
		return err
	}
	f.steps = append(f.steps,
		FunnelStep{Key: "train", Count: train}, FunnelStep{Key: "test", Count: test})
	return nil
}
