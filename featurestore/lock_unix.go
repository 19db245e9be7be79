//go:build unix

package featurestore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes a lock on f for as long as it is open; held says that another
// process has a lock that excludes it.
func lockFile(f *os.File, shared bool) (held bool, err error) {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
