package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	homePattern = "dreamfeed-pgtest-"
	lockName    = "owner.lock"
	// abandonedAfter is how old an unlocked directory must be before it counts
	// as left behind: its owner creates and locks it in two steps.
	abandonedAfter = time.Minute
)

// home is a temporary folder that holds one data directory. Its lock file stays
// locked as long as the owning process lives, so that others can tell a folder
// in use from one that a killed process left behind.
type home struct {
	dir  string
	lock *os.File
}

func newHome() (*home, error) {
	removeAbandoned(os.TempDir())
	dir, err := os.MkdirTemp("", homePattern)
	if err != nil {
		return nil, fmt.Errorf("make a directory for the server: %w", err)
	}
	h := &home{dir: dir}
	// The server may run as another user, who must be able to enter.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("make a directory for the server: %w", err), h.remove())
	}
	if h.lock, err = lockFile(filepath.Join(dir, lockName)); err != nil {
		return nil, errors.Join(fmt.Errorf("make a directory for the server: %w", err), h.remove())
	}
	return h, nil
}

func (h *home) remove() error {
	err := os.RemoveAll(h.dir)
	if h.lock != nil {
		err = errors.Join(err, h.lock.Close())
	}
	return err
}

// lockFile opens path, made when missing, and locks it without waiting.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// removeAbandoned removes the folders below temp whose owners died without
// removing them. It does what it can: what it may not touch is somebody else's.
func removeAbandoned(temp string) {
	dirs, err := filepath.Glob(filepath.Join(temp, homePattern+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < abandonedAfter {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		lock, err := lockFile(filepath.Join(dir, lockName))
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		lock.Close()
	}
}
