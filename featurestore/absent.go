package featurestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

const (
	// walkSteps is after how many keys a walk begins a new transaction, so that no
	// old files are kept for it.
	walkSteps = 1 << 18
	// walkNear is how many keys a walk looks at before it seeks: the next key is
	// some 20 times cheaper than a seek.
	walkNear = 12
	// sweepBatch is how many marks of a refill a group removes, at most.
	sweepBatch = 8192
)

// walk goes through keys that have a prefix, forward only, in a transaction of
// its own that it renews.
type walk struct {
	db     *badger.DB
	prefix []byte
	txn    *badger.Txn
	it     *badger.Iterator
	steps  int
	// check is asked now and then whether to go on.
	check func() error
	err   error
}

func (w *writer) walk(prefix []byte) *walk {
	x := &walk{db: w.s.db, prefix: prefix, check: w.check}
	x.begin(prefix)
	return x
}

func (x *walk) begin(at []byte) {
	x.txn = x.db.NewTransaction(false)
	x.it = x.txn.NewIterator(badger.IteratorOptions{Prefix: x.prefix})
	x.it.Seek(at)
}

func (x *walk) close() {
	x.it.Close()
	x.txn.Discard()
}

// key is the key at hand, nil at the end. It is valid until the walk moves.
func (x *walk) key() []byte {
	if x.err != nil || !x.it.Valid() {
		return nil
	}
	return x.it.Item().Key()
}

func (x *walk) next() {
	if x.steps++; x.steps >= walkSteps {
		x.steps = 0
		if x.err = x.check(); x.err != nil {
			return
		}
		at := append(x.it.Item().KeyCopy(nil), 0)
		x.close()
		x.begin(at)
		return
	}
	x.it.Next()
}

// to moves on to the first key at or after a key; nil is the end.
func (x *walk) to(key []byte) {
	if key == nil {
		key = after(x.prefix)
	}
	for range walkNear {
		at := x.key()
		if at == nil || bytes.Compare(at, key) >= 0 {
			return
		}
		x.next()
	}
	if at := x.key(); at != nil && bytes.Compare(at, key) < 0 {
		x.it.Seek(key)
	}
}

// absence buries the rows that a refill did not find.
type absence struct {
	*writer
	b    *change.Batch
	t    *change.Transaction
	base uint32 // versions at or above (R, base) are of the burying itself
	next uint32 // ordinal of the next tombstone
	left int64  // rows of the table that are there afterwards
}

// buryAbsent writes a tombstone for every row of the refilled tables that is at
// or below its scope's low version and was not found, in the order of keys, at
// the ordinals after that of the last row. It looks at nothing that it writes
// itself: done again, it writes the same.
func (w *writer) buryAbsent(b *change.Batch, t *change.Transaction) error {
	if err := w.settle(); err != nil {
		return err
	}
	a := &absence{writer: w, b: b, t: t, base: w.next.NextOrdinal, next: w.next.NextOrdinal}
	for _, id := range w.next.Scope.Tables {
		table := &w.s.catalog.Tables[id-1]
		m := &mapping{table: table, kind: byte(w.s.catalog.kind(table.Entity)), direct: table.direct()}
		a.left = 0
		var err error
		if m.direct {
			err = a.direct(m)
		} else if err = a.located(m); err == nil {
			err = errors.Join(a.strays(m, m.kind), a.strays(m, noKind))
		}
		if err != nil {
			return fmt.Errorf("end the refill of table %s: %w", table.Name, err)
		}
		w.next.recount(id, a.left)
	}
	return nil
}

// before says whether a version counts: older than the burying, not abandoned.
func (a *absence) before(v change.Version, o uint32) bool {
	if v > a.t.Version || v == a.t.Version && o >= a.base {
		return false
	}
	_, void := a.voids[v]
	return !void
}

// alive says whether a row, or a locator, with the newest version given is there.
func (a *absence) alive(m *mapping, v change.Version, o uint32, flags byte) bool {
	return flags&flagDeleted == 0 && !a.truncated(m.table.ID, v, o, a.t.Version, a.base)
}

// rows calls fn for every row of a table in the key space of an entity kind that
// is there: among those of other tables, entity by entity, passing over what is
// of others. prefix is its key without version, of which the place ends at n.
func (a *absence) rows(m *mapping, kind byte, fn func(prefix []byte, n int, v change.Version) error) error {
	id := m.table.ID
	rows := a.walk([]byte{prefixRow, kind})
	defer rows.close()
	var prefix []byte
	for key := rows.key(); key != nil; key = rows.key() {
		n := skipPlace(key[1:])
		if n < 0 || len(key) < 1+n+2 {
			return &CorruptError{What: "a row key", Key: bytes.Clone(key)}
		}
		n++
		switch table := binary.BigEndian.Uint16(key[n:]); {
		case table < id:
			rows.to(binary.BigEndian.AppendUint16(bytes.Clone(key[:n]), id))
			continue
		case table > id:
			rows.to(after(key[:n]))
			continue
		}
		r, ok := parseRowKey(key, a.s.catalog.keyParts)
		if !ok {
			return &CorruptError{What: "a row key", Key: bytes.Clone(key)}
		}
		prefix = append(prefix[:0], r.prefix...)
		if v, o, flags, ok := a.first(rows, prefix); ok && a.alive(m, v, o, flags) {
			if err := fn(prefix, n, v); err != nil {
				return err
			}
		}
		rows.to(after(prefix))
	}
	return rows.err
}

