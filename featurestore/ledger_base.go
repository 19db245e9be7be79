package featurestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

// LeaveOut copies the store in from, which nobody has open, to the directory to,
// which must not exist, without what belongs to the entities of a ledger: not a
// byte of their rows gets there. It returns how many versions of rows it left
// out. Their keys are remembered in the ledger for as long as it is open, so that
// changes which name a key alone are recognised when the copy is opened with it
// (Options.Ledger).
func LeaveOut(ctx context.Context, from, to string, ledger *Ledger, o Options) (versions uint64, err error) {
	o.ReadOnly, o.Definition, o.Ledger = true, nil, nil
	src, err := Open(from, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if err := os.MkdirAll(to, storeDirectory); err != nil {
		return 0, fmt.Errorf("copy the store: %w", err)
	}
	target := &Store{dir: to, log: src.log}
	o.ReadOnly = false
	db, err := badger.Open(target.badgerOptions(o))
	if err != nil {
		return 0, fmt.Errorf("copy the store to %s: %w", to, err)
	}
	defer func() {
		if closed := db.Close(); closed != nil {
			err = errors.Join(err, fmt.Errorf("copy the store to %s: %w", to, closed))
		}
	}()
	p := src.published.Load()
	c := &cleaner{
		erasing: &erasing{ledger: ledger, hash: ledger.hasher(), places: map[string]bool{}},
		ctx:     ctx, src: src, voids: p.voids, state: p.state.clone(), out: db.NewWriteBatch(),
	}
	defer c.out.Cancel()
	if err := c.copy(); err != nil {
		return 0, fmt.Errorf("copy the store without what was erased: %w", err)
	}
	return c.versions, nil
}

// cleaner copies a store and leaves out what belongs to erased entities.
type cleaner struct {
	*erasing
	ctx   context.Context
	src   *Store
	txn   *badger.Txn
	it    *badger.Iterator
	out   *badger.WriteBatch
	voids map[change.Version]struct{}
	marks map[uint16][]mark
	state state

	versions uint64
	// The erased row at hand, newest version first, and the locators at hand.
	rowPrefix, locatorPrefix []byte
	held, located            []heldVersion
}

// heldVersion is a version of a row or locator.
type heldVersion struct {
	version change.Version
	ordinal uint32
	flags   byte
	value   []byte // of a locator
}

func (c *cleaner) copy() (err error) {
	c.txn = c.src.db.NewTransaction(false)
	defer c.txn.Discard()
	if c.marks, err = readMarks(c.txn, c.voids); err != nil {
		return err
	}
	c.it = c.txn.NewIterator(badger.IteratorOptions{})
	defer c.it.Close()
	n := 0
	for c.it.Rewind(); c.it.Valid(); c.it.Next() {
		if n++; n%1024 == 0 && c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		item := c.it.Item()
		key := item.Key()
		var leave bool
		switch key[0] {
		case prefixMeta:
			leave = string(key[1:]) == metaState // written last, with other counts
		case prefixRow:
			leave, err = c.rowKey(key, item.UserMeta())
		case prefixLocator:
			err = c.locators(key)
			leave = true // they are written together
		case prefixSeen:
			leave, err = c.foundMark(key)
		}
		if err != nil {
			return err
		}
		if leave {
			continue
		}
		value, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		if err := c.put(bytes.Clone(key), value, item.UserMeta()); err != nil {
			return err
		}
	}
	c.endRow()
	if err := c.endLocators(); err != nil {
		return err
	}
	data, err := c.state.encode()
	if err != nil {
		return err
	}
	if err := c.put(metaKey(metaState), data, 0); err != nil {
		return err
	}
	return c.out.Flush()
}

func (c *cleaner) put(key, value []byte, flags byte) error {
	return c.out.SetEntry(&badger.Entry{Key: key, Value: value, UserMeta: flags})
}

// entity is the name of a kind's number.
func (c *cleaner) entity(kind byte) string {
	if n := int(kind); n > 0 && n <= len(c.src.catalog.Entities) {
		return c.src.catalog.Entities[n-1]
	}
	return ""
}

func (c *cleaner) isErased(place []byte) bool { return c.place(c.entity(place[0]), place) }

// rowKey says whether a row's key is one of an erased entity, and counts it.
func (c *cleaner) rowKey(key []byte, flags byte) (erased bool, err error) {
	n := skipPlace(key[1:])
	if n < 0 {
		return false, &CorruptError{What: "a row key", Key: bytes.Clone(key)}
	}
	if !c.isErased(key[1 : 1+n]) {
		return false, nil
	}
	k, ok := parseRowKey(key, c.src.catalog.keyParts)
	if !ok {
		return false, &CorruptError{What: "a row key", Key: bytes.Clone(key)}
	}
	if k.piece != 0 {
		return true, nil
	}
	c.versions++
	if !bytes.Equal(k.prefix, c.rowPrefix) {
		c.endRow()
		c.rowPrefix = append(c.rowPrefix[:0], k.prefix...)
		c.note(c.src.catalog.Tables[k.table-1].Name, k.key)
	}
	c.held = append(c.held, heldVersion{version: k.version, ordinal: k.ordinal, flags: flags})
	return true, nil
}

// endRow takes the erased row at hand out of the counts of rows that are there.
func (c *cleaner) endRow() {
	if len(c.held) == 0 {
		return
	}
	k, _ := parseRowKey(appendSuffix(bytes.Clone(c.rowPrefix), 0, 0), c.src.catalog.keyParts)
	alive := func(limit change.Version) int64 {
		for _, v := range c.held { // newest first
			if _, void := c.voids[v.version]; void || v.version > limit {
				continue
			}
			if v.flags&flagDeleted != 0 {
				return 0
			}
			for _, m := range c.marks[k.table] {
				if m.version <= limit && m.newerThan(v.version, v.ordinal) {
					return 0
				}
			}
			return 1
		}
		return 0
	}
	s := &c.state
	before, open := alive(s.Version), alive(max(s.Version, s.OpenVersion))
	if before > 0 && s.Live != nil {
		s.Live[k.table] -= before
	}
	switch {
	case s.OpenVersion == 0:
	case s.Emptied[k.table]:
		s.Open[k.table] -= open
	case open != before:
		s.count(k.table, before-open)
	}
	c.held = c.held[:0]
}

// locators gathers the locators of one row's key, and ends those before.
func (c *cleaner) locators(key []byte) error {
	n := len(key) - suffixSize
	if n < 3 {
		return &CorruptError{What: "a locator", Key: bytes.Clone(key)}
	}
	if !bytes.Equal(key[:n], c.locatorPrefix) {
		if err := c.endLocators(); err != nil {
			return err
		}
		c.locatorPrefix = append(c.locatorPrefix[:0], key[:n]...)
	}
	item := c.it.Item()
	value, err := item.ValueCopy(nil)
	if err != nil {
		return err
	}
	v, o := suffix(key)
	c.located = append(c.located, heldVersion{v, o, item.UserMeta(), value})
	return nil
}

// endLocators writes the locators at hand without those that lead to an erased
// entity. One that took the place of another's is written as its end; the end of
// an erased one goes with it.
func (c *cleaner) endLocators() error {
	if len(c.located) == 0 {
		return nil
	}
	const (
		nothing = iota
		kept
		dropped
	)
	before := nothing
	for i := len(c.located) - 1; i >= 0; i-- { // oldest first
		v := &c.located[i]
		_, void := c.voids[v.version]
		deleted := v.flags&flagDeleted != 0
		erased := false
		if !deleted {
			if skipPlace(v.value) != len(v.value) {
				return &CorruptError{What: "a locator", Key: bytes.Clone(c.locatorPrefix)}
			}
			if erased = c.isErased(v.value); erased {
				table := binary.BigEndian.Uint16(c.locatorPrefix[1:])
				if c.src.catalog.keyParts(table) == 0 {
					return &CorruptError{What: "a locator", Key: bytes.Clone(c.locatorPrefix)}
				}
				c.note(c.src.catalog.Tables[table-1].Name, c.locatorPrefix[3:])
			}
		}
		switch {
		case erased && !void && before == kept:
			v.flags, v.value = flagDeleted, nil
			before = dropped
		case erased, deleted && before == dropped:
			if !void {
				before = dropped
			}
			continue
		case void:
		case deleted:
			before = nothing
		default:
			before = kept
		}
		if err := c.put(appendSuffix(bytes.Clone(c.locatorPrefix), v.version, v.ordinal), v.value, v.flags); err != nil {
			return err
		}
	}
	c.located = c.located[:0]
	return nil
}

// foundMark says whether a mark of an open refill is of an erased entity's row.
func (c *cleaner) foundMark(key []byte) (erased bool, err error) {
	corrupt := &CorruptError{What: "a mark of a refill", Key: bytes.Clone(key)}
	if len(key) < 1+8+3 {
		return false, corrupt
	}
	row := key[1+8:]
	switch row[0] {
	case prefixRow:
		n := skipPlace(row[1:])
		if n < 0 {
			return false, corrupt
		}
		return c.isErased(row[1 : 1+n]), nil
	case prefixLocator:
		table := binary.BigEndian.Uint16(row[1:])
		if c.src.catalog.keyParts(table) == 0 {
			return false, corrupt
		}
		if !c.erasing.row(c.src.catalog.Tables[table-1].Name, row[3:]) {
			return false, nil
		}
		return c.locatedErased(row)
	}
	return false, corrupt
}

// locatedErased says whether the newest locator of a row's key leads to an erased
// entity.
func (c *cleaner) locatedErased(prefix []byte) (bool, error) {
	it := c.txn.NewIterator(badger.IteratorOptions{Prefix: bytes.Clone(prefix)})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if len(item.Key()) != len(prefix)+suffixSize {
			continue
		}
		if v, _ := suffix(item.Key()); len(c.voids) > 0 {
			if _, void := c.voids[v]; void {
				continue
			}
		}
		place, err := item.ValueCopy(nil)
		if err != nil || len(place) == 0 {
			return false, err
		}
		return c.isErased(place), nil
	}
	return false, nil
}
