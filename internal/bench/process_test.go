package main

import (
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestUsageIsReadFromProc(t *testing.T) {
	const (
		status = "Name:\tingest\nVmHWM:\t  900000 kB\nRssAnon:\t  1000 kB\nRssFile:\t  300 kB\nRssShmem:\t    24 kB\nThreads:\t9\n"
		stat   = "42 (a ) name (1)) S 1 42 42 0 -1 4194304 5 6 7 8 250 50 9 9 20 0 9 0 100 1 2\n"
		blocks = "rchar: 1\nwchar: 22\nsyscr: 3\nread_bytes: 4\nwrite_bytes: 8192\ncancelled_write_bytes: 77\n"
	)
	got, err := parseUsage([]byte(status), []byte(stat), []byte(blocks))
	if err != nil {
		t.Fatal(err)
	}
	want := usage{cpu: 3 * time.Second, memory: 1024 * 1024, mapped: 300 * 1024, written: 8192}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAProcessThatHasEndedHasNoMemory(t *testing.T) {
	got, err := parseUsage([]byte("Name:\tingest\nState:\tZ (zombie)\n"), []byte("42 (ingest) Z 1 42 42 0 -1 4194304 5 6 7 8 1 2 0 0"), nil)
	if err != nil || got.memory != 0 || got.cpu != 30*time.Millisecond {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestACutStatIsAnError(t *testing.T) {
	for _, stat := range []string{"", "42 (ingest", "42 (ingest) S 1 2 3", "42 (ingest) S 1 2 3 4 5 6 7 8 9 10 x 12"} {
		if _, err := cpuTime([]byte(stat)); err == nil {
			t.Errorf("%q: no error", stat)
		}
	}
}

// shell starts a script as a program that is measured.
func shell(ctx context.Context, t *testing.T, script string) *process {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{settings: settings{dir: t.TempDir()}, stdout: io.Discard}
	p, err := s.start(ctx, command{path: sh, args: []string{"-c", script}, env: []string{"WORD=said"}, log: "log"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAProcessIsMeasuredToItsEnd(t *testing.T) {
	p := shell(t.Context(), t, `i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done`)
	took, err := p.wait()
	if err != nil {
		t.Fatal(err)
	}
	if u := p.used(); u.cpu <= 0 || u.memory <= 0 || u.cpu > 2*took+time.Second {
		t.Errorf("used %+v in %s", u, took)
	}
}

func TestAProcessThatFailsShowsTheEndOfItsLog(t *testing.T) {
	_, err := shell(t.Context(), t, `echo "$WORD so"; exit 3`).wait()
	if err == nil || !strings.Contains(err.Error(), "said so") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestStopEndsAProcess(t *testing.T) {
	p := shell(t.Context(), t, `trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	awaitText(t, p, "ready")
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestTheEndOfTheContextEndsAProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := shell(ctx, t, `echo ready; while :; do sleep 0.01; done`)
	awaitText(t, p, "ready")
	cancel()
	if _, err := p.wait(); err == nil {
		t.Error("a process that was ended by a signal is no error")
	}
}

// awaitText waits until a process has printed a text.
func awaitText(t *testing.T, p *process, text string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !strings.Contains(tail(p.log), text) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%q was not printed; the log is %q", text, tail(p.log))
		}
	}
}
