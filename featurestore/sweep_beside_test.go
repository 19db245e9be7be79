package featurestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// TestFloorStaysBelowWhatAnOpenRefillSaw: the refill must find what happened to
// its rows since it read them.
func TestFloorStaysBelowWhatAnOpenRefillSaw(t *testing.T) {
	s, f := hours(t, t.TempDir(), featurestore.Options{})
	rel := relations()["users"]
	f.batches = nil
	f.scope = scopeOf(1030*hour, "users")
	rows := []change.Row{insert(rel, 0, map[string]string{"id": "1"}), insert(rel, 1, map[string]string{"id": "2"})}
	f.transaction(change.Refill, 1200*hour, rows, 2, true)
	apply(t, s, f.batches...)
	wantFloor(t, s, 1090*hour, 1030*hour)
	f.batches = nil
	f.abandon(1200 * hour)
	f.tick(1201 * hour)
	apply(t, s, f.batches...)
	wantFloor(t, s, 1090*hour, 1090*hour)
	if n, err := s.Voids(); err != nil || n != 0 {
		t.Errorf("%d void versions are left, %v", n, err)
	}
	if v, err := s.View(0); err != nil || len(rowsOf(t, v)) != 1 {
		t.Errorf("a row of the abandoned refill shows: %v", err)
	}
}

// TestDeletedRowStaysDeletedForARefillThatReadItBefore: also when the floor has
// passed the deletion, and of a row that lies under a truncation.
func TestDeletedRowStaysDeletedForARefillThatReadItBefore(t *testing.T) {
	rels := relations()
	for _, table := range []string{"users", "orders", "config"} {
		for _, op := range []change.Op{change.Delete, change.Truncate} {
			t.Run(fmt.Sprintf("%s %c", table, op), func(t *testing.T) {
				rel := rels[table]
				row := map[string]string{"id": "1"}
				f := newFeed()
				f.transaction(change.Backfill, 1000*hour, []change.Row{insert(rel, 0, row)}, 1, false)
				gone := change.Row{Relation: rel, Op: op}
				if op == change.Delete {
					gone.Old = values(rel, row)
				}
				f.transaction(change.Live, 1002*hour, []change.Row{gone}, 1, false)
				f.tick(1004 * hour)
				s := open(t, t.TempDir(), featurestore.Options{})
				apply(t, s, f.batches...)
				if swept := sweep(t, s, 1003*hour); swept.Versions != 1 {
					t.Errorf("%d versions were removed, want the deleted one", swept.Versions)
				}
				f.batches = nil
				f.scope = scopeOf(1001*hour, table)
				f.transaction(change.Refill, 1005*hour, []change.Row{insert(rel, 0, row)}, 1, false)
				apply(t, s, f.batches...)
				if n := s.Status().Rows[table]; n != 0 {
					t.Errorf("the refill brought %d rows back", n)
				}
				v := view(t, s, 0)
				for name, versions := range rowsOf(t, v) {
					if !versions[0].Deleted {
						t.Errorf("row %s is there again", name)
					}
				}
			})
		}
	}
}

