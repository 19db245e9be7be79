package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/pgtest"
)

// refusal is a call that is refused: with exit code 1, one sentence that holds
// the words, and nothing made.
type refusal struct {
	args  []string
	words []string
}

func (s source) requireRefused(t *testing.T, calls map[string]refusal) {
	t.Helper()
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			output := filepath.Join(t.TempDir(), "datasets")
			code, stdout, stderr := command(t, "", append([]string{"--data-dir", s.dataDir, "--output", output, "--log-level", "error"}, c.args...)...)
			if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, want 1 and one sentence; stdout %q, stderr %s", code, stdout, stderr)
			}
			for _, word := range c.words {
				if !strings.Contains(stderr, word) {
					t.Errorf("the error does not name %q: %s", word, stderr)
				}
			}
			if left := names(t, output); left != nil {
				t.Errorf("the refused build left %v", left)
			}
			if slices.Contains(names(t, s.dataDir), "anonymization.key") {
				t.Error("the refused build made a key")
			}
		})
	}
}

// store opens the store of a daemon that has stopped.
func (s source) store(t *testing.T, fn func(*featurestore.Store)) {
	t.Helper()
	store, err := featurestore.Open(filepath.Join(s.dataDir, "store"), featurestore.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	fn(store)
}

// A moment of which there is no whole history is refused, with the nearest one
// that can be built, before anything is made: through the daemon and from the
// directory alike.
func TestMomentsWithoutHistoryAreRefusedWithTheNearest(t *testing.T) {
	s := follow(t, 30)
	// Something for the feed to lose, and the feed begun anew.
	program, err := ingestProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"DATABASE_URL=" + s.url}, program, "reset", "--data-dir", s.dataDir, "--confirm")
	if code := p.wait(t); code != 0 {
		t.Fatalf("ingest reset: exit code %d: %s", code, p.stderr.String())
	}
	s.catchUp(t)
	var birth, before, after change.Version
	s.store(t, func(store *featurestore.Store) {
		birth = store.Watermark().Birth
		gaps := store.Status().Gaps
		if len(gaps) != 1 {
			t.Fatalf("%d gaps after a reset, want 1", len(gaps))
		}
		before, after = gaps[0].From, gaps[0].To
	})
	future := time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
	inside := before + (after-before)/2
	calls := map[string]refusal{
		"before the birth":  {[]string{"--as-of", (birth - 1).String()}, []string{(birth - 1).String(), "before", birth.String()}},
		"before all stores": {[]string{"--as-of", "1950-01-01T00:00:00Z"}, []string{"1950-01-01", "before", birth.String()}},
		"in a gap":          {[]string{"--as-of", inside.String()}, []string{inside.String(), "gap", before.String(), after.String()}},
		"in the future":     {[]string{"--as-of", future}, []string{future, "future", "newest closed moment", "--as-of now"}},
	}
	calls["kept, in a gap"] = refusal{append(calls["in a gap"].args, "--keep"), []string{"no ingest runs"}}
	calls["now, without a daemon"] = refusal{[]string{"--as-of", "now"}, []string{"--as-of now", "no ingest runs", s.dataDir}}
	calls["kept, without a daemon"] = refusal{[]string{"--keep"}, []string{"--keep", "no ingest runs", s.dataDir}}
	t.Run("from the directory", func(t *testing.T) { s.requireRefused(t, calls) })

	delete(calls, "now, without a daemon")
	delete(calls, "kept, without a daemon")
	calls["kept, in a gap"] = refusal{calls["kept, in a gap"].args, calls["in a gap"].words}
	daemon, moment := s.daemon(t)
	newest, err := time.Parse(time.RFC3339Nano, moment)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("through the daemon", func(t *testing.T) { s.requireRefused(t, calls) })
	_, list, _ := command(t, "", "kept", "--data-dir", s.dataDir)
	if list != "no version is kept\n" {
		t.Errorf("a refused build keeps a version:\n%s", list)
	}

	// A stopped source leaves the moment after the newest one open.
	daemon.stop(t)
	s.store(t, func(store *featurestore.Store) { newest = store.Watermark().Version.Time() })
	open := change.VersionAt(newest.Add(time.Millisecond))
	s.requireRefused(t, map[string]refusal{
		"not closed": {[]string{"--as-of", open.String()}, []string{open.String(), "not closed", change.VersionAt(newest).String()}},
	})
}

// --as-of now waits for the source and the store as long as it is told, and then
// says what it waited for and how far it came.
func TestAsOfNowSaysWhatItWaitedFor(t *testing.T) {
	server := pgtest.New(t)
	s := followAt(t, server.NewDatabase(t), 30)
	address := freeAddress(t)
	s.ingest(t, "--listen", address)
	await(t, "ingest to be ready", func() bool { code, _ := get(address, "/readyz"); return code == http.StatusOK })

	// A source that answers, but whose changes do not come: its walsender is held.
	var walsender int
	conn := pgtest.Session(t, s.url, pgx.QueryExecModeSimpleProtocol)
	await(t, "the slot to be in use", func() bool {
		return conn.QueryRow(t.Context(), `SELECT active_pid FROM pg_replication_slots WHERE active`).Scan(&walsender) == nil
	})
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(walsender)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Signal(syscall.SIGCONT) }()
	s.requireRefused(t, map[string]refusal{
		"the store lags":  {[]string{"--as-of", "now", "--wait", "700ms"}, []string{"--as-of now", "has applied the source up to ", "not up to ", "within 700ms"}},
		"no time is left": {[]string{"--as-of", "now", "--wait", "1ms"}, []string{"--as-of now", "within 1ms"}},
	})
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}

	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DATASET_AS_OF", "now")
	s.requireRefused(t, map[string]refusal{
		"the source is away": {[]string{"--wait", "700ms"}, []string{"--as-of now", "gave no position within 700ms", "applied is ", "as of ", "/readyz"}},
	})
	// It may come back within the time.
	output := t.TempDir()
	waiting := snapshotProcess(t, "--data-dir", s.dataDir, "--output", output, "--as-of", "now", "--wait", "60s", "--log-level", "error")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := waiting.wait(t); code != 0 {
		t.Errorf("the source came back: exit code %d: %s", code, waiting.stderr.String())
	}
}
