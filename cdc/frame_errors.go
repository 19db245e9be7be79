package cdc

import (
	"fmt"

	"dreamfeed/internal/change"
)

// RowTooLargeError is a row of the source above the limit.
type RowTooLargeError struct {
	Table     string // schema and name
	CommitLSN change.LSN
	Ordinal   uint32 // place of the row in its transaction
	Bytes     int
	Limit     int
}

// Error names the row and the setting that mends it.
func (e *RowTooLargeError) Error() string {
	return fmt.Sprintf("row %d of the transaction at %s in table %s has %d bytes, more than the limit of %d: raise --max-row-bytes, or leave the large column out of the definition",
		e.Ordinal, e.CommitLSN, e.Table, e.Bytes, e.Limit)
}

// OpenTransactionError says that what follows does not continue the
// transaction that the stream holds a part of: it must be abandoned first.
type OpenTransactionError struct {
	Version   change.Version
	CommitLSN change.LSN // of the open transaction
	Reason    string
}

// Error names the open transaction.
func (e *OpenTransactionError) Error() string {
	return fmt.Sprintf("continue the open transaction %s at %s: %s", e.Version, e.CommitLSN, e.Reason)
}

// CorruptMessageError is a stream message that cannot be decoded.
type CorruptMessageError struct {
	Sequence uint64
	Offset   int // in bytes from the start of the message
	Reason   string
}

// Error names the message, the place and the reason.
func (e *CorruptMessageError) Error() string {
	return fmt.Sprintf("decode stream message %d at byte %d: %s", e.Sequence, e.Offset, e.Reason)
}

// ChainError says that a message does not continue the one before it.
type ChainError struct {
	Previous, Next change.Header
	Reason         string
}

// Error names both messages by epoch, version and part.
func (e *ChainError) Error() string {
	return fmt.Sprintf("stream message of epoch %d, versions %d to %d, part %d does not continue epoch %d, version %d, part %d: %s",
		e.Next.Epoch, e.Next.First, e.Next.Last, e.Next.Part, e.Previous.Epoch, e.Previous.Last, e.Previous.Part, e.Reason)
}
