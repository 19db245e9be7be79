package featurestore

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// A scan begins a new Badger transaction after so much time or so many bytes,
// so that no old files are kept for it.
const (
	reopenAfter = time.Second
	reopenBytes = 64 << 20
)

// keepArena is the largest arena that is kept from one entity to the next, keepScanner
// that from one scan to the next.
const (
	keepArena   = 16 << 20
	keepScanner = 256 << 10
)

// scanner gathers the rows of one entity after the other. All its memory is
// reused; what it hands out is valid until the callback returns.
type scanner struct {
	v    *View
	txn  *badger.Txn
	it   *badger.Iterator
	kind byte
	// latest says that only the newest version of each row counts, and no row
	// that is gone.
	latest bool
	// common is the prefix of all keys read: Badger passes over the tables of its
	// own that do not have it.
	common []byte

	entity history.Entity
	arena  []byte // keys and values of the entity
	// versions of all rows of the entity; rows hold pieces of it.
	versions []history.Version
	first    int // index in versions of the row being gathered
	carrying carrying

	prefix      []byte           // key of the row being gathered, without version; empty: none
	seen        [suffixSize]byte // version of the row that was met last, zero for none
	placeSize   int
	table       uint16
	marks       []mark // truncations of the table
	keyAt       int    // where the key begins in prefix
	begun       time.Time
	read, total int // bytes since the transaction began, and entities since the clock was read
}

// scanners are those of scans that ended, for their memory: where features are served
// an entity is read thousands of times a second (BenchmarkEntity).
var scanners = sync.Pool{New: func() any { return new(scanner) }}

// release gives the scanner's memory to the next scan, unless there is much of it.
func (c *scanner) release() {
	if cap(c.arena) > keepScanner {
		return
	}
	*c = scanner{
		arena: c.arena[:0], versions: c.versions[:0], prefix: c.prefix[:0],
		entity:   history.Entity{Rows: c.entity.Rows[:0]},
		carrying: carrying{at: c.carrying.at[:0], cells: c.carrying.cells[:0], before: c.carrying.before[:0]},
	}
	scanners.Put(c)
}

// scan reads a range of keys that all have the prefix.
func (v *View) scan(ctx context.Context, kind byte, prefix []byte, r history.Range, latest bool, fn func(*history.Entity) error) error {
	if len(r.From) < 2 || r.From[0] != prefixRow || r.From[1] != kind {
		return fmt.Errorf("scan: the range was not made for this kind of entity")
	}
	c := scanners.Get().(*scanner)
	c.v, c.kind, c.latest, c.common, c.begun = v, kind, latest, prefix, time.Now()
	c.txn, c.it = v.newTransaction(prefix)
	defer func() {
		c.it.Close()
		c.txn.Discard()
		c.release()
	}()
	c.it.Seek(r.From)
	return c.run(ctx, r, fn)
}

func (c *scanner) run(ctx context.Context, r history.Range, fn func(*history.Entity) error) error {
	for c.it.Valid() {
		item := c.it.Item()
		key := item.Key()
		if key[0] != prefixRow || key[1] != c.kind || r.To != nil && bytes.Compare(key, r.To) >= 0 {
			break
		}
		// Most keys are of the row before: the same bytes up to the version.
		if n := len(c.prefix); n == 0 || len(key) != n+suffixSize || !bytes.Equal(key[:n], c.prefix) {
			if n > 0 && len(key) == n+suffixSize+pieceSize && bytes.Equal(key[:n], c.prefix) {
				c.it.Next() // a piece of a version that the view does not show
				continue
			}
			ended, err := c.turn(key, fn)
			if err != nil {
				return err
			}
			if ended {
				if item, err = c.rest(ctx, item); err != nil {
					return err
				}
				if item == nil {
					continue
				}
			}
			if len(key) != len(c.prefix)+suffixSize { // a piece whose version is being removed
				c.it.Next()
				continue
			}
		}
		// Of a key that was written twice (with the same bytes, or removed since)
		// the newest counts.
		if version := key[len(key)-suffixSize:]; string(version) != string(c.seen[:]) {
			copy(c.seen[:], version)
			if !item.IsDeletedOrExpired() {
				if err := c.version(item); err != nil {
					return err
				}
			}
		}
		c.it.Next()
	}
	_, err := c.hand(fn)
	return err
}

