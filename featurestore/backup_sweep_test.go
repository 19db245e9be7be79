package featurestore_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// TestI4RestoreShowsNothingOfWhatWasGivenUpAfterTheBase (I4): the base holds parts
// of a transaction that was open then. It was given up, and the sweeper has taken
// its rows and the word of its being void, before the increment.
func TestI4RestoreShowsNothingOfWhatWasGivenUpAfterTheBase(t *testing.T) {
	rels := relations()
	row := map[string]string{"id": "1", "user_id": "1", "name": "first"}
	ghost := map[string]string{"id": "2", "user_id": "2", "name": "ghost"}
	for _, kind := range []change.Kind{change.Live, change.Refill} {
		for _, between := range []int{0, 1} { // increments before it is given up
			t.Run(fmt.Sprintf("kind %d, %d increments between", kind, between), func(t *testing.T) {
				f := newFeed()
				f.transaction(change.Backfill, 1000*hour, []change.Row{insert(rels["users"], 0, row), insert(rels["orders"], 1, row)}, 1, false)
				f.tick(1010 * hour)
				f.scope = scopeOf(1005*hour, "users", "orders")
				if kind == change.Live {
					f.scope = nil
				}
				rows := []change.Row{insert(rels["users"], 0, ghost), insert(rels["orders"], 1, ghost), insert(rels["users"], 2, row)}
				if kind == change.Live {
					rows = append(rows[:2], change.Row{Relation: rels["config"], Op: change.Truncate, Ordinal: 2}, rows[2])
					rows[3].Ordinal = 3
				}
				f.transaction(kind, 1020*hour, rows, len(rows), true)
				open1 := len(f.batches)
				dir := t.TempDir()
				s := open(t, dir, featurestore.Options{})
				apply(t, s, f.batches...)
				files := []string{backUp(t, s, "")}
				for range between {
					files = append(files, backUp(t, s, files[len(files)-1]))
				}
				f.abandon(1020 * hour)
				f.tick(1030 * hour)
				f.tick(1031 * hour)
				apply(t, s, f.batches[open1:]...)
				sweep(t, s, 1005*hour)
				if n, err := s.Voids(); err != nil || n != 0 {
					t.Fatalf("%d void versions are left (%v): the test proves nothing", n, err)
				}
				files = append(files, backUp(t, s, files[len(files)-1]))
				want := rowsOf(t, view(t, s, 0))
				for n := len(files) - 1; n <= len(files); n++ {
					c := open(t, restored(t, files[:n]...), featurestore.Options{})
					if n < len(files) { // what was open then goes on
						apply(t, c, f.batches[open1:]...)
					}
					sameRows(t, lines(want), lines(rowsOf(t, view(t, c, 0))))
					// A key that was only ever in what was given up is nobody's.
					next := newFeed()
					mark := c.Watermark()
					next.incarnation, next.sequence, next.last = mark.Incarnation, mark.Sequence, mark.Last
					next.transaction(change.Live, 1040*hour, []change.Row{
						{Relation: rels["orders"], Op: change.Delete, Old: values(rels["orders"], ghost)},
					}, 1, false)
					apply(t, c, next.batches...)
					if got := c.Status().Counters.UnknownDeletes; got != 1 {
						t.Errorf("of %d files: the deletion of a key that was given up met a row", n)
					}
				}
			})
		}
	}
}

// TestIncrementIsRefusedOnceTheFloorHasPassedItsBase: what says that something in
// the base is gone may be removed by then. A chain of increments each of which
// continues the one before meets it only where the time between two is longer
// than the history.
func TestIncrementIsRefusedOnceTheFloorHasPassedItsBase(t *testing.T) {
	s, f := hours(t, t.TempDir(), featurestore.Options{})
	full := backUp(t, s, "")
	last, history := full, 40*time.Hour
	for range 30 {
		f.batches = nil
		f.tick(f.last + 24*hour)
		f.tick(f.last + 1)
		apply(t, s, f.batches...)
		if _, err := s.SweepOnce(t.Context(), featurestore.SweepOptions{History: history}); err != nil {
			t.Fatal(err)
		}
		last = backUp(t, s, last)
	}
	base, _, err := featurestore.ReadBackup(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	var refused *featurestore.BackupBaseError
	if _, _, err := s.Backup(t.Context(), nil, base); !errors.As(err, &refused) || refused.Base != base.ID {
		t.Errorf("an increment on a base below the floor: %v", err)
	}
}

// TestI7RestoredStoreAnswersLikeAnUnsweptOne (I3, I7): backups of a store that is
// swept between them, also while transactions and refills are open, are restored.
// At and above the floor each shows what a store shows of which nothing was ever
// removed, goes on like it, and is swept like it.
func TestI7RestoredStoreAnswersLikeAnUnsweptOne(t *testing.T) {
	r := seed(t)
	refused, increments := 0, 0
	for round := range 2 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			a, b := sweptBackupRound(t, r)
			refused, increments = refused+a, increments+b
		})
	}
	if !t.Failed() && increments == 0 {
		t.Errorf("%d increments, %d refused: nothing is shown", increments, refused)
	}
}

