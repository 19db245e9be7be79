package featurestore_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// contents are the users as of a moment, each as one text.
func contents(t *testing.T, s *featurestore.Store, asOf change.Version) map[string]string {
	t.Helper()
	v, err := s.View(asOf)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	out := map[string]string{}
	for _, id := range idPool {
		e, err := v.Entity(t.Context(), "user", id)
		if err != nil {
			t.Fatal(err)
		}
		if e != nil {
			out[id] = renderEntity(e)
		}
	}
	return out
}

func renderEntity(e *history.Entity) string {
	text := ""
	for _, r := range e.Rows {
		text += fmt.Sprintf("%d %x:", r.Table, r.Key)
		for _, v := range r.Versions {
			text += fmt.Sprintf(" %d/%d %v %x", v.Version, v.Ordinal, v.Deleted, v.Data)
		}
	}
	return text
}

// What a watch does not name is as it was, whatever was written: open
// transactions, truncations, moved rows, and more than it holds.
func TestWatchNamesEveryEntityThatChanged(t *testing.T) {
	for _, limit := range []int{1, 4, 1 << 16} {
		t.Run(fmt.Sprintf("at most %d", limit), func(t *testing.T) {
			g := newGenerator(seed(t))
			g.step(change.Backfill)
			for range 80 {
				g.step(change.Live)
			}
			s := open(t, t.TempDir(), featurestore.Options{})
			w, err := s.Watch([]string{"user"}, limit)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			var before map[string]string
			named, lost := 0, 0
			for i, b := range g.f.batches {
				apply(t, s, b)
				asOf, err := s.Newest()
				if errors.Is(err, featurestore.ErrEmpty) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if i%3 != 0 && before != nil {
					continue // several messages between two calls
				}
				told := map[string]bool{}
				whole := w.Take(asOf, func(entity, id string) {
					if entity != "user" {
						t.Errorf("%s is not watched", entity)
					}
					told[id] = true
				})
				now := contents(t, s, asOf)
				if !whole {
					lost++
				} else if before != nil {
					for _, id := range idPool {
						if before[id] != now[id] && !told[id] {
							t.Fatalf("user %q changed at message %d and was not named", id, i)
						}
					}
					named += len(told)
				}
				before = maps.Clone(now)
			}
			if limit > 4 && named == 0 || limit == 1 && lost == 0 {
				t.Errorf("%d entities named, %d times lost: the test shows nothing", named, lost)
			}
		})
	}
}

func TestWatchNamesWhatAnOpenTransactionWroteUntilItIsClosed(t *testing.T) {
	rels, f := relations(), newFeed()
	f.transaction(change.Backfill, 100, nil, 1, false)
	rows := []change.Row{
		insert(rels["users"], 0, map[string]string{"id": "a"}),
		insert(rels["users"], 1, map[string]string{"id": "b"}),
	}
	f.transaction(change.Live, 200, rows, 2, false)
	s := open(t, t.TempDir(), featurestore.Options{})
	w, err := s.Watch([]string{"user"}, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i, want := range []int{0, 1, 2, 0} {
		if i < len(f.batches) {
			apply(t, s, f.batches[i])
		}
		asOf, err := s.Newest()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if whole := w.Take(asOf, func(string, string) { n++ }); !whole || n != want {
			t.Errorf("after message %d: %d entities (whole %v), want %d", i, n, whole, want)
		}
	}
}

func TestWatchOfAKindThatTheStoreLacksIsRefused(t *testing.T) {
	s := open(t, t.TempDir(), featurestore.Options{})
	var unknown *featurestore.EntityError
	if _, err := s.Watch([]string{"nobody"}, 1); !errors.As(err, &unknown) {
		t.Errorf("got %v, want an EntityError", err)
	}
}
