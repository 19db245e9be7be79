package featurestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/durable"
)

// A start that is killed between removing logs and syncing that leaves none to be seen,
// and a power cut may bring them back: the next start syncs before the lock file says
// that logs can be trusted.
func TestRemovalOfLogsIsSyncedByWhoFindsNone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{Replayable: true})
	f := newFeed()
	f.tick(1000)
	apply(t, s, f.batches...)
	left := crashed(t, dir)
	errFault := errors.New("fault")
	hook := func(step durable.Step, _ uint64) error {
		if step == durable.SyncDirectory {
			return errFault
		}
		return nil
	}
	if _, err := featurestore.Open(left, featurestore.Options{Definition: testDefinition(), Replayable: true, Hook: hook}); !errors.Is(err, errFault) {
		t.Fatalf("error %v, want the injected one", err)
	}
	if logs, err := filepath.Glob(filepath.Join(left, "*.mem")); err != nil || len(logs) > 0 {
		t.Fatalf("logs %q are left, %v", logs, err)
	}
	var steps []durable.Step
	again := open(t, left, featurestore.Options{Hook: func(step durable.Step, _ uint64) error {
		steps = append(steps, step)
		return nil
	}})
	// The first note keeps what the one before said, the second says that logs count.
	want := []durable.Step{durable.WriteFile, durable.SyncFile, durable.SyncDirectory, durable.WriteFile, durable.SyncFile}
	if !slices.Equal(steps[:min(len(want), len(steps))], want) {
		t.Errorf("the steps of the next start are %q, want first %q", steps, want)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// A lock file that a crash left empty does not make a store with logs a closed one: what
// the logs of a store that syncs hold lies in tables before the lock file says that logs
// are worth nothing.
func TestLogsBesideAnEmptyLockFileAreKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{})
	f := newFeed()
	f.tick(1000)
	apply(t, s, f.batches...)
	left := crashed(t, dir)
	lock := filepath.Join(left, "dreamfeed.lock")
	if err := os.Truncate(lock, 0); err != nil {
		t.Fatal(err)
	}
	notes := 0
	next := open(t, left, featurestore.Options{Replayable: true, Hook: func(step durable.Step, _ uint64) error {
		if step != durable.SyncFile {
			return nil
		}
		notes++
		text, err := os.ReadFile(lock)
		if err != nil {
			return err
		}
		logs, err := filepath.Glob(filepath.Join(left, "*.mem"))
		if strings.Contains(string(text), "replayable") && len(logs) > 0 {
			t.Errorf("the lock file says %q while there are the logs %q", text, logs)
		}
		return err
	}})
	if got := next.Watermark().Version; got != 1000 || notes == 0 {
		t.Errorf("after %d notes in the lock file the store is at %d, want 1000", notes, got)
	}
}
