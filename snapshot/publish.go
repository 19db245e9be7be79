package snapshot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"dreamfeed/internal/durable"
)

// stagePrefix begins the name of a directory in which a version is built.
const stagePrefix = ".building-"

// VersionExistsError refuses to build a version that exists.
type VersionExistsError struct {
	Version string
	Dir     string
}

func (e *VersionExistsError) Error() string {
	return fmt.Sprintf("version %s exists in %s and a version is never overwritten: choose another one with --version", e.Version, e.Dir)
}

// stage is the directory in which a version is made, beside where it will be.
type stage struct {
	version string
	dir     string // "" once published or discarded
	target  string
	lock    *os.File
}

// newStage refuses a version that exists, removes what dead builds left, and
// makes a locked directory.
func newStage(output, version string, log *slog.Logger) (*stage, error) {
	s := &stage{version: version, target: filepath.Join(output, "v"+version)}
	if err := s.refuse(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(output, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for datasets: %w: name one that can be written with --output", err)
	}
	if err := sweep(output, log); err != nil {
		return nil, err
	}
	// A sweep that runs between making and locking takes the directory for a
	// dead one; then the next attempt makes another.
	for range 10 {
		// Not os.MkdirTemp, whose mode would have to be widened later, whatever the
		// umask says.
		dir := filepath.Join(output, stagePrefix+"v"+version+"-"+rand.Text())
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make a directory to build in: %w: name one that can be written with --output", err)
		}
		f, err := os.Open(dir)
		if err == nil {
			var locked bool
			locked, err = lockDirectory(f)
			if err == nil && locked && sameDirectory(f, dir) {
				s.dir, s.lock = dir, f
				return s, nil
			}
			err = errors.Join(err, f.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("lock the directory to build in: %w", err), os.RemoveAll(dir))
		}
	}
	return nil, fmt.Errorf("lock the directory to build in: other builds in %s keep removing it", output)
}

func sameDirectory(f *os.File, dir string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(dir)
	return err == nil && os.SameFile(a, b)
}

// sweep removes the directories of builds that no longer run: their locks went
// with their processes.
func sweep(output string, log *slog.Logger) error {
	if !locks {
		return nil
	}
	entries, err := os.ReadDir(output)
	if err != nil {
		return fmt.Errorf("look for unfinished builds: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), stagePrefix) {
			continue
		}
		dir := filepath.Join(output, e.Name())
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for unfinished builds: %w", err)
		}
		dead, err := lockDirectory(f)
		if err == nil && dead {
			log.Info("removing an unfinished build", "directory", dir)
			err = os.RemoveAll(dir)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("remove an unfinished build: %w", err)
		}
	}
	return nil
}

// refuse fails if the version exists.
func (s *stage) refuse() error {
	switch _, err := os.Lstat(s.target); {
	case err == nil:
		return &VersionExistsError{Version: s.version, Dir: s.target}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for version %s: %w: name a directory for the datasets with --output", s.version, err)
	}
	return nil
}

// path is where a file of the version is made.
func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// publish renames the directory, whose files must be synced, to its final name.
func (s *stage) publish() error {
	if err := s.refuse(); err != nil {
		return err
	}
	if err := syncDirectory(s.dir); err != nil {
		return err
	}
	if err := os.Rename(s.dir, s.target); err != nil {
		// Another build published the version a moment ago.
		if refused := s.refuse(); refused != nil {
			return refused
		}
		return fmt.Errorf("publish version %s: %w", s.version, err)
	}
	s.dir = ""
	return errors.Join(syncDirectory(filepath.Dir(s.target)), s.discard())
}

// discard removes what was not published and lets the lock go.
func (s *stage) discard() error {
	var errs []error
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
		s.dir = ""
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// writeFile makes a file whole and synced.
func writeFile(path string, write func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDirectory(dir string) error {
	if err := durable.SyncDir(dir, nil); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
