package pit

import (
	"fmt"
	"sort"

	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// memo keeps what was derived from one row version, so that it is derived once
// for all examples that see the version.
type memo struct {
	done bool
	// late says that a column was taken from a newer version, since this one
	// did not capture it.
	late  bool
	fault fault
	value Value
	list  []float64
}

// version is a row version with what was decoded and derived from it so far.
type version struct {
	*history.Version
	row   *rowState
	mem   *memory // what is made of the version stands here
	index int     // place among the row's versions
	cells []row.Cell
	memos []memo
	shown []shown
}

// rowState is a row of the entity at hand.
type rowState struct {
	table   *table
	history []history.Version // newest first
	// ordered says that Known does not rise towards older versions, so that a
	// binary search finds the version that was known at a moment.
	ordered bool
	// known are the known times of many versions that are ordered, nil where nobody
	// has put them together: a search in them meets a quarter of the memory.
	known []int64
	// plain is how many versions, from the newest on, are known to be neither deleted nor
	// backfilled.
	plain int
	// states are those of the entity at hand, made when a version is first chosen.
	states []*version
	mem    *scratch
	// The versions of a related row are kept by number, beginning with first. Their
	// data are lent for as long as they are needed, or stand in a file, where they
	// are those of a row that begins from versions earlier.
	kept  *versionCache
	first uint64
	lent  bool
	data  *spilledRow
	from  int
	// number is that of the first version of a lent row in the store's derivedStore.
	number uint64
}

// version is the state of one of the row's versions.
func (r *rowState) version(i int) *version {
	if r.kept != nil {
		return r.kept.version(r, i)
	}
	if v := r.states[i]; v != nil {
		return v
	}
	v := &r.mem.versions.take(1)[0]
	*v = version{Version: &r.history[i], row: r, mem: &r.mem.memory, index: i}
	r.states[i] = v
	return v
}

// choice is how the value of a row at a cut-off came about (DESIGN §6.2).
type choice uint8

const (
	absent  choice = iota
	live           // (a), and the version was in the store by then
	trusted        // (a), a backfilled version dated by its own column only
	late           // (b)
)

// at returns the version that holds at the cut-off c, nil if the row is absent.
func (j *Joiner) at(r *rowState, c int64) (*version, choice) {
	n := len(r.history)
	i := 0
	switch {
	case r.known != nil:
		i = newestKnown(r.known, c)
		if i < r.plain { // without a look at the version, which no cache may hold
			return r.version(i), live
		}
	case r.ordered && n > manyVersions:
		i = sort.Search(n, func(i int) bool { return r.history[i].Known <= c })
	default:
		for i < n && r.history[i].Known > c {
			i++
		}
	}
	if i < n {
		h := &r.history[i]
		switch {
		case h.Deleted:
			return nil, absent
		case h.Backfilled && int64(h.Version) > c:
			return r.version(i), trusted
		}
		return r.version(i), live
	}
	if h := &r.history[n-1]; !h.Backfilled || h.Deleted {
		return nil, absent
	}
	first := r.version(n - 1)
	if slot := r.table.created; slot >= 0 {
		// A creation column that is NULL, not captured or no moment counts as none.
		if created, ok := j.program.micros(&j.decode(first)[slot]); ok && created > c {
			return nil, absent
		}
	}
	return first, late
}

// newestKnown is the place of the first known time, of some that fall, which is at or
// before c. It has no branch that depends on them: what a processor guesses of a
// search is mostly wrong.
func newestKnown(known []int64, c int64) int {
	at := 0
	for n := len(known); n > 0; {
		half := (n + 1) / 2
		if known[at+half-1] > c {
			at += half
		}
		n -= half
	}
	return at
}

// decode returns the cells of a version that are read, by slot, at least as many
// as the table has columns. A corrupt row is kept as the joiner's error.
func (j *Joiner) decode(v *version) []row.Cell {
	if v.cells != nil {
		return v.cells
	}
	cells := v.mem.cells.take(v.row.table.width)
	if v.Deleted {
		clear(cells)
	} else if decoded, err := v.decode(cells); err != nil {
		if j.err == nil {
			j.err = fmt.Errorf("decode a row of table %s at version %s: %w", v.row.table.name, v.Version.Version, err)
		}
		clear(cells)
	} else {
		cells = decoded
	}
	v.cells = cells
	return cells
}

// decode decodes the data of a version.
func (v *version) decode(cells []row.Cell) ([]row.Cell, error) {
	data := v.Data
	if r := v.row; r.kept != nil {
		var err error
		if data, err = r.kept.data(v); err != nil {
			return nil, err
		}
	}
	return row.DecodeSome(data, cells, v.row.table.wanted)
}

// cell returns a column of a version. A column that the version did not
// capture is taken from the oldest newer version that did, as long as the row
// was not deleted between; late says that this was so, or that there is none.
func (j *Joiner) cell(v *version, slot int) (c *row.Cell, late bool) {
	c = &j.decode(v)[slot]
	if c.Kind != row.NotCaptured {
		return c, false
	}
	for i := v.index - 1; i >= 0 && !v.row.history[i].Deleted; i-- {
		if newer := &j.decode(v.row.version(i))[slot]; newer.Kind != row.NotCaptured {
			return newer, true
		}
	}
	return c, true
}

// memo returns what derive makes of the version, deriving it once.
func (j *Joiner) memo(v *version, slot int, derive func(*Joiner, *version, *memo)) *memo {
	if v.memos == nil {
		v.memos = v.mem.memos.take(v.row.table.memos)
		clear(v.memos)
	}
	m := &v.memos[slot]
	if !m.done {
		m.done = true
		derive(j, v, m)
	}
	return m
}

// compareIDs orders two versions of rows of one table by the text of their key
// columns.
func (j *Joiner) compareIDs(a, b *version) int {
	for _, slot := range a.row.table.keys {
		ca, _ := j.cell(a, slot)
		cb, _ := j.cell(b, slot)
		j.left, j.right = ca.AppendText(j.left[:0]), cb.AppendText(j.right[:0])
		if n := compareBytes(j.left, j.right); n != 0 {
			return n
		}
	}
	return 0
}

// later says that a is known later than b, or as late and has the greater id.
func (j *Joiner) later(a, b *version) bool {
	if a.Known != b.Known {
		return a.Known > b.Known
	}
	return j.compareIDs(a, b) > 0
}

// manyVersions is the number above which versions are searched, not gone through.
const manyVersions = 8

// ordered says that Known does not rise towards older versions.
func ordered(versions []history.Version) bool {
	for i := 1; i < len(versions); i++ {
		if versions[i-1].Known < versions[i].Known {
			return false
		}
	}
	return true
}

// load makes row states of the entity's rows in tables that the program reads,
// of the versions from the horizon to the as-of moment, behind rows. from are
// where they begin among the row's versions.
func (j *Joiner) load(e *history.Entity, rows []rowState, add func(r *rowState, row, from int)) []rowState {
	for n := range e.Rows {
		h := &e.Rows[n]
		t := j.program.tableByID(h.Table)
		if t == nil {
			continue
		}
		from, to := bounds(h.Versions, j.asOf, j.horizon)
		if from == to {
			continue
		}
		rows = append(rows, rowState{table: t, history: h.Versions[from:to]})
		add(&rows[len(rows)-1], n, from)
	}
	return rows
}
