package labels

import (
	"fmt"
	"time"

	"dreamfeed/internal/definition"
)

// MaxOutcomes is the largest number of outcomes that Rules can hold: one bit of
// a Moments for each.
const MaxOutcomes = 64

// Moments says which outcomes' moments are set, bit i for outcome i.
type Moments uint64

// Set returns the moments with that of outcome i set.
func (m Moments) Set(i int) Moments { return m | 1<<uint(i) }

// Has says whether the moment of outcome i is set.
func (m Moments) Has(i int) bool { return m>>uint(i)&1 == 1 }

// Rules is a compiled definition.Labels. It is immutable and safe for
// concurrent use.
type Rules struct {
	outcomes []definition.Outcome
	goal     int
	sampled  int
	window   int64 // W, µs; 0: none
	latest   bool
	recall   []int64 // µs, ascending
}

// NewRules compiles the label rules. It refuses what would leave an example
// without an outcome or a name without a rule.
func NewRules(l definition.Labels) (*Rules, error) {
	n := len(l.Outcomes)
	if n == 0 {
		return nil, fmt.Errorf("compile labels: no outcomes are defined; give labels.outcomes at least one")
	}
	if n > MaxOutcomes {
		return nil, fmt.Errorf("compile labels: %d outcomes are defined, at most %d are possible", n, MaxOutcomes)
	}
	if last := l.Outcomes[n-1]; len(last.Statuses) > 0 || last.Moment != "" {
		return nil, fmt.Errorf("compile labels: the last outcome %q has a condition, so that an example may have no outcome; end labels.outcomes with one without statuses and moment", last.Name)
	}
	if l.Window < 0 || l.Window == 0 && l.DropCensored {
		return nil, fmt.Errorf("compile labels: examples whose window passes the as-of moment are dropped, and there is no window; give labels.window")
	}
	r := &Rules{outcomes: l.Outcomes, goal: -1, sampled: -1, window: l.Window.Microseconds(), latest: l.Latest}
	for _, d := range l.Recall {
		if n := len(r.recall); d <= 0 || n > 0 && d.Microseconds() <= r.recall[n-1] {
			return nil, fmt.Errorf("compile labels: the lengths of labels.recall must be above zero and rise, %s does not", d)
		}
		r.recall = append(r.recall, d.Microseconds())
	}
	for i, o := range l.Outcomes {
		if o.Name == l.Goal {
			r.goal = i
		}
		if o.Name == l.Sampled {
			r.sampled = i
		}
	}
	if l.Goal != "" && r.goal < 0 {
		return nil, fmt.Errorf("compile labels: the goal %q is no outcome; name one of labels.outcomes", l.Goal)
	}
	if l.Sampled != "" && r.sampled < 0 {
		return nil, fmt.Errorf("compile labels: the sampled outcome %q is no outcome; name one of labels.outcomes", l.Sampled)
	}
	return r, nil
}

// Len is the number of outcomes.
func (r *Rules) Len() int { return len(r.outcomes) }

// Name is the name of outcome i.
func (r *Rules) Name(i int) string { return r.outcomes[i].Name }

// Score is what outcome i is worth.
func (r *Rules) Score(i int) float64 { return r.outcomes[i].Score }

// Positive says whether outcome i has a score above 0.
func (r *Rules) Positive(i int) bool { return r.outcomes[i].Score > 0 }

// Goal says whether outcome i is the goal.
func (r *Rules) Goal(i int) bool { return i == r.goal }

// Sampled says whether negative sampling thins out outcome i.
func (r *Rules) Sampled(i int) bool { return i == r.sampled }

// Immature says whether an example of moment t (µs since the epoch) is younger
// than maturity at the as-of moment (µs), so that its outcome may still change
// (DESIGN §6.5).
func Immature(t, asOf int64, maturity time.Duration) bool {
	return asOf-t < maturity.Microseconds()
}
