package featurestore

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"dreamfeed/internal/change"
	"dreamfeed/internal/row"
)

// A refill reads tables again, in a snapshot of the source that saw every
// transaction up to the version Low, and arrives at R, after live changes that
// the snapshot did not see. So does the backfill of a new epoch, which nothing
// can come between. Of each row that it brings, at (R, ordinal):
//
//   - what changed above Low (a newer version, a tombstone, a TRUNCATE of the
//     table) is left to the stream, which knows better; only cells that it did
//     not capture are filled in;
//   - what is held already, cell by cell, is not written again: a mark beside the
//     rows says that it was found;
//   - everything else is written.
//
// At its end every row of its tables that is at or below Low and was not found
// gets a tombstone (absent.go). All of it is invisible until R is complete, and
// depends on nothing at or above R, so that applying it twice writes the same.

// scope is what an open backfill or refill reads. It is replaced, never changed.
type scope struct {
	Low change.Version `json:"low"`
	// Tables are the numbers of the tables, ascending.
	Tables []uint16 `json:"tables"`
	// Narrow are the tables of which rows came, or may have come, without a column
	// that the definition names: they were read for an older one, and fill nothing.
	Narrow []uint16 `json:"narrow,omitempty"`
	// Passed says that tables are not among them which the definition did not name:
	// should they come back before the end, what is left of their rows is passed over.
	Passed bool `json:"passed,omitempty"`
}

// refilling says whether the open transaction brings rows to compare with
// those that are held.
func (s *state) refilling() bool {
	return s.OpenKind == change.Refill || s.OpenKind == change.Backfill && s.Birth != 0
}

// leave takes a table that the definition names no more out of the open scope:
// its rows are not read any longer, so that nothing follows from their absence.
func (s *state) leave(table uint16) {
	if s.Scope == nil || !slices.Contains(s.Scope.Tables, table) {
		return
	}
	sc := *s.Scope
	sc.Tables = slices.DeleteFunc(slices.Clone(sc.Tables), func(id uint16) bool { return id == table })
	sc.Passed = true
	s.Scope = &sc
}

// narrow notes that a table's rows came, or may have come, without a column that
// is wanted.
func (s *state) narrow(table uint16) {
	if s.Scope == nil || slices.Contains(s.Scope.Narrow, table) {
		return
	}
	sc := *s.Scope
	sc.Narrow = append(slices.Clip(sc.Narrow), table)
	s.Scope = &sc
}

// openScope takes in what a backfill or refill that begins will read. Tables
// that the definition does not name are passed over, as their rows are.
func (w *writer) openScope(t *change.Transaction) {
	w.next.Scope = nil
	if t.Scope == nil {
		return
	}
	sc := &scope{Low: t.Scope.Low}
	for _, name := range t.Scope.Tables {
		def := tableFor(w.s.def, &change.Relation{Schema: name.Schema, Name: name.Name})
		if def == nil {
			w.s.log.Warn("a table that the definition does not name is not refilled", "schema", name.Schema, "table", name.Name)
			sc.Passed = true
			continue
		}
		sc.Tables = append(sc.Tables, w.s.catalog.table(def.Name).ID)
	}
	slices.Sort(sc.Tables)
	sc.Tables = slices.Compact(sc.Tables)
	w.next.Scope = sc
}

// markBefore is the version of the table's newest truncation strictly before a
// position, 0 if there is none.
func (w *writer) markBefore(table uint16, now change.Version, at uint32) change.Version {
	for _, m := range w.marks[table] {
		if !m.newerThan(now, at) && m != (mark{now, at}) {
			return m.version
		}
	}
	return 0
}

// refill compares a row that a refill brings with the one that is held.
func (w *writer) refill(c *work) error {
	sc := w.next.Scope
	switch {
	case sc != nil && slices.Contains(sc.Tables, c.table.ID):
	case sc != nil && sc.Passed: // it stays unfilled
		w.next.Counters.Changes--
		w.next.Counters.ForeignChanges++
		return nil
	default:
		return c.fault("a refill brings a row of a table that it does not say it reads")
	}
	if err := w.target(c); err != nil {
		return err
	}
	w.oldKey = append(w.oldKey[:0], w.key...)
	old, alive, err := w.newestVersion(c)
	if err != nil {
		return err
	}
	if alive { // its memory is borrowed until something is written
		if err := w.decodeBefore(c, old); err != nil {
			return err
		}
	}
	switch {
	case w.markBefore(c.table.ID, c.t.Version, c.r.Ordinal) > sc.Low, old.version > sc.Low && !alive:
		return nil
	case old.version > sc.Low:
		return w.fillIn(c)
	case !alive:
		if err := w.encode(c, nil); err != nil {
			return err
		}
		return w.bring(c, false)
	}
	if err := w.encode(c, nil); err != nil {
		return err
	}
	if bytes.Equal(w.place, w.oldPlace) && c.same(w.cells, w.before) {
		return w.found(c)
	}
	return w.bring(c, true)
}

