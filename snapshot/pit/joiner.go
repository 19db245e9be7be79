package pit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/labels"
)

// errNoRelated says that a definition finds rows of other entities and none
// were loaded.
var errNoRelated = errors.New("the definition finds rows by match, and no related rows were loaded")

// Options are the settings of a join.
type Options struct {
	// AsOf is T: only versions at or before it count. Zero is the moment of the
	// view that the program was compiled for.
	AsOf change.Version
	// Window is how far before T an example may lie. No row is looked at as it
	// was before the horizon T − Window, so that a history of which retention
	// removed what lies behind it gives the same. Zero leaves what holds at T.
	Window time.Duration
	// CacheBytes bounds, roughly, the decoded related rows that a joiner keeps;
	// zero is 64 MiB.
	CacheBytes int64
}

// Joiner joins entity after entity. It keeps memory for reuse, and no state
// that changes a result, between entities; it is for one goroutine.
type Joiner struct {
	program  *Program
	related  *relatedCache
	asOf     change.Version
	horizon  change.Version // T − window
	moment   int64          // T, µs
	earliest int64          // T − window, µs

	// of the entity:
	scratch *scratch
	states  []rowState
	tables  []tableState
	texts   texts

	// of the example:
	t, c    int64
	own     *rowState
	source  []*version
	changed uint64 // sources whose version is another than when the plan was last followed
	inexact bool   // something was chosen by rule (b)
	trusted bool   // something rests on a backfilled row's own dates
	ex      Example
	values  []Value // what ex shows of them: columns, values, paths of the gates
	// standing is what the parts of the plan left behind, by number.
	standing []standing
	steady   []bool // by number: the part's values are those of the example before
	faults   []faultCount
	// faultNames are the names under which faults are counted.
	faultNames map[faultCount]string
	step       *step // the row or value being derived
	facts      labels.Facts

	// of requests:
	tracing  tracing
	answered Answer

	// scratch space:
	left, right, key []byte
	rows             []*version
	numbers          []uint64
	number           Value

	err error
}

// tableState is what the entity has in one table.
type tableState struct {
	rows []*rowState
	// held are the versions that hold at the cut-off, if fresh.
	held  []*version
	fresh bool
	late  bool
	trust bool
}

type faultCount struct{ name, reason string }

