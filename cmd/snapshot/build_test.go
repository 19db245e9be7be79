package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/parquet-go/parquet-go"

	"dreamfeed/featurestore"
	"dreamfeed/internal/workload"
)

// build builds a version and returns the SHA-256 of its Parquet files.
func build(t *testing.T, s source, output, version string, args ...string) (sums [2]string) {
	t.Helper()
	args = append([]string{"--data-dir", s.dataDir, "--output", output, "--version", version, "--log-level", "error"}, args...)
	code, stdout, stderr := command(t, "", args...)
	if code != 0 || stderr != "" {
		t.Fatalf("snapshot %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for i, path := range lines[len(lines)-4:][:2] {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		sums[i] = hex.EncodeToString(sum[:])
	}
	return sums
}

// I5: the same dataset comes out through the daemon, while the database goes
// on, and from the directory, with one worker and with four.
func TestDaemonAndDirectoryGiveTheSameBytes(t *testing.T) {
	s, outputs := follow(t, 120), t.TempDir()
	if _, err := workload.Run(t.Context(), s.url, workload.Traffic{Seed: 1, Transactions: 400, Connections: 2}); err != nil {
		t.Fatal(err)
	}
	daemon, moment := s.daemon(t)
	// The first build makes the key, and says so.
	code, _, stderr := command(t, "", "--data-dir", s.dataDir, "--output", filepath.Join(outputs, "first"), "--as-of", moment)
	if code != 0 || !strings.Contains(stderr, "anonymization.key") {
		t.Fatalf("exit code %d, or the new key is not announced: %s", code, stderr)
	}
	if _, err := workload.Run(t.Context(), s.url, workload.Traffic{Seed: 2, Transactions: 400, Connections: 2}); err != nil {
		t.Fatal(err)
	}
	through := build(t, s, filepath.Join(outputs, "daemon"), "1.0", "--as-of", moment, "--workers", "4")
	daemon.stop(t)
	profile := filepath.Join(outputs, "cpu")
	from := build(t, s, filepath.Join(outputs, "directory"), "1.0", "--as-of", moment, "--workers", "1", "--cpu-profile", profile)
	if data, err := os.ReadFile(profile); err != nil || !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		t.Errorf("no profile was written: %d bytes, %v", len(data), err)
	}
	if through != from {
		t.Errorf("through the daemon %v, from the directory %v", through, from)
	}
	if newest := build(t, s, filepath.Join(outputs, "newest"), "1.0"); newest == from {
		t.Error("the newest moment gives the bytes of an older one, so that equality says nothing")
	}
}

