package featurestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	s.lock = f
	left, err := readOwner(f)
	switch {
	case held:
		err = &LockedError{Dir: s.dir, PID: left.pid}
	case err != nil:
	case s.readOnly && left.unclean:
		err = &UncleanError{Dir: s.dir}
	case !s.readOnly:
		// A store that was closed has no logs: a crash may have emptied the file of an
		// owner that was being replaced.
		var logs []string
		logs, err = s.logs()
		left.unclean = left.unclean || len(logs) > 0
		// What is to be done for the writer before stays noted until it is (recover).
		s.left = left
		if err == nil {
			err = s.own(left.replayable || s.replayable && !left.unclean)
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	return nil
}

// owner is what the lock file says of who writes the store; of one that was closed it
// says nothing.
type owner struct {
	pid        int
	unclean    bool // there is an owner
	replayable bool // its logs are not to be trusted once it is gone, see discardLogs
}

// ownerBytes is the size of the lock file while there is an owner. It is written in
// place and at once, so that no crash leaves a file that tells of none.
const (
	ownerBytes      = 32
	ownerReplayable = "replayable"
)

func readOwner(f *os.File) (o owner, err error) {
	text, err := io.ReadAll(io.LimitReader(f, ownerBytes))
	if err != nil {
		return owner{}, fmt.Errorf("read the store's lock file: %w", err)
	}
	words := strings.Fields(string(text))
	o.unclean = len(text) > 0
	if len(words) > 0 {
		o.pid, _ = strconv.Atoi(words[0])
	}
	o.replayable = len(words) > 1 && words[1] == ownerReplayable
	return o, nil
}

// own notes in the lock file that this process writes the store, and how.
func (s *Store) own(replayable bool) error {
	mine := owner{pid: os.Getpid(), unclean: true, replayable: replayable}
	if s.mine == mine {
		return nil
	}
	text := strconv.Itoa(mine.pid)
	if replayable {
		text += " " + ownerReplayable
	}
	err := s.hook.Before(durable.WriteFile)
	if err == nil {
		_, err = fmt.Fprintf(io.NewOffsetWriter(s.lock, 0), "%-*s\n", ownerBytes-1, text)
	}
	if err = s.syncOwner(err); err == nil {
		s.mine = mine
	}
	return err
}

// disown notes that the store was closed.
func (s *Store) disown() error {
	err := s.hook.Before(durable.WriteFile)
	if err == nil {
		err = s.lock.Truncate(0)
	}
	return s.syncOwner(err)
}

func (s *Store) syncOwner(err error) error {
	if err == nil {
		err = s.hook.Before(durable.SyncFile)
	}
	if err == nil {
		err = s.lock.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the store's lock file: %w", err)
	}
	return nil
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
		err = s.disown()
	}
	return errors.Join(err, s.lock.Close())
}
