//go:build unix

package snapshot

import (
	"errors"
	"os"
	"syscall"
)

// locks says whether directories can be locked here.
const locks = true

// lockDirectory locks an open directory until it is closed or the process
// ends. locked is false if another process (or open file) holds the lock.
func lockDirectory(f *os.File) (locked bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
