package featurestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

// stored is an older version of a row or locator. value borrows the writer's
// memory until the next lookup or put.
type stored struct {
	version change.Version
	ordinal uint32
	flags   byte
	value   []byte
}

var errSettle = errors.New("the value is spread over groups")

// lookup returns the newest version under a prefix strictly before (v, o),
// abandoned ones left out; ok is false if there is none.
func (w *writer) lookup(prefix []byte, v change.Version, o uint32, withValue bool) (stored, bool, error) {
	got, ok, err := w.lookupOnce(prefix, v, o, withValue)
	if errors.Is(err, errSettle) {
		if err := w.settle(); err != nil {
			return stored{}, false, err
		}
		got, ok, err = w.lookupOnce(prefix, v, o, withValue)
	}
	return got, ok, err
}

func (w *writer) lookupOnce(prefix []byte, v change.Version, o uint32, withValue bool) (stored, bool, error) {
	w.s.meters.lookups.Add(1)
	skip := func(ev change.Version, eo uint32) bool {
		if ev > v || ev == v && eo >= o {
			return true
		}
		_, void := w.voids[ev]
		return void
	}
	for _, g := range [...]*group{w.current, w.flying} {
		if g == nil {
			continue
		}
		if e := g.find(prefix, skip); e != nil {
			if e.flags&flagPieces != 0 && withValue {
				return stored{}, false, errSettle
			}
			ev, eo := suffix(g.bytes(e.key))
			return stored{ev, eo, e.flags, g.bytes(e.value)}, true, nil
		}
	}
	if w.it == nil {
		w.it = w.txn.NewIterator(badger.IteratorOptions{})
	}
	// Who goes back through a row (complete) finds the iterator at its last step: the
	// next is beside it, where a seek looks into every table of level 0.
	w.seek = appendSuffix(append(w.seek[:0], prefix...), v, o)
	if !w.it.Valid() || !bytes.Equal(w.it.Item().Key(), w.seek) {
		w.it.Seek(w.seek)
	}
	for ; w.it.ValidForPrefix(prefix); w.it.Next() {
		item := w.it.Item()
		key := item.Key()
		if len(key) != len(prefix)+suffixSize {
			continue // a piece of a value
		}
		ev, eo := suffix(key)
		if skip(ev, eo) {
			continue
		}
		got := stored{version: ev, ordinal: eo, flags: item.UserMeta()}
		if withValue && got.flags&flagDeleted == 0 {
			var err error
			if w.taken, err = readValue(w.it, w.taken[:0]); err != nil {
				var corrupt *CorruptError
				if w.flying != nil && errors.As(err, &corrupt) {
					err = errSettle // its last pieces are being written
				}
				return stored{}, false, err
			}
			got.value = w.taken
		}
		return got, true, nil
	}
	return stored{}, false, nil
}

// readValue appends the value of the iterator's item, put together from its
// pieces if it is split; the iterator is left at its last piece.
func readValue(it *badger.Iterator, dst []byte) ([]byte, error) {
	item := it.Item()
	split := item.UserMeta()&flagPieces != 0
	if !split {
		err := item.Value(func(v []byte) error { dst = append(dst, v...); return nil })
		if err != nil {
			return dst, fmt.Errorf("read a row: %w", err)
		}
		return dst, nil
	}
	head := item.KeyCopy(nil)
	corrupt := &CorruptError{What: "a split row", Key: head}
	start := len(dst)
	var size uint64
	err := item.Value(func(v []byte) error {
		var n int
		if size, n = binary.Uvarint(v); n <= 0 {
			return corrupt
		}
		var ok bool
		if dst, ok = expandPiece(dst, v[n:]); !ok {
			return corrupt
		}
		return nil
	})
	for piece := uint32(1); err == nil && uint64(len(dst)-start) < size; piece++ {
		it.Next()
		if !it.ValidForPrefix(head) {
			return dst, corrupt
		}
		key := it.Item().Key()
		if len(key) != len(head)+pieceSize || binary.BigEndian.Uint32(key[len(head):]) != piece {
			return dst, corrupt
		}
		err = it.Item().Value(func(v []byte) error {
			var ok bool
			if dst, ok = expandPiece(dst, v); !ok {
				return corrupt
			}
			return nil
		})
	}
	if err != nil {
		return dst, fmt.Errorf("read a row: %w", err)
	}
	if uint64(len(dst)-start) != size {
		return dst, corrupt
	}
	return dst, nil
}

// truncated says whether a table was truncated after (v, o) and before (now, at).
func (w *writer) truncated(table uint16, v change.Version, o uint32, now change.Version, at uint32) bool {
	for _, m := range w.marks[table] {
		if m.newerThan(now, at) || m == (mark{now, at}) {
			continue
		}
		return m.newerThan(v, o)
	}
	return false
}
