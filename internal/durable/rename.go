package durable

import (
	"io/fs"
	"os"
)

// RenameNew gives a file a name that nothing has yet: what exists is never
// replaced, and the error wraps fs.ErrExist then. The name is not durable until
// SyncDir.
func RenameNew(from, to string, hook Hook) error {
	if err := hook.Before(RenameFile); err != nil {
		return err
	}
	return renameNew(from, to)
}

// renameUnlessThere looks first, where the system cannot do both in one step.
func renameUnlessThere(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}
