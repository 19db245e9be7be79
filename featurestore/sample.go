package featurestore

import (
	"bytes"
	"encoding/binary"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

// sampleEvery is the least distance of two position samples, in µs of version.
const sampleEvery = 1_000_000

// sampler decides which groups note {version → end LSN}, so that a view as of a
// moment knows a position of the source that it holds everything up to, and
// always the same one, however much was applied since. The index of positions
// (index.go) cannot say it: it has every transaction and is therefore kept for an
// hour only, while a sample a second is small enough to be kept for ever, as the
// moments are that views are taken of.
type sampler struct {
	version      change.Version
	transactions uint64
}

// due says whether state is worth a sample: some transaction came, and the
// last sample (or the last state that an earlier process wrote) is a second old.
func (p *sampler) due(s *state) bool {
	var ended change.Version // a new epoch's first moment has a position of its own
	if n := len(s.Gaps); n > 0 {
		ended = s.Gaps[n-1].To
	}
	soon := p.version != 0 && s.Version/sampleEvery <= p.version/sampleEvery && ended <= p.version
	if soon || s.Counters.Transactions <= p.transactions {
		return false
	}
	p.version, p.transactions = s.Version, s.Counters.Transactions
	return true
}

func sampleKey(v change.Version) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixSample}, ^uint64(v))
}

// sampledLSN is the position of the newest sample at or before asOf and not
// before since, 0 if there is none.
func sampledLSN(txn *badger.Txn, since, asOf change.Version) (change.LSN, error) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixSample}})
	defer it.Close()
	it.Seek(sampleKey(asOf))
	if !it.Valid() || bytes.Compare(it.Item().Key(), sampleKey(since)) > 0 {
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
