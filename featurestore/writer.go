package featurestore

import (
	"cmp"
	"maps"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
	"dreamfeed/internal/row"
)

// writer applies batches for the length of one Run or Apply. While one group
// is written the next is filled: lookups go through the group being filled,
// the one being written, and a Badger transaction that holds all before.
type writer struct {
	s *Store
	// send begins to write a group, whose done channel receives the outcome.
	send func(*group)

	state  state // after the last whole batch
	next   state // while a batch is being applied
	within bool  // one is
	voids  map[change.Version]struct{}
	// marks are the truncations by table, newest first.
	marks map[uint16][]mark

	current, flying, spare *group
	txn                    *badger.Txn
	it                     *badger.Iterator // made when first needed, lives as long as txn

	relations map[*change.Relation]*mapping
	places    placeCache
	samples   sampler
	index     indexer
	erasing   *erasing // nil where nothing was erased

	// check says whether to go on with work that takes long.
	check func() error
	// sweeping says that there may be marks of refills to remove, once the refill
	// of the version sweepAfter has ended on disk; sweepFrom is where to look next.
	sweeping   bool
	sweepAfter change.Version
	sweepFrom  []byte

	// Buffers that are reused from row to row.
	key, oldKey, rowPrefix, value, place, oldPlace []byte
	locator, seek, taken, seen                     []byte
	cells, before                                  []row.Cell
	parser                                         row.Parser // of the texts of cells
	flags                                          byte       // that go with value
}

// mark is a TRUNCATE of a table.
type mark struct {
	version change.Version
	ordinal uint32
}

func (m mark) newerThan(v change.Version, ordinal uint32) bool {
	return m.version > v || m.version == v && m.ordinal > ordinal
}

// maxRelations bounds the cache of relations, which is begun anew when full.
const maxRelations = 1024

func (s *Store) newWriter(send func(*group), check func() error) (*writer, error) {
	p := s.published.Load()
	w := &writer{
		s: s, send: send, check: check, state: p.state.clone(), voids: p.voids, sweeping: true,
		current: newGroup(), spare: newGroup(),
		txn:       s.db.NewTransaction(false),
		relations: map[*change.Relation]*mapping{},
		places:    newPlaceCache(),
		erasing:   newErasing(s.ledger),
	}
	marks, err := readMarks(w.txn, w.voids)
	if err != nil {
		w.txn.Discard()
		return nil, err
	}
	w.marks = marks
	return w, nil
}

// readMarks reads the truncations that were not abandoned; each table's are
// newest first, as their keys are.
func readMarks(txn *badger.Txn, voids map[change.Version]struct{}) (map[uint16][]mark, error) {
	marks := map[uint16][]mark{}
	err := eachKey(txn, []byte{prefixTruncate}, func(k []byte) error {
		table, v, o, ok := parseTruncateKey(k)
		if !ok {
			return &CorruptError{What: "a truncation", Key: k}
		}
		if _, void := voids[v]; !void {
			marks[table] = append(marks[table], mark{v, o})
		}
		return nil
	})
	return marks, err
}

// close waits for the group being written and frees what the writer holds.
func (w *writer) close() error {
	err := w.land()
	if w.it != nil {
		w.it.Close()
	}
	w.txn.Discard()
	return err
}

// apply applies one batch, in memory and, as groups fill up, on disk.
func (w *writer) apply(b *change.Batch) error {
	fits, err := w.state.admit(b)
	if err != nil || !fits {
		return err
	}
	w.next = w.state.clone()
	w.next.Until, w.next.Restored, w.next.Ahead = 0, false, 0
	w.within = true
	w.next.turn(&b.Header)
	for i := range b.Entries {
		if err := w.entry(b, &b.Entries[i]); err != nil {
			return err
		}
	}
	if err := w.next.end(b); err != nil {
		return err
	}
	w.state, w.within = w.next, false
	w.index.whole, w.samples.whole = len(w.index.list), len(w.samples.list)
	w.current.durable = true
	w.s.meters.bytesIn.Add(uint64(b.Bytes))
	return nil
}

