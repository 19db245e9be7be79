package featurestore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/durable"
)

// Entries may be on disk that the state there does not know of: those of a group
// whose process died before its state was written, and those of a batch that was
// applied in part. As a rule their messages come again, and write the same. Not
// always: an external stream may lose its end, and the same transactions get other
// versions then; a reset may discard messages. And what is read regardless of the
// watermark must not be ahead of it: a version that is given up in a later message
// is not void for the changes before. So who opens the store to write removes them.

// ahead says whether a key is of something behind a watermark.
func (m *Watermark) ahead(key []byte, parts func(table uint16) int) (bool, error) {
	v, dated, err := keyVersion(key, parts)
	if err != nil || !dated {
		return false, err
	}
	switch key[0] {
	case prefixVoid: // written when the open transaction is given up
		if v == m.OpenVersion {
			return true, nil
		}
	case prefixSample:
		return v > m.Version, nil
	case prefixIndex:
		e, _ := parseIndexKey(key)
		return e.epoch > m.Epoch || v > m.Version, nil
	}
	return v > m.Last, nil
}

// removeAhead removes what is ahead of the state, and says how many keys.
func (s *Store) removeAhead() (n int, err error) {
	keys, err := s.listAhead(s.published.Load().state)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	fault := func(err error) error {
		return fmt.Errorf("remove %d keys that are ahead of the watermark: %w", len(keys), err)
	}
	for len(keys) > 0 {
		batch, size := 0, int64(0)
		for batch < min(len(keys), removalEntries) && size < removalBytes {
			size += int64(len(keys[batch]) + entryOverhead)
			batch++
		}
		if err := s.hook.Before(durable.Sweep); err != nil {
			return 0, fault(err)
		}
		err := s.update(func(txn *badger.Txn) error {
			for _, key := range keys[:batch] {
				if err := txn.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, fault(err)
		}
		keys, n = keys[batch:], n+batch
	}
	s.log.Info("what was written ahead of the watermark was removed", "keys", n)
	return n, nil
}

// listAhead lists the keys that are ahead of the state: those of a group and of a
// batch at most. It looks at nothing that is older in Badger than the state, or than
// the first entry of a batch that was applied in part. Mostly nothing is newer.
func (s *Store) listAhead(st *state) (keys [][]byte, err error) {
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	var from uint64 // a store that died in its first group has no state
	item, err := txn.Get(metaKey(metaState))
	switch {
	case err == nil:
		from = item.Version()
	case !errors.Is(err, badger.ErrKeyNotFound):
		return nil, fmt.Errorf("read the store's watermark: %w", err)
	}
	if st.Ahead != 0 {
		from = min(from, st.Ahead)
	}
	if s.db.MaxVersion() <= from {
		return nil, nil
	}
	it := txn.NewIterator(badger.IteratorOptions{SinceTs: from})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()
		ahead, err := st.ahead(key, s.catalog.keyParts)
		if err != nil {
			return nil, err
		}
		if ahead {
			keys = append(keys, bytes.Clone(key))
		}
	}
	return keys, nil
}
