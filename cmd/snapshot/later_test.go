package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dreamfeed/internal/change"
)

// I7: a dataset built later as of T has the bytes of the one built at T: after
// much traffic with deletes, truncations, refills, late rows and rows from the
// future, through the daemon and from the directory, with any number of workers,
// after retention has removed all history that its window does not need, and from
// stores that were restored from backups or rebuilt from the stream.
func TestI7DatasetBuiltLaterEqualsTheOneBuiltThen(t *testing.T) {
	flags := withWindow(t, "4s")
	s := followAt(t, shared.NewDatabase(t), 80, flags...)
	outputs := t.TempDir()
	build := func(s source, output string, args ...string) string {
		t.Helper()
		dir := filepath.Join(outputs, output)
		build(t, s, dir, "1.0", append(append(args, flags...), "--outliers", "keep", "--pseudonyms", "stable")...)
		return dir
	}
	l := newLife(t, s)
	daemon, _ := s.daemon(t)

	// What is recorded here, ahead of its moment, lies behind the window's
	// beginning when its moment has come.
	var ahead []string
	for i := range 60 {
		id := fmt.Sprintf("own-ahead-%d", i)
		if err := recommend(t.Context(), l.conn, id, fmt.Sprintf("(now() AT TIME ZONE 'UTC' + interval '%d milliseconds')", 1500+500*i)); err != nil {
			t.Fatal(err)
		}
		ahead = append(ahead, id)
	}
	l.goOn(700 * time.Millisecond)
	l.upheaval("user_preferences", "user_vectors")
	// The window begins after this, and all its moments pass.
	began := time.Now()
	l.goOn(window / 2)
	l.upheaval("favorites", "recommendations")
	full := filepath.Join(t.TempDir(), "full")
	s.ingestDone(t, "backup", "--data-dir", s.dataDir, "--to", full)
	l.goOn(max(window-time.Since(began), 0) + 300*time.Millisecond)
	// However slow the traffic was, there is something to build.
	for i := range 40 {
		if err := recommend(t.Context(), l.conn, fmt.Sprintf("own-now-%d", i), "(now() AT TIME ZONE 'UTC')"); err != nil {
			t.Fatal(err)
		}
	}

	// The build makes the key, and says so.
	then := filepath.Join(outputs, "then")
	code, _, stderr := command(t, "", append([]string{
		"--data-dir", s.dataDir, "--output", then, "--as-of", "now", "--keep", "--workers", "8",
		"--outliers", "keep", "--pseudonyms", "stable", "--log-level", "warn",
	}, flags...)...)
	if code != 0 || !strings.Contains(stderr, "anonymization.key") {
		t.Fatalf("--as-of now --keep: exit code %d: %s", code, stderr)
	}
	moment := momentOf(t, then, "1.0")
	at, err := time.Parse(time.RFC3339Nano, moment)
	if err != nil {
		t.Fatal(err)
	}
	from := change.VersionAt(at.Add(-window))
	if from <= change.VersionAt(began) {
		t.Fatalf("the window begins at %s, before the rows that are recorded ahead of their moments", from)
	}
	held, inside := interactions(t, then, "1.0"), 0
	code, stdout, stderr := command(t, strings.Join(ahead, "\n"), append([]string{
		"pseudonym", "--data-dir", s.dataDir, "--pseudonyms", "stable", "--column", "interaction_id",
	}, flags...)...)
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, pseudonym := range strings.Fields(stdout) {
		if held[pseudonym] {
			inside++
		}
	}
	if inside < 3 || len(held) < 20 {
		t.Fatalf("the dataset has %d rows, %d of them recorded before the window that they lie in: too few to say much", len(held), inside)
	}

	asOf := []string{"--as-of", moment}
	l.goOn(700 * time.Millisecond)
	l.upheaval("search_history", "booking_data")
	l.exec(`UPDATE recommendations SET status = 'REJECTED', "rejectedAt" = now() AT TIME ZONE 'UTC'`)
	l.goOn(700 * time.Millisecond)
	requireSame(t, "later, through the daemon, with one worker", then, build(s, "later", append(asOf, "--workers", "1")...), "1.0")
	increment := full + ".1"
	s.ingestDone(t, "backup", "--data-dir", s.dataDir, "--to", increment, "--base", full)
	restored := s.restore(t, full, increment)
	requireSame(t, "restored from a backup and its increment", then, build(restored, "restored", append(asOf, "--workers", "8")...), "1.0")
	requireSame(t, "rebuilt from the stream", then, build(s.rebuild(t, moment), "rebuilt", append(asOf, "--workers", "1")...), "1.0")
	requireSame(t, "rebuilt from a backup and the stream", then, build(s.rebuild(t, moment, full), "rebuiltfrom", asOf...), "1.0")
	daemon.stop(t)

	unswept := s.copyDir(t)
	requireSame(t, "later, from the directory, with eight workers", then, build(s, "directory8", append(asOf, "--workers", "8")...), "1.0")
	newest := build(s, "newest")
	if _, _, metadata := contents(t, newest, "1.0"); string(metadata) == "" || momentOf(t, newest, "1.0") == moment {
		t.Fatal("the newest moment is the old one")
	}

	swept := s.sweep(t, flags[1])
	t.Logf("%d versions with %d bytes were swept below %s", swept.Versions, swept.Bytes, swept.Floor)
	if swept.Floor != from || swept.Versions < 100 {
		t.Fatalf("the sweep raised the floor to %s and removed %d versions; the kept version's window begins at %s", swept.Floor, swept.Versions, from)
	}
	requireSame(t, "swept, from the directory, with one worker", then, build(s, "swept1", append(asOf, "--workers", "1")...), "1.0")
	requireSame(t, "swept, from the directory, with eight workers", then, build(s, "swept8", append(asOf, "--workers", "8")...), "1.0")
	requireSame(t, "not swept, from a copy of the directory", then, build(unswept, "unswept", append(asOf, "--workers", "2")...), "1.0")
	// A later moment, whose window begins above the floor, does not tell the
	// swept store from the other.
	later := []string{"--as-of", momentOf(t, newest, "1.0")}
	requireSame(t, "the newest moment, swept and not", newest, build(s, "newestswept", later...), "1.0")

	// One microsecond earlier the window begins below the floor.
	early := append([]string{"--as-of", change.VersionAt(at.Add(-time.Microsecond)).String()}, flags...)
	refused := map[string]refusal{"below the floor": {early, []string{"was removed", "4s", "earliest possible is " + change.VersionAt(at).String(), "--window-days"}}}
	key := filepath.Join(s.dataDir, "anonymization.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	s.requireRefused(t, refused)
	s.daemon(t)
	s.requireRefused(t, refused)
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	requireSame(t, "swept, through the daemon", then, build(s, "sweptdaemon", append(asOf, "--workers", "4")...), "1.0")
}
