// Package history is the shape in which the feature store hands out what it
// knows: an entity with its rows, each row with all its versions up to a
// moment. The store fills it, the dataset and the online features read it.
package history

import (
	"slices"

	"dreamfeed/internal/change"
)

// Version is one version of one row. Data borrows the reader's memory: it is
// valid until the callback that received it returns.
type Version struct {
	// Version and Ordinal order the versions of a row, and of all rows.
	Version change.Version
	Ordinal uint32
	// Known is when the system could first have known this version, in
	// microseconds since the Unix epoch (DESIGN §6): Version itself for a live
	// change, at most the moment of the backfill for a backfilled row.
	Known int64
	// Backfilled says that the version came from the first reading of its table.
	Backfilled bool
	// Deleted says that the row was gone with this version; Data is empty then.
	Deleted bool
	// Moved says of a Deleted version that the row did not go but changed its
	// entity or key: it lives on elsewhere from the same (version, ordinal).
	Moved bool
	// Arrived says of a version that its row did not begin with it, even if
	// nothing older is held here: it came from another entity or key, or was
	// brought by a refill or by the backfill of a later epoch.
	Arrived bool
	// Data is the row in the codec of internal/row.
	Data []byte
}

// Row is one row of one table, its versions newest first, never empty.
type Row struct {
	// Table is the number of the row's table in the catalog.
	Table uint16
	// Key is the encoded primary key, unique within the table; its bytes are
	// only good for equality.
	Key      []byte
	Versions []Version
}

// Entity is all that is known of one entity: its rows ordered by (table, key).
// Truncated tables and abandoned transactions are resolved already: a row that
// a TRUNCATE removed has a Deleted version, void versions are left out.
type Entity struct {
	// ID is the entity's id as the source writes it (the text of its column).
	ID   string
	Rows []Row
}

// Clone copies the entity and all that it holds, in memory of just that size.
func (e *Entity) Clone() *Entity {
	var versions, bytes int
	for i := range e.Rows {
		versions += len(e.Rows[i].Versions)
		bytes += len(e.Rows[i].Key)
		for j := range e.Rows[i].Versions {
			bytes += len(e.Rows[i].Versions[j].Data)
		}
	}
	all, arena := make([]Version, 0, versions), make([]byte, 0, bytes)
	keep := func(b []byte) []byte {
		start := len(arena)
		arena = append(arena, b...)
		return arena[start:len(arena):len(arena)]
	}
	c := &Entity{ID: e.ID, Rows: slices.Clone(e.Rows)}
	for i := range c.Rows {
		r := &c.Rows[i]
		start := len(all)
		all = append(all, r.Versions...)
		r.Key, r.Versions = keep(r.Key), all[start:len(all):len(all)]
		for j := range r.Versions {
			if v := &r.Versions[j]; v.Data != nil {
				v.Data = keep(v.Data)
			}
		}
	}
	return c
}

// Range is a part of an entity kind's key space, from From (inclusive) to To
// (exclusive, nil for the end), made by a view and only meaningful to it.
type Range struct {
	From, To []byte
}

// Table is a table as the store holds it. Slots are for ever: a column keeps
// its place when others come and go, so that old rows stay readable.
type Table struct {
	ID     uint16   `json:"id"`
	Name   string   `json:"name"` // as in the definition
	Entity string   `json:"entity"`
	Key    []string `json:"key"`
	// Columns are the names by slot.
	Columns []string `json:"columns"`
}

// Slot returns the place of a column in the table's rows, -1 if it has none.
func (t *Table) Slot(column string) int {
	for i, c := range t.Columns {
		if c == column {
			return i
		}
	}
	return -1
}

// Gap is a time of which changes are missing, because a feed was begun anew
// (a new epoch): history is whole up to From and again from To on. A view as of a
// moment between is refused; a feature as of one is inexact.
type Gap struct {
	From change.Version `json:"from"`
	// To is the version of the backfill that ended the gap, 0 while it is open.
	To change.Version `json:"to,omitempty"`
}

// Holds says whether the moment lies in the gap.
func (g Gap) Holds(v change.Version) bool { return v > g.From && (g.To == 0 || v < g.To) }

// Info describes a view: what it was taken of, and how far it can be trusted.
type Info struct {
	// AsOf is the moment of the view: it holds the versions at or before it.
	AsOf change.Version `json:"as_of"`
	// Applied is the newest version that was applied when the view was taken.
	Applied change.Version `json:"applied"`
	// LSN is a position of the source at or shortly before AsOf (within a second
	// of transactions): all that committed up to it is in the view. It depends on
	// AsOf alone.
	LSN change.LSN `json:"lsn"`
	// Birth is the version of the first backfill: nothing is known before it.
	Birth change.Version `json:"birth"`
	// Floor is the retention floor: history is whole at and after it. It equals
	// Birth until something was removed.
	Floor  change.Version `json:"floor"`
	Epoch  change.Epoch   `json:"epoch"`
	Origin change.Origin  `json:"origin"`
	// Gaps are the times before AsOf of which changes are missing, oldest first.
	Gaps       []Gap   `json:"gaps,omitempty"`
	Definition string  `json:"definition"` // hash of the definition in force
	Tables     []Table `json:"tables"`
}

// Table returns the table with the given name, nil if the store has none.
func (i *Info) Table(name string) *Table {
	for n := range i.Tables {
		if i.Tables[n].Name == name {
			return &i.Tables[n]
		}
	}
	return nil
}
