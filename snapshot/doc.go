// Package snapshot builds a training dataset from a view of the feature store:
// the ten steps of the dataset contract, from candidates to a published version
// directory with train and test Parquet, metadata and a quality report. Or it
// stops after step 5 and publishes the rows as they are then.
//
// # The passes
//
// Workers join the entities' histories (package pit) and append each example to
// a spill on disk (package spill), in one of 256 partitions by the first byte of
// its entity's pseudonym. Each later decision is one pass over the few columns
// that it needs, all partitions in parallel:
//
//	join → spill ─┬─ border of the sampled rows            (step 7)
//	              ├─ exact sums of the outlier columns     (8c)
//	              ├─ users by value, then by list          (9, rare values)
//	              ├─ users by group                        (9, small groups)
//	              ├─ rows by class, border of the test rows (10)
//	              ├─ medians of the train rows             (10)
//	              └─ partition by partition: filter, map, fill, sort → Parquet
//
// StageFeatures writes the rows of step 5 instead, with what pit.Fill makes of
// each value, as an online answer shows it:
//
//	join, fill → spill ── partition by partition: sort → Parquet
//
// # What it promises
//
//   - I6: the same view, definition, settings, version name, key and program
//     give the same bytes. Every decision is a function of a set of rows: sums
//     are exact, borders are by (hash, id), medians by counting, and the rows of
//     a file are in a total order. Workers and scan order change nothing.
//   - I7: no choice looks at anything but rows that exist at the as-of moment.
//   - I8: raw ids are hashed with a keyed hash before they are written; the
//     spill, which holds ids of examples, has no name on disk where the system
//     allows it, and never outlives the process there.
//   - I10: memory holds the partitions in work, counters, the distinct values of
//     quasi-identifying text columns, where each chunk of the spill lies and two
//     bits a row, but never the rows.
//   - The funnel adds up exactly, or the build fails.
//   - A version appears whole, by one rename of a finished and synced
//     directory, or not at all; one that exists is never touched.
//
// # What it does not do
//
// It reads no database and no flags, decides no point in time (package pit) and
// draws nothing (package report).
package snapshot
