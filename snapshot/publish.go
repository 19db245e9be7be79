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

// stagingPrefix begins the name of a directory in which a version is built.
const stagingPrefix = ".building-"

// VersionExistsError refuses to build a version that exists.
type VersionExistsError struct {
	Version string
	Dir     string
}

func (e *VersionExistsError) Error() string {
	return fmt.Sprintf("version %s exists in %s and a version is never overwritten: choose another one with --version", e.Version, e.Dir)
}

// staging is the directory in which a version is made, beside where it will be.
type staging struct {
	version string
	dir     string // "" once published or discarded
	target  string
	lock    *os.File
}

// staging is where what is asked for goes once it is whole: v1.1 or features_v1.1.
func (k *checked) staging() *staging {
	name := "v" + k.Version
	if k.Stage == StageFeatures {
		name = StageFeatures + "_" + name
	}
	return &staging{version: k.Version, target: filepath.Join(k.Output, name)}
}

// begin refuses a version that exists, removes what dead builds left, and makes
// a locked directory.
func (s *staging) begin(log *slog.Logger) error {
	if err := s.refuse(); err != nil {
		return err
	}
	output := filepath.Dir(s.target)
	if err := os.MkdirAll(output, 0o755); err != nil {
		return fmt.Errorf("make the directory for datasets: %w: name one that can be written with --output", err)
	}
	if err := sweep(output, log); err != nil {
		return err
	}
	// A sweep that runs between making and locking takes the directory for a
	// dead one; then the next attempt makes another.
	for range 10 {
		// Not os.MkdirTemp, whose mode would have to be widened later, whatever the
		// umask says.
		dir := filepath.Join(output, stagingPrefix+filepath.Base(s.target)+"-"+rand.Text())
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make a directory to build in: %w: name one that can be written with --output", err)
		}
		f, err := os.Open(dir)
		if err == nil {
			var locked bool
			locked, err = lockDirectory(f)
			if err == nil && locked && sameDirectory(f, dir) {
				s.dir, s.lock = dir, f
				return nil
			}
			err = errors.Join(err, f.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("lock the directory to build in: %w", err), os.RemoveAll(dir))
		}
	}
	return fmt.Errorf("lock the directory to build in: other builds in %s keep removing it", output)
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
		if !e.IsDir() || !strings.HasPrefix(e.Name(), stagingPrefix) {
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
func (s *staging) refuse() error {
	switch _, err := os.Lstat(s.target); {
	case err == nil:
		return &VersionExistsError{Version: s.version, Dir: s.target}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for version %s: %w: name a directory for the datasets with --output", s.version, err)
	}
	return nil
}

// path is where a file of the version is made.
func (s *staging) path(name string) string { return filepath.Join(s.dir, name) }

// publish renames the directory, whose files must be synced, to its final name.
func (s *staging) publish() error {
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
func (s *staging) discard() error {
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
func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.Write(content)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

func syncDirectory(dir string) error {
	if err := durable.SyncDir(dir, nil); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
