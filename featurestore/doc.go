// Package featurestore keeps every version of every feature row in an embedded
// Badger database, and hands out views of it as of any closed moment.
//
//	stream ──Input──▶ Run ─ check the chain ─ encode ─ group ─▶ Badger
//	                                                             │
//	     snapshot, online features ◀── View ◀── Ranges, Scan ◀───┘
//	     another process           ◀── NewHandler … Dial
//
// What it promises:
//
//   - A group of messages is written before the watermark that says so, and that
//     before it is published. What Durable reports no crash takes back (I2): of a
//     store that is Replayable what lies in tables, of any other all that Watermark
//     reports. A store after any crash, restart or redelivery equals the store
//     without it (I3).
//   - A view shows whole transactions only, in commit order, and never changes
//     (I4): versions above the watermark are invisible, abandoned ones skipped.
//   - What a view promises is not removed while it is read: it holds a lease, which
//     every read renews, and the retention floor never passes a lease. A remote
//     scan that is cut off goes on with the next entity, also at a daemon that was
//     started anew on the same store.
//   - A refill leaves the store as if its tables had been followed all along: rows
//     that differ get a version, rows that it does not bring a tombstone, and
//     changes that came after it was read are kept. What a new definition lacks
//     until then is told (Store.Unfilled).
//   - A feed that was begun anew (an epoch) leaves a gap: no view is given of a
//     moment within it, and views behind it name it.
//   - What cannot be resolved, decoded or held stops Run with a typed error that
//     names table and position; no row is skipped, defaulted or nulled (I9).
//   - A backup is of one moment, taken beside the writer; a store made of backups
//     shows at every moment what the original showed, and becomes the same store
//     when it has applied the same messages.
//   - Memory is bounded by Options.Memory, two groups and one row, not by the
//     size of a transaction or table (I10). A scan holds one entity at a time.
//   - A store that is rebuilt as of a moment (Rebuild), of a backup or of nothing and of
//     the stream behind it, shows at that moment and before what the live one does (I7).
//     With a Ledger it never holds who is erased.
//
// What it does not: erase what is held already. Nor does it remove history by itself:
// Sweep does, beside Run, below a retention floor that never falls, and that passes no
// lease, kept version or open refill.
//
// # Keys
//
// All keys of the database, most significant byte first ("^x" is the bitwise
// complement, so that newer sorts first):
//
//	meta      00 | name
//	row       10 | kind u8 | entity | table u16 | key | ^version u64 | ^ordinal u32 [| piece u32]
//	locator   20 | table u16 | key | ^version u64 | ^ordinal u32        → kind u8 | entity
//	truncate  30 | table u16 | ^version u64 | ^ordinal u32
//	void      40 | version u64
//	sample    50 | ^version u64                                      → end LSN u64
//	index     60 | epoch u32 | end LSN u64 | version u64             → further (end LSN, version)
//	found     70 | version of a refill u64 | row or locator key without version
//
// docs/FORMAT.md has the boxes; testdata/keys.golden pins the bytes.
package featurestore