func (w *writer) entry(b *change.Batch, e *change.Entry) error {
	switch {
	case e.Transaction != nil:
		return w.transaction(b, e.Transaction)
	case e.Tick != nil:
		return w.next.tick(b, e.Tick)
	case e.Abandoned != 0:
		return w.abandon(b, e.Abandoned)
	}
	return broken(b, "an entry", "a transaction, a tick or an abandoned version", "nothing")
}

func (w *writer) transaction(b *change.Batch, t *change.Transaction) error {
	if err := w.next.begin(b, t); err != nil {
		return err
	}
	if t.Part == 0 {
		w.openScope(t)
	}
	for i := range t.Rows {
		r := &t.Rows[i]
		if err := w.next.step(b, r); err != nil {
			return err
		}
		if err := w.row(b, t, r); err != nil {
			return err
		}
	}
	if !t.Last {
		return nil
	}
	if w.next.refilling() {
		if err := w.buryAbsent(b, t); err != nil {
			return err
		}
		w.sweeping, w.sweepAfter = true, t.Version
	}
	w.next.fill(w.s.catalog, w.s.def)
	w.next.complete(t)
	w.index.add(w.next.Epoch, t)
	if w.next.sample(t) {
		w.samples.add(t)
	}
	return nil
}

func (w *writer) abandon(b *change.Batch, v change.Version) error {
	if w.next.refilling() {
		w.sweeping, w.sweepAfter = true, v
	}
	if err := w.next.abandon(b, v); err != nil {
		return err
	}
	w.voids = maps.Clone(w.voids)
	w.voids[v] = struct{}{}
	for t, marks := range w.marks {
		w.marks[t] = slices.DeleteFunc(marks, func(m mark) bool { return m.version == v })
	}
	w.places.clear()
	return w.put(voidKey(v), nil, 0, 0)
}

// put adds an entry to the group, and makes room for it first. A group that is
// flushed in the middle of a batch goes with the state before the batch: the
// batch will be applied again after a crash, to the same effect.
func (w *writer) put(key, value []byte, flags byte, prefix int) error {
	if w.full(int64(len(key) + len(value) + entryOverhead)) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.current.add(key, value, flags, prefix)
	return nil
}

func (w *writer) full(more int64) bool {
	g := w.current
	return len(g.entries)+w.index.whole > 0 &&
		(g.size+w.index.reserve()+w.samples.reserve()+more > w.s.groupBytes || len(g.entries)+len(w.samples.list) >= w.s.groupEntries)
}

// flush hands the current group over to be written, once the one before is.
func (w *writer) flush() error {
	g := w.current
	if len(g.entries) == 0 && !g.durable {
		return nil
	}
	w.samples.write(g)
	w.index.write(g)
	if err := w.land(); err != nil {
		return err
	}
	// The transaction is opened before the group is sent: it holds all that was
	// written before, and does not wait for this one.
	if w.it != nil {
		w.it.Close()
		w.it = nil
	}
	w.txn.Discard()
	w.txn = w.s.db.NewTransaction(false)
	if w.within && w.state.Ahead == 0 {
		w.state.Ahead = w.txn.ReadTs()
	}
	if err := w.index.prune(w.txn, g, &w.state); err != nil {
		return err
	}
	if err := w.sweep(g); err != nil {
		return err
	}
	g.state, g.voids = w.state.clone(), w.voids
	w.flying, w.current = g, w.spare
	w.spare = nil
	w.send(g)
	return nil
}

// land waits for the group being written; its buffers can be filled again then.
func (w *writer) land() error {
	if w.flying == nil {
		return nil
	}
	g := w.flying
	err := <-g.done
	w.flying = nil
	g.reset()
	w.spare = g
	return err
}

// settle writes everything and waits for it, so that all lookups reach Badger.
func (w *writer) settle() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.land(); err != nil {
		return err
	}
	if w.it != nil {
		w.it.Close()
		w.it = nil
	}
	w.txn.Discard()
	w.txn = w.s.db.NewTransaction(false)
	return nil
}

// addMark notes a truncation; applying it again changes nothing.
func (w *writer) addMark(table uint16, m mark) {
	marks := w.marks[table]
	at, found := slices.BinarySearchFunc(marks, m, func(a, b mark) int {
		return cmp.Or(cmp.Compare(b.version, a.version), cmp.Compare(b.ordinal, a.ordinal))
	})
	if !found {
		w.marks[table] = slices.Insert(marks, at, m)
	}
}
