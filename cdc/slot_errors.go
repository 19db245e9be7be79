package cdc

import (
	"fmt"

	"dreamfeed/internal/change"
)

// SlotHeldError says that another process uses the slot.
type SlotHeldError struct {
	Slot string
	PID  uint32 // process id of the server's session
}

func (e *SlotHeldError) Error() string {
	return fmt.Sprintf("replication slot %s is in use by server process %d: stop the other ingest, or SELECT pg_terminate_backend(%d)", e.Slot, e.PID, e.PID)
}

// SlotForeignError says that a slot of our name is of another kind.
type SlotForeignError struct {
	Slot, Kind string
}

func (e *SlotForeignError) Error() string {
	return fmt.Sprintf("replication slot %s is not ours (%s): choose another name with --slot; or drop it if nobody needs it (%s), and start again, which says what else is to be done",
		e.Slot, e.Kind, dropSlotSQL(e.Slot))
}

// beginAnew is the last remedy: what was missed cannot be read any more.
const beginAnew = "begin the feed anew with: ingest reset --confirm (history stays, the time that was missed becomes a gap, the tables are read again)"

// SlotGoneError says that the stream holds a feed but its slot does not exist,
// so that changes since Resume may be lost.
type SlotGoneError struct {
	Slot   string
	Resume change.LSN
}

func (e *SlotGoneError) Error() string {
	return fmt.Sprintf("replication slot %s does not exist, but the stream goes up to %s: changes since then cannot be read any more; "+beginAnew, e.Slot, e.Resume)
}

// SlotLostError says that the server has given up the slot.
type SlotLostError struct {
	Slot, Reason string
}

func (e *SlotLostError) Error() string {
	return fmt.Sprintf("replication slot %s is lost (%s), and with it the changes that were not read yet: raise max_slot_wal_keep_size, and "+beginAnew, e.Slot, e.Reason)
}

// SlotAheadError says that the source has been told to forget changes which the
// stream does not hold: the slot was made again or advanced by somebody else, or
// the stream lost its end.
type SlotAheadError struct {
	Slot      string
	Confirmed change.LSN // of the slot
	Resume    change.LSN // of the stream
}

func (e *SlotAheadError) Error() string {
	return fmt.Sprintf("replication slot %s is confirmed up to %s, but the stream ends at %s: it was made again or advanced by somebody else, or the stream was restored from an older state, and the changes between are lost; "+beginAnew,
		e.Slot, e.Confirmed, e.Resume)
}

// SlotOrphanError says that the slot exists although the stream is empty.
type SlotOrphanError struct {
	Slot string
}

func (e *SlotOrphanError) Error() string {
	return fmt.Sprintf("replication slot %s exists, but the stream is empty, so that it belongs to another feed, or to one whose data directory or stream is gone: choose another name with --slot, or, if nobody else follows it, run: ingest reset --confirm, after which the next start drops it and makes another",
		e.Slot)
}

// OriginError says that the server is not the one the stream was fed from.
type OriginError struct {
	Stream, Server change.Origin
}

func (e *OriginError) Error() string {
	switch {
	case e.Server.System != e.Stream.System:
		return fmt.Sprintf("the server (system identifier %d) is not the one the stream was fed from (system identifier %d), so that its positions mean something else: correct the database URL, or, if the database has moved here, "+beginAnew,
			e.Server.System, e.Stream.System)
	case e.Server.Timeline > e.Stream.Timeline:
		return fmt.Sprintf("the server is on timeline %d, but the stream was fed from its timeline %d: a standby was promoted or a backup restored, and what was read may not be in this history: if that is meant, "+beginAnew,
			e.Server.Timeline, e.Stream.Timeline)
	}
	return fmt.Sprintf("the server is on timeline %d, but the stream was fed from the later timeline %d: it is the primary from before a failover, or an old copy: correct the database URL, or, if this server is meant, "+beginAnew,
		e.Server.Timeline, e.Stream.Timeline)
}

// BehindError says that the server has not yet reached the stream's end: it was
// restored from a backup.
type BehindError struct {
	Server, Resume change.LSN
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("the server's log ends at %s, before the stream's end at %s: it was restored from an older state; "+beginAnew, e.Server, e.Resume)
}
