package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// sampleEvery is how often the memory of a process is looked at.
	sampleEvery = 100 * time.Millisecond
	// stopGrace is how long a process may take to end after it was asked to.
	stopGrace = 60 * time.Second
)

// command says which program is to run, and how.
type command struct {
	path string
	args []string
	env  []string // added to that of this process
	// log is the name of the file, in the suite's directory, that takes what the
	// program prints; it is appended to.
	log string
}

// process is a running program and what it has used.
type process struct {
	name    string
	log     string
	started time.Time
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended

	mu    sync.Mutex
	peak  usage // of memory the peaks, of the rest the newest
	err   error
	ended time.Time
}

// usage is what a process has used.
type usage struct {
	cpu     time.Duration // of user and system
	memory  int64         // RssAnon + RssShmem, bytes
	mapped  int64         // RssFile, bytes: pages of files that it maps
	written int64         // write_bytes: what it made the disk write
}

// start runs a program, in a process group of its own so that an interrupt from
// the terminal reaches it through the benchmark alone. The end of ctx ends it.
// Whoever starts it calls stop or wait.
func (s *suite) start(ctx context.Context, c command) (*process, error) {
	p := &process{name: filepath.Base(c.path), log: filepath.Join(s.dir, c.log), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	defer out.Close()
	p.cmd = exec.CommandContext(ctx, c.path, c.args...)
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopGrace
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; `make bench` builds what it needs", p.name, err)
	}
	go p.watch()
	return p, nil
}

// watch samples the process until it ends.
func (p *process) watch() {
	pid := p.cmd.Process.Pid
	over := make(chan time.Time, 1)
	go func() {
		awaitZombie(pid)
		over <- time.Now()
	}()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		p.sample(pid)
		select {
		case <-tick.C:
			continue
		case ended := <-over:
			p.sample(pid) // what an ended process has written can still be read
			err := p.cmd.Wait()
			p.mu.Lock()
			p.err, p.ended = err, ended
			if state := p.cmd.ProcessState; state != nil {
				p.peak.cpu = state.UserTime() + state.SystemTime()
			}
			p.mu.Unlock()
			close(p.done)
			return
		}
	}
}

func (p *process) sample(pid int) {
	u, err := readUsage(pid)
	if err != nil {
		return // it ends just now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak.cpu, p.peak.written = max(p.peak.cpu, u.cpu), max(p.peak.written, u.written)
	p.peak.memory, p.peak.mapped = max(p.peak.memory, u.memory), max(p.peak.mapped, u.mapped)
}

// used returns what the process has used so far; of memory the peaks.
func (p *process) used() usage {
	select {
	case <-p.done:
	default:
		p.sample(p.cmd.Process.Pid)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peak
}

// wait returns when the process has ended, with how long it ran. A process that
// ended otherwise than with code 0 is an error, which shows the end of its log.
func (p *process) wait() (time.Duration, error) {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, fmt.Errorf("%s: %w; its log %s ends:\n%s", p.name, p.err, p.log, tail(p.log))
	}
	return p.ended.Sub(p.started), nil
}

// stop asks the process to end, and waits for it.
func (p *process) stop() error {
	select {
	case <-p.done:
	default:
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", p.name, err)
		}
	}
	late := time.NewTimer(stopGrace)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
		_ = p.cmd.Process.Kill() // one that is gone needs none
		<-p.done
		return fmt.Errorf("%s did not stop within %s and was killed; its log is %s", p.name, stopGrace, p.log)
	}
	_, err := p.wait()
	return err
}

// finish runs a program to its end: how long it ran, and what it used.
func (s *suite) finish(ctx context.Context, c command) (time.Duration, usage, error) {
	p, err := s.start(ctx, c)
	if err != nil {
		return 0, usage{}, err
	}
	took, err := p.wait()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return took, p.used(), err
}

// tail is the end of a log, for messages.
func tail(path string) string {
	const most = 2 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}
