package pit_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"dreamfeed/snapshot/pit"
)

// lateness are the latenesses of a table's rows, sorted, and the entities that
// they belong to, from the plain list of facts.
func (o *oracle) lateness(table string) (all []int64, entities int) {
	if creation[table] == "" {
		return nil, 0
	}
	rows, owners := map[[2]string]bool{}, map[string]bool{}
	for _, f := range o.facts {
		k := [2]string{f.Entity, f.Key}
		if f.Table != table || rows[k] {
			continue
		}
		rows[k] = true
		for _, v := range o.versions(f.Entity, table, f.Key) {
			if v.Deleted {
				continue
			}
			made, ok := v.Values[creation[table]].(string)
			if ok && !v.Backfilled && !v.Arrived && v.Version > o.asOf-o.window {
				all = append(all, v.Known-micros(made))
				owners[f.Entity] = true
			}
			break
		}
	}
	slices.Sort(all)
	return all, len(owners)
}

// TestLatenessEqualsANaiveOracleOverRandomHistories: exact but for the
// percentiles, which are at most 1/64 too large.
func TestLatenessEqualsANaiveOracleOverRandomHistories(t *testing.T) {
	seed, cases := settings(t, 500)
	def := load(t, "testdata/club.yaml")
	counted, ahead := int64(0), int64(0)
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf, window := s.asOf()
		_, tally := join(t, def, build(t, def, s.info(def, asOf), s.facts), window, 1000, 1000)
		o := &oracle{facts: s.facts, birth: s.birth, asOf: asOf, window: window.Microseconds()}
		for table := range tables {
			want, entities := o.lateness(table)
			got := tally.Lateness[table]
			if len(want) == 0 {
				if got != nil {
					t.Fatalf("case %d of seed %d: table %s has lateness %+v, want none", n, seed, table, got)
				}
				continue
			}
			if got == nil {
				t.Fatalf("case %d of seed %d: table %s has no lateness, want that of %d rows", n, seed, table, len(want))
			}
			early, _ := slices.BinarySearch(want, 0)
			if got.Rows != int64(len(want)) || got.Entities != int64(entities) || got.Ahead != int64(early) ||
				got.Lead != max(0, -want[0]) || got.Max != max(0, want[len(want)-1]) {
				t.Fatalf("case %d of seed %d: table %s has lateness %+v, want %v of %d entities", n, seed, table, got, want, entities)
			}
			for _, percent := range []int64{1, 50, 99, 100} {
				exact := max(0, want[(len(want)*int(percent)+99)/100-1])
				if p := got.Percentile(percent); p < exact || p > exact+exact/64 {
					t.Fatalf("case %d of seed %d: table %s: %d %% of %v is %d, want %d", n, seed, table, percent, want, p, exact)
				}
			}
			counted, ahead = counted+got.Rows, ahead+got.Ahead
		}
	}
	if cases >= 500 && (counted < int64(cases) || ahead == 0) {
		t.Errorf("the histories are too poor: %d rows, %d ahead", counted, ahead)
	}
}

// TestI6LatenessDoesNotDependOnWhoCounted: parts add up to the whole, in any
// order.
func TestI6LatenessDoesNotDependOnWhoCounted(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	rng := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		s := generate(rng)
		v := build(t, def, catalog(def, s.birth, s.now), s.facts)
		p, err := pit.Compile(def, &v.info)
		if err != nil {
			t.Fatal(err)
		}
		o := pit.Options{Window: 1 << 40}
		j := p.NewJoiner(related(t, v, def, o, 1000), o)
		discard := func(*pit.Example) error { return nil }
		whole, parts := pit.Tally{}, make([]pit.Tally, 3)
		list := v.entities["member"]
		for _, e := range list {
			if err := j.Entity(e, &whole, discard); err != nil {
				t.Fatal(err)
			}
		}
		rng.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
		for _, e := range list {
			if err := j.Entity(e, &parts[rng.IntN(len(parts))], discard); err != nil {
				t.Fatal(err)
			}
		}
		for table := range tables {
			sum := &pit.Lateness{}
			for i := range parts {
				if l := parts[i].Lateness[table]; l != nil {
					sum.Merge(l)
				}
			}
			if want := whole.Lateness[table]; want != nil && !want.Equal(sum) || want == nil && sum.Rows != 0 {
				t.Fatalf("table %s: the parts make %+v, the whole %+v", table, sum, want)
			}
		}
	}
}
