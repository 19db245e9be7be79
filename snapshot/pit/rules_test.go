package pit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
	"dreamfeed/snapshot/pit"
)

// The club of testdata/club.yaml, in seconds after epoch; birth is 100.

func sec(s int64) int64 { return epoch + s*second }

func person(version, known int64, backfilled bool, name string) fact {
	return fact{Entity: "m0", Table: "people", Key: "m0", Version: version, Known: known, Backfilled: backfilled, Values: cols{"id": "m0", "name": name, "made": stamp(sec(0)), "changed": stamp(known)}}
}

func offer(version int64, made int64, more cols) fact {
	v := cols{"id": "o", "member": "m0", "thing": nil, "a": "x", "b": "p", "state": "NEW", "seen": nil, "made": stamp(made), "changed": nil, "note": "first"}
	for name, value := range more {
		v[name] = value
	}
	return fact{Entity: "m0", Table: "offers", Key: "o", Version: version, Known: version, Values: v}
}

func event(key string, version, at int64, more cols) fact {
	v := cols{"id": key, "member": "m0", "at": stamp(at), "paid": nil, "amount": "1.00", "kind": "x", "n": "2", "mark": key}
	for name, value := range more {
		v[name] = value
	}
	return fact{Entity: "m0", Table: "events", Key: key, Version: version, Known: version, Values: v}
}

func thing(version int64, values cols) fact {
	return fact{Entity: "t", Table: "things", Key: "t", Version: version, Known: version, Values: values}
}

func club(t *testing.T, window time.Duration, facts ...fact) (map[string]got, pit.Tally) {
	t.Helper()
	def := load(t, "testdata/club.yaml")
	return join(t, def, build(t, def, catalog(def, sec(100), sec(1000)), facts), window, 1<<20, 0)
}

