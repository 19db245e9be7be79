package pit_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// The library of internal/definition/testdata, in seconds after epoch: a label
// window of 20 s, lengths of recall of 5, 10 and 30 s.
func library(t testing.TB, change func(*definition.Definition)) *definition.Definition {
	t.Helper()
	def := load(t, "../../internal/definition/testdata/library.yaml")
	def.Labels.Window = 20 * time.Second
	def.Labels.Recall = []time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second}
	def.Labels.DropCensored, def.Labels.Latest = false, false
	def.Example.Maturity = 2 * time.Second
	if change != nil {
		change(def)
	}
	return def
}

// labelled is what the labels say of an example.
type labelled struct {
	Outcome  string
	Censored bool
	Goal     bool
	After    int64 // µs
}

// label joins the facts as of a moment and returns the labels by example.
func label(t testing.TB, def *definition.Definition, asOf int64, facts []fact) (map[string]labelled, pit.Tally) {
	t.Helper()
	info := catalog(def, sec(100), asOf)
	v := build(t, def, info, facts)
	p, err := pit.Compile(def, &info)
	if err != nil {
		t.Fatal(err)
	}
	j := p.NewJoiner(nil, pit.Options{Window: 100 * time.Hour})
	all := map[string]labelled{}
	var tally pit.Tally
	column := slices.IndexFunc(def.Columns, func(c definition.Column) bool { return c.Name == "censored" })
	err = v.Scan(context.Background(), p.Entity(), history.Range{}, func(e *history.Entity) error {
		return j.Entity(e, &tally, func(x *pit.Example) error {
			if got := x.Columns[column]; !got.Valid || got.Int == 1 != x.Censored {
				t.Errorf("example %s: censored is %v, its column %+v", x.ID, x.Censored, got)
			}
			all[strings.Clone(x.ID)] = labelled{def.Labels.Outcomes[x.Outcome].Name, x.Censored, x.Goal, x.GoalAfter}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, tally
}

func reader(id string) fact {
	return fact{Entity: id, Table: "readers", Key: id, Version: sec(100), Known: sec(90), Backfilled: true, Values: cols{"id": id, "branch": "north"}}
}

// loan is a version of the offer "o" of reader m, made at 200.
func loan(version int64, more cols) fact {
	v := cols{
		"id": "o", "reader": "m", "state": "NEW", "made_at": stamp(sec(200)), "changed_at": nil,
		"borrowed_at": nil, "refused_at": nil, "opened_at": nil,
	}
	for name, value := range more {
		if value == absent {
			delete(v, name)
			continue
		}
		v[name] = value
	}
	return fact{Entity: "m", Table: "offers", Key: "o", Version: sec(version), Known: sec(version), Values: v}
}

// absent marks a column that a version did not capture.
const absent = "not captured"

func clock(s int64) string { return stamp(sec(s)) }

func TestLabelsInTime(t *testing.T) {
	backfilled := func(f fact, known int64) fact {
		f.Backfilled, f.Known = true, sec(known)
		return f
	}
	gone := func(version int64) fact {
		return fact{Entity: "m", Table: "offers", Key: "o", Version: sec(version), Known: sec(version), Deleted: true}
	}
	open := func(d *definition.Definition) { d.Labels.Window = 0 }
	late := func(d *definition.Definition) { d.Labels.Latest = true }
	for _, c := range []struct {
		name  string
		rules func(*definition.Definition)
		asOf  int64
		facts []fact
		want  labelled
	}{
		{
			"an outcome recorded after the window counts if it happened within", nil, 500,
			[]fact{loan(200, nil), loan(400, cols{"borrowed_at": clock(219), "state": "BORROWED"})},
			labelled{"BORROWED", false, true, 19 * second},
		},
		{
			"an outcome at the very end of the window counts", nil, 500,
			[]fact{loan(200, nil), loan(220, cols{"borrowed_at": clock(220)})},
			labelled{"BORROWED", false, true, 20 * second},
		},
		{
			"an outcome after the window does not, and is still the goal in the end", nil, 500,
			[]fact{loan(200, nil), loan(221, cols{"borrowed_at": clock(221)})},
			labelled{"IGNORED", false, true, 21 * second},
		},
		{
			"an outcome dated before the example counts", nil, 500,
			[]fact{loan(200, nil), loan(210, cols{"opened_at": clock(190)})},
			labelled{"OPENED", false, false, 0},
		},
		{
			"a status known at the end of the window counts", nil, 500,
			[]fact{loan(200, nil), loan(220, cols{"state": "ASKED"})},
			labelled{"ASKED", false, false, 0},
		},
		{
			"a status known later does not", nil, 500,
			[]fact{loan(200, nil), loan(221, cols{"state": "ASKED"})},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"a status that went within the window does not", nil, 500,
			[]fact{loan(200, nil), loan(205, cols{"state": "ASKED"}), loan(210, nil)},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"a status that went after the window counts", nil, 500,
			[]fact{loan(200, nil), loan(205, cols{"state": "ASKED"}), loan(230, nil)},
			labelled{"ASKED", false, false, 0},
		},
		{
			"by default a status that went does not count, whenever", open, 500,
			[]fact{loan(200, nil), loan(205, cols{"state": "ASKED"}), loan(230, nil)},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"a booking cancelled within the window is none", nil, 500,
			[]fact{loan(200, nil), loan(205, cols{"borrowed_at": clock(205), "state": "BORROWED"}), loan(215, cols{"borrowed_at": clock(205), "state": "CANCELLED"})},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"a booking cancelled after the window is one, though not in the end", nil, 500,
			[]fact{loan(200, nil), loan(205, cols{"borrowed_at": clock(205), "state": "BORROWED"}), loan(225, cols{"borrowed_at": clock(205), "state": "CANCELLED"})},
			labelled{"BORROWED", false, false, 0},
		},
		{
			"without a window a booking cancelled by the as-of moment is none", open, 500,
			[]fact{loan(200, nil), loan(205, cols{"borrowed_at": clock(205), "state": "BORROWED"}), loan(225, cols{"borrowed_at": clock(205), "state": "CANCELLED"})},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"an expiry after a click takes the click back where the definition says so", nil, 500,
			[]fact{loan(200, nil), loan(205, cols{"opened_at": clock(205)}), loan(210, cols{"opened_at": clock(205), "state": "EXPIRED"})},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"a rejection then a booking is a booking by the latest", late, 500,
			[]fact{loan(200, nil), loan(215, cols{"refused_at": clock(205), "borrowed_at": clock(215)})},
			labelled{"BORROWED", false, true, 15 * second},
		},
		{
			"a booking after the window leaves the rejection within it", late, 500,
			[]fact{loan(200, nil), loan(225, cols{"refused_at": clock(205), "borrowed_at": clock(225)})},
			labelled{"REFUSED", false, true, 25 * second},
		},
		{
			"a booking then a rejection is a rejection by the latest", late, 500,
			[]fact{loan(200, nil), loan(215, cols{"refused_at": clock(215), "borrowed_at": clock(205)})},
			labelled{"REFUSED", false, false, 0},
		},
		{
			"an example whose window passes the as-of moment is censored", nil, 219,
			[]fact{loan(200, nil)},
			labelled{"IGNORED", true, false, 0},
		},
		{
			"also one that reached the goal", nil, 219,
			[]fact{loan(200, nil), loan(205, cols{"borrowed_at": clock(205)})},
			labelled{"BORROWED", true, false, 0},
		},
		{
			"an example whose window ends with the as-of moment is not", nil, 220,
			[]fact{loan(200, nil)},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"a moment ahead of the as-of moment counts within the window", nil, 210,
			[]fact{loan(200, nil), loan(205, cols{"borrowed_at": clock(215)})},
			labelled{"BORROWED", true, false, 0},
		},
		{
			"a backfilled status dated in the window counts", nil, 500,
			[]fact{backfilled(loan(300, cols{"state": "ASKED"}), 215)},
			labelled{"ASKED", false, false, 0},
		},
		{
			"a backfilled status that nothing dates in the window does not", nil, 500,
			[]fact{backfilled(loan(300, cols{"state": "ASKED"}), 290)},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"an example deleted at the end of its window and inserted again has no status", nil, 500,
			[]fact{loan(200, cols{"state": "ASKED"}), gone(215), loan(230, cols{"state": "ASKED"})},
			labelled{"IGNORED", false, false, 0},
		},
		{
			"a status that was not captured is that of the next version that has it", nil, 500,
			[]fact{loan(200, cols{"state": absent}), loan(230, cols{"state": "ASKED"})},
			labelled{"ASKED", false, false, 0},
		},
		{
			"a moment that is no moment leaves it to the status", nil, 500,
			[]fact{loan(200, cols{"borrowed_at": "infinity"}), loan(230, cols{"borrowed_at": "infinity", "state": "BORROWED"})},
			labelled{"IGNORED", false, true, 30 * second},
		},
		{
			"by default a moment that is no moment is set", open, 500,
			[]fact{loan(200, cols{"borrowed_at": "infinity"})},
			labelled{"BORROWED", false, true, math.MaxInt64},
		},
		{
			"a goal by status alone came when its first version became known", open, 500,
			[]fact{loan(200, nil), loan(207, cols{"state": "BORROWED"}), loan(209, nil), loan(211, cols{"state": "BORROWED"})},
			labelled{"BORROWED", false, true, 7 * second},
		},
		{
			"a goal's moment goes before the time of its status", open, 500,
			[]fact{loan(200, nil), loan(207, cols{"state": "BORROWED"}), loan(209, cols{"state": "BORROWED", "borrowed_at": clock(203)})},
			labelled{"BORROWED", false, true, 3 * second},
		},
		{
			"a goal of an example younger than the longest length is not measured", open, 229,
			[]fact{loan(200, nil), loan(207, cols{"state": "BORROWED"})},
			labelled{"BORROWED", false, false, 0},
		},
		{
			"a goal of an example as old is", open, 230,
			[]fact{loan(200, nil), loan(207, cols{"state": "BORROWED"})},
			labelled{"BORROWED", false, true, 7 * second},
		},
		{
			"what came after the as-of moment is not known", nil, 230,
			[]fact{loan(200, nil), loan(231, cols{"borrowed_at": clock(210), "state": "BORROWED"})},
			labelled{"IGNORED", false, false, 0},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, tally := label(t, library(t, c.rules), sec(c.asOf), append(c.facts, reader("m")))
			if len(got) != 1 || got["o"] != c.want {
				t.Errorf("label %+v, want %+v; tally %+v", got["o"], c.want, tally)
			}
		})
	}
}

func TestAMomentThatCannotBeComparedIsCountedAsAFault(t *testing.T) {
	facts := []fact{reader("m"), loan(200, cols{"borrowed_at": "infinity"})}
	if _, tally := label(t, library(t, nil), sec(500), facts); tally.Faults["labels:not_a_moment"] != 1 {
		t.Errorf("faults %v", tally.Faults)
	}
	open := library(t, func(d *definition.Definition) { d.Labels.Window = 0 })
	if _, tally := label(t, open, sec(500), facts); len(tally.Faults) != 0 {
		t.Errorf("faults %v, though nothing compares moments", tally.Faults)
	}
}

// labelOracle says what DESIGN §6.5 and ADR 0016 say of one offer, from its
// versions up to T, oldest first.
type labelOracle struct {
	def  *definition.Definition
	asOf int64
	list []fact
}

// value is a column of the i-th version; one that was not captured is that of
// the next version of the same life that has it.
func (o *labelOracle) value(i int, column string) (string, bool) {
	for ; i < len(o.list) && !o.list[i].Deleted; i++ {
		if v, captured := o.list[i].Values[column]; captured {
			text, ok := v.(string)
			return text, ok
		}
	}
	return "", false
}

// known is the last version, in their order, known by a moment; −1 is none.
func (o *labelOracle) known(by int64) int {
	last := -1
	for i, f := range o.list {
		if f.Known <= by {
			last = i
		}
	}
	if last >= 0 && o.list[last].Deleted {
		return -1
	}
	return last
}

// holding are the outcomes that hold with the status of a version, by rank. A
// limit of 0 is no window.
func (o *labelOracle) holding(version int, limit int64) []int {
	var status string
	hasStatus := false
	if version >= 0 {
		status, hasStatus = o.value(version, "state")
	}
	newest := len(o.list) - 1
	var list []int
	for i, x := range o.def.Labels.Outcomes[:len(o.def.Labels.Outcomes)-1] {
		is := func(in []string) bool { return hasStatus && slices.Contains(in, status) }
		text, set := "", false
		if x.Moment != "" {
			text, set = o.value(newest, x.Moment)
		}
		counts := is(x.Statuses)
		switch {
		case set && limit == 0:
			counts = true
		case set && text != "infinity":
			counts = micros(text) <= limit
		}
		if counts && !is(x.Unless) {
			list = append(list, i)
		}
	}
	return list
}

// decide picks one of the outcomes that hold.
func (o *labelOracle) decide(list []int) int {
	none := len(o.def.Labels.Outcomes) - 1
	if len(list) == 0 {
		return none
	}
	if !o.def.Labels.Latest {
		return list[0]
	}
	newest := len(o.list) - 1
	when := make([]int64, len(list))
	for k, i := range list {
		column := o.def.Labels.Outcomes[i].Moment
		if column == "" {
			return list[0]
		}
		text, ok := o.value(newest, column)
		if !ok || text == "infinity" {
			return list[0]
		}
		when[k] = micros(text)
	}
	for k, i := range list {
		if when[k] == slices.Max(when) {
			return i
		}
	}
	panic("no latest")
}

func (o *labelOracle) label(t int64) labelled {
	l := &o.def.Labels
	window := l.Window.Microseconds()
	final := o.decide(o.holding(len(o.list)-1, 0))
	got := final
	if window > 0 {
		got = o.decide(o.holding(o.known(min(o.asOf, t+window)), t+window))
	}
	out := labelled{Outcome: l.Outcomes[got].Name, Censored: window > 0 && t+window > o.asOf}
	if l.Outcomes[final].Name != l.Goal || o.asOf-t < slices.Max(l.Recall).Microseconds() {
		return out
	}
	out.Goal, out.After = true, math.MaxInt64
	for i := len(o.list) - 1; i >= 0; i-- {
		if status, ok := o.value(i, "state"); ok && slices.Contains(l.Outcomes[final].Statuses, status) {
			out.After = o.list[i].Known - t
		}
	}
	if text, ok := o.value(len(o.list)-1, l.Outcomes[final].Moment); ok && text != "infinity" {
		out.After = micros(text) - t
	}
	return out
}

// TestAWindowLongerThanTheHistoryGivesTheDefaultsLabel has no moments that
// cannot be compared: those leave it to the status only where moments count.
func TestAWindowLongerThanTheHistoryGivesTheDefaultsLabel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	open := library(t, func(d *definition.Definition) { d.Labels.Window = 0 })
	long := library(t, func(d *definition.Definition) { d.Labels.Window = 1000 * time.Hour })
	for n := range 500 {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		facts := offers(rng, map[string]int64{})
		for i := range facts {
			for column, v := range facts[i].Values {
				if v == "infinity" {
					facts[i].Values[column] = nil
				}
			}
		}
		asOf := sec(130 + int64(rng.IntN(140)))
		want, _ := label(t, open, asOf, facts)
		got, _ := label(t, long, asOf, facts)
		for key, w := range want {
			if w.Censored = true; got[key] != w {
				t.Fatalf("case %d of seed %d, offer %s: with a window of 1000 h %+v, by default %+v", n, seed, key, got[key], w)
			}
		}
	}
}

// offers makes random histories of a reader's offers: statuses that flip,
// bookings cancelled, outcomes recorded late, moments ahead and behind, columns
// not captured, deletions and re-insertions, several versions in a transaction.
func offers(rng *rand.Rand, made map[string]int64) []fact {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	facts := []fact{reader("m")}
	for n := range 1 + rng.IntN(3) {
		key := fmt.Sprint("o", n)
		now := int64(rng.IntN(60))
		t := sec(100 + now - int64(rng.IntN(12)) + int64(rng.IntN(4)))
		made[key] = t
		dead := false
		first := rng.IntN(3) == 0 // backfilled
		v := cols{"id": key, "reader": "m", "state": "NEW", "made_at": stamp(t), "changed_at": nil, "borrowed_at": nil, "refused_at": nil, "opened_at": nil}
		for step := range 1 + rng.IntN(7) {
			f := fact{Entity: "m", Table: "offers", Key: key, Version: sec(100 + now), Ordinal: uint32(step), Known: sec(100 + now)}
			if first && step == 0 {
				f.Backfilled = true
				f.Known -= int64(rng.IntN(40)) * second
			}
			if step > 0 && !dead && rng.IntN(12) == 0 {
				f.Deleted, dead = true, true
			} else {
				dead = false
				next := cols{}
				for name, value := range v {
					next[name] = value
				}
				if step > 0 || f.Backfilled {
					next["state"] = pick("NEW", "BORROWED", "BORROWED", "CANCELLED", "LOST", "REFUSED", "OPENED", "EXPIRED", "ASKED")
					for _, column := range []string{"borrowed_at", "refused_at", "opened_at"} {
						switch rng.IntN(6) {
						case 0, 1: // in whole seconds, so that moments tie and meet the limit
							next[column] = stamp(sec(100 + now + int64(rng.IntN(30)) - 24))
						case 2:
							next[column] = nil
						case 3:
							if rng.IntN(4) == 0 {
								next[column] = "infinity"
							}
						}
					}
				}
				v = next
				f.Values = cols{}
				for name, value := range v {
					f.Values[name] = value
				}
				if rng.IntN(8) == 0 {
					delete(f.Values, pick("state", "borrowed_at", "refused_at", "opened_at"))
				}
				if rng.IntN(12) == 0 {
					f.Values["state"] = nil
				}
			}
			facts = append(facts, f)
			now += int64(rng.IntN(14)) // sometimes the same transaction
		}
	}
	return facts
}

// TestLabelsEqualANaiveOracleOverRandomHistories holds the rules of labels in
// time. LABEL_SEED repeats a run, LABEL_CASES sets their number.
func TestLabelsEqualANaiveOracleOverRandomHistories(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LABEL_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	cases := 6000
	if text := os.Getenv("LABEL_CASES"); text != "" {
		cases, _ = strconv.Atoi(text)
	}
	t.Logf("repeat with LABEL_SEED=%d", seed)
	base := library(t, nil)
	seen := map[string]int{}
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		def := *base
		def.Labels.Outcomes = slices.Clone(base.Labels.Outcomes)
		def.Labels.Window = time.Duration(rng.IntN(4)*10) * time.Second
		def.Labels.Latest = rng.IntN(2) == 0
		if rng.IntN(3) == 0 {
			def.Labels.Outcomes[0].Unless = nil
		}
		made := map[string]int64{}
		facts := offers(rng, made)
		asOf := sec(130 + int64(rng.IntN(140)))
		rng.Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })

		got, _ := label(t, &def, asOf, facts)
		want := map[string]labelled{}
		for key, at := range made {
			o := &labelOracle{def: &def, asOf: asOf}
			for _, f := range facts {
				if f.Key == key && f.Version <= asOf {
					o.list = append(o.list, f)
				}
			}
			slices.SortFunc(o.list, func(a, b fact) int {
				return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Ordinal, b.Ordinal))
			})
			if len(o.list) == 0 || o.list[len(o.list)-1].Deleted || at >= asOf {
				continue
			}
			want[key] = o.label(at)
		}
		if len(got) != len(want) {
			t.Fatalf("case %d of seed %d, as of %s: %d examples, want %d", n, seed, change.Version(asOf), len(got), len(want))
		}
		for key, w := range want {
			if got[key] != w {
				t.Fatalf("case %d of seed %d, as of %s, window %s, latest %v, offer %s: label %+v, want %+v",
					n, seed, change.Version(asOf), def.Labels.Window, def.Labels.Latest, key, got[key], w)
			}
			seen[w.Outcome]++
			seen[fmt.Sprint("censored ", w.Censored)]++
			seen[fmt.Sprint("goal ", w.Goal)]++
			if w.Goal && w.Outcome != "BORROWED" {
				seen["goal outside the window"]++
			}
			if w.Goal && w.After == math.MaxInt64 {
				seen["goal at no moment"]++
			}
		}
	}
	t.Logf("%v", seen)
	for _, what := range []string{"BORROWED", "REFUSED", "OPENED", "ASKED", "IGNORED", "censored true", "goal true", "goal outside the window"} {
		if cases >= 1000 && seen[what] < cases/100 {
			t.Errorf("the histories are too poor: %q occurs %d times", what, seen[what])
		}
	}
}
