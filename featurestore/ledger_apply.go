package featurestore

import (
	"bytes"

	"dreamfeed/internal/change"
	"dreamfeed/internal/row"
)

// erasing recognises what the ledger names while changes are applied.
type erasing struct {
	ledger *Ledger
	hash   *ledgerHasher
	// places are answers of late, by kind and encoded id. It is begun anew when full.
	places map[string]bool
	id     []byte
}

// maxErasingPlaces bounds the cache of answers: 8 MiB of uuids.
const maxErasingPlaces = 1 << 16

// newErasing is nil where nothing was erased.
func newErasing(l *Ledger) *erasing {
	if l == nil {
		return nil
	}
	if entities, rows := l.Len(); entities+rows == 0 {
		return nil
	}
	return &erasing{ledger: l, hash: l.hasher(), places: map[string]bool{}}
}

// place says whether a place, kind | entity, is that of an erased entity of the
// kind with the name.
func (e *erasing) place(kind string, place []byte) bool {
	if place[0] == noKind {
		return false
	}
	if erased, ok := e.places[string(place)]; ok {
		return erased
	}
	e.id = appendIDText(e.id[:0], place[1:])
	erased := e.ledger.has(e.hash.entity(kind, e.id))
	if len(e.places) >= maxErasingPlaces {
		clear(e.places)
	}
	e.places[string(place)] = erased
	return erased
}

// row says whether an erased entity had a row with the encoded key.
func (e *erasing) row(table string, key []byte) bool { return e.ledger.has(e.hash.row(table, key)) }

// note remembers the key of an erased entity's row.
func (e *erasing) note(table string, key []byte) { e.ledger.note(e.hash.row(table, key)) }

// leaveOut applies a change of an erased entity as the history would have it
// that never held the entity; done says that this is all that is to be done.
//
//   - A row of the entity is not written. Where it was another's before, it ends
//     there.
//   - A row that leaves the entity for another begins there. Values that only
//     its erased versions held are not captured.
//   - A change that names a key and no entity is of an erased one if the store
//     does not hold the row and the key was of one: in the ledger, or met.
func (w *writer) leaveOut(c *work) (done bool, err error) {
	r := c.r
	switch {
	case c.table.Entity == "":
		return false, nil
	case r.Op == change.Insert && r.New != nil:
		if err := w.target(c); err != nil {
			return false, err
		}
		if !w.erasing.place(c.table.Entity, w.place) {
			return false, nil
		}
		w.oldKey = append(w.oldKey[:0], w.key...)
		if c.t.Kind == change.Live && w.next.Unfilled[c.table.ID].Rows {
			if err := w.leave(c); err != nil {
				return false, err
			}
		}
		return w.leftOut(c, w.key)
	case r.Op == change.Update && r.New != nil && c.identity:
		return w.leaveOutUpdate(c)
	case r.Op == change.Delete && r.Old != nil && c.identity:
		if w.oldKey, err = c.appendKey(w.oldKey[:0], r.Old, nil); err != nil {
			return false, err
		}
		if erased, err := w.wasErased(c); err != nil || !erased {
			return false, err
		}
		return w.leftOut(c, w.oldKey)
	}
	return false, nil
}

// leftOut counts a change as left out, and remembers the key of its row.
func (w *writer) leftOut(c *work, key []byte) (bool, error) {
	w.erasing.note(c.table.Name, key)
	w.next.Counters.Erased++
	return true, nil
}

func (w *writer) leaveOutUpdate(c *work) (done bool, err error) {
	r := c.r
	if w.key, err = c.appendKey(w.key[:0], r.New, r.Old); err != nil {
		return false, err
	}
	w.oldKey = append(w.oldKey[:0], w.key...)
	if r.Old != nil {
		if w.oldKey, err = c.appendKey(w.oldKey[:0], r.Old, nil); err != nil {
			return false, err
		}
	}
	to := c.entityOf(r.New)
	if to.Kind == change.Unchanged && r.OldFull {
		to = c.entityOf(r.Old)
	}
	if to.Kind != change.Unchanged {
		if w.place, err = c.appendPlace(w.place[:0], to, w.key); err != nil {
			return false, err
		}
		if w.erasing.place(c.table.Entity, w.place) {
			if err := w.leave(c); err != nil {
				return false, err
			}
			return w.leftOut(c, w.key)
		}
	}
	if erased, err := w.wasErased(c); err != nil || !erased {
		return false, err
	}
	if to.Kind == change.Unchanged {
		return w.leftOut(c, w.key)
	}
	w.before = w.before[:0]
	for range c.source {
		w.before = append(w.before, row.Cell{})
	}
	if r.OldFull {
		w.before = nil
	}
	if err := w.encode(c, w.before); err != nil {
		return false, err
	}
	w.flags |= flagArrived
	w.next.Counters.Changes++
	w.next.count(c.table.ID, 1)
	if err := w.locate(c, w.key, w.place); err != nil {
		return false, err
	}
	return true, w.storeEncoded(c)
}

// wasErased says whether the row with the key w.oldKey was an erased entity's: one
// had the key, and the store does not hold a row of another with it.
func (w *writer) wasErased(c *work) (bool, error) {
	named := w.erasing.row(c.table.Name, w.oldKey)
	if !named && c.r.Old != nil && c.r.OldFull {
		if from := c.entityOf(c.r.Old); from.Kind == change.Text {
			w.oldPlace = appendID(append(w.oldPlace[:0], c.kind), from.Text)
			named = w.erasing.place(c.table.Entity, w.oldPlace)
		}
	}
	if !named && c.direct && c.byKey >= 0 {
		var err error
		if w.oldPlace, err = w.directPlace(c, w.oldPlace[:0], w.oldKey); err != nil {
			return false, err
		}
		named = w.erasing.place(c.table.Entity, w.oldPlace)
	}
	if !named {
		return false, nil
	}
	had, err := w.heldPlace(c, nil)
	return !had, err
}

// leave ends the row with the key w.oldKey where the store holds it: from now on
// it is an erased entity's. Where rows may be missing, a refill that read somebody
// else's before it went over must not bring that either.
func (w *writer) leave(c *work) error {
	had, err := w.heldPlace(c, nil)
	if err != nil {
		return err
	}
	if !had {
		if c.r.Op != change.Update || !w.next.Unfilled[c.table.ID].Rows || w.erasing.row(c.table.Name, w.oldKey) ||
			c.direct && w.erasing.place(c.table.Entity, w.oldPlace) {
			return nil
		}
		return w.unknown(c)
	}
	w.next.count(c.table.ID, -1)
	return w.bury(c, w.oldKey, bytes.Clone(w.oldPlace), true, flagDeleted|flagMoved)
}
