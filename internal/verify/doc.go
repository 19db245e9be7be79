// Package verify compares the rows of two sides, such as a database and the
// store that was fed from it, and names the keys at which they differ.
//
// Both sides must stand still: a snapshot and a view as of the same position.
// Each is read once, in any order and by as many goroutines as it likes. Its
// rows fall into parts by the hash of their key; of each part a count and a
// checksum are kept, the sum of a 128-bit hash of every row, which does not depend
// on the order. Where no part differs, the sides are equal, and nothing more is
// done. Else both are read once more, and of the parts that differ every key is
// held with the hashes of its columns, which shows what differs and where. If
// that were too many keys, the parts that differ are first cut into smaller ones,
// up to three times.
//
//	first   source ─┐                        ┌─ store
//	                ├─▶ count, checksum  ◀───┤     of 16,384 parts a table
//	again   source ─┤                        ├─ store
//	                ├─▶ count, checksum  ◀───┤     of pieces of those that differ
//	last    source ─┤                        ├─ store
//	                └─▶ key, column hashes ◀─┘     of what still differs
//
// The parts are cut by hash and not by key order, since neither side can read a
// range of keys faster than all of them, and a hash makes parts of equal size
// without knowing the keys. The hashes are seeded anew in each comparison: that
// two different sides look equal takes a collision of 128 bits that nobody can
// prepare.
//
// A row's hash covers every column, with NULL, the empty text and a column that
// the store has not captured told apart. Values are hashed as the text that the
// source wrote.
//
// # Promises
//
//   - Memory is bounded: 768 KiB for each table, and Config.MaxKeys keys with a few
//     hundred bytes each. Differences beyond that are counted, not named.
//   - The report holds keys and names of columns, and no other value.
//
// # What it does not do
//
// It knows neither PostgreSQL nor the store: the sides are two small interfaces.
// It mends nothing.
package verify
