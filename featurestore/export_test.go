package featurestore

import "github.com/dgraph-io/badger/v4"

// IndexEntries and SeenMarks count keys that only the store itself reads.
func (s *Store) IndexEntries() (int, error) { return s.countKeys(prefixIndex) }

// SeenMarks is the number of marks of refills.
func (s *Store) SeenMarks() (int, error) { return s.countKeys(prefixSeen) }

func (s *Store) countKeys(prefix byte) (n int, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		return eachKey(txn, []byte{prefix}, func([]byte) error { n++; return nil })
	})
	return n, err
}

// Carrying is the number of versions that carry values of the version before.
func (s *Store) Carrying() (n int, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixRow}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if it.Item().UserMeta()&flagCarries != 0 {
				n++
			}
		}
		return nil
	})
	return n, err
}

// RemoveWhole removes every version of a row that carries nothing.
func (s *Store) RemoveWhole() (n int, err error) {
	err = s.db.Update(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixRow}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if it.Item().UserMeta()&flagCarries == 0 {
				n++
				if err := txn.Delete(it.Item().KeyCopy(nil)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return n, err
}
