package featurestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"dreamfeed/internal/durable"
)

// acquire takes the lock file. Badger has a lock of its own, whose error
// cannot be told from others.
func (s *Store) acquire() error {
	path := filepath.Join(s.dir, lockName)
	flags := os.O_RDWR | os.O_CREATE
	if s.readOnly {
		flags = os.O_RDONLY
		if _, err := os.Stat(filepath.Join(s.dir, manifestName)); errors.Is(err, os.ErrNotExist) {
			return &MissingError{Dir: s.dir}
		}
	} else if err := os.MkdirAll(s.dir, storeDirectory); err != nil {
		return fmt.Errorf("create the store's directory: %w", err)
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return &MissingError{Dir: s.dir}
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("open the store's lock file: %w: run this as the user that ingest runs as", err)
	}
	if err != nil {
		return fmt.Errorf("open the store's lock file: %w", err)
	}
	held, err := lockFile(f, s.readOnly)
	if err != nil {
		f.Close()
		return fmt.Errorf("lock store %s: %w", s.dir, err)
	}
	owner, _ := io.ReadAll(io.LimitReader(f, 20))
	if held {
		f.Close()
		pid, _ := strconv.Atoi(string(owner))
		return &LockedError{Dir: s.dir, PID: pid}
	}
	if s.readOnly {
		if len(owner) > 0 { // its writer did not get to empty it
			f.Close()
			return &UncleanError{Dir: s.dir}
		}
	} else if err := writeOwner(f, strconv.Itoa(os.Getpid()), s.hook); err != nil {
		f.Close()
		return fmt.Errorf("write the store's lock file: %w", err)
	}
	s.lock = f
	return nil
}

func writeOwner(f *os.File, owner string, hook durable.Hook) error {
	if err := hook.Before(durable.WriteFile); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(owner), 0); err != nil {
		return err
	}
	if err := hook.Before(durable.SyncFile); err != nil {
		return err
	}
	return f.Sync()
}

// release closes Badger and gives the lock up. Only a store that was closed
// cleanly has an empty lock file.
func (s *Store) release() error {
	var err error
	if s.db != nil {
		if err = s.db.Close(); err != nil {
			err = fmt.Errorf("close store %s: %w", s.dir, err)
		}
	}
	if s.db != nil && err == nil && !s.readOnly {
		err = writeOwner(s.lock, "", s.hook)
	}
	return errors.Join(err, s.lock.Close())
}
