package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

// await polls until done.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// What the daemon says of itself stays true while PostgreSQL is away: alive, not
// ready, reconnecting; and it goes on when the server is back.
func TestStatusIsTruthfulWhileTheSourceIsAway(t *testing.T) {
	server := pgtest.New(t)
	if err := server.CreateDatabase(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	url, dataDir := server.URL("app"), filepath.Join(t.TempDir(), "data")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(workload.CreateSchema(t.Context(), conn), conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	d := start(t, dataDir, url)
	d.waitReady()
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "/readyz to turn red", func() bool {
		code, body := d.get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "reconnecting: ")
	})
	if code, _ := d.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	if _, body := d.get("/v1/status"); !strings.Contains(body, `"state": "reconnecting"`) || !strings.Contains(body, `"fault": "`) {
		t.Errorf("/v1/status tells neither state nor fault: %s", body)
	}
	requireDocumented(t, d)
	if code, _, stderr := command(t, "refill", "--table", "users", "--data-dir", dataDir); code != 1 || !strings.Contains(stderr, "the source is away") {
		t.Errorf("a refill meanwhile: exit code %d, want 1 and the reason: %s", code, stderr)
	}
	if _, body := d.get("/metrics"); !strings.Contains(body, "\ndreamfeed_source_streaming 0\n") {
		t.Error("/metrics says that changes are followed")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.waitReady()
	if _, body := d.get("/v1/status"); strings.Contains(body, `"fault"`) {
		t.Errorf("/v1/status still tells the fault: %s", body)
	}
	d.signal(syscall.SIGINT)
	if code := d.wait(); code != 0 {
		t.Errorf("SIGINT: exit code %d, want 0", code)
	}
}

// An orderly stop lets a request end that is under way; the second signal does
// not.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	d := start(t, filepath.Join(t.TempDir(), "data"), empty(t))
	d.waitReady()
	slow, err := net.Dial("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "GET /healthz HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	// An answer on a later connection shows that the slow one was accepted.
	if code, _ := d.get("/healthz"); code != http.StatusOK {
		t.Fatalf("/healthz: %d", code)
	}
	d.signal(syscall.SIGTERM)
	await(t, "the daemon to refuse connections", func() bool {
		code, _ := d.get("/healthz")
		return code == 0
	})
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != -1 {
		t.Errorf("exit code %d, want the end by the signal", code)
	}
}

// requireDocumented requires that docs/OPERATIONS.md names every metric of ours
// that the daemon shows.
func requireDocumented(t *testing.T, d *daemon) {
	t.Helper()
	docs, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body := d.get("/metrics")
	found := regexp.MustCompile(`(?m)^# TYPE (dreamfeed_\S+)`).FindAllStringSubmatch(body, -1)
	if len(found) < 10 {
		t.Errorf("/metrics shows %d metrics of ours", len(found))
	}
	for _, name := range found {
		if !regexp.MustCompile("`" + name[1] + "[`{]").Match(docs) {
			t.Errorf("docs/OPERATIONS.md does not name %s", name[1])
		}
	}
}
