package cdc

import (
	"encoding/binary"
	"hash/crc32"

	"dreamfeed/internal/change"
)

// Sizes of stream messages, in bytes.
const (
	// DefaultTargetBytes is the size at which a message is closed.
	DefaultTargetBytes = 256 << 10
	// DefaultMaxMessage is the largest message that the embedded server takes,
	// NATS headers included.
	DefaultMaxMessage = 8 << 20
	// DefaultMaxRowBytes is the largest row that is taken from the source.
	DefaultMaxRowBytes = 64 << 20
)

// The frame of a stream message; docs/FORMAT.md draws it.
const (
	frameMagic   = "DRFM"
	frameVersion = 1
	headerBytes  = 88
	trailerBytes = 4

	// minMessageBytes is the least room for a message that makes progress with
	// a row in fragments.
	minMessageBytes = 1 << 10
)

// Flags of a message.
const (
	flagOpen    = 1 << 0 // the last transaction goes on in the next message
	flagCarrier = 1 << 1 // the message holds a fragment of a row and nothing else
	flagsKnown  = flagOpen | flagCarrier
)

// Types of a record.
const (
	recordBegin     = 1
	recordRelation  = 2
	recordRow       = 3
	recordEnd       = 4
	recordTick      = 5
	recordAbandon   = 6
	recordFragment  = 7
	recordAssembled = 8
	recordScope     = 9
)

// Sizes of the records that have a fixed one, without type and length.
const (
	beginBytes     = 1 + 8 + 8 + 8 + 4 + 4 // kind, version, commit time, commit LSN, xid, part
	endBytes       = 8 + 4                 // end LSN, rows
	tickBytes      = 8 + 8                 // moment, LSN
	abandonBytes   = 8                     // version
	fragmentBytes  = 8 + 8                 // size of the row, offset; the fragment follows
	assembledBytes = 8 + 4                 // size of the row, CRC-32C

	// recordOverhead is the most that type and length take.
	recordOverhead = 1 + binary.MaxVarintLen32
)

// castagnoli is the table of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putHeader writes h to the first headerBytes bytes of dst.
func putHeader(dst []byte, h *change.Header, carrier bool) {
	le := binary.LittleEndian
	copy(dst, frameMagic)
	dst[4] = frameVersion
	dst[5] = 0
	if h.Open {
		dst[5] |= flagOpen
	}
	if carrier {
		dst[5] |= flagCarrier
	}
	dst[6], dst[7] = byte(h.OpenKind), 0
	le.PutUint64(dst[8:], h.Origin.System)
	le.PutUint32(dst[16:], h.Origin.Timeline)
	le.PutUint32(dst[20:], uint32(h.Epoch))
	le.PutUint64(dst[24:], uint64(h.First))
	le.PutUint64(dst[32:], uint64(h.Last))
	le.PutUint64(dst[40:], uint64(h.Previous))
	le.PutUint64(dst[48:], uint64(h.CommitLSN))
	le.PutUint64(dst[56:], uint64(h.EndLSN))
	le.PutUint64(dst[64:], uint64(h.Resume))
	le.PutUint32(dst[72:], h.Part)
	le.PutUint32(dst[76:], h.FirstOrdinal)
	le.PutUint32(dst[80:], h.NextOrdinal)
	le.PutUint32(dst[84:], 0)
}

