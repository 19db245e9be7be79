package featurestore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// newest lists the newest version of each row that is alive.
func newest(out map[string]string) func(*history.Entity) error {
	return func(e *history.Entity) error {
		for _, r := range e.Rows {
			v := r.Versions[0]
			if v.Deleted {
				continue
			}
			key := fmt.Sprintf("%q %d %x", e.ID, r.Table, r.Key)
			if _, twice := out[key]; twice {
				return fmt.Errorf("%s comes twice", key)
			}
			out[key] = fmt.Sprintf("%d/%d %d %v %x", v.Version, v.Ordinal, v.Known, v.Backfilled, v.Data)
		}
		return nil
	}
}

// latestScanner is a view that can be asked for the newest versions only.
type latestScanner interface {
	ScanLatest(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error
}

func TestLatestScanIsTheScanWithoutHistoryAndWithoutTheDead(t *testing.T) {
	s, g := filled(t, 120)
	addr := serve(t, featurestore.NewHandler(s, token))
	var moments []change.Version
	for _, b := range g.f.batches {
		// Not one in the middle of the first backfill, nor in what the end gives up.
		if v := b.Header.Last; v >= s.Watermark().Birth && v <= s.Watermark().Version {
			moments = append(moments, v)
		}
	}
	dead := 0
	for _, asOf := range []change.Version{moments[0], moments[len(moments)/2], moments[len(moments)-1]} {
		local, err := s.View(asOf)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"user", ""} {
			ranges, err := local.Ranges(t.Context(), kind, 3)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for _, r := range ranges {
				err := local.Scan(t.Context(), kind, r, func(e *history.Entity) error {
					for _, r := range e.Rows {
						if r.Versions[0].Deleted {
							dead++
						}
					}
					return newest(want)(e)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for name, v := range map[string]latestScanner{"local": local, "remote": dial(t, addr, asOf)} {
				got := map[string]string{}
				for _, r := range ranges {
					err := v.ScanLatest(t.Context(), kind, r, func(e *history.Entity) error {
						for _, r := range e.Rows {
							if len(r.Versions) != 1 || r.Versions[0].Deleted {
								return fmt.Errorf("a row comes with %d versions, the first deleted: %v", len(r.Versions), r.Versions[0].Deleted)
							}
						}
						return newest(got)(e)
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s view as of %d, kind %q (-newest of scan +latest scan):\n%s", name, asOf, kind, diff)
				}
			}
		}
	}
	if dead == 0 {
		t.Error("no row was deleted: the test proves nothing")
	}
}

func TestViewAtAPositionIsThatOfTheLastTransactionBeforeIt(t *testing.T) {
	s, f := smallStore(t)
	rels := relations()
	for v := change.Version(2000); v <= 4000; v += 1000 {
		f.transaction(change.Live, v, []change.Row{insert(rels["users"], 0, map[string]string{"id": fmt.Sprint(v), "name": "n"})}, 1, false)
		apply(t, s, f.batches[len(f.batches)-1])
	}
	e := featurestore.Endpoint{Address: serve(t, featurestore.NewHandler(s, token)), Token: token}
	origin := s.Watermark().Origin
	end := func(v change.Version) change.LSN { return f.lsn(v) + 1 } // of its transaction
	for _, c := range []struct {
		name string
		lsn  change.LSN
		want change.Version
	}{
		{"at the end of a transaction", end(3000), 3000},
		{"one before it", end(3000) - 1, 2000},
		{"one behind it", end(3000) + 1, 3000},
		{"at the newest position", end(4000), 4000},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := e.DialAt(t.Context(), origin, c.lsn, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			if got := v.Info().AsOf; got != c.want {
				t.Errorf("the view is as of %d, want %d", got, c.want)
			}
		})
	}

	var lag *featurestore.LagError
	if _, err := e.DialAt(t.Context(), origin, end(5000), time.Millisecond); !errors.As(err, &lag) || lag.LSN != end(5000) || lag.Applied != end(4000) {
		t.Errorf("a position that is not applied: %v", err)
	}
	var other *featurestore.OriginError
	stranger := change.Origin{System: origin.System + 1, Timeline: 1}
	if _, err := e.DialAt(t.Context(), stranger, end(3000), time.Minute); !errors.As(err, &other) || other.Source != stranger || other.Store != origin {
		t.Errorf("a position of another server: %v", err)
	}

	// It waits.
	opened := make(chan error, 1)
	go func() {
		v, err := e.DialAt(t.Context(), origin, end(5000), time.Minute)
		if err == nil && v.Info().AsOf != 5000 {
			err = fmt.Errorf("the view is as of %d, want 5000", v.Info().AsOf)
		}
		opened <- err
	}()
	f.transaction(change.Live, 5000, []change.Row{insert(rels["users"], 0, map[string]string{"id": "late", "name": "n"})}, 1, false)
	apply(t, s, f.batches[len(f.batches)-1])
	if err := <-opened; err != nil {
		t.Error(err)
	}
}