// turn ends the row being gathered and begins that of key; ended says that an
// entity was ended too.
func (c *scanner) turn(key []byte, fn func(*history.Entity) error) (ended bool, err error) {
	k, ok := parseRowKey(key, c.v.s.catalog.keyParts)
	if !ok {
		return false, &CorruptError{What: "a row key", Key: bytes.Clone(key)}
	}
	same := len(c.prefix) > 0 && c.kind != noKind &&
		len(k.place) == c.placeSize && bytes.Equal(k.place, c.prefix[1:1+c.placeSize])
	if same {
		err = c.endRow()
	} else {
		ended, err = c.hand(fn)
	}
	if err != nil {
		return false, err
	}
	c.prefix = append(c.prefix[:0], k.prefix...)
	c.placeSize, c.table, c.keyAt = len(k.place), k.table, 1+len(k.place)+2
	c.marks, c.seen = c.v.marks[k.table], [suffixSize]byte{}
	c.first = len(c.versions)
	return ended, nil
}

// rest looks up from the work between two entities: whether to go on at all,
// and whether with a new transaction. It returns nil when the item at hand was
// replaced, after it has moved to the same key again.
func (c *scanner) rest(ctx context.Context, item *badger.Item) (*badger.Item, error) {
	c.total++
	if c.total < 64 && c.read < c.v.reopenBytes {
		return item, nil
	}
	c.total = 0
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-c.v.s.closing:
		return nil, ErrClosed
	default:
	}
	if c.read < c.v.reopenBytes && time.Since(c.begun) < reopenAfter {
		return item, nil
	}
	if err := c.v.renew(); err != nil {
		return nil, err
	}
	next := item.KeyCopy(nil)
	c.it.Close()
	c.txn.Discard()
	c.txn, c.it = c.v.newTransaction(c.common)
	c.begun, c.read = time.Now(), 0
	c.it.Seek(next)
	return nil, nil
}

// version adds the item's version to the row, if the view shows it.
func (c *scanner) version(item *badger.Item) error {
	v, o := suffix(item.Key()) // turn has seen to it that the key is no piece
	if v > c.v.asOf || c.enough() {
		return nil
	}
	if len(c.v.voids) > 0 {
		if _, void := c.v.voids[v]; void {
			return nil
		}
	}
	flags := item.UserMeta()
	deleted := flags&flagDeleted != 0
	c.truncations(v, o, deleted)
	if c.enough() {
		return nil
	}
	h := history.Version{
		Version: v, Ordinal: o, Known: int64(v), Backfilled: flags&flagBackfilled != 0,
		Deleted: deleted, Moved: flags&flagMoved != 0, Arrived: flags&flagArrived != 0,
	}
	if !deleted {
		value, err := c.value(item)
		if err != nil {
			return err
		}
		var ok bool
		if h.Known, h.Data, ok = splitKnown(value, flags, v); !ok {
			return &CorruptError{What: "a row's known time", Key: bytes.Clone(c.prefix)}
		}
	}
	c.carries(h, flags)
	c.versions = append(c.versions, h)
	return nil
}

// enough says that the row's version is gathered where only the newest counts, and
// all that it carries.
func (c *scanner) enough() bool {
	n := len(c.versions)
	if !c.latest || n == c.first {
		return false
	}
	at := c.carrying.at
	return len(at) == 0 || at[len(at)-1] != n-1
}