// NewJoiner returns a joiner. Related may be nil when the definition finds no
// row by match.
func (p *Program) NewJoiner(related Related, o Options) *Joiner {
	if o.AsOf == 0 {
		o.AsOf = change.Version(p.asOf)
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	j := &Joiner{
		program: p, asOf: o.AsOf, horizon: o.horizon(), moment: int64(o.AsOf), earliest: int64(o.AsOf) - o.Window.Microseconds(),
		scratch: newScratch(256), tables: make([]tableState, len(p.tables)), source: make([]*version, p.sources),
	}
	if related != nil {
		j.related = newRelatedCache(related, p, o)
	}
	all := len(p.def.Columns) + len(p.def.Values)
	for _, n := range p.uniforms {
		all += n
	}
	j.values, j.standing, j.faultNames = make([]Value, all), make([]standing, p.parts), map[faultCount]string{}
	j.ex.Same, j.steady = make([]bool, all), make([]bool, p.parts)
	rest := j.values
	share := func(n int) (of []Value) {
		of, rest = rest[:n:n], rest[n:]
		return of
	}
	j.ex.Columns, j.ex.Values = share(len(p.def.Columns)), share(len(p.def.Values))
	j.ex.Uniform = make([][]Value, len(p.uniforms))
	for i, n := range p.uniforms {
		j.ex.Uniform[i] = share(n)
	}
	return j
}

// Entity hands out the examples of an entity, in the order of its rows, and
// counts what it met. The Example and the history are only borrowed.
//
// An example is a row of the definition's example table whose moment t, by its
// first version held, lies in the window, T − window ≤ t < T. It belongs to the
// entity that holds it last at T: under an entity that it has left (a Moved
// version) it is no candidate. Its first version held is then that with which
// it came to the entity. A row that was deleted and inserted again is one
// example, that of the first version. One that was recorded at or before the
// horizon, ahead of its moment, is what the version says that holds there; its
// cut-off is the horizon, and it is inexact unless that version was backfilled.
//
// A joiner that returned an error may be used again; an error of emit is
// returned as it is.
func (j *Joiner) Entity(e *history.Entity, tally *Tally, emit func(*Example) error) error {
	j.begin(e)
	j.ex.EntityID = e.ID
	if j.lateness(tally); j.err != nil {
		return j.err
	}
	for _, r := range j.tables[j.program.example.index].rows {
		if err := j.one(r, tally, emit); err != nil {
			return err
		}
	}
	return nil
}

// begin reads the entity's rows.
func (j *Joiner) begin(e *history.Entity) {
	j.scratch.reset()
	j.release()
	if j.err != nil && j.related != nil { // what could not be read stands there as empty
		j.related.versions.forget()
	}
	j.err = nil
	for i := range j.tables {
		t := &j.tables[i]
		t.rows, t.held, t.fresh = t.rows[:0], t.held[:0], false
	}
	// Pointers into the slice are kept: it must not grow while filled.
	if rows := len(e.Rows); cap(j.states) < rows || cap(j.states) > keepSlab {
		j.states = make([]rowState, 0, rows)
	}
	j.load(e, j.states[:0], func(r *rowState, _, _ int) {
		r.ordered = len(r.history) > manyVersions && ordered(r.history)
		r.mem, r.states = j.scratch, j.scratch.states.take(len(r.history))
		clear(r.states)
		t := &j.tables[r.table.index]
		t.rows = append(t.rows, r)
	})
}

// release forgets the rows found for the example before, and lets go of the
// versions of related rows.
func (j *Joiner) release() {
	clear(j.source)
	j.changed = ^uint64(0)
	if j.related != nil {
		j.related.versions.release()
	}
}

// makeRoom bounds what the examples of one entity hold of related rows.
func (j *Joiner) makeRoom() {
	if j.related != nil && j.related.versions.crowded() {
		j.release()
	}
}

// one hands out the example of a row, if it is one.
func (j *Joiner) one(r *rowState, tally *Tally, emit func(*Example) error) error {
	p := j.program
	n := len(r.history)
	for n > 0 && r.history[n-1].Deleted {
		n--
	}
	if n == 0 || r.history[0].Deleted && r.history[0].Moved {
		return nil
	}
	last, first := r.version(0), r.version(n-1)
	cell, _ := j.cell(first, p.time)
	t, bad := p.moment(cell)
	id, _ := j.cell(first, p.id)
	switch {
	case j.err != nil:
		return j.err
	case bad != "":
		tally.fault("example:" + bad)
		return nil
	case !t.Valid:
		tally.fault("example:" + noTime)
		return nil
	case t.Int < j.earliest || t.Int >= j.moment:
		return nil
	case !present(id):
		tally.fault("example:" + noID)
		return nil
	}
	tally.Candidates++
	if last.Deleted {
		tally.drop("deleted")
		return nil
	}

	j.makeRoom()
	j.t, j.c = t.Int, t.Int
	if !first.Backfilled {
		j.c = max(min(j.t, int64(first.Version.Version)-1), j.earliest)
	}
	// Before the horizon there is nothing to look at (ADR 0014).
	behind := !first.Backfilled && first.Version.Version <= j.horizon
	j.own, j.inexact, j.trusted, j.faults = r, behind, false, j.faults[:0]
	j.fresh()
	j.source[fromFirst], j.source[fromLast] = first, last
	j.left = id.AppendText(j.left[:0])
	j.ex.ID, j.ex.Time, j.ex.CutOff = j.texts.string(j.left), j.t, j.c
	j.ex.Immature = labels.Immature(j.t, j.moment, p.def.Example.Maturity)
	j.outcome()

	j.run(p.needSteps)
	if j.err != nil {
		return j.err
	}
	for _, n := range p.needs {
		if j.source[n.source] == nil {
			tally.drop(n.reason)
			return nil
		}
	}
	j.follow(p.plan)
	j.ex.Exact = j.exactness()
	for _, t := range p.exact {
		v := j.value(t)
		*v = Value{Valid: true}
		if j.ex.Exact <= ExactTrusted {
			v.Int = 1
		}
	}
	// What the gates compare is no feature: it does not make an example inexact.
	j.follow(p.uniform)
	j.changed = 0
	if j.err != nil {
		return fmt.Errorf("join an example of table %s: %w", p.example.name, j.err)
	}
	for _, f := range j.faults {
		name := j.faultNames[f]
		if name == "" {
			name = f.name + ":" + f.reason
			j.faultNames[f] = name
		}
		tally.fault(name)
	}
	tally.Exactness[j.ex.Exact]++
	if j.ex.Immature {
		tally.Immature++
	}
	return emit(&j.ex)
}

// fresh forgets which versions held at the cut-off of the example before.
func (j *Joiner) fresh() {
	for i := range j.tables {
		j.tables[i].fresh = false
	}
}

// exactness is the worst of what the example's features rest on. At a cut-off
// in a gap of the history nobody knows what had changed since it began.
func (j *Joiner) exactness() Exactness {
	gap := slices.ContainsFunc(j.program.gaps, func(g history.Gap) bool { return g.Holds(change.Version(j.c)) })
	switch {
	case j.inexact && j.c < j.program.birth:
		return InexactOlder
	case j.inexact || gap:
		return Inexact
	case j.trusted:
		return ExactTrusted
	}
	return ExactLive
}

// late notes that a column was taken from a newer version. What is read of the
// example's last version is its outcome, not a feature.
func (j *Joiner) late(source int) {
	if source != fromLast {
		j.inexact = true
	}
}

// chosen notes how a version was chosen.
func (j *Joiner) chosen(c choice) {
	j.inexact = j.inexact || c == late
	j.trusted = j.trusted || c == trusted
}

// hold returns the versions of the entity's rows in a table that hold at the
// cut-off, without the example's own row, which is no feature of itself.
func (j *Joiner) hold(index int) []*version {
	t := &j.tables[index]
	if !t.fresh {
		t.fresh, t.held, t.late, t.trust = true, t.held[:0], false, false
		for _, r := range t.rows {
			if r == j.own {
				continue
			}
			v, how := j.at(r, j.c)
			if v == nil {
				continue
			}
			t.held = append(t.held, v)
			t.late = t.late || how == late
			t.trust = t.trust || how == trusted
		}
	}
	j.inexact = j.inexact || t.late
	j.trusted = j.trusted || t.trust
	return t.held
}

// value is where a derived value of the example stands.
func (j *Joiner) value(t target) *Value {
	if t.value {
		return &j.ex.Values[t.index]
	}
	return &j.ex.Columns[t.index]
}

func (t *Tally) drop(reason string) {
	if t.Dropped == nil {
		t.Dropped = make(map[string]int64)
	}
	t.Dropped[reason]++
}

func (t *Tally) fault(name string) {
	if t.Faults == nil {
		t.Faults = make(map[string]int64)
	}
	t.Faults[name]++
}
