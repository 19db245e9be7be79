package cdc

import (
	"errors"
	"fmt"
)

// ErrNotSingleWriter means that the stream holds messages that this publisher
// did not publish: another process feeds the same stream.
var ErrNotSingleWriter = errors.New("another process writes to the stream: stop it, or give each its own stream name")

// ErrClosed is returned by a closed Publisher or Reader.
var ErrClosed = errors.New("it is closed")

// IncarnationError means that the stream was removed or made anew.
type IncarnationError struct {
	Stream string
	Want   uint64
	Got    uint64 // 0 when there is no stream
}

// Error names both incarnations.
func (e *IncarnationError) Error() string {
	if e.Got == 0 {
		return fmt.Sprintf("stream %s was removed (it was incarnation %x): start ingest again, which goes on from the store or says what else mends it", e.Stream, e.Want)
	}
	return fmt.Sprintf("stream %s was made anew: it is incarnation %x, not %x: start ingest again, which goes on from the store or says what else mends it", e.Stream, e.Got, e.Want)
}

// GapError means that messages which the reader needs are no longer in the
// stream.
type GapError struct {
	Stream string
	Want   uint64 // the sequence needed next
	First  uint64 // the first that there is
}

// Error names the range that is missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("stream %s lacks messages %d to %d, which are not applied yet", e.Stream, e.Want, e.First-1)
}

// LostTailError means that the stream ends before a message that it had
// acknowledged: the server lost data that it had not synced.
type LostTailError struct {
	Stream string
	Want   uint64 // a sequence that the stream held
	Last   uint64 // the last that it holds now
}

// Error names both sequences.
func (e *LostTailError) Error() string {
	return fmt.Sprintf("stream %s ends at message %d but held message %d: its server lost the tail, or it was restored from an older state", e.Stream, e.Last, e.Want)
}
