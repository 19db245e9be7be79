// Package change is the vocabulary of a change: what cdc emits and the feature
// store applies. It holds plain data types only, no I/O and no policy.
//
// A source transaction becomes one [Transaction]; the stream carries
// transactions in [Batch] values, one batch a stream message. A batch holds
// whole transactions or one part of a large one. Every transaction has a
// [Version], assigned once by the publisher, strictly increasing in commit
// order: the version is the only global order that anything relies on.
package change
