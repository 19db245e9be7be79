//go:build unix

package cdc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dirLock keeps a second process out of the embedded server's directory, which
// the server itself does not.
type dirLock struct{ file *os.File }

// lockDir takes the lock, which ends with the process at the latest.
func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("lock %s: %w", f.Name(), err)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: another ingest uses this directory: stop it, or give another one", err)
		}
		return nil, errors.Join(err, f.Close())
	}
	return &dirLock{f}, nil
}

// release gives the lock back.
func (l *dirLock) release() error { return l.file.Close() }
