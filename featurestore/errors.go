package featurestore

import (
	"errors"
	"fmt"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

var (
	// ErrEmpty is returned for a view of a store that holds no complete backfill.
	ErrEmpty = errors.New("the store holds no complete backfill yet: run ingest until /readyz answers, then try again")
	// ErrClosed is returned by a store, or a view of it, after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrReadOnly is returned when a store that was opened read-only is asked to apply.
	ErrReadOnly = errors.New("the store was opened read-only")
	// ErrBusy is returned when a second Run or Apply begins while one is under way.
	ErrBusy = errors.New("the store is being written already: only one Run or Apply at a time")
	// ErrDiskReserve is wrapped while applying is paused for want of free disk.
	ErrDiskReserve = errors.New("free disk is below the reserve")
	// ErrCut is wrapped when a streamed view ended before its final count.
	ErrCut = errors.New("the streamed view was cut off")
)

// LockedError says that another process has the store open.
type LockedError struct {
	Dir string
	// PID is the process that wrote the lock file, 0 if unknown.
	PID int
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("store %s is held by %s: read it through that process, or stop it first", e.Dir, who)
}

// UncleanError says that a store cannot be read without being repaired first.
type UncleanError struct{ Dir string }

func (e *UncleanError) Error() string {
	return fmt.Sprintf("store %s was not closed cleanly and cannot be opened read-only: start ingest once, which repairs it", e.Dir)
}

// MissingError says that there is no store in a directory that should hold one.
type MissingError struct{ Dir string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("there is no store in %s: run ingest first, or name its data directory", e.Dir)
}

// FormatError says that a store was written in a format that this program
// does not know.
type FormatError struct {
	Dir          string
	Have, Newest int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("store %s has format %d, this program knows formats up to %d: use a newer program", e.Dir, e.Have, e.Newest)
}

// CatalogError says that a definition contradicts what the store holds.
type CatalogError struct {
	Table      string
	What       string // entity, by or key
	Have, Want string
}

func (e *CatalogError) Error() string {
	return fmt.Sprintf("table %s: the store holds its rows with %s %q, the definition says %q: restore the definition, or begin a new store in an empty data directory",
		e.Table, e.What, e.Have, e.Want)
}

// Position is where in the stream something went wrong.
type Position struct {
	Sequence uint64
	Version  change.Version
	Ordinal  uint32
	LSN      change.LSN
}

func (p Position) String() string {
	return fmt.Sprintf("message %d, version %s, row %d, LSN %s", p.Sequence, p.Version, p.Ordinal, p.LSN)
}

// ChainError says that a message does not continue what the store holds:
// applying it could lose changes.
type ChainError struct {
	Field      string // what broke: sequence, previous version, epoch, origin, part, …
	Want, Have string
	Position   Position
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("the stream does not continue the store at %s: %s is %s where %s was expected: restore the stream that belongs to this store, or begin the feed anew from what the store holds with: ingest reset --confirm --discard-stream",
		e.Position, e.Field, e.Have, e.Want)
}

// UnresolvedError says that a change left a large value out as unchanged and
// the store holds no older version of the row to take it from.
type UnresolvedError struct {
	Table, Column string
	// KeyHash is the FNV-1a hash of the row's encoded key; keys are not logged.
	KeyHash  uint64
	Position Position
}

func (e *UnresolvedError) Error() string {
	return fmt.Sprintf("table %s: column %s of the row with key hash %016x is unchanged since a version that the store does not hold (%s): begin the feed anew, which reads the tables again, with: ingest reset --confirm --discard-stream",
		e.Table, e.Column, e.KeyHash, e.Position)
}

// RelationError says that a table as published lacks what the definition needs.
type RelationError struct {
	Table, Column string
	What          string
	Position      Position
}

func (e *RelationError) Error() string {
	return fmt.Sprintf("table %s: column %s %s (%s): run `ingest check`, which prints the SQL that mends it", e.Table, e.Column, e.What, e.Position)
}

// RowError says that a row cannot be held.
type RowError struct {
	Table    string
	What     string
	Position Position
}

func (e *RowError) Error() string {
	return fmt.Sprintf("table %s: %s (%s)", e.Table, e.What, e.Position)
}

// RowSizeError says that a row is larger than the limit.
type RowSizeError struct {
	Table        string
	Bytes, Limit int
	Position     Position
}

func (e *RowSizeError) Error() string {
	return fmt.Sprintf("table %s: a row has %d bytes, the limit is %d (%s): raise --max-row-bytes", e.Table, e.Bytes, e.Limit, e.Position)
}

// NotAppliedError says that a position of the source is above what the store
// has applied.
type NotAppliedError struct {
	LSN, Applied change.LSN
}

func (e *NotAppliedError) Error() string {
	return fmt.Sprintf("position %s of the source is not applied: the store is at %s: wait until ingest has passed it", e.LSN, e.Applied)
}

// IndexError says that the store does not know any more, or not yet, which
// transaction was the last one at a position of the source.
type IndexError struct {
	LSN change.LSN
	// Oldest is the first position that it knows, 0 if there is none: the feed
	// has begun anew and its backfill is not complete.
	Oldest change.LSN
}

func (e *IndexError) Error() string {
	if e.Oldest == 0 {
		return fmt.Sprintf("position %s of the source has no version yet: the store holds no transaction of the present feed: wait until its backfill is complete", e.LSN)
	}
	return fmt.Sprintf("position %s of the source is too old: the store knows versions by position from %s on, about an hour back: take a newer snapshot of the source", e.LSN, e.Oldest)
}

// GapError says that a moment lies where changes are missing: the feed was
// begun anew.
type GapError struct {
	AsOf change.Version
	Gap  history.Gap
}

func (e *GapError) Error() string {
	if e.Gap.To == 0 {
		return fmt.Sprintf("the moment %s lies in a gap of the history, which began after %s when the feed was begun anew: choose that or an earlier one, or wait until ingest has backfilled",
			e.AsOf, e.Gap.From)
	}
	return fmt.Sprintf("the moment %s lies in a gap of the history, since the feed was begun anew: choose %s or an earlier one, or %s or a later one",
		e.AsOf, e.Gap.From, e.Gap.To)
}

// NotClosedError says that a moment is above the watermark.
type NotClosedError struct {
	AsOf, Newest change.Version
}

func (e *NotClosedError) Error() string {
	return fmt.Sprintf("the moment %s is not closed: the newest closed moment is %s: choose that or an earlier one, or wait until ingest has passed it", e.AsOf, e.Newest)
}

// TooEarlyError says that a moment lies before the store's history, or that a
// window before it does.
type TooEarlyError struct {
	AsOf, Earliest change.Version
	// Window is what reaches behind the retention floor, 0 where the moment
	// itself is too early.
	Window time.Duration
}

func (e *TooEarlyError) Error() string {
	if e.Window > 0 {
		return fmt.Sprintf("the history that a dataset as of %s needs was removed: with a window of %s before it the earliest possible is %s: choose that or a later one, or a shorter window (--window-days)",
			e.AsOf, windowText(e.Window), e.Earliest)
	}
	return fmt.Sprintf("the moment %s lies before the store's history: the earliest possible is %s", e.AsOf, e.Earliest)
}

// windowText writes a window in days where it is whole days.
func windowText(window time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case window == day:
		return "1 day"
	case window%day == 0:
		return fmt.Sprintf("%d days", window/day)
	}
	return window.String()
}

