package featurestore

import (
	"encoding/binary"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

// sampleEvery is the least distance of two position samples, in µs of version.
const sampleEvery = 1_000_000

// sampler decides which groups note {version → end LSN}, so that a view as of a
// moment knows a position of the source that it holds everything up to, and
// always the same one, however much was applied since.
type sampler struct {
	version      change.Version
	transactions uint64
}

// due says whether state is worth a sample: some transaction came, and the
// last sample (or the last state that an earlier process wrote) is a second old.
func (p *sampler) due(s *state) bool {
	if p.version != 0 && s.Version/sampleEvery <= p.version/sampleEvery || s.Counters.Transactions <= p.transactions {
		return false
	}
	p.version, p.transactions = s.Version, s.Counters.Transactions
	return true
}

func sampleKey(v change.Version) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixSample}, ^uint64(v))
}

// sampledLSN is the position of the newest sample at or before asOf.
func sampledLSN(txn *badger.Txn, asOf change.Version) (change.LSN, error) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixSample}})
	defer it.Close()
	it.Seek(sampleKey(asOf))
	if !it.Valid() {
		return 0, nil
	}
	var lsn change.LSN
	err := it.Item().Value(func(value []byte) error {
		if len(value) != 8 {
			return &CorruptError{What: "a position sample", Key: it.Item().KeyCopy(nil)}
		}
		lsn = change.LSN(binary.BigEndian.Uint64(value))
		return nil
	})
	return lsn, err
}
