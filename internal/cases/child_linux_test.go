package cases_test

import "syscall"

// childAttributes let the kernel end a child whose test died.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
