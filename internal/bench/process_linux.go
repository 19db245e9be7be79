package main

import (
	"errors"

	"golang.org/x/sys/unix"
)

// awaitZombie returns when a child has ended and is not reaped yet, so that what
// it has used in all can still be read.
func awaitZombie(pid int) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
