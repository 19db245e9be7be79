package featurestore

import (
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/s2"

	"dreamfeed/internal/change"
)

// The flags of a row or locator stand in Badger's user meta byte, so that a
// reader knows a tombstone without reading its value.
const (
	flagDeleted    = 1 << 0 // the row is gone with this version; no value
	flagBackfilled = 1 << 1
	flagKnown      = 1 << 2 // the value begins with uvarint(version − known)
	flagPieces     = 1 << 3 // the value is uvarint(size) and the first piece
	flagMoved      = 1 << 4 // deleted here, it lives on under another entity or key
	flagArrived    = 1 << 5 // not inserted: moved here, or read by a refill or a later backfill
	flagCarries    = 1 << 6 // some values are in the row's version before, see carry.go
)

// pieceBytes is the size of a piece of a value: larger values are split over
// several keys, so that Badger's value log stays empty.
// Each is compressed here, as an S2 block: Badger measures the tables that it
// builds by their size on disk, so that one of values that compress a hundred
// times would take a hundred times its size in memory.
const pieceBytes = 256 << 10

// appendPiece appends a compressed piece.
func appendPiece(dst, piece []byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(piece)))
	return dst[:n+len(s2.Encode(dst[n:cap(dst)], piece))]
}

// expandPiece appends what appendPiece compressed; ok is false for anything else.
func expandPiece(dst, data []byte) (_ []byte, ok bool) {
	size, err := s2.DecodedLen(data)
	if err != nil || size == 0 || size > pieceBytes {
		return dst, false
	}
	n := len(dst)
	dst = slices.Grow(dst, size)
	if _, err := s2.Decode(dst[n:n+size], data); err != nil {
		return dst[:n], false
	}
	return dst[:n+size], true
}

// appendKnown appends the known time of a version if it differs from it, and
// returns the flags that go with it.
func appendKnown(dst []byte, v change.Version, known int64, backfilled bool) ([]byte, byte) {
	var flags byte
	if backfilled {
		flags |= flagBackfilled
	}
	if known < int64(v) {
		flags |= flagKnown
		dst = binary.AppendUvarint(dst, uint64(int64(v)-known))
	}
	return dst, flags
}

// splitKnown reads what appendKnown wrote and returns the row that follows.
func splitKnown(value []byte, flags byte, v change.Version) (known int64, data []byte, ok bool) {
	if flags&flagKnown == 0 {
		return int64(v), value, true
	}
	age, n := binary.Uvarint(value)
	if n <= 0 {
		return 0, nil, false
	}
	return int64(v) - int64(age), value[n:], true
}
