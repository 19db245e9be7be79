package featurestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dreamfeed/internal/durable"
)

// rebuilding is what the name of a directory ends in until it is rebuilt.
const rebuilding = ".rebuilding"

// Stage is a data directory that is being made beside the place where it is to
// lie. Until Publish nothing lies there, whatever goes wrong; what a killed
// process left of one is removed when the next begins.
type Stage struct {
	// Dir is where to make it.
	Dir    string
	target string
	lock   *os.File
	hook   durable.Hook
}

// NewStage begins to make the directory target, which must not exist or be empty:
// else the error is a *VacantError. It is an error if another process makes it.
func NewStage(target string, hook durable.Hook) (*Stage, error) {
	target = filepath.Clean(target)
	if err := vacantTarget(target); err != nil {
		return nil, err
	}
	s := &Stage{Dir: target + rebuilding, target: target, hook: hook}
	if err := os.MkdirAll(s.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the directory to rebuild in: %w: name one that can be written with --into", err)
	}
	f, err := os.Open(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("lock the directory to rebuild in: %w", err)
	}
	held, err := lockFile(f, false)
	if err == nil && held {
		err = fmt.Errorf("another process rebuilds %s: wait for it, or name another directory with --into", target)
	}
	if err == nil {
		err = s.empty()
	}
	if err == nil { // again, now that nobody else makes it
		err = vacantTarget(target)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.lock = f
	return s, nil
}

// empty removes what a killed process left.
func (s *Stage) empty() error {
	entries, err := os.ReadDir(s.Dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.Dir, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("remove what a rebuild that was ended left in %s: %w", s.Dir, err)
	}
	return nil
}

func vacantTarget(target string) error {
	entries, err := os.ReadDir(target)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	return &VacantError{Dir: target}
}

// VacantError refuses to make a directory where there is something.
type VacantError struct{ Dir string }

func (e *VacantError) Error() string {
	return fmt.Sprintf("%s is no empty directory, and a rebuild replaces nothing: name one that does not exist with --into", e.Dir)
}

// Publish gives the directory its name, for good.
func (s *Stage) Publish() error {
	err := durable.SyncDir(s.Dir, s.hook)
	if err == nil {
		err = s.hook.Before(durable.RenameFile)
	}
	if err == nil {
		err = os.Rename(s.Dir, s.target) // never replaces a directory with something in it
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(s.target), s.hook)
	}
	if err != nil {
		return fmt.Errorf("give the rebuilt directory its name: %w", err)
	}
	return s.lock.Close()
}

// Discard removes what was made.
func (s *Stage) Discard() error {
	return errors.Join(os.RemoveAll(s.Dir), s.lock.Close())
}
