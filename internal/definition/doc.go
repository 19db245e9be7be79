// Package definition loads the file that describes a feature set: which tables
// and columns are read, what an example is, how each column of the dataset
// comes about, and how private it is. No other package knows a name of a
// table, a column or a label.
//
// # The file
//
// A definition is one YAML document with these keys, in any order:
//
//	format       the number of the format, 1
//	name, doc    what the feature set is called, and what one row means
//	timezone     zone of timestamps without zone, UTC if absent
//	entities     kinds of things that rows belong to
//	tables       source tables: entity, by, key, created, updated, columns
//	example      what one row of the dataset is: table, id, time, outcome, maturity, immature, needs
//	rows         rows that belong to an example, by entity, by match, or the last event
//	labels       status, outcomes (the first that holds), goal, sampled, window, censored, decide, recall
//	maps         labels of texts
//	values       intermediate results, never released
//	columns      the dataset's columns, in their order
//	cleaning     outliers
//	privacy      rare values and small groups
//	metadata     figures of the metadata's labels block
//	report       charts
//	gates        limits beyond which the report warns; absent ones never do
//	defaults     defaults of flags
//
// A reference is written row.column, where row is example or one of rows; a
// bare name is a value, or a column that stands above. A list of one may be
// written as its element. Lengths of time are 90d, 12h, 30m, 10s; sizes 10MB
// (powers of 1024). Texts are taken as they are written: 12 and "12" are equal.
//
// # When an outcome counts
//
// Without any of these keys the outcome of an example is the first one whose
// statuses hold the status, or whose moment is set, in the last version known at
// the as-of moment T, whenever it came. An outcome has name and score, and
// statuses, a moment, or both; only the last has neither.
//
//	example.maturity   age below which an example is reported as immature, 7d if absent
//	example.immature   keep (if absent) or drop: immature examples are left out
//	labels.window      W: an outcome counts only if it comes at or before t + W
//	labels.censored    keep (if absent) or drop: examples with t + W after T are left out
//	labels.decide      rank (if absent): the first that holds; latest: the one with the latest
//	                   moment, by rank if moments tie or one that holds has none
//	labels.recall      lengths of time after which the share of final goals is measured,
//	                   [1d, 7d, 14d, 30d] if absent
//	unless             of an outcome: it does not count while the status is one of these
//	quality: censored  of a bool column: whether t + W lies after T
//
// With a window a moment decides by itself, whenever it was recorded and even if
// it lies before t; an outcome without one counts by the status of the last
// version known at min(T, t + W), which is also the status that unless looks at.
// A censored example is so whatever its outcome. The window speaks of outcomes:
// other columns of role label are read from the last version known at T.
//
// # What a column must have
//
// A type, a class, a doc, and exactly one of value, element, bound, total,
// lookup, bins, part, age, between, count, mean, since, member, joined,
// constant, cel, label, pseudonym, quality; or alias alone. The role is feature
// if absent. The rule for missing values is, if absent: none for a required
// column; UNKNOWN for a string; null for other labels and timestamps; false for
// a bool; zero for a count; the median for other numbers.
//
// # What is refused
//
// Load checks everything before anything is read from a source, and reports
// all faults at once with their lines. Beyond the plain mistakes it refuses
// what would harm whoever trains on the dataset or stands in it: a column
// without class, an identifier that would leave otherwise than as a pseudonym,
// and a feature that tells the outcome.
//
// # Expressions
//
// A where, and a column's cel, are CEL expressions (cel.dev), type-checked when
// the file is loaded. A where sees row.column; a column's sees what a
// reference may name. Any column may be null. Null equals null and nothing
// else, so row.status in ["A"] does not hold and row.status != "A" does. As in
// SQL an expression that read a null and cannot be evaluated (row.n > 5) is
// null itself: a filter then does not hold, a column is missing. Any other
// failure is an error for the caller to count, with the same result. A field
// of JSON has any type: has(row.data.field) asks for it, double() and its like
// convert it. An expression has at most 4096 characters, and macros over lists
// are bounded in what they may cost.
//
// The package does no I/O and keeps no state.
package definition