// Every refusal has its exit code and a sentence with what is wrong, and leaves
// neither a version nor a part of one.
func TestRefusedBuildsPublishNothing(t *testing.T) {
	s, output := follow(t, 60), filepath.Join(t.TempDir(), "datasets")
	keyless := s.dataDir
	wrong := map[string]struct {
		args []string
		code int
		want []string
	}{
		"no version name":          {[]string{"--version", "../1"}, 2, []string{"--version", "1.0"}},
		"a window of nothing":      {[]string{"--window-days", "0"}, 2, []string{"--window-days"}},
		"a negative ratio":         {[]string{"--negative-ratio=-1"}, 2, []string{"--negative-ratio"}},
		"everything is test":       {[]string{"--test-size", "1"}, 2, []string{"--test-size", "below 1"}},
		"a choice that is none":    {[]string{"--inexact", "maybe"}, 2, []string{"--inexact", "keep"}},
		"workers below none":       {[]string{"--workers=-1"}, 2, []string{"--workers"}},
		"an unknown flag":          {[]string{"--windows", "1"}, 2, []string{"--windows"}},
		"as of no moment":          {[]string{"--as-of", "yesterday"}, 2, []string{"yesterday", "2026-11-01T00:00:00Z"}},
		"as of the future":         {[]string{"--as-of", "2999-01-01T00:00:00Z"}, 1, []string{"future"}},
		"as of before the feed":    {[]string{"--as-of", "2020-01-01T00:00:00Z"}, 1, []string{"before", "earliest"}},
		"as of the unborn":         {[]string{"--as-of", "1950-01-01T00:00:00Z"}, 1, []string{"before"}},
		"as of an unclosed time":   {[]string{"--as-of", time.Now().UTC().Format(time.RFC3339Nano)}, 1, []string{"not closed", "newest"}},
		"no store":                 {[]string{"--data-dir", filepath.Join(output, "none")}, 1, []string{"none", "ingest"}},
		"a missing definition":     {[]string{"--definition", "/nowhere.yaml"}, 2, []string{"/nowhere.yaml", "--definition"}},
		"a profile nowhere":        {[]string{"--cpu-profile", "/nowhere/cpu"}, 1, []string{"--cpu-profile", "/nowhere/cpu"}},
		"an output that is a file": {[]string{"--output", "main.go"}, 1, []string{"main.go", "--output"}},
	}
	for name, c := range wrong {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--data-dir", keyless, "--output", output, "--log-level", "error"}, c.args...)
			code, stdout, stderr := command(t, "", args...)
			if code != c.code || stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q, stderr %s", code, c.code, stdout, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("the error does not name %q: %s", want, stderr)
				}
			}
			if strings.Contains(stderr, "goroutine ") {
				t.Errorf("the error is a panic: %s", stderr)
			}
			if left := names(t, output); left != nil {
				t.Errorf("the refused build left %v", left)
			}
		})
	}

	build(t, s, output, "1.0")
	t.Run("a version that exists", func(t *testing.T) {
		code, _, stderr := command(t, "", "--data-dir", s.dataDir, "--output", output, "--version", "1.0")
		if code != 1 || !strings.Contains(stderr, "1.0 exists") || !strings.Contains(stderr, "--version") {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	})
	t.Run("a gate that fails", func(t *testing.T) {
		code, stdout, stderr := command(t, "", "--data-dir", s.dataDir, "--output", output, "--version", "1.1", "--strict", "--log-level", "error")
		if code != 3 || stdout != "" {
			t.Errorf("exit code %d, want 3; stdout %q", code, stdout)
		}
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		last := lines[len(lines)-1]
		if len(lines) < 2 || !strings.HasPrefix(lines[0], "warn  ") || !strings.Contains(last, "nothing was published") {
			t.Errorf("the gates are not shown one a line, with a verdict at the end:\n%s", stderr)
		}
	})
	if diff := cmp.Diff([]string{"v1.0"}, names(t, output)); diff != "" {
		t.Errorf("what the output directory holds (-want +got):\n%s", diff)
	}
}

// A wrong secret is refused, and never shown.
func TestWrongSecretsAreRefused(t *testing.T) {
	s, output := follow(t, 30), filepath.Join(t.TempDir(), "datasets")
	file := filepath.Join(s.dataDir, "anonymization.key")
	good := strings.Repeat("4fa1c02e97b35d68", 3) + "0011223344556678"
	for name, c := range map[string]struct {
		env     string
		setEnv  bool
		content string
		mode    os.FileMode
		want    string
	}{
		"an empty variable": {env: "", setEnv: true, want: "is empty"},
		"a short variable":  {env: good[:32], setEnv: true, want: "16 bytes"},
		"text":              {env: "correct horse battery staple", setEnv: true, want: "hexadecimal"},
		"an empty file":     {content: "\n", mode: 0o600, want: "is empty"},
		"a short file":      {content: good[:10], mode: 0o600, want: "5 bytes"},
		"a file for all":    {content: good, mode: 0o644, want: "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.setEnv {
				t.Setenv("ANONYMIZATION_KEY", c.env)
			}
			if c.content != "" {
				if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(file, c.mode); err != nil {
					t.Fatal(err)
				}
			}
			code, _, stderr := command(t, "", "--data-dir", s.dataDir, "--output", output)
			if code != 1 || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want 1 and %q: %s", code, c.want, stderr)
			}
			if text := strings.TrimSpace(c.env + c.content); len(text) > 4 && strings.Contains(stderr, text) {
				t.Errorf("the error shows the secret: %s", stderr)
			}
			if left := names(t, output); left != nil {
				t.Errorf("the refused build left %v", left)
			}
		})
	}
}

