package featurestore

import "github.com/dgraph-io/badger/v4"

// AllKeys returns every key but those of the meta records, in order.
func (s *Store) AllKeys() (keys []string, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		return eachKey(txn, nil, func(key []byte) error {
			if key[0] != prefixMeta {
				keys = append(keys, string(key))
			}
			return nil
		})
	})
	return keys, err
}

// Locators, Truncations, Voids and Samples count keys.
func (s *Store) Locators() (int, error)    { return s.countKeys(prefixLocator) }
func (s *Store) Truncations() (int, error) { return s.countKeys(prefixTruncate) }
func (s *Store) Voids() (int, error)       { return s.countKeys(prefixVoid) }
func (s *Store) Samples() (int, error)     { return s.countKeys(prefixSample) }
func (s *Store) RowKeys() (int, error)     { return s.countKeys(prefixRow) }

// KeptBytes are the bytes of all keys and values.
func (s *Store) KeptBytes() (n int64, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			n += int64(len(it.Item().Key())) + it.Item().ValueSize()
		}
		return nil
	})
	return n, err
}
