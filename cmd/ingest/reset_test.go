package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/internal/pgtest"
)

// inspectStore opens the store of a stopped daemon.
func inspectStore(t *testing.T, dataDir string, do func(*featurestore.Store)) {
	t.Helper()
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{
		Definition: dreamscape(t), ReadOnly: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	do(store)
}

// rowsAsOf reads all that a view holds, and returns its moment too.
func rowsAsOf(t *testing.T, dataDir string, asOf change.Version) (rows map[string]map[string]string, at change.Version) {
	t.Helper()
	inspectStore(t, dataDir, func(store *featurestore.Store) {
		view, err := store.View(asOf)
		if err != nil {
			t.Fatal(err)
		}
		rows, at = readStore(t, dreamscape(t), view), view.Info().AsOf
	})
	return rows, at
}

// gaps are those of the newest view.
func gaps(t *testing.T, dataDir string) (all []history.Gap) {
	t.Helper()
	inspectStore(t, dataDir, func(store *featurestore.Store) {
		view, err := store.View(0)
		if err != nil {
			t.Fatal(err)
		}
		all = view.Info().Gaps
	})
	return all
}

// confirmReset resets the feed of a stopped daemon.
func confirmReset(t *testing.T, dataDir, url string, args ...string) (said string) {
	t.Helper()
	code, stdout, stderr := command(t, append([]string{"reset", "--confirm", "--data-dir", dataDir, "--database-url", url, "--log-level", "error"}, args...)...)
	if code != 0 {
		t.Fatalf("ingest reset --confirm: exit code %d: %s%s", code, stdout, stderr)
	}
	return stdout
}

const missWhileStopped = `
UPDATE users SET updated_at = now(), nationality = 'XX' WHERE id IN (SELECT id FROM users LIMIT 9);
DELETE FROM favorites WHERE ctid IN (SELECT ctid FROM favorites LIMIT 7)`

// I7: after a reset the store equals the source again, what it said before the
// gap it still says, and it says nothing of moments inside.
func TestResetKeepsHistoryAndReadsTheTablesAgain(t *testing.T) {
	url, dataDir := populated(t, 60), filepath.Join(t.TempDir(), "data")
	d := start(t, dataDir, url)
	d.waitReady()
	code, _, stderr := command(t, "reset", "--confirm", "--data-dir", dataDir, "--database-url", url)
	if pid := fmt.Sprint(d.command.Process.Pid); code != 1 || !strings.Contains(stderr, "kill "+pid) {
		t.Errorf("reset beside a running daemon: exit code %d, want 1 and process %s named: %s", code, pid, stderr)
	}
	d.signal(syscall.SIGTERM)
	d.wait()
	before, newest := rowsAsOf(t, dataDir, 0)

	execute(t, url, "SELECT pg_drop_replication_slot('dreamfeed')", missWhileStopped)
	refused(t, dataDir, url, nil, "replication slot dreamfeed does not exist", "ingest reset --confirm")
	code, stdout, stderr := command(t, "reset", "--data-dir", dataDir, "--database-url", url)
	if code != 2 || !strings.Contains(stdout, "epoch 2") || !strings.Contains(stdout, "gap") || !strings.Contains(stderr, "--confirm") {
		t.Errorf("reset without --confirm: exit code %d: %s%s", code, stdout, stderr)
	}
	refused(t, dataDir, url, nil, "replication slot dreamfeed does not exist")

	confirmReset(t, dataDir, url)
	if said := confirmReset(t, dataDir, url); !strings.Contains(said, "nothing to reset") {
		t.Errorf("the second reset in a row said %s", said)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 3 { // kills in the new backfill
		d := start(t, dataDir, url)
		timer := time.NewTimer(time.Duration(50+random.IntN(500)) * time.Millisecond)
		select {
		case <-timer.C:
		case err := <-d.done:
			t.Fatalf("ingest ended by itself: %v: %s", err, d.output)
		}
		d.kill()
	}
	catchUp(t, dataDir, url)
	requireEqual(t, dreamscape(t), dataDir, url)

	again, _ := rowsAsOf(t, dataDir, newest)
	if diff := cmp.Diff(before, again); diff != "" {
		t.Errorf("as of %s the store says something else after the reset (-before +after):\n%.2000s", newest, diff)
	}
	found := gaps(t, dataDir)
	if len(found) != 1 || found[0].From < newest || found[0].To <= found[0].From {
		t.Fatalf("the gaps are %v, want one from %s on", found, newest)
	}
	inspectStore(t, dataDir, func(store *featurestore.Store) {
		for _, inside := range []change.Version{found[0].From + 1, found[0].To - 1} {
			var gap *featurestore.GapError
			if _, err := store.View(inside); !errors.As(err, &gap) {
				t.Errorf("a view as of %s, inside the gap: %v", inside, err)
			}
		}
		for _, outside := range []change.Version{found[0].From, found[0].To} {
			if _, err := store.View(outside); err != nil {
				t.Errorf("a view as of %s, outside the gap: %v", outside, err)
			}
		}
	})
}

// What is missing or damaged of stream, store and source is named with the
// reset, and the reset mends it.
func TestResetMendsWhatIsLost(t *testing.T) {
	other := pgtest.New(t).NewDatabase(t)
	populate(t, other, 30)
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dataDir string) {
			if err := os.RemoveAll(filepath.Join(dataDir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dataDir string)
		url   string // another source
		args  []string
		says  []string
		gaps  int
	}{
		"the stream is gone":           {spoil: remove("stream"), says: []string{"is empty"}, gaps: 1},
		"stream and store are gone":    {spoil: func(t *testing.T, dir string) { remove("stream")(t, dir); remove("store")(t, dir) }, says: []string{"the stream is empty"}},
		"the stream is an older one":   {spoil: func(t *testing.T, dir string) { remove("stream")(t, dir); copyDir(t, dir+"-older", dir) }, says: []string{"lost the tail"}, gaps: 1},
		"the store is an emptied one":  {spoil: func(t *testing.T, dir string) { remove("store")(t, dir) }, says: nil},
		"the database moved elsewhere": {url: other, says: []string{"not the one the stream was fed from"}, gaps: 1},
	} {
		t.Run(name, func(t *testing.T) {
			url, dataDir := populated(t, 30), filepath.Join(t.TempDir(), "data")
			catchUp(t, dataDir, url)
			copyDir(t, dataDir, dataDir+"-older")
			if err := os.RemoveAll(filepath.Join(dataDir+"-older", "store")); err != nil {
				t.Fatal(err)
			}
			execute(t, url, missWhileStopped)
			catchUp(t, dataDir, url)
			if c.spoil != nil {
				c.spoil(t, dataDir)
			}
			if c.url != "" {
				url = c.url
			}
			if c.says != nil {
				refused(t, dataDir, url, nil, append(c.says, "ingest reset --confirm")...)
				confirmReset(t, dataDir, url, c.args...)
			}
			catchUp(t, dataDir, url)
			requireEqual(t, dreamscape(t), dataDir, url)
			if found := gaps(t, dataDir); len(found) != c.gaps {
				t.Errorf("the gaps are %v, want %d", found, c.gaps)
			}
			execute(t, url, `UPDATE users SET updated_at = now(), nationality = 'YY'`)
			catchUp(t, dataDir, url)
			requireEqual(t, dreamscape(t), dataDir, url)
		})
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// Each reset begins an epoch of its own, also with a stream whose changes are
// discarded.
func TestEachResetMakesItsOwnGap(t *testing.T) {
	url, dataDir := populated(t, 30), filepath.Join(t.TempDir(), "data")
	catchUp(t, dataDir, url)
	for n, args := range [][]string{nil, {"--discard-stream"}, nil} {
		confirmReset(t, dataDir, url, args...)
		catchUp(t, dataDir, url)
		requireEqual(t, dreamscape(t), dataDir, url)
		if found := gaps(t, dataDir); len(found) != n+1 {
			t.Errorf("after reset %d the gaps are %v", n+1, found)
		}
	}
}