// The pseudonyms that the command prints are those of the dataset, and it never
// makes a key of its own.
func TestPseudonymCommandSpeaksOfTheDataset(t *testing.T) {
	s, output := follow(t, 60), filepath.Join(t.TempDir(), "datasets")
	code, stdout, stderr := command(t, "", "pseudonym", "--data-dir", s.dataDir, "--version", "1.0", "--user", "x")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "anonymization.key") || !strings.Contains(stderr, "--data-dir") {
		t.Errorf("without a key: exit code %d, %q, %s", code, stdout, stderr)
	}
	if slices.Contains(names(t, s.dataDir), "anonymization.key") {
		t.Fatal("looking up a pseudonym made a key")
	}
	build(t, s, output, "1.0")

	conn, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT id FROM users")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = command(t, strings.Join(ids, "\n")+"\n", "pseudonym", "--data-dir", s.dataDir, "--version", "1.0")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	known := strings.Fields(stdout)
	if len(known) != len(ids) {
		t.Fatalf("%d pseudonyms for %d ids", len(known), len(ids))
	}
	held, err := parquet.ReadFile[struct {
		UserHash string `parquet:"user_hash"`
	}](filepath.Join(output, "v1.0", "train_v1.0.parquet"))
	if err != nil || len(held) == 0 {
		t.Fatalf("read the train file: %d rows, %v", len(held), err)
	}
	for _, row := range held {
		if !slices.Contains(known, row.UserHash) {
			t.Fatalf("user_hash %s is the pseudonym of no user", row.UserHash)
		}
	}
	_, one, _ := command(t, "", "pseudonym", "--data-dir", s.dataDir, "--version", "1.0", "--user", ids[0])
	if strings.TrimSpace(one) != known[0] {
		t.Errorf("--user and standard input differ: %s, %s", one, known[0])
	}
	_, other, _ := command(t, "", "pseudonym", "--data-dir", s.dataDir, "--version", "1.1", "--user", ids[0])
	if strings.TrimSpace(other) == known[0] {
		t.Error("two versions share a pseudonym")
	}
}

// A build that is told to stop removes what it began; one that is killed cannot,
// and the next build does.
func TestStoppedAndKilledBuildsLeaveNoVersion(t *testing.T) {
	s, output := follow(t, 150), filepath.Join(t.TempDir(), "datasets")
	begin := func() *process {
		p := snapshotProcess(t, "--data-dir", s.dataDir, "--output", output, "--version", "5.0", "--log-level", "error")
		await(t, "the build to begin", func() bool { return len(names(t, output)) > 0 })
		return p
	}
	p := begin()
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 1 || !strings.Contains(p.stderr.String(), "stopped by a signal") {
		t.Errorf("SIGINT: exit code %d, want 1: %s", code, p.stderr.String())
	}
	if left := names(t, output); left != nil {
		t.Errorf("the stopped build left %v", left)
	}
	p = begin()
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	for _, left := range names(t, output) {
		if !strings.HasPrefix(left, ".") {
			t.Errorf("the killed build published %s", left)
		}
	}
	build(t, s, output, "5.0")
	if diff := cmp.Diff([]string{"v5.0"}, names(t, output)); diff != "" {
		t.Errorf("what the output directory holds after the next build (-want +got):\n%s", diff)
	}
}

func TestOneOfTwoBuildsOfAVersionIsPublished(t *testing.T) {
	s, output := follow(t, 60), filepath.Join(t.TempDir(), "datasets")
	var builds [2]*process
	for i := range builds {
		builds[i] = snapshotProcess(t, "--data-dir", s.dataDir, "--output", output, "--version", "1.0", "--log-level", "error")
	}
	published := 0
	for _, p := range builds {
		switch code := p.wait(t); {
		case code == 0:
			published++
		case code != 1 || !strings.Contains(p.stderr.String(), "exists"):
			t.Errorf("exit code %d: %s", code, p.stderr.String())
		}
	}
	if published != 1 {
		t.Errorf("%d builds say that they published the version, want 1", published)
	}
	if diff := cmp.Diff([]string{"v1.0"}, names(t, output)); diff != "" {
		t.Errorf("what the output directory holds (-want +got):\n%s", diff)
	}
}

// A daemon that was killed leaves its address, which another program may have
// by now: the directory is read then.
func TestAddressOfADeadDaemonIsNoObstacle(t *testing.T) {
	s := follow(t, 30)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for name, address := range map[string]string{"nobody there": freeAddress(t), "another program there": other.Listener.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			if err := featurestore.WriteEndpoint(s.dataDir, featurestore.Endpoint{PID: 1, Address: address, Token: "t"}, nil); err != nil {
				t.Fatal(err)
			}
			// With so few users the small groups leave little or nothing: what
			// matters is that the store was read.
			code, _, stderr := command(t, "", "--data-dir", s.dataDir, "--output", t.TempDir(), "--as-of", "2020-01-01T00:00:00Z")
			if code != 1 || !strings.Contains(stderr, "earliest") {
				t.Errorf("exit code %d, want the store's answer: %s", code, stderr)
			}
		})
	}
}
