//go:build unix && !linux

package pgtest

import "syscall"

// attributes puts the server into a process group of its own, so that an
// interrupt typed at the terminal reaches only its owner. Systems other than
// Linux have no parent-death signal: there a server outlives a killed owner.
func attributes(as *account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: as.credential()}
}

// children is empty: there is no /proc to read, and the children end by
// themselves when they notice that their postmaster is gone.
func children(int) []int { return nil }
