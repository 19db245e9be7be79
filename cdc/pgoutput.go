package cdc

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"dreamfeed/internal/change"
)

// The first byte of a pgoutput message tells its type (PostgreSQL manual,
// "Logical Replication Message Formats").
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgOrigin   = 'O'
	msgRelation = 'R'
	msgType     = 'Y'
	msgInsert   = 'I'
	msgUpdate   = 'U'
	msgDelete   = 'D'
	msgTruncate = 'T'
	msgLogical  = 'M'
)

// postgresEpoch is 2000-01-01 00:00 UTC in microseconds since the Unix epoch:
// pgoutput counts its timestamps from there.
const postgresEpoch = 946684800 * 1_000_000

// MessageError is a pgoutput message, or a line of COPY text, that cannot be
// decoded. It never holds a value of the row.
type MessageError struct {
	// Type is the first byte of the message, 0 when the message is empty and
	// 'c' for a line of COPY text.
	Type byte
	// Offset is the place in the message, in bytes, where decoding stopped.
	Offset int
	Reason string
}

// Error names the type of the message, the place and the reason.
func (e *MessageError) Error() string {
	return fmt.Sprintf("decode pgoutput message of type %q at byte %d: %s", e.Type, e.Offset, e.Reason)
}

// beginMessage starts a transaction.
type beginMessage struct {
	CommitLSN  change.LSN // position of the commit record ("final LSN")
	CommitTime int64      // microseconds since the Unix epoch
	XID        uint32
}

// commitMessage ends a transaction.
type commitMessage struct {
	CommitLSN  change.LSN
	EndLSN     change.LSN // one past the commit record: the position to confirm
	CommitTime int64      // microseconds since the Unix epoch
}

// originMessage names the origin of a transaction that the source itself
// received by replication. Name borrows the message.
type originMessage struct {
	CommitLSN change.LSN
	Name      []byte
}

// typeMessage names a type that is not built in.
type typeMessage struct {
	OID          uint32
	Schema, Name string
}

// logicalMessage is what pg_logical_emit_message wrote. Prefix and Content
// borrow the message.
type logicalMessage struct {
	Transactional bool
	LSN           change.LSN
	Prefix        []byte
	Content       []byte
}

// truncateMessage empties tables; Relations holds their OIDs.
type truncateMessage struct {
	Options   byte // 1 CASCADE, 2 RESTART IDENTITY
	Relations []uint32
}

// reader walks over a message. The first read past the end sets failed; after
// that every read gives zero, so that a decoder checks once.
type reader struct {
	data   []byte
	at     int
	reason string
}

func (r *reader) fail(reason string) {
	if r.reason == "" {
		r.reason = reason
	}
}

func (r *reader) bytes(n int, what string) []byte {
	if r.reason != "" || n < 0 || n > len(r.data)-r.at {
		r.fail(what + " is cut short")
		return nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}

func (r *reader) uint8(what string) byte {
	if b := r.bytes(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(what string) uint16 {
	if b := r.bytes(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if b := r.bytes(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64(what string) uint64 {
	if b := r.bytes(8, what); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// cstring reads bytes up to a zero, which it skips.
func (r *reader) cstring(what string) []byte {
	if r.reason != "" {
		return nil
	}
	n := bytes.IndexByte(r.data[r.at:], 0)
	if n < 0 {
		r.fail(what + " has no end")
		return nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n + 1
	return b
}

// done reports the first fault, or bytes left over.
func (r *reader) done() error {
	if r.reason == "" && r.at != len(r.data) {
		r.fail(fmt.Sprintf("%d bytes left over", len(r.data)-r.at))
	}
	if r.reason == "" {
		return nil
	}
	e := &MessageError{Offset: r.at, Reason: r.reason}
	if len(r.data) > 0 {
		e.Type = r.data[0]
	}
	return e
}

// open starts to read a message that must be of type want.
func open(data []byte, want byte) *reader {
	r := &reader{data: data}
	if r.uint8("the message type") != want {
		r.fail(fmt.Sprintf("want a message of type %q", want))
	}
	return r
}

// decodeBegin decodes a Begin message.
func decodeBegin(data []byte) (beginMessage, error) {
	r := open(data, msgBegin)
	m := beginMessage{
		CommitLSN:  change.LSN(r.uint64("the commit LSN")),
		CommitTime: int64(r.uint64("the commit time")) + postgresEpoch,
		XID:        r.uint32("the transaction id"),
	}
	return m, r.done()
}

// decodeCommit decodes a Commit message.
func decodeCommit(data []byte) (commitMessage, error) {
	r := open(data, msgCommit)
	r.uint8("the flags")
	m := commitMessage{
		CommitLSN:  change.LSN(r.uint64("the commit LSN")),
		EndLSN:     change.LSN(r.uint64("the end LSN")),
		CommitTime: int64(r.uint64("the commit time")) + postgresEpoch,
	}
	return m, r.done()
}

// decodeOrigin decodes an Origin message.
func decodeOrigin(data []byte) (originMessage, error) {
	r := open(data, msgOrigin)
	m := originMessage{
		CommitLSN: change.LSN(r.uint64("the commit LSN")),
		Name:      r.cstring("the origin's name"),
	}
	return m, r.done()
}

// decodeType decodes a Type message.
func decodeType(data []byte) (typeMessage, error) {
	r := open(data, msgType)
	m := typeMessage{
		OID:    r.uint32("the type's OID"),
		Schema: string(r.cstring("the schema's name")),
		Name:   string(r.cstring("the type's name")),
	}
	return m, r.done()
}

// decodeLogical decodes a Message message.
func decodeLogical(data []byte) (logicalMessage, error) {
	r := open(data, msgLogical)
	m := logicalMessage{
		Transactional: r.uint8("the flags")&1 != 0,
		LSN:           change.LSN(r.uint64("the LSN")),
		Prefix:        r.cstring("the prefix"),
	}
	n := r.uint32("the content's length")
	if uint64(n) > uint64(len(data)) {
		r.fail("the content is cut short")
	}
	m.Content = r.bytes(int(n), "the content")
	return m, r.done()
}

// decodeTruncate decodes a Truncate message; the OIDs are appended to dst,
// which becomes Relations.
func decodeTruncate(data []byte, dst []uint32) (truncateMessage, error) {
	r := open(data, msgTruncate)
	n := r.uint32("the number of tables")
	m := truncateMessage{Options: r.uint8("the options"), Relations: dst}
	if uint64(n)*4 != uint64(len(data)-r.at) {
		r.fail("the number of tables does not fit the message")
	}
	for range n {
		if r.reason != "" {
			break
		}
		m.Relations = append(m.Relations, r.uint32("a table's OID"))
	}
	return m, r.done()
}
