package featurestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// taken is a backup with what the store showed then.
type taken struct {
	file   string
	base   int // index of the backup that it continues, -1 for a full one
	at     int // batches that were applied
	closed change.Version
	open   bool // a transaction was
}

// eventfulFeed is a feed with refills, new epochs and transactions in parts. Before
// some steps, up to pause passes.
func eventfulFeed(r *rand.Rand, steps int, pause change.Version) *world {
	w := newWorld(r)
	w.drift()
	w.read(w.tables())
	w.publish(change.Backfill)
	for range steps {
		if pause > 0 && w.r.IntN(3) == 0 {
			w.now += change.Version(w.r.Uint64N(uint64(pause)))
		}
		switch n := w.r.IntN(40); {
		case n == 0 && w.snap == nil:
			w.read(w.tables())
		case n < 4 && w.snap != nil:
			w.publish(change.Refill)
		case n == 4 && w.snap == nil:
			w.drift()
			w.read(w.tables())
			w.publish(change.Refill)
		case n == 5:
			w.reset()
			w.read(w.tables())
			w.publish(change.Backfill)
		case n < 8:
			w.tick()
		default:
			w.live()
		}
	}
	return w
}

// TestI3RestoredStoreEqualsOriginal (I3, I4): backups are taken at random moments of
// a store that is fed, full ones and increments on any earlier one, also while
// transactions and refills are open, and across restarts of the store. Each,
// restored, shows what the original showed at every moment that was closed; and
// when both have applied the rest of the feed, they hold the same keys.
func TestI3RestoredStoreEqualsOriginal(t *testing.T) {
	r := seed(t)
	var open, increments int
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			a, b := restoreRound(t, r)
			open, increments = open+a, increments+b
		})
	}
	if !t.Failed() && (open == 0 || increments == 0) {
		t.Errorf("%d backups with an open transaction, %d increments: nothing is shown", open, increments)
	}
}

func restoreRound(t *testing.T, r *rand.Rand) (opened, increments int) {
	w := eventfulFeed(r, 120, 0)
	o := featurestore.Options{GroupEntries: 1 + r.IntN(40), Definition: w.def}
	dir := t.TempDir()
	s := open(t, dir, o)
	past := map[change.Version]map[string][]string{}
	var backups []taken
	var calls []int // where each call of Apply ended
	for applied := 0; applied < len(w.f.batches); {
		to := min(len(w.f.batches), applied+1+r.IntN(6))
		apply(t, s, w.f.batches[applied:to]...)
		applied = to
		calls = append(calls, to)
		if r.IntN(6) == 0 && applied < len(w.f.batches) {
			halfApplied(t, s, w.f.batches[applied])
		}
		if r.IntN(8) == 0 {
			closeStore(t, s)
			s = open2(t, dir, o)
		}
		v, err := s.View(0)
		if errors.Is(err, featurestore.ErrEmpty) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := past[v.Info().AsOf]; !ok && r.IntN(4) == 0 {
			past[v.Info().AsOf] = dump(t, v, 1)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if r.IntN(12) > 0 || applied == len(w.f.batches) { // a restored store says so until it has applied something
			continue
		}
		b := taken{base: -1, at: applied, closed: s.Watermark().Version, open: s.Watermark().OpenVersion != 0}
		base := ""
		if len(backups) > 0 && r.IntN(4) > 0 {
			b.base = r.IntN(len(backups))
			base = backups[b.base].file
			increments++
		}
		if b.open {
			opened++
		}
		b.file = backUp(t, s, base)
		backups = append(backups, b)
	}
	closeStore(t, s)
	want := everything(t, dir)
	for i := range backups {
		if i < len(backups)-1 && r.IntN(3) > 0 {
			continue // restoring takes the most time
		}
		restoreOne(t, w, o, backups, i, past, calls, want)
	}
	return opened, increments
}

// open2 opens a store that is closed by the caller.
func open2(t *testing.T, dir string, o featurestore.Options) *featurestore.Store {
	t.Helper()
	o.Memory = 48 << 20
	s, err := featurestore.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a second time when the test went well
	return s
}

func restoreOne(t *testing.T, w *world, o featurestore.Options, backups []taken, i int, past map[change.Version]map[string][]string, calls []int, want map[string]string) {
	t.Helper()
	var files []string
	for at := i; at >= 0; at = backups[at].base {
		files = append([]string{backups[at].file}, files...)
	}
	dir := restored(t, files...)
	s := open2(t, dir, o)
	if got := s.Watermark().Version; got != backups[i].closed {
		t.Fatalf("the restored store is closed up to %d, the original was up to %d", got, backups[i].closed)
	}
	for asOf, rows := range past {
		if asOf > backups[i].closed {
			continue
		}
		v, err := s.View(asOf)
		if err != nil {
			t.Fatalf("view as of %d of a store restored from %d files: %v", asOf, len(files), err)
		}
		sameRows(t, rows, dump(t, v, 2))
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	from := backups[i].at
	for _, to := range calls {
		if to > from {
			apply(t, s, w.f.batches[from:to]...)
			from = to
		}
	}
	closeStore(t, s)
	got := everything(t, dir)
	for key := range got {
		// Entries of the index, and marks of refills that have ended, which the
		// original removed before a later backup are removed by the restored store
		// when their time comes again.
		if _, ok := want[key]; !ok && (key[:2] == "60" || key[:2] == "70") {
			delete(got, key)
		}
	}
	for key := range want {
		if _, ok := got[key]; !ok && key[:2] == "70" {
			delete(want, key)
		}
	}
	sameKeys(t, want, got)
}

// A backup is taken while the store is fed: it is of one moment, and shows what
// the store showed then (I4).
func TestI4BackupBesideTrafficIsOfOneMoment(t *testing.T) {
	r := seed(t)
	w := eventfulFeed(r, 250, 0)
	s := open(t, t.TempDir(), featurestore.Options{GroupEntries: 64, Definition: w.def})
	first := 0
	for s.Watermark().Birth == 0 {
		apply(t, s, w.f.batches[first])
		first++
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	began := make(chan struct{}, 1)
	in := &list{batches: w.f.batches[first:], on: func(*change.Batch) {
		select {
		case began <- struct{}{}:
		default:
		}
	}}
	go func() { done <- s.Run(ctx, in) }()
	<-began
	var files []string
	base := ""
	for range 3 {
		base = backUp(t, s, base)
		files = append(files, base)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for last := w.f.batches[len(w.f.batches)-1].Sequence; s.Watermark().Sequence < last; {
		select {
		case <-tick.C:
		case err := <-done:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("the feed is not applied after 60 s")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for n := range files {
		c := open(t, restored(t, files[:n+1]...), featurestore.Options{Definition: w.def})
		v := view(t, c, 0)
		sameRows(t, dump(t, view(t, s, v.Info().AsOf), 1), dump(t, v, 1))
		for _, b := range w.f.batches {
			if b.Sequence > c.Watermark().Sequence {
				apply(t, c, b)
			}
		}
		if diff := cmp.Diff(s.Watermark(), c.Watermark()); diff != "" {
			t.Errorf("the watermark differs:\n%s", diff)
		}
		sameRows(t, dump(t, view(t, s, 0), 1), dump(t, view(t, c, 0), 1))
	}
}
