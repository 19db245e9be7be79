//go:build !linux

package main

import "time"

// pause waits until a moment.
func pause(until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	<-timer.C
}