func TestRulesOfTime(t *testing.T) {
	backfilledOffer := offer(sec(100), sec(50), nil)
	backfilledOffer.Backfilled, backfilledOffer.Known = true, sec(50)
	old := person(sec(100), sec(10), true, "old")
	backfilledThing := thing(sec(100), cols{"id": "t", "a": "y", "b": "p", "made": nil})
	backfilledThing.Backfilled = true
	deleted := func(f fact, version int64) fact {
		f.Version, f.Known, f.Backfilled, f.Deleted, f.Values = version, version, false, true, nil
		return f
	}
	for _, c := range []struct {
		name   string
		facts  []fact
		cutOff int64
		exact  pit.Exactness
		want   cols
	}{
		{
			"I5: what the example's own transaction did is not its feature",
			[]fact{old, person(sec(200), sec(200), false, "own"), offer(sec(200), sec(200), nil)},
			sec(200) - 1, pit.ExactLive,
			cols{"name": "old"},
		},
		{
			"I5: a row that came after the example's moment is not its feature",
			[]fact{old, person(sec(201), sec(201), false, "late"), offer(sec(202), sec(200), nil)},
			sec(200), pit.ExactLive,
			cols{"name": "old"},
		},
		{
			"I5: an example dated ahead of its transaction knows what was known then",
			[]fact{old, person(sec(201), sec(201), false, "late"), offer(sec(200), sec(300), nil)},
			sec(200) - 1, pit.ExactLive,
			cols{"name": "old"},
		},
		{
			"the cut-off of a backfilled example is its own moment, known by the rows' own dates",
			[]fact{old, backfilledOffer},
			sec(50), pit.ExactTrusted,
			cols{"name": "old"},
		},
		{
			"a backfilled row that changed later than the example is used and inexact",
			[]fact{person(sec(100), sec(60), true, "now"), backfilledOffer},
			sec(50), pit.InexactOlder,
			cols{"name": "now"},
		},
		{
			"the last version of a transaction counts",
			[]fact{old, person(sec(200), sec(200), false, "one"), {Entity: "m0", Table: "people", Key: "m0", Version: sec(200), Ordinal: 3, Known: sec(200), Values: cols{"id": "m0", "name": "two", "made": nil, "changed": nil}}, offer(sec(300), sec(300), nil)},
			sec(300) - 1, pit.ExactLive,
			cols{"name": "two"},
		},
		{
			"a row deleted later still holds",
			[]fact{old, event("e", sec(150), sec(150), nil), deleted(event("e", 0, 0, nil), sec(400)), offer(sec(300), sec(300), nil)},
			sec(300) - 1, pit.ExactLive,
			cols{"events_ever": "1", "last_mark": "e"},
		},
		{
			"a row deleted before is gone, and that is exact",
			[]fact{old, event("e", sec(150), sec(150), nil), deleted(event("e", 0, 0, nil), sec(250)), offer(sec(300), sec(300), nil)},
			sec(300) - 1, pit.ExactLive,
			cols{"events_ever": "0", "last_mark": nil},
		},
		{
			"a window holds its first moment and not its last",
			[]fact{old, event("a", sec(150), sec(280), nil), event("b", sec(150), sec(280)-1, nil), event("c", sec(150), sec(300), nil), offer(sec(301), sec(300), nil)},
			sec(300), pit.ExactLive,
			cols{"events": "1", "any_mark": "a"},
		},
		{
			"of two events at one moment the later known is the last",
			[]fact{old, event("b", sec(150), sec(140), nil), event("a", sec(151), sec(140), nil), offer(sec(301), sec(300), nil)},
			sec(300), pit.ExactLive,
			cols{"any_mark": "a", "last_age": "160"},
		},
		{
			"of two events known together the greater id is the last",
			[]fact{old, event("b", sec(150), sec(140), nil), event("a", sec(150), sec(140), nil), offer(sec(301), sec(300), nil)},
			sec(300), pit.ExactLive,
			cols{"any_mark": "b", "mean_amount": "1"},
		},
		{
			"a column that was not captured comes from a newer version and is inexact",
			[]fact{
				old,
				{Entity: "m0", Table: "settings", Key: "s", Version: sec(150), Known: sec(150), Values: cols{"id": "s", "member": "m0", "tone": "soft"}},
				{Entity: "m0", Table: "settings", Key: "s", Version: sec(500), Known: sec(500), Values: cols{"id": "s", "member": "m0", "tone": "loud", "extra": "9"}},
				offer(sec(301), sec(300), nil),
			},
			sec(300), pit.Inexact,
			cols{"tone": "soft", "extra": "9"},
		},
		{
			"that a row of another entity does not match by a column that was not captured is inexact",
			[]fact{
				old, thing(sec(150), cols{"id": "t", "a": "x"}),
				thing(sec(500), cols{"id": "t", "a": "x", "b": "q"}), thing(sec(600), cols{"id": "t", "a": "x", "b": "p"}),
				offer(sec(301), sec(300), nil),
			},
			sec(300), pit.Inexact,
			cols{"thing_id": nil},
		},
		{
			"that a row of another entity does not match by its first version, known later, is inexact",
			[]fact{old, backfilledThing, thing(sec(500), cols{"id": "t", "a": "x", "b": "p", "made": nil}), backfilledOffer},
			sec(50), pit.InexactOlder,
			cols{"thing_id": nil},
		},
		{
			"the first version is the example's, the last its outcome",
			[]fact{old, offer(sec(301), sec(300), nil), offer(sec(400), sec(310), cols{"note": "second", "state": "TAKEN"}), offer(sec(1001), sec(300), cols{"state": "SEEN"})},
			sec(300), pit.ExactLive,
			cols{"note": "first", "outcome": "TAKEN", "moment": "1772323500000000"},
		},
		{
			"an example deleted and inserted again is one, that of its first version",
			[]fact{old, offer(sec(301), sec(300), nil), deleted(offer(0, 0, nil), sec(400)), offer(sec(500), sec(450), cols{"note": "again", "state": "SEEN"})},
			sec(300), pit.ExactLive,
			cols{"note": "first", "outcome": "SEEN"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, tally := club(t, 1000*time.Second, c.facts...)
			g, ok := all["o"]
			if !ok {
				t.Fatalf("there is no example: %+v", tally)
			}
			if g.CutOff != c.cutOff {
				t.Errorf("cut-off is %s, want %s", stamp(g.CutOff), stamp(c.cutOff))
			}
			if g.Exact != c.exact {
				t.Errorf("exactness is %d, want %d", g.Exact, c.exact)
			}
			for column, want := range c.want {
				value, ok := g.Columns[column]
				if want == nil && ok || want != nil && value != want {
					t.Errorf("%s is %q (%v), want %v", column, value, ok, want)
				}
			}
		})
	}
}

func TestExamplesInAGapAreInexact(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	info := catalog(def, sec(100), sec(1000))
	info.Gaps = []history.Gap{{From: change.Version(sec(300)), To: change.Version(sec(400))}}
	for _, c := range []struct {
		name string
		at   int64 // of the example, and its cut-off
		want pit.Exactness
	}{
		{"an example as of the last moment before the gap is exact", sec(300), pit.ExactLive},
		{"an example as of the first moment in the gap is inexact", sec(300) + 1, pit.Inexact},
		{"an example as of the last moment in the gap is inexact", sec(400) - 1, pit.Inexact},
		{"an example as of the moment that ends the gap is exact", sec(400), pit.ExactLive},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := []fact{person(sec(100), sec(10), true, "old"), offer(sec(500), c.at, nil)}
			all, tally := join(t, def, build(t, def, info, facts), 1000*time.Second, 1<<20, 0)
			g, ok := all["o"]
			if !ok || g.CutOff != c.at || g.Exact != c.want {
				t.Errorf("example %+v (%v), want cut-off %d and exactness %d; %+v", g, ok, c.at, c.want, tally)
			}
		})
	}
}

