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
