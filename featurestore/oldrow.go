package featurestore

import (
	"bytes"
	"errors"

	"dreamfeed/internal/change"
	"dreamfeed/internal/row"
)

// heldPlace finds where the row with the key w.oldKey lies, in w.oldPlace; had
// says that the store holds it. Where a place follows from the key it is in
// w.oldPlace either way. guess is where it probably lies, nil if nobody knows.
func (w *writer) heldPlace(c *work, guess []byte) (had bool, err error) {
	if !c.direct {
		return w.findPlace(c, w.oldKey, guess)
	}
	if w.oldPlace, err = w.directPlace(c, w.oldPlace[:0], w.oldKey); err != nil {
		return false, err
	}
	_, had, err = w.held(c, w.oldPlace, w.oldKey, false)
	return had, err
}

// oldPlaceOf finds where the old row of an update lies, in w.oldPlace; had says
// that the store held it. A row whose place follows from its key is taken to
// be held, unless that is in doubt: its key changed, or rows may be missing.
func (w *writer) oldPlaceOf(c *work, doubt bool, guess []byte) (had bool, err error) {
	if c.direct && !doubt {
		w.oldPlace, err = w.directPlace(c, w.oldPlace[:0], w.oldKey)
		return true, err
	}
	return w.heldPlace(c, guess)
}

// directPlace appends the place of a row that follows from its key.
func (w *writer) directPlace(c *work, dst, key []byte) ([]byte, error) {
	if c.byKey < 0 {
		return appendNowhere(dst, c.table.ID, key), nil
	}
	for range c.byKey {
		key = key[skipID(key):]
	}
	return append(append(dst, c.kind), key[:skipID(key)]...), nil
}

// findPlace reads the locator of a key into w.oldPlace.
func (w *writer) findPlace(c *work, key, guess []byte) (bool, error) {
	w.locator = appendLocatorPrefix(w.locator[:0], c.table.ID, key)
	if len(guess) > 0 && w.places.holds(w.locator, guess) {
		w.oldPlace = append(w.oldPlace[:0], guess...)
		return true, nil
	}
	got, ok, err := w.lookup(w.locator, c.t.Version, c.r.Ordinal, true)
	if err != nil || !ok || got.flags&flagDeleted != 0 ||
		w.truncated(c.table.ID, got.version, got.ordinal, c.t.Version, c.r.Ordinal) {
		return false, err
	}
	if skipPlace(got.value) != len(got.value) {
		return false, &CorruptError{What: "a locator", Key: w.locator}
	}
	w.oldPlace = append(w.oldPlace[:0], got.value...)
	w.places.set(w.locator, w.oldPlace)
	return true, nil
}

// held returns the newest version of a row if it is there and not deleted.
func (w *writer) held(c *work, place, key []byte, withValue bool) (stored, bool, error) {
	w.rowPrefix = appendRowPrefix(w.rowPrefix[:0], place, c.table.ID, key)
	got, ok, err := w.lookup(w.rowPrefix, c.t.Version, c.r.Ordinal, withValue)
	if err != nil || !ok || got.flags&flagDeleted != 0 ||
		w.truncated(c.table.ID, got.version, got.ordinal, c.t.Version, c.r.Ordinal) {
		return stored{}, false, err
	}
	return got, true, nil
}

// oldRow reads the old row if the update left values out that it must supply.
// While rows of the table may be missing or out of date such a value counts as
// not captured: the refill will bring it.
// A row that stays where it is carries such values, unless it is written in full.
func (w *writer) oldRow(c *work, had bool, gaps unfilled, stays bool) ([]row.Cell, error) {
	if c.r.OldFull {
		return nil, nil
	}
	missing := -1
	for _, i := range c.source {
		if i >= 0 && c.r.New[i].Kind == change.Unchanged {
			missing = i
			break
		}
	}
	if missing < 0 {
		return nil, nil
	}
	if stays && had && !gaps.Rows && !writtenInFull(c.t.Version, c.r.Ordinal) {
		// Where a locator leads there is a row; a place that follows from the key
		// says nothing.
		if c.direct {
			var err error
			if _, had, err = w.held(c, w.oldPlace, w.oldKey, false); err != nil {
				return nil, err
			}
		}
		if !had {
			return nil, w.unresolved(c, missing)
		}
		return w.carried(c), nil
	}
	var got stored
	if had {
		var err error
		if got, had, err = w.held(c, w.oldPlace, w.oldKey, true); err != nil {
			return nil, err
		}
	}
	switch {
	case gaps.Rows && (!had || got.version <= gaps.Since):
		w.before = w.before[:0]
		for range c.source {
			w.before = append(w.before, row.Cell{})
		}
		return w.before, nil
	case !had:
		return nil, w.unresolved(c, missing)
	}
	return w.before, w.decodeBefore(c, got)
}

// lacks says whether a cell that the definition names was not captured.
func (c *work) lacks(cells []row.Cell) bool {
	for slot, i := range c.source {
		if i >= 0 && cells[slot].Kind == row.NotCaptured {
			return true
		}
	}
	return false
}

func (w *writer) unresolved(c *work, column int) error {
	return &UnresolvedError{Table: c.table.Name, Column: c.columns[column].Name, KeyHash: hashKey(w.oldKey), Position: c.position()}
}

// decodeBefore decodes a stored row into w.before, one cell a slot. They borrow
// the row's memory.
func (w *writer) decodeBefore(c *work, old stored) error {
	var err error
	if w.before, err = decodeStored(old.flags, old.version, old.value, w.before[:0]); err != nil {
		return errors.Join(&CorruptError{What: "a row", Key: bytes.Clone(w.rowPrefix)}, err)
	}
	if old.flags&flagCarries != 0 {
		if err := w.complete(old); err != nil {
			return err
		}
	}
	for len(w.before) < len(c.source) { // columns that came later: not captured
		w.before = append(w.before, row.Cell{})
	}
	return nil
}
