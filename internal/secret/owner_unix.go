//go:build unix

package secret

import (
	"io/fs"
	"syscall"
)

func rootOwns(info fs.FileInfo) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && owner.Uid == 0
}
