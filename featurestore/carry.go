package featurestore

import (
	"bytes"
	"errors"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// An update leaves out large values that it did not change (unchanged TOAST). The
// version that it makes carries them (row.Carried): they are not read, and not
// written again, but stand in the version before, or further back. Who reads a
// version that carries goes back through the row until nothing is missing.
//
// That is bounded, and a row's history can still be removed from its end, because
// about one version in carrySpan is written in full. Which one follows from its
// place in the history alone, so that applying it again writes the same (I3).
const carrySpan = 16

// writtenInFull says whether the version (v, o) of a row carries nothing. The
// constants are those of the finalizer of SplitMix64 (Steele, Lea and Flood, 2014),
// and part of the format as far as a rebuilt store is to hold the same bytes.
func writtenInFull(v change.Version, o uint32) bool {
	x := uint64(v) + uint64(o)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x^x>>31)%carrySpan == 0
}

// carried returns cells that all carry, for an update of a row that lies where it
// lay before.
func (w *writer) carried(c *work) []row.Cell {
	w.before = w.before[:0]
	for range c.source {
		w.before = append(w.before, row.Cell{Kind: row.Carried})
	}
	return w.before
}

// carryOver puts the cells of the version before into those that carry, and says
// whether some still do.
func carryOver(cells, before []row.Cell) (more bool) {
	for i := range cells {
		if cells[i].Kind != row.Carried {
			continue
		}
		cells[i] = row.Cell{} // a column that came later: not captured
		if i < len(before) {
			cells[i] = before[i]
		}
		more = more || cells[i].Kind == row.Carried
	}
	return more
}

// complete puts what the version at hand carries into w.before, from the versions
// before it under w.rowPrefix.
func (w *writer) complete(old stored) error {
	var older []row.Cell
	for more := true; more; {
		// The next lookup uses the memory that the cells borrow.
		for i := range w.before {
			w.before[i].Bytes = bytes.Clone(w.before[i].Bytes)
		}
		got, ok, err := w.lookup(w.rowPrefix, old.version, old.ordinal, true)
		if err != nil {
			return err
		}
		if !ok || got.flags&flagDeleted != 0 {
			return &CorruptError{What: "a row whose version before is gone", Key: bytes.Clone(w.rowPrefix)}
		}
		if older, err = decodeStored(got.flags, got.version, got.value, older[:0]); err != nil {
			return errors.Join(&CorruptError{What: "a row", Key: bytes.Clone(w.rowPrefix)}, err)
		}
		more = carryOver(w.before, older)
		old = got
	}
	return nil
}

// decodeStored decodes a stored value.
func decodeStored(flags byte, v change.Version, value []byte, cells []row.Cell) ([]row.Cell, error) {
	_, data, ok := splitKnown(value, flags, v)
	if !ok {
		return cells, errors.New("its known time is malformed")
	}
	return row.Decode(data, cells)
}

// carrying gathers what a scan needs to complete the versions of a row that carry.
type carrying struct {
	at            []int // their indices among the scanner's versions
	cells, before []row.Cell
}

// complete gives every version that carries its values. Versions are newest first.
func (c *scanner) complete() error {
	corrupt := func(what string, err error) error {
		return errors.Join(&CorruptError{What: what, Key: bytes.Clone(c.prefix)}, err)
	}
	k := &c.carrying
	whole := -1 // the version that k.before is of
	for n := len(k.at) - 1; n >= 0; n-- {
		at := k.at[n]
		if at+1 == len(c.versions) || c.versions[at+1].Deleted {
			return corrupt("a row whose version before is gone", nil)
		}
		var err error
		if whole != at+1 {
			if k.before, err = row.Decode(c.versions[at+1].Data, k.before[:0]); err != nil {
				return corrupt("a row", err)
			}
		}
		v := &c.versions[at]
		if k.cells, err = row.Decode(v.Data, k.cells[:0]); err != nil {
			return corrupt("a row", err)
		}
		if carryOver(k.cells, k.before) {
			return corrupt("a row that carries more than it says", nil)
		}
		// Carried values take no more than they took in the version before.
		c.reserve(len(v.Data) + len(c.versions[at+1].Data))
		start := len(c.arena)
		c.arena = row.Append(c.arena, k.cells)
		v.Data = c.arena[start:len(c.arena):len(c.arena)]
		k.cells, k.before, whole = k.before, k.cells, at
	}
	k.at = k.at[:0]
	return nil
}

// carries notes whether the version just gathered carries, for latest needs what
// is older then.
func (c *scanner) carries(v history.Version, flags byte) {
	if !v.Deleted && flags&flagCarries != 0 {
		c.carrying.at = append(c.carrying.at, len(c.versions))
	}
}
