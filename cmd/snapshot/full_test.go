//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Programs of sh that run what follows an output directory and a size in KiB
// where no more than that can be written: to one file, or to the directory. They
// list the directory afterwards, on stdout, because nobody outside sees into a
// file system that is mounted in a namespace.
const (
	limitedFiles = `ulimit -f $(($2 * 2)) || exit 99` + runAndList
	smallDisk    = `mount -t tmpfs -o size=$2k none "$1" || exit 99` + runAndList
	runAndList   = `; out=$1; shift 2; "$@"; code=$?; ls -A "$out"; exit $code`
)

// cramped builds a version under one of these programs.
func cramped(t *testing.T, s source, script, output string, kib int, attributes *syscall.SysProcAttr) (code int, stdout, stderr string) {
	t.Helper()
	sh := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", output, strconv.Itoa(kib), os.Args[0],
		"--data-dir", s.dataDir, "--output", output, "--version", "1.0", "--log-level", "error")
	sh.Env = append(os.Environ(), asProgram+"=1")
	sh.SysProcAttr = attributes
	var out, said bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &said
	err := sh.Run()
	var exit *exec.ExitError
	switch {
	case attributes != nil && errors.Is(err, syscall.EPERM):
		t.Fatal("the small disk of this test needs a mount namespace: run the tests as root, or allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1)")
	case err != nil && !errors.As(err, &exit):
		t.Fatal(err)
	}
	if code = sh.ProcessState.ExitCode(); code == 99 {
		t.Fatalf("the small disk or the limit could not be made: %s", said.String())
	}
	return code, out.String(), said.String()
}

// requireNothing requires exit code 1, one line that names the output directory
// and the remedy, no result on stdout, and an output directory that is empty.
func requireNothing(t *testing.T, code int, stdout, stderr, output string, words ...string) {
	t.Helper()
	if code != 1 {
		t.Errorf("exit code %d, want 1: %s", code, stderr)
	}
	if strings.Contains(stderr, "goroutine ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("the error is not one line: %s", stderr)
	}
	for _, want := range append(words, output, "nothing was published") {
		if !strings.Contains(stderr, want) {
			t.Errorf("the error does not name %q: %s", want, stderr)
		}
	}
	if stdout != "" {
		t.Errorf("the build printed a result, or left something in the output directory: %s", stdout)
	}
}

// A build that may not write files as large as it needs says which limit to
// raise and leaves nothing; with the limit raised the same version is built.
func TestBuildAboveTheFileSizeLimitPublishesNothing(t *testing.T) {
	s, output := follow(t, 60), t.TempDir()
	build(t, s, filepath.Join(t.TempDir(), "roomy"), "1.0") // makes the key
	for _, kib := range []int{4, 64} {
		code, stdout, stderr := cramped(t, s, limitedFiles, output, kib, nil)
		requireNothing(t, code, stdout, stderr, output, "file too large", "ulimit -f")
		if left := names(t, output); left != nil {
			t.Errorf("no file above %d KiB: the build left %v", kib, left)
		}
	}
	build(t, s, output, "1.0")
}

// A build on a disk that is too small says so and leaves nothing, whatever it
// was writing when the disk was full. Disks grow here until one is large enough.
func TestBuildOnAFullDiskPublishesNothing(t *testing.T) {
	s, dir := follow(t, 60), t.TempDir()
	build(t, s, filepath.Join(dir, "roomy"), "1.0") // makes the key
	output := filepath.Join(dir, "datasets")
	if err := os.Mkdir(output, 0o755); err != nil {
		t.Fatal(err)
	}
	namespace := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	const step, most = 128, 16 << 10 // KiB
	var spilling, exporting int
	for kib := step; ; kib += step {
		code, stdout, stderr := cramped(t, s, smallDisk, output, kib, namespace)
		if code == 0 {
			if !strings.HasSuffix(stdout, "\nv1.0\n") {
				t.Errorf("a disk of %d KiB holds more than the version: %s", kib, stdout)
			}
			break
		}
		requireNothing(t, code, stdout, stderr, output, "no space left", "--output")
		if strings.Contains(stderr, "spill") {
			spilling++
		} else {
			exporting++
		}
		if t.Failed() || kib >= most {
			t.Fatalf("no build on a disk of %d KiB: %s", kib, stderr)
		}
	}
	if spilling == 0 || exporting == 0 {
		t.Errorf("%d disks were full during the joins and %d during the export, want both", spilling, exporting)
	}
}