// TestSweepingBesideApplyingAndScanning: a view shows the same however much is
// applied and removed while it is read, and the end is that of an unswept store.
func TestSweepingBesideApplyingAndScanning(t *testing.T) {
	r := seed(t)
	g := newGenerator(r)
	g.step(change.Backfill)
	for range 400 {
		if r.IntN(8) == 0 {
			g.now += hour * change.Version(r.IntN(40))
		}
		g.step(change.Live)
	}
	s, twin := open(t, t.TempDir(), featurestore.Options{GroupEntries: 30}), open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, g.f.batches[:20]...)
	apply(t, twin, g.f.batches...)
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	var passes int
	wait.Go(func() {
		for r := rand.New(rand.NewPCG(1, 1)); ctx.Err() == nil; passes++ {
			_, err := s.SweepOnce(ctx, featurestore.SweepOptions{History: time.Duration(1+r.IntN(100)) * time.Minute})
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	views := 0
	wait.Go(func() {
		for ; ctx.Err() == nil; views++ {
			v, err := s.ViewWithin(0, time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			from := v.Info().AsOf - change.Version(time.Minute/time.Microsecond)
			first := lines(clip(rowsOf(t, v), from))
			if diff := cmp.Diff(first, lines(clip(rowsOf(t, v), from))); diff != "" {
				t.Errorf("a view changed (-first +second time):\n%.2000s", diff)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, b := range g.f.batches[20:] {
		apply(t, s, b)
	}
	cancel()
	wait.Wait()
	if passes < 3 || views < 3 {
		t.Errorf("%d passes and %d views: too few to prove anything", passes, views)
	}
	sameAbove(t, r, s, twin)
}

// TestSweepEndsPromptly: at most the batch that is being removed is finished.
func TestSweepEndsPromptly(t *testing.T) {
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	steps := 0
	s, _ := hours(t, t.TempDir(), featurestore.Options{GroupEntries: 5, Hook: func(step durable.Step, _ uint64) error {
		if step == durable.Sweep {
			steps++
			cancel(stop)
		}
		return nil
	}})
	swept, err := s.SweepOnce(ctx, history2floor(s, 1090*hour))
	if !errors.Is(err, stop) || steps != 1 || swept.Versions != 5 {
		t.Errorf("%d batches, %d versions, %v: want one batch of 5 and the reason", steps, swept.Versions, err)
	}
	// An actor that waits for its next pass ends too.
	if err := s.Sweep(ctx, featurestore.SweepOptions{History: time.Hour}); !errors.Is(err, stop) {
		t.Errorf("between two passes: %v", err)
	}
}

// TestTombstoneGoesAfterWhatItHides: wherever a pass ends, a deleted row does not
// come to light again.
func TestTombstoneGoesAfterWhatItHides(t *testing.T) {
	rel := relations()["users"]
	row := map[string]string{"id": "1"}
	update := insert(rel, 0, row)
	update.Op = change.Update
	f := newFeed()
	f.transaction(change.Backfill, 1000*hour, []change.Row{insert(rel, 0, row)}, 1, false)
	f.transaction(change.Live, 1001*hour, []change.Row{update}, 1, false)
	f.transaction(change.Live, 1002*hour, []change.Row{{Relation: rel, Op: change.Delete, Old: values(rel, row)}}, 1, false)
	f.tick(1050 * hour)
	for k := 1; k <= 3; k++ {
		steps := 0
		s := open(t, t.TempDir(), featurestore.Options{GroupEntries: 1, Hook: func(step durable.Step, _ uint64) error {
			if step == durable.Sweep {
				if steps++; steps == k {
					return errSwept
				}
			}
			return nil
		}})
		apply(t, s, f.batches...)
		if _, err := s.SweepOnce(t.Context(), history2floor(s, 1040*hour)); !errors.Is(err, errSwept) {
			t.Fatalf("batch %d: %v, want the injected error", k, err)
		}
		if n, err := s.RowKeys(); err != nil || n != 4-k {
			t.Errorf("before batch %d %d keys are left, %v: want %d", k, n, err, 4-k)
		}
		for name, versions := range rowsOf(t, view(t, s, 0)) {
			if !versions[0].Deleted {
				t.Errorf("before batch %d the deleted row %s shows", k, name)
			}
		}
	}
}

// TestLargeValuesGoWithTheirVersion: pieces do not stay behind, nor do those of a
// version whose removal was cut short between them.
func TestLargeValuesGoWithTheirVersion(t *testing.T) {
	rel := relations()["users"]
	large := func(v string) map[string]string {
		return map[string]string{"id": "1", "big": string(make([]byte, 1<<20)) + v}
	}
	f := newFeed()
	// The end of a piece's key, taken for a version, is one that the view shows.
	f.transaction(change.Backfill, 838<<32, []change.Row{insert(rel, 0, large("a"))}, 1, false)
	f.transaction(change.Live, 1001*hour, []change.Row{{Relation: rel, Op: change.Truncate}}, 1, false)
	f.tick(1040 * hour)
	stop, failing, batches := errors.New("stop"), true, 0
	s := open(t, t.TempDir(), featurestore.Options{GroupEntries: 2, Hook: func(step durable.Step, _ uint64) error {
		if step == durable.Sweep && failing {
			if batches++; batches > 1 {
				return stop
			}
		}
		return nil
	}})
	apply(t, s, f.batches...)
	if _, err := s.SweepOnce(t.Context(), history2floor(s, 1039*hour)); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if n, err := s.RowKeys(); err != nil || n != 3 {
		t.Fatalf("%d keys are left after the first batch, %v: want 3 pieces", n, err)
	}
	v := view(t, s, 0)
	if rows := rowsOf(t, v); len(rows) != 0 {
		t.Errorf("pieces without their version show as %v", rows)
	}
	v.Close()
	failing = false
	sweep(t, s, 1039*hour)
	if n, err := s.RowKeys(); err != nil || n != 0 {
		t.Errorf("%d keys of rows are left, %v", n, err)
	}
	if n, err := s.Truncations(); err != nil || n != 0 {
		t.Errorf("%d truncations are left, %v", n, err)
	}
}
