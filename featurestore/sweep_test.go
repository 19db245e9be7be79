package featurestore_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
	"dreamfeed/internal/history"
)

const hour = change.Version(time.Hour / time.Microsecond)

// rowsOf reads a whole view, tombstones and all, by place, table and key.
func rowsOf(t testing.TB, v reader) map[string][]history.Version {
	t.Helper()
	out := map[string][]history.Version{}
	for _, kind := range []string{"", "user", "item"} {
		ranges, err := v.Ranges(t.Context(), kind, 1)
		if err != nil {
			t.Fatal(err)
		}
		err = v.Scan(t.Context(), kind, ranges[0], func(e *history.Entity) error {
			for _, r := range e.Rows {
				name := fmt.Sprintf("%s:%s/%d/%x", kind, e.ID, r.Table, r.Key)
				for _, version := range r.Versions {
					sum := sha256.Sum256(version.Data) // of a large value the rest says little
					version.Data = sum[:8]
					out[name] = append(out[name], version)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// clip drops what a reader that looks at history from h on does not see: versions
// superseded at or before h, a tombstone that holds at h, rows left empty.
func clip(rows map[string][]history.Version, h change.Version) map[string][]history.Version {
	out := map[string][]history.Version{}
	for name, versions := range rows {
		var kept []history.Version
		for _, v := range versions {
			if v.Version > h {
				kept = append(kept, v)
				continue
			}
			if !v.Deleted {
				kept = append(kept, v)
			}
			break
		}
		if len(kept) > 0 {
			out[name] = kept
		}
	}
	return out
}

// lines renders versions, which compares faster.
func lines(rows map[string][]history.Version) map[string][]string {
	out := map[string][]string{}
	for name, versions := range rows {
		for _, v := range versions {
			out[name] = append(out[name], fmt.Sprintf("%+v", v))
		}
	}
	return out
}

// sweep makes one pass that raises the floor to a moment, if nothing holds it.
func sweep(t testing.TB, s *featurestore.Store, floor change.Version) featurestore.Swept {
	t.Helper()
	swept, err := s.SweepOnce(t.Context(), history2floor(s, floor))
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

func history2floor(s *featurestore.Store, floor change.Version) featurestore.SweepOptions {
	return featurestore.SweepOptions{History: time.Duration(max(s.Watermark().Version-floor, 1)) * time.Microsecond}
}

// sameAbove compares a swept store with its twin that nothing was removed of, as
// of some moments, from some horizons on.
func sameAbove(t testing.TB, r *rand.Rand, swept, twin *featurestore.Store) {
	t.Helper()
	floor, newest := swept.Floor(), swept.Watermark().Version
	between := func(from, to change.Version) change.Version {
		switch r.IntN(4) {
		case 0:
			return from
		case 1:
			return to
		}
		return from + change.Version(r.Uint64N(uint64(to-from)+1))
	}
	for range 3 {
		asOf := between(floor, newest)
		a, err := swept.ViewWithin(asOf, time.Duration(asOf-floor)*time.Microsecond)
		if err != nil {
			t.Fatal(err)
		}
		b, err := twin.View(asOf)
		if err != nil {
			t.Fatal(err)
		}
		got, want := rowsOf(t, a), rowsOf(t, b)
		for range 3 {
			h := between(floor, asOf)
			if diff := cmp.Diff(lines(clip(want, h)), lines(clip(got, h))); diff != "" {
				t.Fatalf("floor %d, as of %d, from %d on (-unswept +swept):\n%.4000s", floor, asOf, h, diff)
			}
		}
		if a.Info().LSN != b.Info().LSN {
			t.Errorf("as of %d the position is %s, unswept %s", asOf, a.Info().LSN, b.Info().LSN)
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(twin.Status().Rows, swept.Status().Rows); diff != "" {
		t.Errorf("live rows (-unswept +swept):\n%s", diff)
	}
	if a, b := twin.Status().Counters, swept.Status().Counters; a != b {
		t.Errorf("the unswept store counts %+v, the swept one %+v", a, b)
	}
}

// TestI7SweptStoreAnswersLikeAnUnsweptOne: whatever was removed, at whatever
// floors, between whatever changes, every view above the floor is the same from
// every horizon on (I7), and so is what is applied afterwards.
func TestI7SweptStoreAnswersLikeAnUnsweptOne(t *testing.T) {
	r := seed(t)
	for round := range 8 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			g := newGenerator(r)
			o := featurestore.Options{GroupEntries: 1 + r.IntN(40)}
			dir := t.TempDir()
			s, twin := open(t, dir, o), open(t, t.TempDir(), featurestore.Options{})
			g.step(change.Backfill)
			applied, removed := 0, uint64(0)
			for range 60 {
				if r.IntN(8) == 0 { // tombstones come of age
					g.now += hour * change.Version(1+r.IntN(40))
				}
				g.step(change.Live)
				if r.IntN(3) > 0 {
					continue
				}
				apply(t, s, g.f.batches[applied-r.IntN(applied+1):]...)
				apply(t, twin, g.f.batches[applied:]...)
				applied = len(g.f.batches)
				if r.IntN(4) == 0 {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, dir, o)
				}
				if s.Watermark().Birth == 0 {
					continue
				}
				before, newest := s.Floor(), s.Watermark().Version
				to := before + change.Version(r.Uint64N(uint64(newest-before)+1))
				if r.IntN(3) == 0 {
					to = newest - 1
				}
				removed += sweep(t, s, to).Versions
				if got := s.Floor(); got < before || got < min(to, newest-1) {
					t.Fatalf("the floor went from %d to %d, want %d", before, got, to)
				}
				sameAbove(t, r, s, twin)
			}
			if removed == 0 {
				t.Error("nothing was ever removed")
			}
			leastKeys(t, s)
		})
	}
}

// leastKeys sweeps up to the newest moment, lets tombstones come of age, and
// checks that no more is left than the rows that are there, one version each, and
// one more for each version that carries values of the one before.
func leastKeys(t *testing.T, s *featurestore.Store) {
	t.Helper()
	mark := s.Watermark()
	f := &feed{incarnation: mark.Incarnation, sequence: mark.Sequence, last: mark.Last, epoch: mark.Epoch - 1}
	f.tick(mark.Last + 100*hour)
	f.tick(f.last + 1)
	apply(t, s, f.batches...)
	sweep(t, s, s.Watermark().Version-1)
	v, err := s.ViewWithin(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var live, located int64
	superseded := 0
	for _, versions := range rowsOf(t, v) {
		if versions[0].Deleted {
			t.Errorf("a row is left with %+v", versions)
		}
		live++
		superseded += len(versions) - 1
	}
	if n, err := s.Carrying(); err != nil || n != superseded {
		t.Errorf("%d superseded versions are left, %d versions carry values of one, %v", superseded, n, err)
	}
	for table, n := range s.Status().Rows {
		live -= n
		if table == "orders" {
			located = n
		}
	}
	if live != 0 {
		t.Errorf("%d rows more are held than are alive", live)
	}
	counts := map[string]int{}
	for name, count := range map[string]func() (int, error){"locators": s.Locators, "truncations": s.Truncations, "voids": s.Voids, "samples": s.Samples} {
		if counts[name], err = count(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]int{"locators": int(located), "truncations": 0, "voids": 0, "samples": 1}, counts); diff != "" {
		t.Errorf("keys that are left (-want +got):\n%s", diff)
	}
}

var errSwept = errors.New("injected")

// TestI3SweepFailsAtEveryDurableStepWithoutHarm: a pass that ends at any step, and
// the store being opened again, leave the floor where it was noted and every
// answer above it the same; the next pass removes the rest (I3).
func TestI3SweepFailsAtEveryDurableStepWithoutHarm(t *testing.T) {
	r := seed(t)
	g := newGenerator(r)
	g.step(change.Backfill)
	for range 80 {
		g.now += hour
		g.step(change.Live)
	}
	twin := open(t, t.TempDir(), featurestore.Options{})
	apply(t, twin, g.f.batches...)
	whole := open(t, t.TempDir(), featurestore.Options{GroupEntries: 40})
	apply(t, whole, g.f.batches...)
	to := whole.Watermark().Version - 30*hour
	sweep(t, whole, to)
	want, err := whole.AllKeys()
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; ; k++ {
		steps, failed := 0, false
		o := featurestore.Options{GroupEntries: 40, Hook: func(step durable.Step, _ uint64) error {
			if step != durable.Sweep && step != durable.RaiseFloor {
				return nil
			}
			if steps++; steps == k {
				failed = true
				return errSwept
			}
			return nil
		}}
		dir := t.TempDir()
		s := open(t, dir, o)
		apply(t, s, g.f.batches...)
		_, err := s.SweepOnce(t.Context(), history2floor(s, to))
		if !failed {
			if err != nil {
				t.Fatal(err)
			}
			if k < 8 {
				t.Errorf("a pass took %d durable steps: too few to prove anything", k-1)
			}
			return
		}
		if !errors.Is(err, errSwept) {
			t.Fatalf("step %d: %v, want the injected error", k, err)
		}
		floor := s.Floor()
		if (floor == to) != (k > 1) {
			t.Fatalf("step %d: the floor is %d, want %d only once it is noted", k, floor, to)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, featurestore.Options{GroupEntries: 40})
		if got := s.Floor(); got != floor {
			t.Fatalf("step %d: the floor went from %d to %d", k, floor, got)
		}
		sameAbove(t, r, s, twin)
		sweep(t, s, to)
		got, err := s.AllKeys()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("step %d: after another pass (-never failed +failed):\n%.2000s", k, diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
