// Package alloctest measures for tests how much memory a call takes, so that
// decoders can be shown to allocate for what is there, not for what is claimed.
//
// What it does not: tell a call's own memory from that of other goroutines.
package alloctest

import (
	"math"
	"runtime"
)

// Bytes returns how many bytes a call allocates: the least of some runs, since
// other goroutines of the test binary may allocate too.
func Bytes(fn func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		fn()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}
