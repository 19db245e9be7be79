package pit_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// wider are columns of testdata/wide.yaml beside those of club.yaml, with values
// of which some are faults.
var wider = map[string]map[string][]any{
	"people": {
		"born":   {nil, "1990-02-28 00:00:00", "2004-02-29 12:00:00", "2027-01-01 00:00:00", "infinity"},
		"kinds":  {nil, "{}", "{a,b}", `{b,"c d",a,a}`, "no list"},
		"region": {nil, " a", "c ", "Z", ""},
		"range":  {nil, `{"min": 1, "max": 5, "currency": "EUR"}`, `{"min": -1}`, `{"min": 9, "max": 5}`, `{"currency": 7}`, "[1]", `{"max": "x"}`},
		"flag":   {nil, "t", "f"},
		"num":    {nil, "-3", "0", "2", "3", "9"},
	},
	"settings": {"range": {nil, `{"min": 2, "max": 6, "currency": "USD"}`, "null", `{"max": 1}`}},
	"events":   {"guests": {nil, "3", `"4"`, `{"adults": 1, "children": 2, "currency": "EUR"}`, `{"others": 1}`, `{"adults": 1.5}`}},
	"things": {
		"vector": {nil, "[0.1, 0.2, 0.3]", "[1,2,3]", "[1, null, -3.5]", "[1,2]", "[ 1e-1 , 2.5E0, 1e400]", "no json"},
		"stock":  {nil, "0", "1", "5"},
	},
}

// wide is a long history with many examples, in which versions may lack a column
// of those added.
func wide(rng *rand.Rand) *source {
	s := &source{rng: rng, rows: map[[2]string]*sourceRow{}, now: epoch, narrow: narrows[rng.IntN(len(narrows))]}
	s.backfill()
	for range 20 + rng.IntN(130) {
		s.now += 1 + int64(rng.IntN(3))*second
		s.transaction()
	}
	end := s.now
	for n := range rng.IntN(30) {
		s.now = epoch + rng.Int64N(end-epoch+1)
		key := fmt.Sprint("more", n)
		entity, v := s.values("offers", key, nil)
		s.facts = append(s.facts, fact{Entity: entity, Table: "offers", Key: key, Version: s.now, Known: s.now, Values: v})
	}
	s.now = end
	for _, table := range slices.Sorted(maps.Keys(wider)) {
		for _, column := range slices.Sorted(maps.Keys(wider[table])) {
			list, lacking := wider[table][column], rng.IntN(20) == 0
			random := rand.New(rand.NewPCG(rng.Uint64(), 0))
			for i := range s.facts {
				if f := &s.facts[i]; f.Table == table && !f.Deleted && (!lacking || random.IntN(3) > 0) {
					f.Values[column] = list[random.IntN(len(list))]
				}
			}
		}
	}
	return s
}

// all is everything that an example shows.
func all(x *pit.Example) string {
	var b strings.Builder
	fmt.Fprint(&b, x.ID, " ", x.Time, " ", x.CutOff, " ", x.Outcome, " ", x.Exact)
	for _, list := range append([][]pit.Value{x.Columns, x.Values}, x.Uniform...) {
		for _, v := range list {
			fmt.Fprintf(&b, " %v,%d,%g,%q", v.Valid, v.Int, v.Float, v.Text)
		}
	}
	return b.String()
}

// TestWhatIsKeptFromOneExampleToTheNextChangesNothing: examples, and what is
// counted of them, are those of a joiner that derives each one anew, value by value.
func TestWhatIsKeptFromOneExampleToTheNextChangesNothing(t *testing.T) {
	seed, cases := settings(t, 250)
	def := load(t, "testdata/wide.yaml")
	examples, faults := 0, map[string]int64{}
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := wide(rng)
		asOf, _ := s.asOf()
		v := build(t, def, s.info(def, asOf), s.facts)
		o := pit.Options{Window: time.Duration(1+rng.IntN(600)) * time.Second, CacheBytes: 1 + rng.Int64N(20000)}
		run := func(budget int64, anew bool) ([]string, pit.Tally) {
			p, err := pit.Compile(def, &v.info)
			if err != nil {
				t.Fatal(err)
			}
			if anew {
				p.Plain()
			}
			j := p.NewJoiner(related(t, v, def, o, budget), o)
			var list []string
			var tally pit.Tally
			err = v.Scan(context.Background(), "member", history.Range{}, func(e *history.Entity) error {
				return j.Entity(e, &tally, func(x *pit.Example) error {
					list = append(list, all(x))
					if anew {
						j.Forget()
					}
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			return list, tally
		}
		want, wantTally := run(1<<20, true)
		got, tally := run(rng.Int64N(20000), false)
		if diff := cmp.Diff(want, got) + cmp.Diff(wantTally, tally); diff != "" {
			t.Fatalf("case %d of seed %d: (-anew +kept)\n%s", n, seed, diff)
		}
		examples += len(got)
		for name, k := range tally.Faults {
			faults[name] += k
		}
	}
	t.Logf("%d examples, faults %v", examples, faults)
	if cases >= 250 && (examples < 4*cases || len(faults) < 8) {
		t.Error("the histories are too poor")
	}
}
