package featurestore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dreamfeed/internal/history"
)

// However ids look, every entity is in one range. If they are spread, no range has
// much more than its share; where most lie close together, which the tables of a
// large store tell, a store that has none yet does not know.
func TestRangesHaveEveryEntityOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	uuid := func() string {
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64N(1<<48))
	}
	list := func(n int, id func(i int) string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = id(i)
		}
		return out
	}
	cases := map[string]struct {
		spread bool
		ids    []string
	}{
		"uuids":            {true, list(3000, func(int) string { return uuid() })},
		"numbers":          {false, list(3000, func(i int) string { return fmt.Sprint(i + 1) })},
		"padded numbers":   {true, list(3000, func(i int) string { return fmt.Sprintf("customer-%012d", i) })},
		"a cluster":        {false, append(list(300, func(int) string { return uuid() }), list(2700, func(i int) string { return fmt.Sprintf("a-guest-of-%d", i) })...)},
		"prefixes":         {true, list(100, func(i int) string { return strings.Repeat("a", i+1) })},
		"one":              {true, []string{"alone"}},
		"two with a zero":  {true, []string{"a", "a\x00"}},
		"bytes at the end": {false, list(600, func(i int) string { return "\xff\xff" + string(rune(i+1)) })},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ids := c.ids
			s := peopleOf(t, ids)
			v, err := s.View(0)
			if err != nil {
				t.Fatal(err)
			}
			const n = 8
			ranges, err := v.Ranges(t.Context(), "user", n)
			if err != nil {
				t.Fatal(err)
			}
			if len(ranges) > n || len(ranges) < min(n, len(ids)) {
				t.Errorf("%d ranges, %d ids, want %d", len(ranges), len(ids), n)
			}
			var seen []string
			for i, r := range ranges {
				if i > 0 && !bytes.Equal(ranges[i-1].To, r.From) {
					t.Errorf("range %d begins at %x, the one before ends at %x", i, r.From, ranges[i-1].To)
				}
				before := len(seen)
				err := v.Scan(t.Context(), "user", r, func(e *history.Entity) error {
					seen = append(seen, e.ID)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if share := len(ids)/n + 1; c.spread && len(seen)-before > 3*share {
					t.Errorf("range %d has %d entities, its share is %d", i, len(seen)-before, share)
				}
			}
			slices.Sort(ids)
			slices.Sort(seen)
			if !slices.Equal(ids, seen) {
				t.Errorf("%d entities were read, want %d, each once", len(seen), len(ids))
			}
		})
	}
}

// The middle of two keys lies between them, or there is none.
func FuzzMiddle(f *testing.F) {
	f.Add([]byte("a"), []byte("b"))
	f.Add([]byte("user-1"), []byte("user-10"))
	f.Add([]byte{}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		m := middle(a, b)
		if m == nil {
			return
		}
		if bytes.Compare(m, a) <= 0 || bytes.Compare(m, b) >= 0 {
			t.Errorf("the middle of %x and %x is %x", a, b, m)
		}
	})
}