// value copies the item's value to the arena.
func (c *scanner) value(item *badger.Item) ([]byte, error) {
	start := len(c.arena)
	var err error
	if item.UserMeta()&flagPieces == 0 {
		err = item.Value(func(v []byte) error {
			c.reserve(len(v))
			start = len(c.arena)
			c.arena = append(c.arena, v...)
			return nil
		})
	} else {
		c.arena, err = c.pieces(item, c.arena)
	}
	if err != nil {
		return nil, fmt.Errorf("read a row: %w", err)
	}
	c.read += len(c.arena) - start
	return c.arena[start:len(c.arena):len(c.arena)], nil
}

// pieces reads a value that is split, through an iterator that shows nothing
// twice. The keys of the pieces come by afterwards, and are passed over.
func (c *scanner) pieces(item *badger.Item, dst []byte) ([]byte, error) {
	it := c.txn.NewIterator(badger.IteratorOptions{Prefix: c.common})
	defer it.Close()
	if it.Seek(item.KeyCopy(nil)); !it.Valid() || !bytes.Equal(it.Item().Key(), item.Key()) {
		return dst, &CorruptError{What: "a split row", Key: item.KeyCopy(nil)}
	}
	return readValue(it, dst)
}

// reserve makes room in the arena without moving what was handed out of it.
func (c *scanner) reserve(n int) {
	if cap(c.arena)-len(c.arena) >= n {
		return
	}
	c.arena = make([]byte, 0, max(2*cap(c.arena), n, 4<<10))
}

// truncations adds a deleted version for the truncation that removed the
// version (v, o): the oldest one after it, if it came before any newer version.
func (c *scanner) truncations(v change.Version, o uint32, deleted bool) {
	marks := c.marks
	if deleted || len(marks) == 0 {
		return
	}
	for i := len(marks) - 1; i >= 0; i-- {
		m := marks[i]
		if !m.newerThan(v, o) {
			continue
		}
		if n := len(c.versions); n > c.first {
			if newer := &c.versions[n-1]; !(mark{newer.Version, newer.Ordinal}).newerThan(m.version, m.ordinal) {
				return
			}
		}
		c.versions = append(c.versions, history.Version{Version: m.version, Ordinal: m.ordinal, Known: int64(m.version), Deleted: true})
		return
	}
}

// endRow adds the row being gathered to the entity, if the view shows any
// version of it.
func (c *scanner) endRow() error {
	if len(c.prefix) == 0 || len(c.versions) == c.first {
		return nil
	}
	if len(c.carrying.at) > 0 {
		if err := c.complete(); err != nil {
			return err
		}
	}
	if c.latest {
		if c.versions[c.first].Deleted {
			c.versions = c.versions[:c.first]
			return nil
		}
		c.versions = c.versions[:c.first+1]
	}
	key := c.prefix[c.keyAt:]
	c.reserve(len(key))
	start := len(c.arena)
	c.arena = append(c.arena, key...)
	c.entity.Rows = append(c.entity.Rows, history.Row{
		Table: c.table, Key: c.arena[start:len(c.arena):len(c.arena)],
		Versions: c.versions[c.first:len(c.versions):len(c.versions)],
	})
	return nil
}

// hand ends the entity being gathered and hands it to fn, if it has any row.
func (c *scanner) hand(fn func(*history.Entity) error) (ended bool, err error) {
	if len(c.prefix) == 0 {
		return false, nil
	}
	if err := c.endRow(); err != nil {
		return false, err
	}
	if len(c.entity.Rows) > 0 {
		c.entity.ID = ""
		if c.kind != noKind {
			c.entity.ID = string(appendIDText(nil, c.prefix[2:1+c.placeSize]))
		}
		if err := fn(&c.entity); err != nil {
			return false, err
		}
	}
	if cap(c.arena) > keepArena {
		c.arena = nil
	}
	c.entity.Rows, c.versions, c.arena = c.entity.Rows[:0], c.versions[:0], c.arena[:0]
	c.first, c.prefix = 0, c.prefix[:0]
	return true, nil
}
