package featurestore

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

// The index leads from a position of the source to the last transaction that
// ended at or before it, exactly: a snapshot of the source taken at an LSN is
// compared with the version that this gives (refill, verify). Each group writes
// what was completed in it as entries of at most indexSpan transactions:
//
//	60 | epoch u32 | end LSN u64 | version u64   → (Δ end LSN uvarint, Δ version uvarint) × further ones
//
// An entry is removed once its successor is indexAge old: a snapshot that is
// compared is a young one. The newest entry of an epoch stays, however old.
const (
	indexSpan = 2048
	indexAge  = change.Version(time.Hour / time.Microsecond)
	// A removal looks at the index at most every indexRest groups, and removes
	// at most indexBatch entries.
	indexRest  = 32
	indexBatch = 128
	indexKey   = 1 + 4 + 8 + 8
	// indexReserve is the room that a transaction may take in an entry, at most.
	indexReserve = 2 * binary.MaxVarintLen64
)

// indexed is a completed transaction.
type indexed struct {
	epoch   change.Epoch
	lsn     change.LSN
	version change.Version
}

// indexer gathers the transactions that a group completes.
type indexer struct {
	list []indexed
	// whole counts those of batches that were applied whole: only they may be
	// written, since a batch that was applied in part comes again after a crash.
	whole int

	buf    []byte
	rest   int            // groups until the next removal
	due    change.Version // nothing is to be removed while the state is older
	oldest []byte         // nothing is left before this key
}

func (x *indexer) add(e change.Epoch, t *change.Transaction) {
	x.list = append(x.list, indexed{e, t.EndLSN, t.Version})
}

// reserve is the room in bytes that the gathered transactions may take.
func (x *indexer) reserve() int64 { return int64(len(x.list)) * indexReserve }

// write adds the entries of whole batches to the group.
func (x *indexer) write(g *group) {
	for list := x.list[:x.whole]; len(list) > 0; {
		n := 1
		x.buf = x.buf[:0]
		for ; n < len(list) && n < indexSpan; n++ {
			a, b := list[n-1], list[n]
			if b.epoch != a.epoch || b.lsn < a.lsn {
				break
			}
			x.buf = binary.AppendUvarint(x.buf, uint64(b.lsn-a.lsn))
			x.buf = binary.AppendUvarint(x.buf, uint64(b.version-a.version))
		}
		g.add(appendIndexKey(nil, list[0]), x.buf, 0, 0)
		list = list[n:]
	}
	x.list = x.list[:copy(x.list, x.list[x.whole:])]
	x.whole = 0
}

// prune adds the removal of entries that are too old, or of an older epoch, to
// the group. txn holds everything that was written before.
func (x *indexer) prune(txn *badger.Txn, g *group, s *state) error {
	if x.rest--; x.rest > 0 || s.Version < x.due {
		return nil
	}
	x.rest = indexRest
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixIndex}})
	defer it.Close()
	if x.oldest == nil {
		x.oldest = []byte{prefixIndex}
	}
	it.Seek(x.oldest)
	for n := 0; it.Valid(); n++ {
		key := it.Item().KeyCopy(nil)
		this, ok := parseIndexKey(key)
		if !ok {
			return &CorruptError{What: "an entry of the index of positions", Key: key}
		}
		x.oldest = key
		it.Next()
		if this.epoch >= s.Epoch {
			if !it.Valid() {
				x.due = s.Version + indexAge
				return nil
			}
			next, ok := parseIndexKey(it.Item().Key())
			if !ok {
				return &CorruptError{What: "an entry of the index of positions", Key: it.Item().KeyCopy(nil)}
			}
			if x.due = next.version + indexAge; x.due >= s.Version {
				return nil
			}
		}
		if n == indexBatch {
			x.rest = 0
			return nil
		}
		g.remove(key)
	}
	return nil
}

func appendIndexKey(dst []byte, e indexed) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, prefixIndex), uint32(e.epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.lsn))
	return binary.BigEndian.AppendUint64(dst, uint64(e.version))
}

func parseIndexKey(k []byte) (indexed, bool) {
	if len(k) != indexKey {
		return indexed{}, false
	}
	return indexed{
		change.Epoch(binary.BigEndian.Uint32(k[1:])),
		change.LSN(binary.BigEndian.Uint64(k[5:])), change.Version(binary.BigEndian.Uint64(k[13:])),
	}, true
}

// VersionBefore returns the version of the last transaction (live, backfill or
// refill) of the present epoch whose end LSN is at or before lsn: a view as of
// it holds exactly what a snapshot of the source at lsn saw. Everything up to
// lsn must be applied (Wait), else it is a *NotAppliedError; it is an
// *IndexError if the index does not reach so far back.
func (s *Store) VersionBefore(lsn change.LSN) (change.Version, error) {
	done, err := s.read()
	if err != nil {
		return 0, err
	}
	defer done()
	st := s.published.Load().state
	if st.EndLSN < lsn {
		return 0, &NotAppliedError{LSN: lsn, Applied: st.EndLSN}
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	prefix := binary.BigEndian.AppendUint32([]byte{prefixIndex}, uint32(st.Epoch))
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: true})
	defer it.Close()
	// A group may be written and not published yet: its versions do not count.
	it.Seek(appendIndexKey(nil, indexed{st.Epoch, lsn, st.Version}))
	if !it.Valid() {
		return 0, s.indexError(txn, prefix, lsn)
	}
	at, ok := parseIndexKey(it.Item().Key())
	if !ok {
		return 0, &CorruptError{What: "an entry of the index of positions", Key: it.Item().KeyCopy(nil)}
	}
	found := at.version
	err = it.Item().Value(func(value []byte) error {
		for len(value) > 0 {
			lsnStep, n := binary.Uvarint(value)
			versionStep, m := binary.Uvarint(value[max(n, 0):])
			if n <= 0 || m <= 0 {
				return &CorruptError{What: "an entry of the index of positions", Key: it.Item().KeyCopy(nil)}
			}
			value = value[n+m:]
			at.lsn += change.LSN(lsnStep)
			at.version += change.Version(versionStep)
			if at.lsn > lsn || at.version > st.Version {
				return nil
			}
			found = at.version
		}
		return nil
	})
	return found, err
}

// indexError says how far back the index reaches.
func (s *Store) indexError(txn *badger.Txn, prefix []byte, lsn change.LSN) error {
	e := &IndexError{LSN: lsn}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	if it.Rewind(); it.Valid() {
		oldest, ok := parseIndexKey(it.Item().Key())
		if !ok {
			return &CorruptError{What: "an entry of the index of positions", Key: slices.Clone(it.Item().Key())}
		}
		e.Oldest = oldest.lsn
	}
	return e
}
