package featurestore_test

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// crashed is a copy of the directory of an open store: what a process that is killed
// now would leave. The manifest goes first, since the tables that it names are whole.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data [1]*") // a name that would be a pattern
	files, err := os.ReadDir(dir)
	if err == nil {
		err = os.Mkdir(to, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(files, func(a, b os.DirEntry) int {
		return cmp.Compare(strings.Index(b.Name(), "MANIFEST"), strings.Index(a.Name(), "MANIFEST"))
	})
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // a log that became a table
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, f.Name()), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// A replayable store stands after a crash where it said that it is durable, whatever it
// had shown, and a checkpoint makes durable what is applied (I2).
func TestReplayableStoreGoesBackToWhatIsDurable(t *testing.T) {
	f := newFeed()
	for at := change.Version(1000); at <= 5000; at += 1000 {
		f.tick(at)
	}
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{Replayable: true})
	require := func(shown, durable change.Version) {
		t.Helper()
		if got := s.Watermark().Version; got != shown {
			t.Errorf("the store shows %d, want %d", got, shown)
		}
		if got := s.Durable().Version; got != durable {
			t.Errorf("the store says that %d is durable, want %d", got, durable)
		}
		after := open(t, crashed(t, dir), featurestore.Options{Replayable: true})
		defer after.Close()
		if got := after.Watermark(); got != s.Durable() || after.Durable() != got {
			t.Errorf("after a crash the store is at %d, and says that %d is durable, want %d", got.Version, after.Durable().Version, durable)
		}
	}
	apply(t, s, f.batches[:2]...)
	require(2000, 0)
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	require(2000, 2000)
	apply(t, s, f.batches[2:4]...)
	require(4000, 2000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, featurestore.Options{Replayable: true})
	require(4000, 4000)
	apply(t, s, f.batches[4:]...)
	require(5000, 4000)
}

// What Durable says lags behind by some groups at most, however many there were.
func TestDurableIsKnownOfManyGroups(t *testing.T) {
	f := newFeed()
	const groups = 600
	for i := range change.Version(groups) {
		f.tick(1000 + i)
	}
	s := open(t, t.TempDir(), featurestore.Options{Replayable: true})
	for i := range f.batches {
		apply(t, s, f.batches[i])
	}
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Durable().Sequence; got < groups-16 {
		t.Errorf("after a checkpoint message %d of %d is durable", got, groups)
	}
}

// Nor does it matter that nobody asks for long.
func TestDurableIsKnownThoughNobodyAsks(t *testing.T) {
	f := newFeed()
	const before, behind = 300, 1500
	for i := range change.Version(before + behind) {
		f.tick(1000 + i)
	}
	s := open(t, t.TempDir(), featurestore.Options{Replayable: true})
	for i := range f.batches {
		apply(t, s, f.batches[i])
		if i == before-1 {
			if err := s.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := s.Durable().Sequence; got < before-16 || got > before {
		t.Errorf("message %d is durable, want %d or a little less", got, before)
	}
}

// Keeping a version, and giving it up, is on disk when it returns.
func TestKeptVersionsOfAReplayableStoreSurviveACrash(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{Replayable: true})
	f := newFeed()
	f.transaction(change.Backfill, 1000, nil, 1, false)
	f.tick(2000)
	apply(t, s, f.batches...)
	kept := func() (names []string) {
		t.Helper()
		after := open(t, crashed(t, dir), featurestore.Options{})
		defer after.Close()
		for _, k := range after.Kept() {
			names = append(names, k.Name)
		}
		return names
	}
	for _, name := range []string{"a", "b"} {
		if err := s.Keep(featurestore.Keep{Name: name, AsOf: 2000, From: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	if got := kept(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after a crash the store keeps %q", got)
	}
	if found, err := s.Release("a"); !found || err != nil {
		t.Fatalf("release: %t, %v", found, err)
	}
	if got := kept(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("after a release and a crash the store keeps %q", got)
	}
}

// A start that ends at any durable step of clearing away what a crash left does not make
// the next one trust the logs. The log here is a whole one, so that it would be seen.
func TestLogsOfACrashAreNeverTrusted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{Replayable: true})
	f := newFeed()
	f.tick(1000)
	f.tick(2000)
	apply(t, s, f.batches[0])
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, f.batches[1])
	left := crashed(t, dir)
	errFault := errors.New("fault")
	for _, replayable := range []bool{true, false} {
		for k, faulty := 0, true; faulty; k++ {
			at := crashed(t, left)
			n := 0
			faulty = false
			first, err := featurestore.Open(at, featurestore.Options{Definition: testDefinition(), Replayable: replayable, Hook: func(durable.Step, uint64) error {
				if n++; n == k+1 {
					faulty = true
					return errFault
				}
				return nil
			}})
			if faulty != errors.Is(err, errFault) {
				t.Fatalf("step %d: %v", k, err)
			}
			if err == nil {
				if err := first.Close(); err != nil && !faulty {
					t.Fatal(err)
				}
				continue
			}
			again := open(t, at, featurestore.Options{Replayable: !replayable})
			if got := again.Watermark().Version; got != 1000 {
				t.Errorf("step %d: the store is at %d, want 1000", k, got)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Without the note the logs are trusted, and hold what they should.
	if err := os.WriteFile(filepath.Join(left, "dreamfeed.lock"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := open(t, left, featurestore.Options{}).Watermark().Version; got != 2000 {
		t.Errorf("the logs that were not to be trusted reach to %d, want 2000: nothing is shown", got)
	}
}
