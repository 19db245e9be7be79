package featurestore_test

import (
	"errors"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

const minute = change.Version(60_000_000)

// entries counts the entries of the index of positions.
func entries(t *testing.T, s *featurestore.Store) int {
	t.Helper()
	n, err := s.IndexEntries()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestIndexReachesBackOneHour(t *testing.T) {
	const first = change.Version(1_700_000_000_000_000)
	rels := relations()
	f := newFeed()
	f.transaction(change.Backfill, first, nil, 1, false)
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{})
	for i := range change.Version(600) { // ten minutes, a second apart
		f.transaction(change.Live, first+(i+1)*minute/60, []change.Row{insert(rels["config"], 0, map[string]string{"id": "1"})}, 1, false)
	}
	for _, b := range f.batches { // a group each
		apply(t, s, b)
	}
	begun := len(f.batches)
	if n := entries(t, s); n != begun {
		t.Fatalf("%d entries of %d groups", n, begun)
	}
	early := f.lsn(first + minute)
	if v, err := s.VersionBefore(early); err != nil || v != first+59*minute/60 {
		t.Errorf("version before %s: %d (%v)", early, v, err)
	}
	// Two hours later the newest entry is the only one that is left.
	late := first + 120*minute
	for i := range change.Version(400) {
		if f.tick(late + i); i == 200 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, featurestore.Options{})
		}
		apply(t, s, f.batches[len(f.batches)-1])
	}
	if n := entries(t, s); n != 1 {
		t.Errorf("%d entries are left after two hours, want 1", n)
	}
	if v, err := s.VersionBefore(f.lsn(late)); err != nil || v != first+10*minute {
		t.Errorf("version before the end: %d (%v), want the last transaction's", v, err)
	}
	var old *featurestore.IndexError
	if _, err := s.VersionBefore(early); !errors.As(err, &old) || old.LSN != early || old.Oldest != f.lsn(first+10*minute)+1 {
		t.Errorf("version before what was removed: %v", err)
	}
	// The entries of an ended epoch go, however young.
	f.reset(late + minute)
	f.scope = &change.Scope{Low: f.last}
	f.transaction(change.Backfill, late+2*minute, nil, 1, false)
	f.transaction(change.Live, late+3*minute, nil, 1, false)
	n := len(f.batches) - 3
	for i := range change.Version(100) {
		f.tick(late + 4*minute + i)
	}
	for _, b := range f.batches[n:] {
		if apply(t, s, b); b.Header.Last == late+minute {
			if _, err := s.VersionBefore(0); !errors.As(err, &old) || old.Oldest != 0 {
				t.Errorf("version before the epoch's first transaction: %v", err)
			}
		}
	}
	if n := entries(t, s); n != 2 {
		t.Errorf("%d entries are left of the new epoch, want 2", n)
	}
}

func TestIndexHoldsManyTransactionsOfAGroup(t *testing.T) {
	f := newFeed()
	v := change.Version(1_700_000_000_000_000)
	f.transaction(change.Backfill, v, nil, 1, false)
	for range 10_000 {
		v += 7
		f.transaction(change.Live, v, nil, 1, false)
	}
	s := open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, f.batches...)
	if n := entries(t, s); n < 5 || n > 8 {
		t.Errorf("%d entries of 10,001 transactions", n)
	}
	for i := range change.Version(10_000) {
		at := v - 7*i
		if got, err := s.VersionBefore(f.lsn(at) + 1); err != nil || got != at {
			t.Fatalf("version before the end of %d: %d (%v)", at, got, err)
		}
		if got, err := s.VersionBefore(f.lsn(at)); err != nil || got != at-7 {
			t.Fatalf("version before %d: %d (%v)", at, got, err)
		}
	}
}
