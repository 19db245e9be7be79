//go:build unix

package cdc_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// asOwner lets a program run as the owner of a directory.
func asOwner(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("the owner of %s is not known", dir)
	}
	if os.Geteuid() == 0 && owner.Uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
}
