// Package labels says what an interaction is worth and which examples a
// dataset keeps: the outcome of an example and whether it came in time, its
// maturity, how soon the goal was reached, the hash that every random choice rests
// on, and the arithmetic of negative sampling and of the split into train and test
// (CONTRACT, steps 6, 7 and 10).
//
// Everything here is a pure function of its arguments. Nothing reads a clock, a
// file or a random source, no result depends on the order in which examples
// come or on the number of workers (DESIGN §6.6), and ratios are exact decimals,
// so that 0.1 of 10 is 1 on every machine.
//
// The package does not know where examples are kept: a choice of "the m
// smallest by hash" is made in two passes over (hash, id) pairs, in memory that
// does not grow with their number; see [Selector].
package labels
