package featurestore

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"dreamfeed/internal/change"
	"dreamfeed/internal/row"
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
	w.next.Counters.Changes++
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

// vacate buries the row that an insert replaces, if it lies elsewhere: the
// store may hold one whose removal it did not see.
func (w *writer) vacate(c *work) (had bool, err error) {
	w.oldKey = append(w.oldKey[:0], w.key...)
	if had, err = w.heldPlace(c); err != nil || !had || bytes.Equal(w.place, w.oldPlace) {
		return had, err
	}
	return true, w.bury(c, w.key, w.oldPlace, false, flagDeleted|flagMoved)
}

// heldPlace finds where the row with the key w.oldKey lies, in w.oldPlace; had
// says that the store holds it. Where a place follows from the key it is in
// w.oldPlace either way.
func (w *writer) heldPlace(c *work) (had bool, err error) {
	if !c.direct {
		return w.findPlace(c, w.oldKey)
	}
	if w.oldPlace, err = w.directPlace(c, w.oldPlace[:0], w.oldKey); err != nil {
		return false, err
	}
	_, had, err = w.held(c, w.oldPlace, w.oldKey, false)
	return had, err
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
	had, err := w.oldPlaceOf(c, moved || gaps.Rows)
	if err != nil {
		return err
	}
	switch v := c.entityOf(r.New); {
	case v.Kind != change.Unchanged:
		w.place, err = c.appendPlace(w.place[:0], v, w.key)
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
	old, err := w.oldRow(c, had, gaps)
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
	if moved || !had || !bytes.Equal(w.place, w.oldPlace) {
		if err := w.locate(c, w.key, w.place); err != nil {
			return err
		}
	}
	return w.storeEncoded(c)
}

// oldPlaceOf finds where the old row of an update lies, in w.oldPlace; had says
// that the store held it. A row whose place follows from its key is taken to
// be held, unless that is in doubt: its key changed, or rows may be missing.
func (w *writer) oldPlaceOf(c *work, doubt bool) (had bool, err error) {
	if c.direct && !doubt {
		w.oldPlace, err = w.directPlace(c, w.oldPlace[:0], w.oldKey)
		return true, err
	}
	return w.heldPlace(c)
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
func (w *writer) findPlace(c *work, key []byte) (bool, error) {
	w.locator = appendLocatorPrefix(w.locator[:0], c.table.ID, key)
	if place, ok := w.places.get(w.locator); ok {
		w.oldPlace = append(w.oldPlace[:0], place...)
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
func (w *writer) oldRow(c *work, had bool, gaps unfilled) ([]row.Cell, error) {
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

// remove writes a tombstone where the row lies.
func (w *writer) remove(c *work) error {
	if !c.identity {
		return &RelationError{Table: c.table.Name, Column: c.uncovered, What: "is part of the key and not of the replica identity, so that a deleted row has no name", Position: c.position()}
	}
	var err error
	if w.oldKey, err = c.appendKey(w.oldKey[:0], c.r.Old, nil); err != nil {
		return err
	}
	had, err := w.heldPlace(c)
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

// store encodes the new row and writes it at w.place.
func (w *writer) store(c *work, old []row.Cell) error {
	if err := w.encode(c, old); err != nil {
		return err
	}
	return w.storeEncoded(c)
}

// encode puts the new row's stored value in w.value. Unchanged values come from
// the old row, or from what the source sent of it.
func (w *writer) encode(c *work, old []row.Cell) error {
	w.cells = w.cells[:0]
	size := 0
	for slot, i := range c.source {
		if i < 0 {
			w.cells = append(w.cells, row.Cell{})
			continue
		}
		v := c.r.New[i]
		if v.Kind == change.Unchanged && old == nil && c.r.OldFull {
			v = c.r.Old[i]
		}
		switch {
		case v.Kind == change.Null:
			w.cells = append(w.cells, row.Cell{Kind: row.Null})
		case v.Kind == change.Text:
			size += len(v.Text)
			w.cells = append(w.cells, row.Parse(c.columns[i].Type, v.Text))
		case v.Kind == change.Unchanged && old != nil:
			size += len(old[slot].Bytes)
			w.cells = append(w.cells, old[slot])
		case v.Kind == change.Unchanged:
			return w.unresolved(c, i)
		default:
			return c.fault(fmt.Sprintf("column %s has a value of the unknown kind %q", c.columns[i].Name, v.Kind))
		}
	}
	return w.seal(c, size)
}

// seal puts w.cells, whose texts take size bytes, in w.value, with their known
// time (DESIGN §6). What the backfill of a new epoch brings changed somewhere in
// the gap before it.
func (w *writer) seal(c *work, size int) error {
	if size > w.s.maxRow {
		return &RowSizeError{Table: c.table.Name, Bytes: size, Limit: w.s.maxRow, Position: c.position()}
	}
	known := int64(c.t.Version)
	backfilled := false
	if c.t.Kind == change.Backfill {
		known = c.known(c.t.Version, c.r.New)
		if g := w.next.openGap(); g != nil {
			known = max(known, int64(g.From)+1)
		} else {
			backfilled = true
		}
	}
	var flags byte
	w.value = w.value[:0]
	w.value, flags = appendKnown(w.value, c.t.Version, known, backfilled)
	w.value = row.Append(w.value, w.cells)
	w.flags = flags
	return nil
}

// storeEncoded writes w.value at w.place under w.key, in pieces if it is large.
func (w *writer) storeEncoded(c *work) error {
	w.rowPrefix = appendRowPrefix(w.rowPrefix[:0], w.place, c.table.ID, w.key)
	n := len(w.rowPrefix)
	w.rowPrefix = appendSuffix(w.rowPrefix, c.t.Version, c.r.Ordinal)
	value := w.value
	if len(value) <= pieceBytes {
		return w.put(w.rowPrefix, value, w.flags, n)
	}
	w.taken = binary.AppendUvarint(w.taken[:0], uint64(len(value)))
	w.taken = appendPiece(w.taken, value[:pieceBytes])
	if err := w.put(w.rowPrefix, w.taken, w.flags|flagPieces, n); err != nil {
		return err
	}
	head := len(w.rowPrefix)
	for piece := uint32(1); int(piece)*pieceBytes < len(value); piece++ {
		from := int(piece) * pieceBytes
		w.rowPrefix = binary.BigEndian.AppendUint32(w.rowPrefix[:head], piece)
		w.taken = appendPiece(w.taken[:0], value[from:min(from+pieceBytes, len(value))])
		if err := w.put(w.rowPrefix, w.taken, 0, 0); err != nil {
			return err
		}
	}
	return nil
}
