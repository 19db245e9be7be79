// Package pit is the point-in-time join: from an entity's history to the
// features of its examples as they were known at each example's cut-off
// (DESIGN §6). It reads a View, knows no file format and keeps no state
// between entities, so that the same code answers for a training example and
// for an online request.
//
//	definition + catalog ──Compile──▶ Program ──NewJoiner──▶ Joiner (one a goroutine)
//	View ──LoadRelated──▶ RelatedStore ─────────────────────────┘ │
//	View ──Scan──▶ history.Entity ──────────────── Joiner.Entity ──▶ Example …
//
// # What it promises
//
//   - No feature rests on a version that was known after the example's cut-off,
//     unless the example says that it is inexact (I5).
//   - What an example gets depends on the history up to T only: not on the order
//     of rows and entities, the number of joiners, or what was joined before
//     (I6, DESIGN §6.6).
//   - Nothing is looked at as it was before the horizon T − window, so that a
//     history of which retention removed what lies behind it gives the same
//     (I7, ADR 0014).
//   - A value that its rule makes missing because the source holds what it should
//     not is counted by column and reason; one that is merely absent is not. A row
//     that cannot be decoded ends the join with an error (I9).
//   - A row version is decoded once, and what is derived from it alone (a vector, a
//     filter, an event time) is derived once, for all examples that see it.
//
// # How the rules are read where DESIGN §6 leaves room
//
//   - An example whose row was deleted and inserted again is one example: moment,
//     id and features are those of the first version held. One whose row changed
//     its entity belongs to the entity that holds it last at T, and its first
//     version held is that with which it came there.
//   - An example that was recorded live at or before the horizon, ahead of its
//     own moment, is what the version says that holds there; its cut-off is the
//     horizon, and it is inexact.
//   - An example's own row takes no part in aggregates over its table.
//   - A creation column that is NULL, or holds no moment, counts as none.
//   - A column that the chosen version did not capture is that of the oldest newer
//     version that did, up to the row's deletion; it makes the example inexact,
//     also if no version captured it.
//   - Rows that tie are ordered by known time, then by the text of their key.
//   - What a Member, a Count or a Mean is over is inexact as soon as any row of the
//     table was chosen by rule (b), whether or not it passed the filter. Of rows
//     found by match only those that match count.
//   - An example whose cut-off lies in a gap of the history (history.Gap) is
//     inexact, whatever its features rest on; at its ends it is not.
//   - Lateness is that of rows inserted live after the horizon, by their first
//     version (Lateness says what is exact).
//   - Outcome columns and what only the gates compare make no example inexact.
//
// # Requests
//
// A Request is an example that is not written yet (ADR 0017). Its own row is one
// synthetic version right after the moment asked for; all else is as for an
// example. The Status of each value is decided so:
//
//   - A value is inexact when its step, or a row or value that it rests on, was: by
//     rule (b), by a column taken from a newer version, or in a gap, unless it rests
//     on the request alone.
//   - A missing value is never_seen or deleted because of the first thing, in the
//     order of the definition, of which there is nothing; else it is null. Of
//     alternatives (the objects of a bound, the ends of a time between) one is enough.
//   - A row that a filter passes over, or whose event is not before t, is not
//     there. It is deleted if its last version before that would have counted; of one
//     of which only the tombstone is left nobody knows, where there is a filter.
//   - A count or a member of nothing is a value, and present. A mean is null while
//     the entity holds any row of the table.
//   - What retention has removed was never seen, as far as a status can tell.
//
// # Cost
//
// An example costs time in proportion to the rows of its entity in the tables
// read, not to their versions, and memory in proportion to one entity, beside
// the related rows: their index (20 bytes a key), a budget for the rest, and at most
// 72 MiB of what was derived of them, which all joiners share (ADR 0024), beside an
// index of its texts for each joiner.
package pit
