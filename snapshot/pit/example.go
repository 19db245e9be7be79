package pit

import (
	"context"

	"dreamfeed/internal/history"
)

// View is what the point-in-time join reads: a frozen view of a feature store.
// A view is safe for concurrent use.
type View interface {
	Info() history.Info
	// Ranges cuts the key space of an entity kind into at most n parts of
	// similar size, in order, without gap or overlap.
	Ranges(ctx context.Context, entity string, n int) ([]history.Range, error)
	// Scan calls fn for every entity of the kind in the range, in key order.
	// What fn is given is valid until it returns; an error of fn ends the scan
	// and is returned.
	Scan(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error
	// Entity returns one entity, nil if nothing is known of it.
	Entity(ctx context.Context, entity, id string) (*history.Entity, error)
	Close() error
}

// Value is one derived value. The zero Value is missing.
type Value struct {
	Text string
	// Int holds int32, bool (0 or 1) and timestamp (µs since the epoch) values.
	Int   int64
	Float float32
	Valid bool
}

// Exactness says how the features of an example were known (DESIGN §6.4).
type Exactness uint8

// The ways, from best to worst; an example has the worst of its features.
const (
	// ExactLive: every version was in the store by the cut-off, because it came
	// live or because the backfill read it before.
	ExactLive Exactness = iota
	// ExactTrusted: also backfilled versions of after the cut-off, chosen by rule
	// (a) because the row's own updated or created column dates them before it.
	ExactTrusted
	// Inexact: a first version was chosen by rule (b), though known later only,
	// or a column was taken from a newer version that captured it, or the cut-off
	// lies in a gap of the history.
	Inexact
	// InexactOlder: inexact, and the cut-off lies before the first backfill, so
	// that no live version could have been there.
	InexactOlder
)

// Example is one candidate after step 6: its features at its cut-off and its
// label at the as-of moment. It is reused: copy what outlives the callback.
type Example struct {
	ID       string // raw id of the example: for hashing, never for writing
	EntityID string // raw id of its entity
	Time     int64  // t, µs since the epoch
	CutOff   int64  // c, µs since the epoch
	// Outcome is the index of the outcome in Definition.Labels.Outcomes.
	Outcome  int
	Exact    Exactness
	Immature bool
	// Censored says that the label window passes the as-of moment.
	Censored bool
	// Goal says that, the label window aside, the outcome at the as-of moment is
	// the goal, of an example old enough for the goal's recall to be measured.
	// GoalAfter is then the time from t to the goal in µs, math.MaxInt64 if
	// nothing tells it.
	Goal      bool
	GoalAfter int64
	// Columns and Values go with the definition's lists of the same names.
	// Pseudonyms, weights and aliases are left for the dataset to fill.
	Columns []Value
	Values  []Value
	// Uniform holds the text of each path of Definition.Gates.Uniform, by rule
	// and path; invalid where the example has none.
	Uniform [][]Value
	// Same says of each of Columns, then of Values, then of the paths of Uniform,
	// that it is what the example handed out before had there, one of the same
	// entity. Nil says nothing.
	Same []bool
}

// Tally counts what a join met, by name. Tallies of ranges add up.
type Tally struct {
	// Candidates are the examples in the window, before anything was left out.
	Candidates int64
	// Dropped counts the examples left out by funnel reason: "deleted" and the
	// reasons of Definition.Example.Needs.
	Dropped map[string]int64
	// Faults counts values that a column's rule made missing, by "column:reason".
	Faults map[string]int64
	// Exactness counts the examples that were handed out, by Exactness.
	Exactness [4]int64
	// Immature counts those younger than the maturity at the as-of moment.
	Immature int64
	// Lateness is that of the tables of the entity that have a creation column and
	// rows inserted live since the horizon, by name.
	Lateness map[string]*Lateness
}
