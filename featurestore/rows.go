package featurestore

import (
	"bytes"
	"fmt"

	"dreamfeed/internal/change"
)

// work is one row change on its way into the store.
type work struct {
	*mapping
	b *change.Batch
	t *change.Transaction
	r *change.Row
}

func (c *work) position() Position { return position(c.b, c.t.Version, c.r.Ordinal) }

func (c *work) fault(what string) error {
	return &RowError{Table: c.table.Name, What: what, Position: c.position()}
}

// row applies one row change: it adds the entries that the change makes, which
// depend on nothing but what the store held strictly before it (I3).
func (w *writer) row(b *change.Batch, t *change.Transaction, r *change.Row) error {
	if r.Relation == nil {
		return &RowError{Table: "?", What: "a change has no relation", Position: position(b, t.Version, r.Ordinal)}
	}
	m, err := w.relation(b, t, r)
	if err != nil {
		return err
	}
	if m == nil {
		w.next.Counters.ForeignChanges++
		return nil
	}
	c := &work{m, b, t, r}
	if r.New != nil && len(r.New) != len(m.columns) || r.Old != nil && len(r.Old) != len(m.columns) {
		return c.fault("a row has another number of columns than its relation")
	}
	if w.erasing != nil {
		if done, err := w.leaveOut(c); err != nil || done {
			return err
		}
	}
	w.next.Counters.Changes++
	if c.lacking && c.t.Kind != change.Live {
		w.next.without(c.mapping)
	}
	switch {
	case w.next.refilling() && r.Op == change.Insert && r.New != nil:
		return w.refill(c)
	case c.t.Kind != change.Live && r.Op != change.Insert:
		return c.fault(fmt.Sprintf("a backfill or refill brings a change of kind %q", r.Op))
	case r.Op == change.Insert && r.New != nil:
		return w.insert(c)
	case r.Op == change.Update && r.New != nil:
		return w.update(c)
	case r.Op == change.Delete && r.Old != nil:
		return w.remove(c)
	case r.Op == change.Truncate:
		w.addMark(m.table.ID, mark{t.Version, r.Ordinal})
		w.places.clear()
		w.next.empty(m.table.ID)
		return w.put(truncateKey(m.table.ID, t.Version, r.Ordinal), nil, 0, 0)
	}
	return c.fault(fmt.Sprintf("a change of kind %q lacks its row", r.Op))
}

// appendKey appends the encoded key of a row. other fills in key columns that
// the update left out as unchanged.
func (c *work) appendKey(dst []byte, values, other []change.Value) ([]byte, error) {
	for _, i := range c.key {
		v := values[i]
		if v.Kind == change.Unchanged && other != nil {
			v = other[i]
		}
		if v.Kind != change.Text {
			return dst, &RelationError{Table: c.table.Name, Column: c.columns[i].Name, What: "is part of the key and has no value", Position: c.position()}
		}
		dst = appendID(dst, v.Text)
	}
	if len(dst) > maxKeyBytes/2 {
		return dst, c.fault(fmt.Sprintf("a key takes %d bytes, at most %d can be held", len(dst), maxKeyBytes/2))
	}
	return dst, nil
}

// appendPlace appends kind | entity of a row whose entity column holds v.
func (c *work) appendPlace(dst []byte, v change.Value, key []byte) ([]byte, error) {
	if v.Kind != change.Text {
		return appendNowhere(dst, c.table.ID, key), nil
	}
	dst = appendID(append(dst, c.kind), v.Text)
	if len(dst) > maxKeyBytes/2 {
		return dst, c.fault(fmt.Sprintf("an entity's id takes %d bytes, at most %d can be held", len(dst), maxKeyBytes/2))
	}
	return dst, nil
}

// entityOf is the value of the entity column, NULL for tables without entity.
func (c *work) entityOf(values []change.Value) change.Value {
	if c.by < 0 {
		return change.Value{Kind: change.Null}
	}
	return values[c.by]
}

// target puts the key of a whole new row in w.key, and where it is to lie in w.place.
func (w *writer) target(c *work) (err error) {
	if w.key, err = c.appendKey(w.key[:0], c.r.New, nil); err != nil {
		return err
	}
	w.place, err = c.appendPlace(w.place[:0], c.entityOf(c.r.New), w.key)
	return err
}

func (w *writer) insert(c *work) error {
	if err := w.target(c); err != nil {
		return err
	}
	had := false
	if c.t.Kind == change.Live && w.next.Unfilled[c.table.ID].Rows {
		var err error
		if had, err = w.vacate(c); err != nil {
			return err
		}
	}
	if err := w.locate(c, w.key, w.place); err != nil {
		return err
	}
	if !had {
		w.next.count(c.table.ID, 1)
	}
	return w.store(c, nil)
}

// vacate buries the row that an insert, or an update that brings another key,
// replaces, if it lies elsewhere: the store may hold one whose removal it did not
// see.
func (w *writer) vacate(c *work) (had bool, err error) {
	w.oldKey = append(w.oldKey[:0], w.key...)
	if had, err = w.heldPlace(c, w.place); err != nil || !had || bytes.Equal(w.place, w.oldPlace) {
		return had, err
	}
	return true, w.bury(c, w.key, w.oldPlace, false, flagDeleted|flagMoved)
}

