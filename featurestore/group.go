package featurestore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// group is what is written at once: entries in the order they came, in one arena, and
// the state that goes with them. Its index answers lookups before the group is written.
type group struct {
	seed    maphash.Seed
	arena   []byte
	entries []entry
	size    int64 // by Badger's own count
	// index leads from the hash of a key without version to its newest entry,
	// whose prev leads on; 0 is none, n is entry n−1.
	index map[uint64]uint32
	slab  []badger.Entry // handed to Badger, reused when it is done
	order []uint32       // the entries by key

	state   state
	voids   map[change.Version]struct{}
	durable bool       // true when state differs from what was written last
	done    chan error // receives once the group is written
}

type entry struct {
	key, value span
	prefix     uint32 // size of the key without version; 0: not looked up
	prev       uint32
	flags      byte
	removed    bool // the key is deleted from Badger
}

type span struct{ from, to uint32 }

func newGroup() *group {
	return &group{seed: maphash.MakeSeed(), index: map[uint64]uint32{}, done: make(chan error, 1)}
}

func (g *group) reset() {
	g.arena, g.entries, g.size = g.arena[:0], g.entries[:0], 0
	clear(g.index)
	g.durable = false
}

func (g *group) bytes(s span) []byte { return g.arena[s.from:s.to:s.to] }

// add copies an entry into the group. prefix is the size of the key without
// its version if the entry can be looked up, else 0.
func (g *group) add(key, value []byte, flags byte, prefix int) {
	from := uint32(len(g.arena))
	g.arena = append(g.arena, key...)
	mid := uint32(len(g.arena))
	g.arena = append(g.arena, value...)
	e := entry{
		key: span{from, mid}, value: span{mid, uint32(len(g.arena))},
		prefix: uint32(prefix), flags: flags,
	}
	if prefix > 0 {
		h := maphash.Bytes(g.seed, key[:prefix])
		e.prev = g.index[h]
		g.index[h] = uint32(len(g.entries) + 1)
	}
	g.entries = append(g.entries, e)
	g.size += int64(len(key) + len(value) + entryOverhead)
}

// remove deletes a key with the group. It is for what no lookup reads.
func (g *group) remove(key []byte) {
	g.add(key, nil, 0, 0)
	g.entries[len(g.entries)-1].removed = true
}

// find returns the newest entry with the prefix that skip does not refuse.
func (g *group) find(prefix []byte, skip func(change.Version, uint32) bool) *entry {
	if len(g.index) == 0 {
		return nil
	}
	for n := g.index[maphash.Bytes(g.seed, prefix)]; n != 0; n = g.entries[n-1].prev {
		e := &g.entries[n-1]
		if key := g.bytes(e.key); string(key[:e.prefix]) == string(prefix) {
			if v, o := suffix(key); !skip(v, o) {
				return e
			}
		}
	}
	return nil
}

// sortedFrom is the number of entries from which on a group is loaded: below, a second
// sync costs more than sorting saves.
const sortedFrom = 512

// write puts the group into Badger, and behind it its state, synced unless the store is
// replayable, and returns the timestamp that both have. It holds the store's turn, so that
// nobody else commits meanwhile.
//
// A large group goes in the order of its keys, before the transaction that holds the
// state, and not within it: Badger keeps a transaction in a map and writes it in no
// order, so that each entry is searched for from the top of a memtable of which
// nothing is in the processor's caches. Measured, two fifths of the time that a commit
// takes, and Badger commits one at a time.
//
// It need not be one transaction. What is above the watermark nobody shows, applying
// it again writes the same (I3, I4), and large transactions leave such entries in any
// case. The entries bear the timestamp of the state, so that a reader of Badger's sees
// both or, unless the process dies between, neither. Then the next start removes them
// (removeAhead).
func (g *group) write(db *badger.DB, hook durable.Hook) (at uint64, err error) {
	data, err := g.state.encode()
	if err != nil {
		return 0, fmt.Errorf("write the store's watermark: %w", err)
	}
	txn := db.NewTransaction(true)
	defer txn.Discard()
	at = txn.ReadTs() + 1
	loaded := len(g.entries) >= sortedFrom
	if loaded {
		if err := g.load(db, at); err != nil {
			return 0, fmt.Errorf("load a group of %d entries with %d bytes: %w", len(g.entries), g.size, err)
		}
	} else if cap(g.slab) < len(g.entries) {
		g.slab = make([]badger.Entry, sortedFrom)
	}
	for i := range g.entries {
		e := &g.entries[i]
		switch {
		case e.removed:
			err = txn.Delete(g.bytes(e.key))
		case loaded:
			continue
		default:
			b := &g.slab[:cap(g.slab)][i]
			*b = badger.Entry{Key: g.bytes(e.key), Value: g.bytes(e.value), UserMeta: e.flags}
			err = txn.SetEntry(b)
		}
		if err != nil {
			return 0, fmt.Errorf("write entry %d of a group of %d entries with %d bytes: %w", i, len(g.entries), g.size, err)
		}
	}
	if err := txn.Set(metaKey(metaState), data); err != nil {
		return 0, fmt.Errorf("write the store's watermark: %w", err)
	}
	if err := hook.At(durable.Commit, uint64(g.state.EndLSN)); err != nil {
		return 0, fmt.Errorf("commit a group of %d entries with %d bytes: %w", len(g.entries), g.size, err)
	}
	if err := txn.Commit(); err != nil {
		return 0, fmt.Errorf("commit a group of %d entries with %d bytes: %w", len(g.entries), g.size, err)
	}
	return at, nil
}

// load writes the entries in the order of their keys and with a timestamp
// that no reader of Badger's sees yet.
func (g *group) load(db *badger.DB, timestamp uint64) error {
	g.order = g.order[:0]
	for i := range g.entries {
		if !g.entries[i].removed {
			g.order = append(g.order, uint32(i))
		}
	}
	slices.SortFunc(g.order, func(a, b uint32) int {
		// Of a key that was added twice the newer entry goes last, and stays.
		return cmp.Or(bytes.Compare(g.bytes(g.entries[a].key), g.bytes(g.entries[b].key)), cmp.Compare(a, b))
	})
	loader := db.NewKVLoader(loads)
	var kv pb.KV
	for _, i := range g.order {
		e := &g.entries[i]
		kv.Key, kv.Value, kv.UserMeta, kv.Version = g.bytes(e.key), g.bytes(e.value), flagBytes[e.flags:e.flags+1], timestamp
		if err := loader.Set(&kv); err != nil { // copies what it is given, but for key and value
			return errors.Join(err, loader.Finish())
		}
	}
	return loader.Finish()
}

// loads is how many requests of a load are under way; they are done in order.
const loads = 2

// flagBytes holds each byte at its own place: the loader wants flags as a slice.
var flagBytes = func() (b [256]byte) {
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()