// direct buries what was not found of a table whose rows lie at a place that
// follows from their key.
func (a *absence) direct(m *mapping) error {
	seen := a.walk(appendSeenPrefix(nil, a.t.Version))
	defer seen.close()
	var mark []byte
	err := a.rows(m, m.kind, func(prefix []byte, n int, v change.Version) error {
		a.left++
		if v > a.writer.next.Scope.Low {
			return nil
		}
		mark = append(appendSeenPrefix(mark[:0], a.t.Version), prefix...)
		if seen.to(mark); bytes.Equal(seen.key(), mark) {
			return nil
		}
		a.left--
		return a.bury(m, prefix[n+2:], prefix[1:n], true)
	})
	return errors.Join(err, seen.err)
}

// strays buries the rows of a table with locators that theirs does not lead to:
// the source took a row away without a word (the TRUNCATE of a partition) and
// brought its key again under another entity.
func (a *absence) strays(m *mapping, kind byte) error {
	var locator []byte
	return a.rows(m, kind, func(prefix []byte, n int, v change.Version) error {
		if v > a.writer.next.Scope.Low {
			return nil
		}
		place, key := prefix[1:n], prefix[n+2:]
		locator = appendLocatorPrefix(locator[:0], m.table.ID, key)
		got, ok, err := a.lookup(locator, a.t.Version, a.base, true)
		if err != nil || ok && got.flags&flagDeleted == 0 && bytes.Equal(got.value, place) {
			return err
		}
		return a.bury(m, key, place, false)
	})
}

// first finds the newest version that counts of the row at hand, which the walk
// may leave behind.
func (a *absence) first(rows *walk, prefix []byte) (v change.Version, o uint32, flags byte, ok bool) {
	for key := rows.key(); key != nil && bytes.HasPrefix(key, prefix); key = rows.key() {
		if len(key) == len(prefix)+suffixSize { // else a piece of a value
			if v, o = suffix(key); a.before(v, o) {
				return v, o, rows.it.Item().UserMeta(), true
			}
		}
		rows.next()
	}
	return 0, 0, 0, false
}

// located walks the locators of a table, which say where its rows lie.
func (a *absence) located(m *mapping) error {
	top := appendLocatorPrefix(nil, m.table.ID, nil)
	locators := a.walk(top)
	defer locators.close()
	seen := a.walk(append(appendSeenPrefix(nil, a.t.Version), top...))
	defer seen.close()
	var prefix, place, mark, rowAt []byte
	for key := locators.key(); key != nil; key = locators.key() {
		n := len(top)
		for range m.table.Key {
			size := skipID(key[n:])
			if size < 0 {
				return &CorruptError{What: "a locator", Key: bytes.Clone(key)}
			}
			n += size
		}
		if len(key) != n+suffixSize {
			return &CorruptError{What: "a locator", Key: bytes.Clone(key)}
		}
		prefix = append(prefix[:0], key[:n]...)
		v, o, flags, ok := a.first(locators, prefix)
		if ok && a.alive(m, v, o, flags) {
			a.left++
		}
		if ok && a.alive(m, v, o, flags) && v <= a.writer.next.Scope.Low {
			mark = append(appendSeenPrefix(mark[:0], a.t.Version), prefix...)
			if seen.to(mark); !bytes.Equal(seen.key(), mark) {
				var err error
				if place, err = locators.it.Item().ValueCopy(place[:0]); err != nil {
					return fmt.Errorf("read a locator: %w", err)
				}
				rowAt = appendRowPrefix(rowAt[:0], place, m.table.ID, prefix[len(top):])
				got, held, err := a.lookup(rowAt, a.t.Version, a.base, false)
				if err != nil {
					return err
				}
				if held && got.version <= a.writer.next.Scope.Low && a.alive(m, got.version, got.ordinal, got.flags) {
					a.left--
					if err := a.bury(m, prefix[len(top):], place, true); err != nil {
						return err
					}
				}
			}
		}
		locators.to(after(prefix))
	}
	return errors.Join(locators.err, seen.err)
}

func (a *absence) bury(m *mapping, key, place []byte, keyGone bool) error {
	if a.next == math.MaxUint32 {
		return fmt.Errorf("the transaction has no ordinal left for its tombstones")
	}
	c := &work{mapping: m, b: a.b, t: a.t, r: &change.Row{Ordinal: a.next}}
	a.next++
	return a.writer.bury(c, key, place, keyGone, flagDeleted)
}

// sweep adds the removal of marks of refills that have ended to the group. What
// says so is what is on disk: a refill that is not complete there comes again
// and needs its marks.
func (w *writer) sweep(g *group) error {
	durable := w.s.published.Load().state
	if !w.sweeping || w.sweepAfter > durable.Last || w.sweepAfter != 0 && w.sweepAfter == durable.OpenVersion {
		return nil
	}
	it := w.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixSeen}})
	defer it.Close()
	if w.sweepFrom == nil {
		w.sweepFrom = []byte{prefixSeen}
	}
	it.Seek(w.sweepFrom)
	for n := 0; it.Valid(); n++ {
		key := it.Item().KeyCopy(nil)
		if len(key) < 9 {
			return &CorruptError{What: "a mark of a refill", Key: key}
		}
		v := change.Version(binary.BigEndian.Uint64(key[1:]))
		w.sweepFrom = key
		if v > durable.Last || v == durable.OpenVersion {
			return nil // marks are in the order of versions: all that follow are of it
		}
		size := int64(len(key) + entryOverhead)
		if n == sweepBatch || w.full(size) {
			return nil
		}
		g.remove(key)
		it.Next()
	}
	w.sweeping, w.sweepFrom = false, nil
	return nil
}
