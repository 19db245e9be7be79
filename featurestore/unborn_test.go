package featurestore_test

import (
	"os"
	"path/filepath"
	"testing"

	"dreamfeed/featurestore"
)

// A process that is killed while Badger makes a memtable leaves a file that has
// no bytes yet (I3).
func TestStoreOpensAfterAKillThatLeftAnEmptyMemtable(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{})
	f := newFeed()
	f.tick(1000)
	apply(t, s, f.batches...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, featurestore.Options{})
	if got := s.Watermark().Version; got != 1000 {
		t.Errorf("the store stands at %d, want 1000", got)
	}
}
