package pit_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

// settings are the seed of a random test and the number of its cases. PIT_SEED
// repeats a run, PIT_CASES sets the number, for a long one.
func settings(t *testing.T, cases int) (seed uint64, n int) {
	t.Helper()
	seed = uint64(time.Now().UnixNano())
	if text := os.Getenv("PIT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("PIT_CASES"); text != "" {
		var err error
		if cases, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with PIT_SEED=%d PIT_CASES=%d go test ./snapshot/pit -run '^%s$'", seed, cases, t.Name())
	return seed, cases
}

// TestI5JoinEqualsANaiveOracleOverRandomHistories holds I5 and the rules of
// DESIGN §6 and of ADR 0014.
func TestI5JoinEqualsANaiveOracleOverRandomHistories(t *testing.T) {
	seed, cases := settings(t, 3000)
	def := load(t, "testdata/club.yaml")
	examples, exactness := 0, [4]int64{}
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf, window := s.asOf()
		// A view may be newer than the moment asked for: newer versions are
		// left out by the join.
		info := s.info(def, asOf)
		rng.Shuffle(len(s.facts), func(i, j int) { s.facts[i], s.facts[j] = s.facts[j], s.facts[i] })
		got, tally := join(t, def, build(t, def, info, s.facts), window, int64(rng.IntN(2000)), int64(1+rng.IntN(3000)))

		o := &oracle{facts: s.facts, birth: s.birth, asOf: asOf, window: window.Microseconds(), gaps: s.gaps}
		want := o.examples()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("case %d of seed %d, as of %s, window %s, narrow %v, gaps %v: (-oracle +join)\n%s", n, seed, change.Version(asOf), window, s.narrow, s.gaps, diff)
		}
		if len(o.dropped) == 0 {
			o.dropped = nil
		}
		if tally.Candidates != o.candidates || tally.Immature != o.immature || tally.Exactness != o.exactnessCount || !cmp.Equal(tally.Dropped, o.dropped) {
			t.Fatalf("case %d of seed %d: tally %+v, want candidates %d, immature %d, exactness %v, dropped %v", n, seed, tally, o.candidates, o.immature, o.exactnessCount, o.dropped)
		}
		examples += len(got)
		for i, k := range tally.Exactness {
			exactness[i] += k
		}
	}
	t.Logf("%d examples, by exactness %v", examples, exactness)
	if cases >= 1000 && (examples < cases || slices.Contains(exactness[:], 0)) {
		t.Errorf("the histories are too poor: %d examples, by exactness %v", examples, exactness)
	}
}
