package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// unfinished is what the name of a file ends in until it is whole.
const unfinished = ".new"

// ReplaceFile makes data the content of the file at path, which from then on
// survives a power cut: a temporary file beside it, fsync, a checked close, a
// rename, fsync of the directory. Whoever reads the path meanwhile, or after a
// crash at any step, finds what was there before or all of data. A path has one
// writer at a time; what a killed one left is overwritten.
func ReplaceFile(path string, data []byte, mode os.FileMode, hook Hook) error {
	temporary := path + unfinished
	err := writeFile(temporary, data, mode, hook)
	if err == nil {
		err = hook.Before(RenameFile)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		if removed := os.Remove(temporary); removed != nil && !errors.Is(removed, os.ErrNotExist) {
			err = errors.Join(err, removed)
		}
		return err
	}
	return SyncDir(filepath.Dir(path), hook)
}

// writeFile makes a file whole and synced.
func writeFile(path string, data []byte, mode os.FileMode, hook Hook) error {
	if err := hook.Before(WriteFile); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	// A file that was left over has the mode it was made with.
	if err = f.Chmod(mode); err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = hook.Before(SyncFile)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Remove removes a file for good: after a power cut it stays away.
func Remove(path string, hook Hook) error {
	if err := hook.Before(RemoveFile); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path), hook)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string, hook Hook) error {
	if err := hook.Before(SyncDirectory); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
