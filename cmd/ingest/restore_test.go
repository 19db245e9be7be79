package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where a restore was killed, or still runs, ingest begins no new store in its place.
func TestIngestWaitsForARestore(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://postgres@127.0.0.1:1/app")
	dir := t.TempDir()
	left := filepath.Join(dir, "store.restoring")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := command(t, "--data-dir", dir, "--listen", "127.0.0.1:0"); code != 1 || !strings.Contains(stderr, "run ingest restore again") || !strings.Contains(stderr, left) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) != 1 {
		t.Errorf("something was made beside it: %v, %v", found, err)
	}
	// Beside a store it is only waste.
	if err := os.MkdirAll(filepath.Join(dir, "store", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := refuseUnrestored(dir); err != nil {
		t.Error(err)
	}
}
