package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dreamfeed/internal/natstest"
)

// What check prints for several faults can be given to psql together, and says who
// must widen a publication that the role does not own.
func TestCheckPrintsStatementsThatCanBeRunAsTheyAre(t *testing.T) {
	url, dataDir := populated(t, 30), filepath.Join(t.TempDir(), "data")
	asLeast := leastRole(t, url)
	mend := func(code int, stdout string) {
		t.Helper()
		var statements []string
		for line := range strings.Lines(stdout) {
			if statement, found := strings.CutPrefix(line, "       "); found {
				statements = append(statements, statement)
			}
		}
		if code != 1 || len(statements) == 0 {
			t.Fatalf("exit code %d, want faults: %s", code, stdout)
		}
		execute(t, url, strings.Join(statements, ""))
	}
	role, _, _ := strings.Cut(strings.TrimPrefix(asLeast, "postgres://"), "@")
	execute(t, url, `REVOKE SELECT (nationality) ON users FROM `+role, `REVOKE SELECT ("entityId") ON favorites FROM `+role)
	code, stdout, _ := command(t, "check", "--database-url", asLeast)
	mend(code, stdout)
	code, stdout, _ = command(t, "check", "--database-url", asLeast)
	mend(code, stdout) // the publication
	catchUp(t, dataDir, asLeast)

	wide, _ := define(t, "      nationality: text\n", "      email: text\n")
	code, stdout, _ = command(t, "check", "--database-url", asLeast, "--definition", wide)
	mend(code, stdout) // the right to read
	code, stdout, _ = command(t, "check", "--database-url", asLeast, "--definition", wide)
	if !strings.Contains(stdout, "ALTER PUBLICATION") || !strings.Contains(stdout, "owner") {
		t.Errorf("check does not say that the owner must widen the publication: %s", stdout)
	}
	mend(code, stdout)
	catchUp(t, dataDir, asLeast, "--definition", wide)
}

// The status answers while the broker is away, and says so.
func TestStatusAnswersWhileTheBrokerIsAway(t *testing.T) {
	url, dataDir := populated(t, 30), filepath.Join(t.TempDir(), "data")
	nats := natstest.Start(t)
	d := start(t, dataDir, url, "--nats-url", nats.URL(), "--slot", "broker_away")
	d.waitReady()
	nats.Kill()
	if code, body := d.get("/v1/status"); code != http.StatusOK || !strings.Contains(body, `"stream_fault"`) || !strings.Contains(body, `"rows"`) {
		t.Errorf("status %d: %s", code, body)
	}
	nats.Start()
	d.waitReady()
}

func TestListenWithoutAPortIsAMistakeInTheSettings(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://postgres@127.0.0.1:1/app")
	dir := filepath.Join(t.TempDir(), "data")
	if code, _, stderr := command(t, "--data-dir", dir, "--listen", "127.0.0.1"); code != 2 || !strings.Contains(stderr, "host:port") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the data directory was made all the same")
	}
}
