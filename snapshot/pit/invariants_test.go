package pit_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/snapshot/pit"
)

// What the rules of DESIGN §6 promise, over the random histories of the source.
// Each rule has the tests that hold it:
//
//	6.1  TestI7AJoinLaterAsOfTIsTheSame; what is refused, snapshot and featurestore
//	6.2  TestI5JoinEqualsANaiveOracleOverRandomHistories, TestRulesOfTime
//	6.3  the same, where moments lie on whole seconds and so on windows' borders
//	6.4  the same, which compares exactness; TestExamplesInAGapAreInexact
//	6.5  TestCandidatesAreCountedOnceAndLeftOutByName
//	6.6  TestJoiningAgainGivesTheSame; every history is shuffled
//	6.7  TestDesign6_7EveryCandidateIsHandedOutOrCounted
//	6.8  TestTimestampsWithoutZoneAreInTheDefinitionsZone

// sweep removes from a history what retention may remove with the floor f, or
// only a part of it, as if it were still under way: of each row any versions that
// a newer one had replaced by f, and a tombstone that holds at f once nothing
// older is left.
func sweep(rng *rand.Rand, facts []fact, floor int64) []fact {
	type place struct{ entity, table, key string }
	rows := map[place][]fact{}
	var order []place
	for _, f := range facts {
		p := place{f.Entity, f.Table, f.Key}
		if rows[p] == nil {
			order = append(order, p)
		}
		rows[p] = append(rows[p], f)
	}
	var left []fact
	for _, p := range order {
		list := rows[p]
		slices.SortFunc(list, func(a, b fact) int {
			if a.Version != b.Version {
				return int(a.Version - b.Version)
			}
			return int(a.Ordinal) - int(b.Ordinal)
		})
		replaced := 0
		for replaced+1 < len(list) && list[replaced+1].Version <= floor {
			replaced++
		}
		kept := len(left)
		how := rng.IntN(3) // nothing of the row, all that may go, or any of it
		for _, f := range list[:replaced] {
			if how == 0 || how == 2 && rng.IntN(2) == 0 {
				left = append(left, f)
			}
		}
		holds := list[replaced]
		if gone := holds.Deleted && holds.Version <= floor && len(left) == kept; !gone || how == 0 || how == 2 && rng.IntN(2) == 0 {
			left = append(left, holds)
		}
		left = append(left, list[replaced+1:]...)
	}
	return left
}

// TestI7AJoinOverWhatSweepingLeavesIsTheSame: as of T nothing tells a history
// from what retention left of it, as long as its floor is not above T − window.
func TestI7AJoinOverWhatSweepingLeavesIsTheSame(t *testing.T) {
	seed, cases := settings(t, 1200)
	def := load(t, "testdata/club.yaml")
	swept, examples, atHorizon := 0, 0, 0
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf, window := s.asOf()
		if asOf == s.birth {
			continue
		}
		if asOf-window.Microseconds() < s.birth { // nothing may have been removed
			window = time.Duration(1+rng.Int64N(asOf-s.birth)) * time.Microsecond
		}
		horizon := asOf - window.Microseconds()
		info := s.info(def, asOf)
		want, all := join(t, def, build(t, def, info, s.facts), window, 1<<16, 1<<16)
		floor := horizon
		if rng.IntN(3) == 0 {
			floor -= rng.Int64N(horizon - s.birth + 1)
		}
		left := sweep(rng, s.facts, floor)
		swept += len(s.facts) - len(left)
		got, tally := join(t, def, build(t, def, info, left), window, 1<<16, 1<<16)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("case %d of seed %d, as of %d, horizon %d, floor %d: (-whole +swept)\n%s", n, seed, asOf, horizon, floor, diff)
		}
		if diff := cmp.Diff(all, tally); diff != "" {
			t.Fatalf("case %d of seed %d, as of %d, horizon %d, floor %d: tally (-whole +swept)\n%s", n, seed, asOf, horizon, floor, diff)
		}
		examples += len(want)
		for _, g := range want {
			if g.CutOff == horizon && g.Exact >= pit.Inexact {
				atHorizon++
			}
		}
	}
	t.Logf("%d versions swept under %d examples, %d of them recorded before their window", swept, examples, atHorizon)
	if cases >= 1000 && (swept < cases || examples < cases/3 || atHorizon < cases/100) {
		t.Error("the histories are too poor")
	}
}

// TestI7AJoinLaterAsOfTIsTheSame: what happens after T changes nothing as of T.
func TestI7AJoinLaterAsOfTIsTheSame(t *testing.T) {
	seed, cases := settings(t, 500)
	def := load(t, "testdata/club.yaml")
	after := 0
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf, window := s.asOf()
		info := s.info(def, asOf)
		then := slices.DeleteFunc(slices.Clone(s.facts), func(f fact) bool { return f.Version > asOf })
		after += len(s.facts) - len(then)
		want, all := join(t, def, build(t, def, info, then), window, 1<<16, 1<<16)
		got, tally := join(t, def, build(t, def, info, s.facts), window, 1<<16, 1<<16)
		if diff := cmp.Diff(want, got) + cmp.Diff(all, tally); diff != "" {
			t.Fatalf("case %d of seed %d, as of %d: (-at T +later)\n%s", n, seed, asOf, diff)
		}
	}
	if cases >= 500 && after == 0 {
		t.Error("nothing happened after any moment")
	}
}

// TestI5WhatBecameKnownLaterDecidesNoExactExample: an exact example has the
// same features when all that was known after its cut-off is taken away, but for
// its own row.
func TestI5WhatBecameKnownLaterDecidesNoExactExample(t *testing.T) {
	seed, cases := settings(t, 500)
	def := load(t, "testdata/club.yaml")
	looked, without := 0, 0
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf, window := s.asOf()
		info := s.info(def, asOf)
		all, _ := join(t, def, build(t, def, info, s.facts), window, 1<<16, 1<<16)
		for id, want := range all {
			if want.Exact > pit.ExactTrusted {
				continue
			}
			known := slices.DeleteFunc(slices.Clone(s.facts), func(f fact) bool {
				return f.Known > want.CutOff && (f.Table != "offers" || f.Key != id)
			})
			again, _ := join(t, def, build(t, def, info, known), window, 1<<16, 1<<16)
			if diff := cmp.Diff(want, again[id]); diff != "" {
				t.Fatalf("case %d of seed %d, example %s at %d: (-all +known then)\n%s", n, seed, id, want.CutOff, diff)
			}
			looked++
			without += len(s.facts) - len(known)
		}
	}
	if cases >= 500 && (looked < cases/4 || without < looked) {
		t.Errorf("the histories are too poor: %d exact examples, %d versions known later", looked, without)
	}
}

// TestDesign6_7EveryCandidateIsHandedOutOrCounted counts on the source's side:
// a candidate is an offer that a member has, or had and deleted, in the window.
func TestDesign6_7EveryCandidateIsHandedOutOrCounted(t *testing.T) {
	seed, cases := settings(t, 500)
	def := load(t, "testdata/club.yaml")
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf, window := s.asOf()
		all, tally := join(t, def, build(t, def, s.info(def, asOf), s.facts), window, 1<<16, 1<<16)
		sum := int64(len(all))
		for _, n := range tally.Dropped {
			sum += n
		}
		var exactness int64
		for _, n := range tally.Exactness {
			exactness += n
		}
		if sum != tally.Candidates || exactness != int64(len(all)) {
			t.Fatalf("case %d of seed %d: %d examples, tally %+v", n, seed, len(all), tally)
		}
	}
}