func TestCandidatesAreCountedOnceAndLeftOutByName(t *testing.T) {
	moved := offer(sec(301), sec(300), nil)
	gone := fact{Entity: "m0", Table: "offers", Key: "o", Version: sec(400), Known: sec(400), Deleted: true, Moved: true}
	arrived := offer(sec(400), sec(300), cols{"member": "m1"})
	arrived.Entity = "m1"
	deleted := gone
	deleted.Moved = false
	before, atStart := offer(sec(301), sec(100)-1, nil), offer(sec(301), sec(100), nil)
	atEnd := offer(sec(301), sec(1000), nil)
	young := offer(sec(999), sec(998), nil)
	for _, c := range []struct {
		name  string
		facts []fact
		want  pit.Tally
	}{
		{"an example that changed its entity counts where it is", []fact{moved, gone, arrived}, pit.Tally{Candidates: 1, Dropped: map[string]int64{"no_person": 1}}},
		{"a deleted example is a candidate left out", []fact{person(sec(100), sec(100), true, "p"), moved, deleted}, pit.Tally{Candidates: 1, Dropped: map[string]int64{"deleted": 1}}},
		{"an example without a needed row is left out", []fact{moved}, pit.Tally{Candidates: 1, Dropped: map[string]int64{"no_person": 1}}},
		{"the window begins with its first moment", []fact{person(sec(90), sec(90), true, "p"), atStart}, pit.Tally{Candidates: 1, Exactness: [4]int64{1}}},
		{"what lies before the window is no candidate", []fact{person(sec(90), sec(90), true, "p"), before}, pit.Tally{}},
		{"what is at the as-of moment is no candidate", []fact{person(sec(90), sec(90), true, "p"), atEnd}, pit.Tally{}},
		{"a young example is immature", []fact{person(sec(90), sec(90), true, "p"), young}, pit.Tally{Candidates: 1, Exactness: [4]int64{1}, Immature: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, tally := club(t, 900*time.Second, c.facts...)
			if diff := cmp.Diff(c.want, tally, cmpopts.IgnoreFields(pit.Tally{}, "Lateness")); diff != "" {
				t.Errorf("tally (-want +got)\n%s", diff)
			}
		})
	}
}

func TestAStoreThatLacksWhatIsReadIsRefused(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	info := catalog(def, sec(100), sec(1000))
	whole := info.Tables
	info.Tables = whole[:4]
	var missing *pit.MissingError
	if _, err := pit.Compile(def, &info); !errors.As(err, &missing) || missing.Table != "things" || missing.Column != "" {
		t.Errorf("without table things: %v", err)
	}
	info.Tables = append([]history.Table(nil), whole...)
	info.Tables[2].Columns = info.Tables[2].Columns[:4]
	if _, err := pit.Compile(def, &info); !errors.As(err, &missing) || missing.Table != "events" || missing.Column != "paid" {
		t.Errorf("without column events.paid: %v", err)
	}
}

func TestACorruptRowStopsTheJoinAndNamesItsTable(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	v := build(t, def, catalog(def, sec(100), sec(1000)), []fact{person(sec(100), sec(100), true, "p"), event("e", sec(110), sec(110), nil), offer(sec(301), sec(300), nil)})
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	e := v.entities["member"][0]
	for i := range e.Rows {
		if e.Rows[i].Table == v.info.Table("events").ID {
			e.Rows[i].Versions[0].Data = []byte{200, 1}
		}
	}
	related := related(t, v, def, pit.Options{Window: 900 * time.Second}, 0)
	j := p.NewJoiner(related, pit.Options{Window: 900 * time.Second})
	err = j.Entity(e, &pit.Tally{}, func(*pit.Example) error { t.Error("an example was handed out"); return nil })
	if !errors.Is(err, row.ErrCorrupt) || !strings.Contains(err.Error(), "events") {
		t.Errorf("error is %v, want one that wraps row.ErrCorrupt and names events", err)
	}
	if err = p.NewJoiner(nil, pit.Options{Window: 900 * time.Second}).Entity(v.entities["member"][0], &pit.Tally{}, nil); err == nil {
		t.Error("a join without related rows is accepted")
	}
}

