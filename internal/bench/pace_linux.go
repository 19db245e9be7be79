package main

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// pause waits until a moment. It keeps its thread: the runtime's own timers may be
// a millisecond late on an idle machine, which is more than what is measured.
func pause(until time.Time) {
	for {
		left := time.Until(until)
		if left <= 0 {
			return
		}
		t := unix.NsecToTimespec(left.Nanoseconds())
		if err := unix.Nanosleep(&t, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
