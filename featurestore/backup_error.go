package featurestore

import (
	"errors"
	"fmt"

	"dreamfeed/internal/change"
)

// ErrBackupCut is wrapped when a backup ended before its end was written: the
// daemon went away, or the connection to it.
var ErrBackupCut = errors.New("the backup was cut off: nothing is left of it: see that ingest runs, and take it again")

// BackupDamagedError says that a file is no backup, or not as it was written.
type BackupDamagedError struct {
	Name   string
	Offset uint64 // bytes of it that were good
	What   string
}

func (e *BackupDamagedError) Error() string {
	return fmt.Sprintf("backup %s is damaged after byte %d: %s: use another copy of it, or an older backup", e.Name, e.Offset, e.What)
}

// BackupFormatError says that a backup was written by a newer program.
type BackupFormatError struct {
	Name string
	// Store says that it is the format of the store's keys, not that of the file.
	Store        bool
	Have, Newest int
}

func (e *BackupFormatError) Error() string {
	of := ""
	if e.Store {
		of = " of the store"
	}
	return fmt.Sprintf("backup %s has format %d%s, this program knows formats up to %d: use a newer program", e.Name, e.Have, of, e.Newest)
}

// BackupChainError says that files do not make up one backup, in the order
// given: one is missing, too many, or of another chain.
type BackupChainError struct {
	Name string // of the file that does not fit
	// ID is its own, Base the one that it continues (zero: it is full), and
	// Before the one of the file before it (zero: it is the first).
	ID, Base, Before BackupID
}

func (e *BackupChainError) Error() string {
	const remedy = "name the full backup first, and then its increments in the order in which they were taken, none left out"
	none := BackupID{}
	switch {
	case e.Before == none:
		return fmt.Sprintf("backup %s is an increment on backup %s and cannot stand first: %s", e.Name, e.Base, remedy)
	case e.Base == none:
		return fmt.Sprintf("backup %s is a full one and continues none: %s", e.Name, remedy)
	case e.ID == e.Before:
		return fmt.Sprintf("backup %s is given twice: %s", e.Name, remedy)
	}
	return fmt.Sprintf("backup %s continues backup %s, and the file before it is backup %s: %s", e.Name, e.Base, e.Before, remedy)
}

// BackupBaseError says that the store cannot give an increment on a backup.
type BackupBaseError struct {
	Base BackupID
	What string
}

func (e *BackupBaseError) Error() string {
	return fmt.Sprintf("no increment can be taken on backup %s: %s: take a full backup, without --base", e.Base, e.What)
}

// RestoreExistsError says that there is something where a restored store is to lie.
type RestoreExistsError struct{ Dir string }

func (e *RestoreExistsError) Error() string {
	return fmt.Sprintf("there is a store in %s, and a restore replaces none: stop ingest and move it away, or name another data directory with --data-dir", e.Dir)
}

// continues checks that what the base holds, and what came after it, are
// together what the store holds. A store that was restored from an older backup
// and went on otherwise has another history than a base that was taken before
// it was lost, and so has another source's.
func (b *Backup) continues(base *Backup, floor change.Version) error {
	refuse := func(format string, args ...any) error {
		return &BackupBaseError{Base: base.ID, What: fmt.Sprintf(format, args...)}
	}
	mine, its := &b.Watermark, &base.Watermark
	switch {
	case base.ID == BackupID{} || base.Catalog == nil:
		return refuse("its header is not complete")
	case its.Birth != mine.Birth:
		return refuse("it is of another store, whose history begins at %s, while this one's begins at %s", its.Birth, mine.Birth)
	case its.Version > mine.Version:
		return refuse("it goes up to %s, while the store has applied %s", its.Version, mine.Version)
	case base.StoreFormat != b.StoreFormat:
		return refuse("it has format %d of the store, which has format %d by now", base.StoreFormat, b.StoreFormat)
	case floor > its.Version:
		// What came after the base may be removed already, and so may be what says
		// that something in the base is gone.
		return refuse("it ends at %s, and history before %s was removed since", its.Version, floor)
	case !b.sameFeed(base):
		return refuse("the feed was begun anew since, otherwise than it tells")
	case !base.Catalog.within(b.Catalog):
		return refuse("it holds tables or columns that the store does not have")
	}
	return nil
}

// sameFeed says whether the base's moment lies in the epoch of the feed in which
// the store has it, behind the same gaps.
func (b *Backup) sameFeed(base *Backup) bool {
	gaps, its := b.Gaps, base.Gaps
	open := len(its) > 0 && its[len(its)-1].To == 0
	for i := range its {
		if i >= len(gaps) || gaps[i].From != its[i].From || gaps[i].Epoch != its[i].Epoch || gaps[i].Origin != its[i].Origin {
			return false
		}
		if last := i == len(its)-1 && open; gaps[i].To != its[i].To && !last {
			return false
		}
	}
	if open {
		// It closed, if it did, after the base: by a backfill that the base lacks.
		to := gaps[len(its)-1].To
		return to == 0 || to > base.Watermark.Version
	}
	epoch, origin, end := b.Watermark.Epoch, b.Watermark.Origin, b.Watermark.Version
	if len(gaps) > len(its) {
		next := gaps[len(its)]
		epoch, origin, end = next.Epoch, next.Origin, next.From
	}
	return base.Watermark.Epoch == epoch && base.Watermark.Origin == origin && base.Watermark.Version <= end
}

// within says whether another catalog has all that c has, at the same places.
func (c *catalog) within(other *catalog) bool {
	if len(c.Entities) > len(other.Entities) || len(c.Tables) > len(other.Tables) {
		return false
	}
	for i, e := range c.Entities {
		if other.Entities[i] != e {
			return false
		}
	}
	for i := range c.Tables {
		if !c.Tables[i].within(&other.Tables[i]) {
			return false
		}
	}
	return true
}

func (t *catalogTable) within(other *catalogTable) bool {
	if t.Name != other.Name || t.Entity != other.Entity || t.By != other.By ||
		len(t.Key) != len(other.Key) || len(t.Columns) > len(other.Columns) {
		return false
	}
	for i := range t.Key {
		if other.Key[i] != t.Key[i] {
			return false
		}
	}
	for i := range t.Columns {
		if other.Columns[i] != t.Columns[i] {
			return false
		}
	}
	return true
}