// LagError says that the store did not get as far as a reader wanted in the time
// that it gave.
type LagError struct {
	LSN, Applied change.LSN
	Waited       time.Duration
}

func (e *LagError) Error() string {
	return fmt.Sprintf("the store has applied the source up to %s, and not up to %s within %s: look at /readyz and the daemon's log, or wait for longer", e.Applied, e.LSN, e.Waited)
}

// OriginError says that the store was fed from another server than the one
// whose position was given.
type OriginError struct{ Store, Source change.Origin }

func (e *OriginError) Error() string {
	return fmt.Sprintf("the store is fed from another server (system identifier %d, timeline %d) than the one asked about (%d, %d): give the database URL that ingest runs with",
		e.Store.System, e.Store.Timeline, e.Source.System, e.Source.Timeline)
}

// EntityError says that the store has no such kind of entity.
type EntityError struct{ Entity string }

func (e *EntityError) Error() string {
	return fmt.Sprintf("the store holds no entity %q: name one of the definition's entities", e.Entity)
}

// CorruptError says that bytes in the store are not what its format allows.
type CorruptError struct {
	What string
	Key  []byte // only its prefix is printed
}

func (e *CorruptError) Error() string {
	k := e.Key
	if len(k) > 4 {
		k = k[:4]
	}
	return fmt.Sprintf("the store is damaged: %s at a key that begins with %x: restore a backup, or begin a new store", e.What, k)
}