// openFrame checks magic, format, checksum and the fixed fields of a message.
// It returns its header and its records.
func openFrame(sequence uint64, data []byte) (h change.Header, carrier bool, records []byte, err error) {
	corrupt := func(offset int, reason string) (change.Header, bool, []byte, error) {
		return change.Header{}, false, nil, &CorruptMessageError{Sequence: sequence, Offset: offset, Reason: reason}
	}
	le := binary.LittleEndian
	if len(data) < headerBytes+trailerBytes {
		return corrupt(len(data), "the message is shorter than its frame")
	}
	if string(data[:4]) != frameMagic {
		return corrupt(0, "this is no message of a feed")
	}
	if data[4] != frameVersion {
		return corrupt(4, "the format of the message is unknown: it was written by a newer program")
	}
	end := len(data) - trailerBytes
	if crc32.Checksum(data[:end], castagnoli) != le.Uint32(data[end:]) {
		return corrupt(end, "the checksum does not match")
	}
	if data[5]&^flagsKnown != 0 || data[7] != 0 || le.Uint32(data[84:]) != 0 {
		return corrupt(5, "a field that must be zero is not")
	}
	h = change.Header{
		Origin:       change.Origin{System: le.Uint64(data[8:]), Timeline: le.Uint32(data[16:])},
		Epoch:        change.Epoch(le.Uint32(data[20:])),
		First:        change.Version(le.Uint64(data[24:])),
		Last:         change.Version(le.Uint64(data[32:])),
		Previous:     change.Version(le.Uint64(data[40:])),
		CommitLSN:    change.LSN(le.Uint64(data[48:])),
		EndLSN:       change.LSN(le.Uint64(data[56:])),
		Resume:       change.LSN(le.Uint64(data[64:])),
		Part:         le.Uint32(data[72:]),
		Open:         data[5]&flagOpen != 0,
		OpenKind:     change.Kind(data[6]),
		FirstOrdinal: le.Uint32(data[76:]),
		NextOrdinal:  le.Uint32(data[80:]),
	}
	if h.Open != (h.OpenKind != 0) || h.OpenKind > change.Refill {
		return corrupt(6, "the kind of the open transaction contradicts the flags")
	}
	return h, data[5]&flagCarrier != 0, data[headerBytes:end], nil
}

// CheckChain says whether a message with header next may follow one with
// header prev; the error is a *ChainError. A zero prev is the start of a feed.
// The rules are those of docs/FORMAT.md, "The chain".
func CheckChain(prev, next change.Header) error {
	if reason := chainFault(&prev, &next); reason != "" {
		return &ChainError{Previous: prev, Next: next, Reason: reason}
	}
	return nil
}

// chainFault returns why next does not continue prev, or nothing.
func chainFault(prev, next *change.Header) string {
	abandons := next.First == next.Previous && next.Last == next.Previous && next.Part == 0 && !next.Open
	goesOn := next.Part > 0
	switch {
	case next.Epoch == 0:
		return "it has no epoch"
	case next.Previous != prev.Last:
		return "messages between the two are missing, or a message comes twice"
	case next.Last < next.First || next.First < next.Previous:
		return "its versions go backwards"
	case goesOn && next.Last != next.First:
		return "it goes on with a transaction and holds another one too"
	case prev.Epoch == 0 && *prev != (change.Header{}):
		return "the message before has no epoch"
	case prev.Epoch == 0:
		if abandons || goesOn || next.FirstOrdinal != 0 {
			return "a feed begins with a whole transaction or its first part"
		}
		return ""
	case next.Epoch != prev.Epoch && next.Epoch != prev.Epoch+1:
		return "the epochs are not neighbours"
	case next.Epoch == prev.Epoch && next.Origin != prev.Origin:
		return "the source is another cluster or timeline, without a new epoch"
	case next.Epoch == prev.Epoch && next.Resume < prev.Resume:
		return "the position to resume at goes backwards"
	case prev.Open && abandons:
		return ""
	case prev.Open && !goesOn:
		return "the open transaction is neither continued nor abandoned"
	case prev.Open && (next.Epoch != prev.Epoch || next.First != prev.Last || next.CommitLSN != prev.CommitLSN ||
		next.Open && next.OpenKind != prev.OpenKind):
		return "it goes on with another transaction"
	case prev.Open && next.Part != prev.Part+1:
		return "parts of the open transaction are missing"
	case prev.Open && next.FirstOrdinal != prev.NextOrdinal:
		return "rows of the open transaction are missing"
	case prev.Open:
		return ""
	case goesOn:
		return "it goes on with a transaction that is not open"
	case abandons || next.First == next.Previous:
		return "it abandons a transaction that is not open, or brings no new version"
	case next.FirstOrdinal != 0:
		return "the first rows of its transaction are missing"
	}
	return ""
}