func TestAnErrorOfTheReceiverEndsTheJoin(t *testing.T) {
	stop := errors.New("stop")
	def := load(t, "testdata/club.yaml")
	v := build(t, def, catalog(def, sec(100), sec(1000)), []fact{person(sec(100), sec(100), true, "p"), offer(sec(301), sec(300), nil)})
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	related := related(t, v, def, pit.Options{Window: 900 * time.Second}, 0)
	j := p.NewJoiner(related, pit.Options{Window: 900 * time.Second})
	if err := j.Entity(v.entities["member"][0], &pit.Tally{}, func(*pit.Example) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error is %v, want that of emit as it is", err)
	}
}

// TestRelatedRowsSpillAndAreReadConcurrently holds I10: beyond the budget the
// histories are in a file that leaves nothing behind.
func TestRelatedRowsSpillAndAreReadConcurrently(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	var facts []fact
	const things = 500
	key := func(i int) string { return "t" + string(rune('a'+i%26)) + strings.Repeat("z", i/26) }
	for i := range things {
		facts = append(facts, fact{Entity: key(i), Table: "things", Key: key(i), Version: sec(100), Known: sec(100), Backfilled: true, Values: cols{"id": key(i), "a": key(i), "b": "p", "score": "1.5", "made": nil, "changed": nil}})
	}
	v := build(t, def, catalog(def, sec(100), sec(1000)), facts)
	dir := t.TempDir()
	related, err := pit.LoadRelated(context.Background(), v, def, pit.Options{Window: time.Hour}, dir, 2000)
	if err != nil {
		t.Fatal(err)
	}
	if related.Spilled() == 0 {
		t.Error("nothing was spilled")
	}
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			for i := w; i < things; i += 2 {
				numbers, err := related.Find(nil, 0, []byte(key(i)))
				if err != nil || len(numbers) != 1 {
					t.Errorf("find %s: %v, %v", key(i), numbers, err)
					return
				}
				e, err := related.Entity(numbers[0])
				if err != nil || e.ID != key(i) || len(e.Rows) != 1 || len(e.Rows[0].Versions) != 1 {
					t.Errorf("entity %s: %+v, %v", key(i), e, err)
				}
			}
		})
	}
	wait.Wait()
	if numbers, _ := related.Find(nil, 0, []byte("nobody")); len(numbers) != 0 {
		t.Errorf("nobody is found: %v", numbers)
	}
	if err := related.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

func TestWhatTheGatesCompareIsHandedOutAsText(t *testing.T) {
	def := load(t, dreamscape)
	sc := newScene()
	sc["travel_onboarding_profiles"]["globalBudgetRange"] = `{"min": 1, "currency": "E\u0055R"}`
	sc["user_preferences"]["budgetRange"] = `{"currency": null}`
	v := build(t, def, catalog(def, at-4000*second, at+86400*second), sc.facts())
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	related := related(t, v, def, pit.Options{Window: 48 * time.Hour}, 0)
	got := map[string][]string{}
	err = p.NewJoiner(related, pit.Options{Window: 48 * time.Hour}).Entity(v.entities["user"][0], &pit.Tally{}, func(x *pit.Example) error {
		for i, u := range def.Gates.Uniform {
			for _, value := range x.Uniform[i] {
				text := "(missing)"
				if value.Valid {
					text = value.Text
				}
				got[u.Name] = append(got[u.Name], text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"currency": {"EUR", "(missing)", "(missing)"}, "user vector version": {"1"}, "item vector version": {"1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got)\n%s", diff)
	}
}

// TestJoiningAgainGivesTheSame holds I6: a joiner keeps nothing between
// entities that changes a result.
func TestJoiningAgainGivesTheSame(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	rng := rand.New(rand.NewPCG(11, 0))
	for range 50 {
		s := generate(rng)
		v := build(t, def, catalog(def, s.birth, s.now), s.facts)
		one, tally := join(t, def, v, time.Minute, 0, 1)
		two, again := join(t, def, v, time.Minute, 1<<20, 1<<20)
		if diff := cmp.Diff(one, two); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(tally, again); diff != "" {
			t.Fatal(diff)
		}
		p, err := pit.Compile(def, &v.info)
		if err != nil {
			t.Fatal(err)
		}
		related := related(t, v, def, pit.Options{Window: time.Minute}, 0)
		j := p.NewJoiner(related, pit.Options{Window: time.Minute})
		list := v.entities["member"]
		for range 3 { // in another order, and again
			rng.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
			for _, e := range list {
				err := j.Entity(e, &pit.Tally{}, func(x *pit.Example) error {
					columns := map[string]string{}
					for i := range def.Columns {
						render(columns, &def.Columns[i], x.Columns[i])
					}
					if diff := cmp.Diff(one[x.ID].Columns, columns); diff != "" {
						t.Error(diff)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
