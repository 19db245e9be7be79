// Package cdc captures the changes of a PostgreSQL database and carries them in
// a JetStream stream.
//
//	PostgreSQL ──pgoutput──▶ Source ──rows──▶ messages ──▶ Publisher ──▶ stream ──▶ Reader ──▶ change.Batch
//
// # The source half
//
// Files source*, check*, publication*, slot*, backfill*, replicate* and version*
// own the conversation with PostgreSQL: they check that the database can be
// followed, keep publication and slot, read the first state through COPY in the
// slot's snapshot, follow the log, and give each transaction its version. While
// changes are followed, watch.go checks the source again and again, and
// pressure.go measures how much log it keeps for us.
//
// Files address*, session.go, key_pkcs8.go, connect_error.go and sqlstate.go open
// sessions: which settings the text of values depends on, what of an address is
// taken from where, and whether an error passes by itself or what mends it.
//
// Files snapshot* show the tables as of an exact position of the log to whoever
// asks, without a slot that stays: for refills, and to compare source and store.
// Files refill* read tables once more so, beside the changes, into a file
// ([Source.Refill]), and put them into the stream as one transaction between two
// others: tables that were in doubt, and what the definition has gained.
//
// # The stream half
//
// Files pgoutput* decode the messages of logical replication (protocol version
// 1, text format) and lines of COPY text. Everything is checked against the bounds
// of its input before it is read or allocated; no input makes them panic. Values
// borrow the message that they were decoded from.
//
// Files frame* put transactions into stream messages and take them out again:
// docs/FORMAT.md draws the format. Small transactions share a message, a large one
// is cut into parts, a row above the server's largest message travels ahead in
// fragments. What a reader could not decode does not get into the stream: rows are
// checked when they are framed, and each message is checked to continue the chain
// before it is published. [Decoder] reads messages; [CheckChain] says whether one
// continues another.
//
// Files log* own the stream. [OpenLog] runs a JetStream server inside the process,
// or connects to an external one. A [Publisher] publishes in a pipeline, each
// message exactly once and in order, across lost connections and restarts; a
// full stream makes it wait, and nothing is ever discarded. A [Reader] hands out
// the messages in order, the newest from the memory of the publisher beside it; a gap,
// a broken chain, or a stream that was made anew is a typed error. [Log.Locate] finds where in the stream a store stands.
//
// Files replay* read the stream as it is stored, behind a place and up to its end
// when it was asked: [Log.Follows] and [Log.Messages] where it is open, and the same
// as records for a process that has to ask another one ([AppendPassage],
// [AppendMessage]). [Replay] checks and decodes what any of these give.
//
// What a restart compares with the server is kept with the stream: origin and
// positions in its last message (slot.go), the identities of publication and slot
// in its metadata (publication_identity.go, slot_identity.go, log_note.go). Where a feed cannot
// go on, [PlanReset] begins a new epoch behind what the store holds; an external
// stream that has lost messages is replaced by [Log.Renew] and goes on from the
// store.
//
// # Promises
//
//   - I1: with the embedded server an acknowledgement means that the message is
//     synced to disk ([Log.Durable]). An external server's acknowledgement does
//     not: there PostgreSQL may be confirmed only what the store has synced.
//   - I4: a transaction's rows come in the order and with the ordinals that the
//     source sent them, and its last part is marked.
//   - I9: what cannot be decoded is a typed error that names the place, never a row
//     that is passed over. Errors and log records hold no values of rows.
//   - I10: the publisher holds at most 32 MiB or one message, a reader at most twice
//     the largest message and what its consumer has not taken, a [Decoder] one
//     row of at most MaxRowBytes.
//
// # What it does not do
//
// It does not filter or interpret rows, and knows nothing of features, entities
// or the store. It does not look for duplicates by message id: the order is held by
// expected sequences and by comparing what the stream holds. A second process that
// writes to the same stream is found out ([ErrNotSingleWriter]), not tolerated.
package cdc
