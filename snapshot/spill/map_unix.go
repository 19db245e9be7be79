//go:build unix

package spill

import (
	"os"
	"syscall"
)

// mapFile maps the first bytes of a file for reading. The passes over the rows read
// them eight times: what the page cache holds need not be copied, nor asked for a
// chunk at a time (BenchmarkSpill). The pages are the system's, which takes them back
// when memory is short. What cannot be mapped, on some file systems, is nil.
func mapFile(f *os.File, size int64) []byte {
	mapped, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil
	}
	return mapped
}

func unmapFile(mapped []byte) error { return syscall.Munmap(mapped) }
