package featurestore

import (
	"bytes"
	"encoding/binary"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

// sampleEvery is what position samples are taken of, one at most: a second, in µs.
const sampleEvery = 1_000_000

// sampler gathers the position samples {version → end LSN} of a group, so that a
// view as of a moment knows a position of the source that it holds everything up
// to, and always the same one, however much was applied since. The index of
// positions (index.go) cannot say it: it has every transaction and is therefore
// kept for an hour only, while a sample a second is small enough to be kept for as
// long as views of its moment are taken.
//
// Which transactions are sampled follows from their versions alone (state.sample),
// so that a store that is built anew from the stream has the same samples,
// whatever its groups were.
type sampler struct {
	list []sample
	// whole counts those of batches that were applied whole: only they may be
	// written, since a batch that was applied in part comes again after a crash.
	whole int
}

type sample struct {
	version change.Version
	lsn     change.LSN
}

// sampleBytes is what a sample takes in a group.
const sampleBytes = 1 + 8 + 8 + entryOverhead

// sample says whether a transaction that completes is sampled: the first one of
// each second, and every backfill, since a new epoch's first moment has a position
// of its own.
func (s *state) sample(t *change.Transaction) bool {
	if t.Kind != change.Backfill && s.Sampled/sampleEvery >= t.Version/sampleEvery {
		return false
	}
	s.Sampled = t.Version
	return true
}

func (p *sampler) add(t *change.Transaction) {
	p.list = append(p.list, sample{t.Version, t.EndLSN})
}

// reserve is the room in bytes that the gathered samples take.
func (p *sampler) reserve() int64 { return int64(len(p.list)) * sampleBytes }

// write adds the samples of whole batches to the group.
func (p *sampler) write(g *group) {
	for _, at := range p.list[:p.whole] {
		g.add(sampleKey(at.version), binary.BigEndian.AppendUint64(nil, uint64(at.lsn)), 0, 0)
	}
	p.list = p.list[:copy(p.list, p.list[p.whole:])]
	p.whole = 0
}

func sampleKey(v change.Version) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixSample}, ^uint64(v))
}

func parseSampleKey(k []byte) (change.Version, bool) {
	if len(k) != 9 {
		return 0, false
	}
	return change.Version(^binary.BigEndian.Uint64(k[1:])), true
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
