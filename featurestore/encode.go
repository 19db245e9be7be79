package featurestore

import (
	"encoding/binary"
	"fmt"

	"dreamfeed/internal/change"
	"dreamfeed/internal/row"
)

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
	w.parser.Reset()
	size, carries := 0, false
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
			w.cells = append(w.cells, w.parser.Parse(c.columns[i].Type, v.Text))
		case v.Kind == change.Unchanged && old != nil:
			size += len(old[slot].Bytes)
			w.cells = append(w.cells, old[slot])
			carries = carries || old[slot].Kind == row.Carried
		case v.Kind == change.Unchanged:
			return w.unresolved(c, i)
		default:
			return c.fault(fmt.Sprintf("column %s has a value of the unknown kind %q", c.columns[i].Name, v.Kind))
		}
	}
	if err := w.seal(c, size); err != nil {
		return err
	}
	if carries {
		w.flags |= flagCarries
	}
	return nil
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
	if c.t.Kind != change.Live && !backfilled {
		flags |= flagArrived
	}
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