// newestVersion reads the newest version of the row with the key w.key, and
// where it lies into w.oldPlace. Of a row that is gone, or was never held,
// alive is false; its version then is that of the tombstone, or 0.
func (w *writer) newestVersion(c *work) (old stored, alive bool, err error) {
	now, at := c.t.Version, c.r.Ordinal
	if c.direct {
		if w.oldPlace, err = w.directPlace(c, w.oldPlace[:0], w.key); err != nil {
			return stored{}, false, err
		}
	} else {
		w.locator = appendLocatorPrefix(w.locator[:0], c.table.ID, w.key)
		got, ok, err := w.lookup(w.locator, now, at, true)
		if err != nil || !ok || got.flags&flagDeleted != 0 {
			return stored{version: got.version}, false, err
		}
		if skipPlace(got.value) != len(got.value) {
			return stored{}, false, &CorruptError{What: "a locator", Key: w.locator}
		}
		w.oldPlace = append(w.oldPlace[:0], got.value...)
	}
	w.rowPrefix = appendRowPrefix(w.rowPrefix[:0], w.oldPlace, c.table.ID, w.key)
	old, ok, err := w.lookup(w.rowPrefix, now, at, true)
	if err != nil {
		return stored{}, false, err
	}
	if !ok && !c.direct {
		return stored{}, false, &CorruptError{What: "a locator that leads to no row", Key: w.locator}
	}
	alive = ok && old.flags&flagDeleted == 0 && !w.truncated(c.table.ID, old.version, old.ordinal, now, at)
	return old, alive, nil
}

// same says whether a held row has every cell that is read, as it is read.
func (c *work) same(read, held []row.Cell) bool {
	for slot, i := range c.source {
		if i < 0 {
			continue
		}
		a, b := &read[slot], &held[slot]
		if a.Kind != b.Kind || a.Scale != b.Scale || a.Int != b.Int ||
			math.Float64bits(a.Float) != math.Float64bits(b.Float) || !bytes.Equal(a.Bytes, b.Bytes) {
			return false
		}
	}
	return true
}

// bring writes the encoded row at w.place, and buries the one that it replaces
// if that lies elsewhere.
func (w *writer) bring(c *work, had bool) error {
	moved := had && !bytes.Equal(w.place, w.oldPlace)
	if moved {
		if err := w.bury(c, w.key, w.oldPlace, false, flagDeleted|flagMoved); err != nil {
			return err
		}
	}
	if !had {
		w.next.count(c.table.ID, 1)
	}
	if !had || moved {
		if err := w.locate(c, w.key, w.place); err != nil {
			return err
		}
	}
	return w.storeEncoded(c)
}

// endedAfter says whether the row with the key w.key was deleted, or moved to
// another key, after a version: what has the key now is another row then.
func (w *writer) endedAfter(c *work, low change.Version) (bool, error) {
	prefix := &w.locator // ends with the key, and not with a change of entity
	if c.direct {
		prefix = &w.rowPrefix
		*prefix = appendRowPrefix(w.rowPrefix[:0], w.oldPlace, c.table.ID, w.key)
	} else {
		*prefix = appendLocatorPrefix(w.locator[:0], c.table.ID, w.key)
	}
	for v, o := c.t.Version, c.r.Ordinal; ; {
		got, ok, err := w.lookup(*prefix, v, o, false)
		if err != nil || !ok || got.version <= low {
			return false, err
		}
		if got.flags&flagDeleted != 0 {
			return true, nil
		}
		v, o = got.version, got.ordinal
	}
}

// fillIn writes the held row, in w.before, with the cells that it did not
// capture taken from the refill's row. If it captured all, nothing is written;
// nor if it is another row than the one that the refill read under its key,
// which the mark of a key change then has refilled once more.
func (w *writer) fillIn(c *work) error {
	filled, placed, size := false, false, 0
	w.cells = w.cells[:0]
	for slot, i := range c.source {
		cell := w.before[slot]
		if i >= 0 && cell.Kind == row.NotCaptured {
			v := c.r.New[i]
			switch v.Kind {
			case change.Null:
				cell = row.Cell{Kind: row.Null}
			case change.Text:
				cell = row.Parse(c.columns[i].Type, v.Text)
			default:
				return w.unresolved(c, i)
			}
			filled = true
			placed = placed || i == c.by
		}
		size += len(cell.Bytes)
		w.cells = append(w.cells, cell)
	}
	if !filled {
		return nil
	}
	// Nothing that is looked up without its value moves the memory of w.before.
	if ended, err := w.endedAfter(c, w.next.Scope.Low); err != nil || ended {
		return err
	}
	if !placed {
		w.place = append(w.place[:0], w.oldPlace...)
	}
	if err := w.seal(c, size); err != nil {
		return err
	}
	return w.bring(c, true)
}

// found notes that the refill found a row as it is held:
//
//	70 | R u64 | key of the row, or of its locator, without version
func (w *writer) found(c *work) error {
	w.seen = appendSeenPrefix(w.seen[:0], c.t.Version)
	if c.direct {
		w.seen = appendRowPrefix(w.seen, w.place, c.table.ID, w.key)
	} else {
		w.seen = appendLocatorPrefix(w.seen, c.table.ID, w.key)
	}
	return w.put(w.seen, nil, 0, 0)
}

func appendSeenPrefix(dst []byte, v change.Version) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixSeen), uint64(v))
}
