//go:build unix

package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free returns the bytes that an ordinary user can still write under dir.
func Free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("read the free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
