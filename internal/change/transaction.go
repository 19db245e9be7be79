package change

// Kind tells where a transaction comes from.
type Kind uint8

const (
	// Live is a transaction that the source committed and replication sent.
	Live Kind = 1
	// Backfill is the first reading of the published tables, in one exported
	// snapshot; all of it is one transaction with one version.
	Backfill Kind = 2
	// Refill is a later re-reading of tables.
	Refill Kind = 3
)

// Table names a table of the source.
type Table struct {
	Schema, Name string
}

// Scope says what a backfill or refill read, and what of it counts: a store
// that holds rows already compares them with it (DESIGN §5).
type Scope struct {
	// Low is the version of the last transaction that the snapshot saw. A row
	// that a later one changed is left to the stream.
	Low Version
	// Tables are the tables that were read whole: a row of them that the snapshot
	// lacked, and that no transaction after Low brought, is gone.
	Tables []Table
}

// Op is what happened to a row.
type Op uint8

const (
	// Insert is a row that came to be; Row.New holds it.
	Insert Op = 'I'
	// Update is a changed row: Row.New holds it, with unchanged large values
	// as ValueUnchanged; Row.Old holds the old key or row when the source sent it.
	Update Op = 'U'
	// Delete is a row that went; Row.Old holds its key (or the whole old row).
	Delete Op = 'D'
	// Truncate empties a whole table; neither Old nor New is set.
	Truncate Op = 'T'
)

// ValueKind tells what a column of a change holds.
type ValueKind uint8

const (
	// Null is SQL NULL.
	Null ValueKind = 'n'
	// Unchanged is a large value that the update did not touch and the source
	// did not send (an unchanged TOAST value).
	Unchanged ValueKind = 'u'
	// Text is a value in PostgreSQL's text format, under the pinned session
	// settings of DESIGN §3.
	Text ValueKind = 't'
)

// Value is one column of a changed row. Text borrows the memory of the batch
// that it came in.
type Value struct {
	Kind ValueKind
	Text []byte
}

// Column describes a column of a Relation.
type Column struct {
	Name string
	// Type is the OID of the column's PostgreSQL type.
	Type uint32
	// Modifier is the type modifier, -1 when there is none.
	Modifier int32
	// Key says that the column is part of the table's replica identity.
	Key bool
}

// Relation describes a table as the source published it at one point of the
// log. A Relation is immutable; a change of the table makes a new one, so that
// its pointer may key a cache.
type Relation struct {
	ID      uint32 // OID of the table
	Schema  string
	Name    string
	Replica byte // replica identity: 'd', 'n', 'f' or 'i'
	Columns []Column
}

// Row is one change of one row. Old and New have one value for each column of
// the Relation, in its order.
type Row struct {
	Relation *Relation
	Op       Op
	// Ordinal is the change's place in its transaction, counted from 0 over all
	// rows as received, before any filter.
	Ordinal uint32
	// Old is nil when the source sent no old values. OldFull says that it is a
	// whole old row (REPLICA IDENTITY FULL); otherwise only the identity's
	// columns are set and the others are Null.
	Old     []Value
	OldFull bool
	New     []Value
}

// Transaction is a source transaction, or one part of a large one.
type Transaction struct {
	Kind    Kind
	Version Version
	// CommitTime is the source's commit time as sent, in microseconds since
	// the Unix epoch; Version may differ from it (DESIGN §4).
	CommitTime int64
	CommitLSN  LSN
	EndLSN     LSN
	XID        uint32
	// Part counts the parts of the transaction from 0; Last marks the one that
	// completes it. A transaction in one piece is part 0 and last.
	Part uint32
	Last bool
	// Scope is set in part 0 of a Backfill or Refill, and nowhere else.
	Scope *Scope
	Rows  []Row
}

// Tick says that nothing more will come at or before Moment: the source was
// idle up to LSN.
type Tick struct {
	Moment Version
	LSN    LSN
}

// Entry is one thing that a stream message says, in order. Exactly one of its
// fields is set.
type Entry struct {
	Transaction *Transaction
	Tick        *Tick
	// Abandoned is the version of a transaction or backfill of which parts were
	// published and which will never be completed: readers skip its rows.
	Abandoned Version
}

// Header is what every stream message carries beside its entries: the chain
// (DESIGN §4) that lets a reader prove that it missed nothing.
type Header struct {
	Origin Origin
	Epoch  Epoch
	// First and Last are the lowest and highest version in the message; for a
	// message that only abandons a version they equal Previous.
	First, Last Version
	// Previous is the Last of the message before, 0 in the first of a feed.
	Previous Version
	// CommitLSN and EndLSN are those of the newest transaction or tick begun here.
	CommitLSN, EndLSN LSN
	// Resume is where replication starts again after this message: the end LSN
	// of the newest complete transaction or tick at or before this message.
	Resume LSN
	// Part is the part number of the transaction that the message's last entry
	// belongs to; Open says that the transaction goes on in the next message.
	Part uint32
	Open bool
	// OpenKind is the kind of the open transaction.
	OpenKind Kind
	// FirstOrdinal and NextOrdinal are the ordinal of the message's first row,
	// and one past the ordinal of its last.
	FirstOrdinal, NextOrdinal uint32
}

// Batch is one stream message. Its rows borrow the message's memory: who keeps
// a value beyond the call that received the batch copies it.
type Batch struct {
	// Incarnation is the identity of the stream, Sequence the message's place in it.
	Incarnation uint64
	Sequence    uint64
	Header      Header
	Entries     []Entry
	// Bytes is the size of the message as carried.
	Bytes int
}
