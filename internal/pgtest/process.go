package pgtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a running postmaster with its children.
type process struct {
	cmd *exec.Cmd
	// exited is closed when the postmaster has been waited for; state and
	// waitErr are set before.
	exited  chan struct{}
	waitErr error
	// gone is closed when the last process of the server has ended. The
	// postmaster gets the write end of a pipe, its children inherit it, and the
	// kernel reports the end of file when nobody holds it any more.
	gone chan struct{}
}

// startProcess starts cmd, whose standard output and error must be files.
// The parent-death signal belongs to the thread that starts a process, so that
// one goroutine keeps its thread from the start to the end of the server.
func startProcess(cmd *exec.Cmd, as *account) (*process, error) {
	alive, held, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, held)
	cmd.SysProcAttr = attributes(as)
	p := &process{cmd: cmd, exited: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.exited)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.waitErr = cmd.Wait()
	}()
	err = <-started
	held.Close()
	if err != nil {
		alive.Close()
		<-p.exited
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(p.gone)
		defer alive.Close()
		// Nobody writes: the only outcome is the end of file.
		_, _ = io.Copy(io.Discard, alive)
	}()
	return p, nil
}

// stop asks for a fast shutdown and waits for the end of every process. When
// ctx ends first the server is killed.
func (p *process) stop(ctx context.Context) error {
	// The postmaster takes SIGINT as a fast shutdown. A process that is gone
	// already makes this an error that says nothing new.
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.exited:
		<-p.gone
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("fast shutdown of postmaster %d, killed instead: %w", p.cmd.Process.Pid, ctx.Err())
	}
	if p.waitErr != nil {
		return fmt.Errorf("fast shutdown of postmaster %d: %w", p.cmd.Process.Pid, p.waitErr)
	}
	return nil
}

// kill ends every process of the server with SIGKILL and waits for them. The
// postmaster is halted first so that no child is born between the list of
// children and their end.
func (p *process) kill() {
	pid := p.cmd.Process.Pid
	if p.cmd.Process.Signal(syscall.SIGSTOP) == nil {
		doomed := children(pid)
		_ = p.cmd.Process.Kill()
		for _, child := range doomed {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
	}
	<-p.exited
	<-p.gone
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}
