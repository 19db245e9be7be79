package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// kept are the versions that snapshot kept lists, with their two moments.
func (s source) kept(t *testing.T) map[string][2]string {
	t.Helper()
	code, stdout, stderr := command(t, "", "kept", "--data-dir", s.dataDir)
	if code != 0 {
		t.Fatalf("snapshot kept: exit code %d: %s", code, stderr)
	}
	list := map[string][2]string{}
	for i, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		if fields := strings.Fields(line); i > 0 && len(fields) == 3 {
			list[fields[0]] = [2]string{fields[1], fields[2]}
		} else if i > 0 || line != "no version is kept" && !strings.HasPrefix(line, "version") {
			t.Fatalf("snapshot kept prints %q", stdout)
		}
	}
	return list
}

// A version that is built with --keep pins its window until it is let go; one
// whose build fails, or is stopped by a signal, pins nothing.
func TestKeptVersionsPinTheirWindow(t *testing.T) {
	flags := withWindow(t, "30s")
	s, output := followAt(t, shared.NewDatabase(t), 150, flags...), filepath.Join(t.TempDir(), "datasets")
	daemon, moment := s.daemon(t)
	at, err := time.Parse(time.RFC3339Nano, moment)
	if err != nil {
		t.Fatal(err)
	}
	base := []string{"--data-dir", s.dataDir, "--output", output, "--log-level", "error", "--keep"}
	long := slices.Concat(base, flags)
	long = append(long, "--window-days", "90") // it has rows
	none := map[string][2]string{}
	requireKept := func(claim string, want map[string][2]string) {
		t.Helper()
		if got := s.kept(t); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v is kept, want %v", claim, got, want)
		}
	}
	requireKept("before any build", none)
	endpoint, err := featurestore.ReadEndpoint(s.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{featurestore.PathBarrier, featurestore.PathKeep, featurestore.PathKeepRelease, featurestore.PathKeepList} {
		response, err := http.Post("http://"+endpoint.Address+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s answers with %s to who shows no token", path, response.Status)
		}
	}

	if code, _, stderr := command(t, "", append(slices.Clone(long), "--version", "1.0", "--strict")...); code != 3 {
		t.Fatalf("exit code %d, want 3: %s", code, stderr)
	}
	requireKept("a gate failed", none)
	if code, _, _ := command(t, "", append(slices.Clone(long), "--version", "1.0", "--output", "main.go")...); code != 1 {
		t.Fatal("an output directory that is a file is taken")
	}
	requireKept("the output is a file", none)

	p := snapshotProcess(t, append(slices.Clone(long), "--version", "5.0")...)
	await(t, "the build to begin", func() bool { return len(names(t, output)) > 0 })
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 1 || !strings.Contains(p.stderr.String(), "stopped by a signal") {
		t.Errorf("SIGTERM: exit code %d: %s", code, p.stderr.String())
	}
	requireKept("a signal stopped the build", none)

	if code, _, stderr := command(t, "", append(slices.Clone(long), "--version", "1.1", "--as-of", moment)...); code != 0 {
		t.Fatalf("--keep: exit code %d: %s", code, stderr)
	}
	var birth change.Version
	want := map[string][2]string{}
	status := func() string {
		endpoint, err := featurestore.ReadEndpoint(s.dataDir)
		if err != nil {
			t.Fatal(err)
		}
		code, body := get(endpoint.Address, "/v1/status")
		if code != http.StatusOK {
			t.Fatalf("/v1/status: %d", code)
		}
		return string(body)
	}
	for _, list := range s.kept(t) {
		if birth, err = parseVersion(list[1]); err != nil {
			t.Fatal(err)
		}
	}
	// Ninety days before the moment nothing was known yet: history is pinned
	// from the birth on.
	want["1.1"] = [2]string{change.VersionAt(at).String(), birth.String()}
	requireKept("the version is built", want)
	for _, word := range []string{`"kept"`, `"version": "1.1"`, `"earliest": "` + birth.String(), `"birth": "` + birth.String(), `"floor": "`, `"newest": "`} {
		if !strings.Contains(status(), word) {
			t.Errorf("/v1/status does not tell %s: %s", word, status())
		}
	}

	// The same name with another moment is refused, and the same moment is kept
	// once, by the first: a second build that fails does not let it go.
	code, _, stderr := command(t, "", append(slices.Clone(long), "--version", "1.1", "--output", t.TempDir())...)
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "1.1 is kept already") || !strings.Contains(stderr, "snapshot kept --release 1.1") {
		t.Errorf("a name that is taken: exit code %d, %s", code, stderr)
	}
	requireKept("the name was taken", want)
	code, _, _ = command(t, "", append(slices.Clone(long), "--version", "1.1", "--as-of", moment, "--output", t.TempDir(), "--strict")...)
	if code != 3 {
		t.Fatalf("exit code %d, want 3", code)
	}
	requireKept("another build of the same failed", want)

	daemon.stop(t)
	requireKept("without a daemon", want)
	code, _, stderr = command(t, "", "kept", "--data-dir", s.dataDir, "--release", "1.1")
	if code != 1 || !strings.Contains(stderr, "no ingest runs") {
		t.Errorf("let go without a daemon: exit code %d, %s", code, stderr)
	}
	// A daemon that was killed leaves its address; --keep hears of it before it
	// makes anything.
	if err := featurestore.WriteEndpoint(s.dataDir, featurestore.Endpoint{PID: 1, Address: freeAddress(t), Token: "t"}, nil); err != nil {
		t.Fatal(err)
	}
	before := names(t, output)
	code, _, stderr = command(t, "", append(slices.Clone(long), "--version", "1.2")...)
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "does not answer") || !slices.Equal(before, names(t, output)) {
		t.Errorf("--keep with a dead daemon: exit code %d, %s", code, stderr)
	}
	if err := os.Remove(filepath.Join(s.dataDir, "endpoint.json")); err != nil {
		t.Fatal(err)
	}

	s.daemon(t)
	requireKept("after a restart", want)
	code, stdout, _ := command(t, "", "kept", "--data-dir", s.dataDir, "--release", "1.1")
	if code != 0 || !strings.Contains(stdout, "1.1 is not kept any more") {
		t.Errorf("let go: exit code %d, %s", code, stdout)
	}
	requireKept("it was let go", none)
	code, _, stderr = command(t, "", "kept", "--data-dir", s.dataDir, "--release", "1.1")
	if code != 1 || !strings.Contains(stderr, "1.1 is not kept") {
		t.Errorf("let go twice: exit code %d, %s", code, stderr)
	}
	if strings.Contains(status(), `"kept"`) {
		t.Errorf("/v1/status still tells of kept versions: %s", status())
	}
}

func parseVersion(text string) (change.Version, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	return change.VersionAt(t), err
}
