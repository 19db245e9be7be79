package featurestore

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// A batch of removals is one transaction. It is small, for the groups of changes
// wait for it.
const (
	removalEntries = 4096
	removalBytes   = 512 << 10
)

// removal gathers keys to remove. They go to disk in the order in which they
// are added, batch by batch.
type removal struct {
	p     *pass
	arena []byte
	ends  []int
	bytes uint64 // of the keys and values
	rows  uint64 // versions of rows among them
}

// add removes a key whose value takes so many bytes. It copies the key.
func (r *removal) add(key []byte, value int64) error {
	if n := len(r.ends); n > 0 && (n >= min(removalEntries, r.p.s.groupEntries) || len(r.arena)+len(key)+n*entryOverhead > int(min(removalBytes, r.p.s.groupBytes))) {
		if err := r.commit(); err != nil {
			return err
		}
	}
	r.arena = append(r.arena, key...)
	r.ends = append(r.ends, len(r.arena))
	r.bytes += uint64(len(key)) + uint64(max(value, 0))
	return nil
}

// commit removes what was gathered.
func (r *removal) commit() error {
	if len(r.ends) == 0 {
		return r.p.check()
	}
	if err := r.p.awaitRoom(); err != nil {
		return err
	}
	s := r.p.s
	s.turn.Lock()
	defer s.turn.Unlock()
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	from := 0
	for _, to := range r.ends {
		if err := txn.Delete(r.arena[from:to:to]); err != nil {
			return fmt.Errorf("remove %d keys of %d bytes: %w", len(r.ends), len(r.arena), err)
		}
		from = to
	}
	if err := s.hook.Before(durable.Sweep); err != nil {
		return fmt.Errorf("remove %d keys: %w", len(r.ends), err)
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("remove %d keys of %d bytes: %w", len(r.ends), len(r.arena), err)
	}
	r.p.swept.Versions += r.rows
	r.p.swept.Bytes += r.bytes
	s.meters.sweptVersions.Add(r.rows)
	s.meters.sweptBytes.Add(r.bytes)
	s.sweptSince += r.bytes
	r.arena, r.ends, r.bytes, r.rows = r.arena[:0], r.ends[:0], 0, 0
	return nil
}

// line is the row (or locator) that a pass is at. Of a row with millions of
// versions no more is held than this.
type line struct {
	prefix []byte // its key without version
	table  uint16
	// based says that the version that holds at the floor was met, carried that the
	// one met last carries values of the next.
	based, carried bool
	// head is the version met last, gone says that it was removed: its pieces
	// share its fate.
	head []byte
	gone bool
	// last is the tombstone that goes when everything older of its row is gone
	// from disk, or stands before it in the same batch: nothing that it hides
	// comes to light.
	last []byte
}

// keySpace removes what is superseded at the floor of all rows, or all locators.
func (p *pass) keySpace(prefix byte) error {
	keys := &walk{db: p.s.db, prefix: []byte{prefix}, check: p.check}
	keys.begin(keys.prefix)
	defer keys.close()
	l := new(line)
	for key := keys.key(); key != nil; key = keys.key() {
		n := len(l.prefix)
		if n == 0 || len(key) != n+suffixSize && len(key) != n+suffixSize+pieceSize || !bytes.Equal(key[:n], l.prefix) {
			if err := p.end(l); err != nil {
				return err
			}
			if err := p.start(l, key); err != nil {
				return err
			}
		}
		if err := p.weigh(l, keys.it.Item(), key); err != nil {
			return err
		}
		keys.next()
	}
	if keys.err != nil {
		return keys.err
	}
	return p.end(l)
}

// start begins the line of a key.
func (p *pass) start(l *line, key []byte) error {
	*l = line{prefix: l.prefix[:0], head: l.head[:0], last: l.last[:0]}
	if key[0] == prefixRow {
		k, ok := parseRowKey(key, p.s.catalog.keyParts)
		if !ok {
			return &CorruptError{What: "a row key", Key: bytes.Clone(key)}
		}
		l.prefix, l.table = append(l.prefix, k.prefix...), k.table
		return nil
	}
	n, table := locatorSize(key, p.s.catalog.keyParts)
	if n < 0 {
		return &CorruptError{What: "a locator", Key: bytes.Clone(key)}
	}
	l.prefix, l.table = append(l.prefix, key[:n]...), table
	return nil
}

// locatorSize is the size of a locator's key without version, −1 if it is none.
func locatorSize(key []byte, parts func(table uint16) int) (n int, table uint16) {
	if n = 3; len(key) < n {
		return -1, 0
	}
	table = binary.BigEndian.Uint16(key[1:])
	count := parts(table)
	for range count {
		size := skipID(key[n:])
		if size < 0 {
			return -1, 0
		}
		n += size
	}
	if count == 0 || len(key) != n+suffixSize {
		return -1, 0
	}
	return n, table
}

// weigh decides on a key of the line, of which newer ones come first.
func (p *pass) weigh(l *line, item *badger.Item, key []byte) error {
	n := len(l.prefix) + suffixSize
	if len(key) > n { // a piece; one whose head is not there was left by a pass cut short
		if l.gone || !bytes.Equal(l.head, key[:n]) {
			return p.batch.add(key, item.ValueSize())
		}
		return nil
	}
	v, o := suffix(key)
	deleted := item.UserMeta()&flagDeleted != 0
	l.head, l.gone = append(l.head[:0], key...), false
	_, void := p.voids[v]
	carries := item.UserMeta()&flagCarries != 0
	switch {
	case void:
		_, l.gone = p.closed[v]
		carries = l.carried // it is between a version and what that carries
	case v > p.floor:
	case !l.based:
		l.based = true
		switch {
		case deleted && v <= p.buried:
			l.last = append(l.last[:0], key...)
		case !deleted:
			l.gone = p.truncated(l.table, v, o)
		}
	case l.carried:
	default:
		// A superseded tombstone tells a refill that the row which it read was
		// another one.
		l.gone = !deleted || v <= p.buried
	}
	if !l.gone {
		l.carried = carries
		return nil
	}
	if err := p.batch.add(key, item.ValueSize()); err != nil {
		return err
	}
	if key[0] == prefixRow {
		p.batch.rows++
	}
	return nil
}

// truncated says whether a table was truncated after (v, o), at or below the floor.
func (p *pass) truncated(table uint16, v change.Version, o uint32) bool {
	marks := p.marks[table]
	return len(marks) > 0 && marks[0].newerThan(v, o)
}

// end ends a line: its tombstone goes last.
func (p *pass) end(l *line) error {
	if len(l.last) == 0 {
		return nil
	}
	if err := p.batch.add(l.last, 0); err != nil {
		return err
	}
	if l.last[0] == prefixRow {
		p.batch.rows++
	}
	l.last = l.last[:0]
	return nil
}
