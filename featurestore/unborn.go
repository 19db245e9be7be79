package featurestore

import (
	"fmt"
	"os"
	"path/filepath"

	"dreamfeed/internal/durable"
)

// removeUnborn removes log files of memtables that have no bytes: the process
// that made one was killed before it gave the file its size, so that nothing was
// ever written to it. Badger takes such a file for a fault and does not open.
func removeUnborn(dir string, hook durable.Hook) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return fmt.Errorf("list the files of store %s: %w", dir, err)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look at a file of store %s: %w", dir, err)
		}
		if info.Size() > 0 {
			continue
		}
		if err := hook.Before(durable.RemoveFile); err != nil {
			return fmt.Errorf("remove an unborn file of store %s: %w", dir, err)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove an unborn file of store %s: %w", dir, err)
		}
	}
	return nil
}
