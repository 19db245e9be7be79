package featurestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"dreamfeed/internal/durable"
)

// partial is what the name of a backup ends in until it is whole.
const partial = ".partial"

// BackupExistsError says that a file that was to be made exists.
type BackupExistsError struct{ Path string }

func (e *BackupExistsError) Error() string {
	return fmt.Sprintf("%s exists, and a backup replaces nothing: name another file with --to, or move that one away", e.Path)
}

// WriteBackup makes the file at path, which must not exist, of what fill writes.
// Only its owner may read it, since it holds what the store holds of persons. It
// has its name once it is whole and synced; before, it is path.partial, which is
// removed when anything fails, and by the next WriteBackup if the process was
// killed. Errors for a caller to tell apart: *BackupExistsError, and those of
// fill.
func WriteBackup(path string, hook durable.Hook, fill func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &BackupExistsError{Path: path}
	}
	f, err := beginBackup(path+partial, hook)
	var place *fs.PathError
	if errors.As(err, &place) {
		return fmt.Errorf("write backup %s: %w: name a file in a directory that exists and can be written, with --to", path, err)
	}
	if err != nil {
		return fmt.Errorf("write backup %s: %w", path, err)
	}
	defer func() {
		if err != nil { // while it is locked: nobody else writes it
			err = errors.Join(err, os.Remove(f.Name()))
		}
		if closed := f.Close(); closed != nil && err == nil {
			err = fmt.Errorf("write backup %s: %w", path, closed)
		}
	}()
	w := &fileWriter{f: f}
	if err := fill(w); w.err == nil && err != nil {
		return err
	}
	if err = w.err; err == nil {
		err = hook.Before(durable.SyncFile)
	}
	if err == nil {
		err = f.Sync()
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("write backup %s: %w: free some disk, or name a file elsewhere with --to", path, err)
	case err != nil:
		return fmt.Errorf("write backup %s: %w", path, err)
	}
	if err := durable.RenameNew(f.Name(), path, hook); errors.Is(err, fs.ErrExist) {
		return &BackupExistsError{Path: path}
	} else if err != nil {
		return fmt.Errorf("write backup %s: %w", path, err)
	}
	if err := durable.SyncDir(filepath.Dir(path), hook); err != nil {
		// It is whole, and has its name; only a power cut could still take that.
		return errors.Join(fmt.Errorf("write backup %s: %w", path, err), os.Rename(path, f.Name()))
	}
	return nil
}

// beginBackup opens an empty file that no other process writes.
func beginBackup(path string, hook durable.Hook) (f *os.File, err error) {
	if err := hook.Before(durable.WriteFile); err != nil {
		return nil, err
	}
	if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	held, err := lockFile(f, false)
	if err == nil {
		// Who had it before may have renamed or removed it since.
		var mine, there os.FileInfo
		if mine, err = f.Stat(); err == nil {
			there, err = os.Stat(path)
			held = held || err != nil || !os.SameFile(mine, there)
		}
		if held {
			err = errors.New("another backup is being written to it")
		}
	}
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// fileWriter remembers why the file could not be written: what fill makes of it
// need not say so.
type fileWriter struct {
	f   *os.File
	err error
}

func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}
