// Package durable names the steps by which something gets to disk, or by which
// somebody is told that it is there, and has the one way in which a file is
// replaced. Each package that takes such a step calls its Hook right before, so
// that tests can pin the order of the steps, and fail or kill the process at
// every one of them (docs/ARCHITECTURE.md lists what holds after each).
//
// It knows nothing of what is written, and keeps no state.
package durable
