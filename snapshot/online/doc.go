// Package online answers which features an example would have that were written
// now: for a model that serves, by the same function that makes the rows of the
// dataset (package pit), so that there is no skew between the two (DESIGN §6).
//
//	GET, POST ─▶ handler ─▶ Service ─▶ moment {view, version} ─▶ pit.Joiner ─▶ answer
//	                           │            ▲
//	                           └─ base {program, index, joiners} ◀─ Watch (what changed)
//
// # What it promises
//
//   - Everything that one answer shows is of one view at one closed moment, the
//     newest one when the question came (I4). The answer names it, and its age.
//   - The values are those of step 5 of the dataset (pit.Fill), in the order of
//     the definition, with a status each (pit.Status). An example that is written
//     right after has the same values in the dataset.
//   - Who is not known is answered all the same: with counts of 0 and values that
//     were never seen, so that a new entity can be scored.
//   - With a limit of staleness an answer that would be older is refused.
//   - Memory is bounded by the number of entities of related kinds (some 100 bytes
//     for each of their keys) and by Options.CacheBytes; a question by the limits
//     of its body and items (I10).
//   - No id and no value is in a log line, a metric, or an error that is logged (I8).
//
// # What it does not
//
// It does not fill medians, which are those of a dataset's train rows, does not
// thin out, drop or anonymise rows: those are later steps. History that retention
// has removed is gone: below the floor it cannot say whether a row was deleted or
// never seen, and a moment there is refused.
//
// # How related rows are found
//
// An entity that is matched by its own id is read by that. Of kinds that are found
// by other columns one scan makes an index of all keys that their rows ever had;
// what it finds too much, pit passes over. From then on the store's Watch names
// what was touched: its keys are added, and its number is changed, so that the
// joiners, which keep decoded histories by number, read it again. When the
// watch has lost count, or a table was truncated, the index is built anew.
package online