func sweptBackupRound(t *testing.T, r *rand.Rand) (refused, increments int) {
	w := eventfulFeed(r, 110, 3*hour)
	o := featurestore.Options{GroupEntries: 1 + r.IntN(40), Definition: w.def}
	dir := t.TempDir()
	s, twin := open2(t, dir, o), open(t, t.TempDir(), featurestore.Options{Definition: w.def})
	var backups []taken
	for applied := 0; applied < len(w.f.batches); {
		to := min(len(w.f.batches), applied+1+r.IntN(4))
		apply(t, s, w.f.batches[applied:to]...)
		applied = to
		if r.IntN(6) == 0 && applied < len(w.f.batches) {
			halfApplied(t, s, w.f.batches[applied])
		}
		if r.IntN(8) == 0 {
			closeStore(t, s)
			s = open2(t, dir, o)
		}
		if s.Watermark().Birth == 0 {
			continue
		}
		if newest := s.Watermark().Version; r.IntN(3) == 0 {
			sweep(t, s, s.Floor()+change.Version(r.Uint64N(uint64(newest-s.Floor())/4+1)))
		}
		if r.IntN(5) > 0 {
			continue
		}
		b := taken{base: -1, at: applied, closed: s.Watermark().Version}
		base := ""
		if len(backups) > 0 && r.IntN(6) > 0 {
			b.base = max(len(backups)-1-r.IntN(3), 0)
			base = backups[b.base].file
			if s.Floor() > backups[b.base].closed {
				header, _, err := featurestore.ReadBackup(t.Context(), base)
				if err != nil {
					t.Fatal(err)
				}
				var passed *featurestore.BackupBaseError
				if _, _, err := s.Backup(t.Context(), io.Discard, header); !errors.As(err, &passed) {
					t.Fatalf("an increment on a base that the floor has passed: %v", err)
				}
				refused++
				continue
			}
			increments++
		}
		b.file = backUp(t, s, base)
		backups = append(backups, b)
	}
	apply(t, twin, w.f.batches...)
	viewsAbove(t, r, s, twin)
	for i := range backups {
		if i < len(backups)-1 && r.IntN(3) > 0 {
			continue // restoring takes the most time
		}
		var files []string
		for at := i; at >= 0; at = backups[at].base {
			files = append([]string{backups[at].file}, files...)
		}
		c := open2(t, restored(t, files...), o)
		viewsAbove(t, r, c, twin)
		if r.IntN(2) == 0 && c.Floor() < c.Watermark().Version { // also what came again with the base goes
			sweep(t, c, c.Floor()+1)
			viewsAbove(t, r, c, twin)
		}
		apply(t, c, w.f.batches[backups[i].at:]...)
		viewsAbove(t, r, c, twin)
		if diff := cmp.Diff(twin.Status().Rows, c.Status().Rows); diff != "" {
			t.Errorf("live rows (-unswept +restored):\n%s", diff)
		}
		leastKeys(t, c)
		closeStore(t, c)
		if t.Failed() {
			t.Fatalf("backup %d of %d files", i, len(files))
		}
	}
	closeStore(t, s)
	return refused, increments
}

// viewsAbove is sameAbove for a store with gaps, that may have applied less than
// its twin.
func viewsAbove(t *testing.T, r *rand.Rand, s, twin *featurestore.Store) {
	t.Helper()
	floor, newest := s.Floor(), s.Watermark().Version
	for _, asOf := range []change.Version{floor, floor + change.Version(r.Uint64N(uint64(newest-floor)+1)), newest} {
		a, err := s.ViewWithin(asOf, time.Duration(asOf-floor)*time.Microsecond)
		var gap *featurestore.GapError
		if errors.As(err, &gap) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, want := rowsOf(t, a), rowsOf(t, view(t, twin, asOf))
		h := floor + change.Version(r.Uint64N(uint64(asOf-floor)+1))
		if diff := cmp.Diff(lines(clip(want, h)), lines(clip(got, h))); diff != "" {
			t.Fatalf("floor %d, as of %d, from %d on (-unswept +restored):\n%.4000s", floor, asOf, h, diff)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