// update writes the new version. If key or entity changed, the old row gets a
// tombstone at the same (version, ordinal).
func (w *writer) update(c *work) error {
	if !c.identity {
		return &RelationError{Table: c.table.Name, Column: c.uncovered, What: "is part of the key and not of the replica identity, so that a change of it would go unseen", Position: c.position()}
	}
	r := c.r
	var err error
	if w.key, err = c.appendKey(w.key[:0], r.New, r.Old); err != nil {
		return err
	}
	w.oldKey = append(w.oldKey[:0], w.key...)
	if r.Old != nil {
		if w.oldKey, err = c.appendKey(w.oldKey[:0], r.Old, nil); err != nil {
			return err
		}
	}
	moved := !bytes.Equal(w.key, w.oldKey)
	gaps, unfilled := w.next.Unfilled[c.table.ID]
	// Mostly it stays where it is.
	entity := c.entityOf(r.New)
	w.place = w.place[:0]
	if entity.Kind != change.Unchanged {
		if w.place, err = c.appendPlace(w.place, entity, w.key); err != nil {
			return err
		}
	}
	had, err := w.oldPlaceOf(c, moved || gaps.Rows, w.place)
	if err != nil {
		return err
	}
	switch {
	case entity.Kind != change.Unchanged:
	case r.OldFull:
		w.place, err = c.appendPlace(w.place[:0], c.entityOf(r.Old), w.key)
	case had && w.oldPlace[0] == noKind:
		w.place = appendNowhere(w.place[:0], c.table.ID, w.key)
	case had || c.direct && gaps.Rows:
		w.place = append(w.place[:0], w.oldPlace...)
	case gaps.Rows: // until the refill brings the entity
		w.place = appendNowhere(w.place[:0], c.table.ID, w.key)
	default:
		err = w.unresolved(c, c.by)
	}
	if err != nil {
		return err
	}
	// The old row is read before anything is written: its memory is borrowed.
	old, err := w.oldRow(c, had, gaps, !moved && bytes.Equal(w.place, w.oldPlace))
	if err != nil {
		return err
	}
	if err := w.encode(c, old); err != nil {
		return err
	}
	if moved && unfilled && c.lacks(w.cells) {
		gaps.Again = c.t.Version
		w.next.mark(c.table.ID, &gaps)
	}
	if !had {
		w.next.count(c.table.ID, 1)
	}
	if moved && !had {
		if err := w.unknown(c); err != nil {
			return err
		}
	}
	if had && (moved || !bytes.Equal(w.place, w.oldPlace)) {
		if err := w.bury(c, w.oldKey, w.oldPlace, moved, flagDeleted|flagMoved); err != nil {
			return err
		}
	}
	if moved && gaps.Rows {
		replaced, err := w.vacate(c)
		if err != nil {
			return err
		}
		if replaced {
			w.next.count(c.table.ID, -1)
		}
	}
	if moved || !had || !bytes.Equal(w.place, w.oldPlace) {
		w.flags |= flagArrived
		if err := w.locate(c, w.key, w.place); err != nil {
			return err
		}
	}
	return w.storeEncoded(c)
}

// remove writes a tombstone where the row lies.
func (w *writer) remove(c *work) error {
	if !c.identity {
		return &RelationError{Table: c.table.Name, Column: c.uncovered, What: "is part of the key and not of the replica identity, so that a deleted row has no name", Position: c.position()}
	}
	var err error
	if w.oldKey, err = c.appendKey(w.oldKey[:0], c.r.Old, nil); err != nil {
		return err
	}
	had, err := w.heldPlace(c, nil)
	if err != nil {
		return err
	}
	if !had {
		return w.unknown(c)
	}
	w.next.count(c.table.ID, -1)
	return w.bury(c, w.oldKey, w.oldPlace, true, flagDeleted)
}

// unknown counts the removal of a key that the store does not hold. It leaves a
// tombstone, so that a refill which read the row before does not bring it back;
// where the place of a row is not known, that of its locator says it.
func (w *writer) unknown(c *work) error {
	w.next.Counters.UnknownDeletes++
	if !c.direct {
		return w.putLocator(c, w.oldKey, nil, flagDeleted)
	}
	return w.bury(c, w.oldKey, w.oldPlace, true, flagDeleted)
}

// bury writes a tombstone for a row, and for its locator if the key is gone too.
// flags say whether the row moved.
func (w *writer) bury(c *work, key, place []byte, keyGone bool, flags byte) error {
	if keyGone {
		if err := w.putLocator(c, key, nil, flagDeleted); err != nil {
			return err
		}
	}
	w.rowPrefix = appendRowPrefix(w.rowPrefix[:0], place, c.table.ID, key)
	n := len(w.rowPrefix)
	w.rowPrefix = appendSuffix(w.rowPrefix, c.t.Version, c.r.Ordinal)
	return w.put(w.rowPrefix, nil, flags, n)
}

// locate writes the locator of a row.
func (w *writer) locate(c *work, key, place []byte) error {
	return w.putLocator(c, key, place, 0)
}

func (w *writer) putLocator(c *work, key, place []byte, flags byte) error {
	if c.direct {
		return nil
	}
	w.locator = appendLocatorPrefix(w.locator[:0], c.table.ID, key)
	n := len(w.locator)
	w.places.set(w.locator, place)
	w.locator = appendSuffix(w.locator, c.t.Version, c.r.Ordinal)
	return w.put(w.locator, place, flags, n)
}
