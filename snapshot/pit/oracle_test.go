package pit_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// oracle computes the examples of testdata/club.yaml from the plain list of
// facts, with nothing but loops: it is slow, and says what the rules of
// DESIGN §6 say, one after the other.
type oracle struct {
	facts       []fact
	birth, asOf int64
	window      int64
	gaps        []history.Gap

	// of the example at hand:
	t, c           int64
	entity, own    string
	late, trusted  bool
	candidates     int64
	dropped        map[string]int64
	immature       int64
	anyAt          int64 // event time of last_any, or t
	exactnessCount [4]int64
}

// versions are those of one row under one entity up to T, oldest first, as of
// which a join may know: not what was replaced by T − window, and not a row that
// was gone by then (ADR 0014).
func (o *oracle) versions(entity, table, key string) []fact {
	var list []fact
	for _, f := range o.facts {
		if f.Entity == entity && f.Table == table && f.Key == key && f.Version <= o.asOf {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b fact) int {
		if a.Version != b.Version {
			return int(a.Version - b.Version)
		}
		return int(a.Ordinal) - int(b.Ordinal)
	})
	for len(list) > 1 && list[1].Version <= o.asOf-o.window {
		list = list[1:]
	}
	if len(list) > 0 && list[0].Deleted && list[0].Version <= o.asOf-o.window {
		list = list[1:]
	}
	return list
}

// held is a row as it holds at the cut-off.
type held struct {
	fact
	newer   []fact
	late    bool
	trusted bool
}

var creation = map[string]string{"people": "made", "events": "at", "offers": "made", "things": "made"}

// at is rule 2 of DESIGN §6.
func (o *oracle) at(versions []fact) *held {
	for i := len(versions) - 1; i >= 0; i-- {
		if f := versions[i]; f.Known <= o.c {
			if f.Deleted {
				return nil
			}
			return &held{f, versions[i+1:], false, f.Backfilled && f.Version > o.c}
		}
	}
	if len(versions) == 0 {
		return nil
	}
	first := versions[0]
	if !first.Backfilled || first.Deleted {
		return nil
	}
	if column := creation[first.Table]; column != "" {
		if text, ok := first.Values[column].(string); ok && micros(text) > o.c {
			return nil
		}
	}
	return &held{first, versions[1:], true, false}
}

// get is a column of a held row; what was not captured comes from a newer
// version of the same life and makes the example inexact.
func (o *oracle) get(h *held, column string) (string, bool) {
	v, captured := h.Values[column]
	for i := 0; !captured; i++ {
		o.late = true
		if i == len(h.newer) || h.newer[i].Deleted {
			return "", false
		}
		v, captured = h.newer[i].Values[column]
	}
	text, ok := v.(string)
	return text, ok
}

// table is every row of the entity's table that holds, but the example's own.
func (o *oracle) table(table string) []*held {
	seen := map[string]bool{}
	var list []*held
	for _, f := range o.facts {
		if f.Table != table || f.Entity != o.entity || seen[f.Key] || table == "offers" && f.Key == o.own {
			continue
		}
		seen[f.Key] = true
		if h := o.at(o.versions(o.entity, table, f.Key)); h != nil {
			o.late = o.late || h.late
			o.trusted = o.trusted || h.trusted
			list = append(list, h)
		}
	}
	return list
}

// later is the order of rows that tie: later known, then greater id.
func later(a, b *held) bool {
	return b == nil || a.Known > b.Known || a.Known == b.Known && a.Key > b.Key
}

func (o *oracle) event(h *held, columns ...string) (int64, bool) {
	for _, c := range columns {
		if text, ok := o.get(h, c); ok && text != "infinity" {
			return micros(text), true
		}
	}
	return 0, false
}

func micros(text string) int64 {
	t, err := time.Parse("2006-01-02 15:04:05.999999", text)
	if err != nil {
		panic(err)
	}
	return t.UnixMicro()
}

func (o *oracle) examples() map[string]got {
	all := map[string]got{}
	o.dropped = map[string]int64{}
	done := map[[2]string]bool{}
	for _, f := range o.facts {
		if f.Table != "offers" || done[[2]string{f.Entity, f.Key}] {
			continue
		}
		done[[2]string{f.Entity, f.Key}] = true
		if g, ok := o.example(f.Entity, f.Key); ok {
			all[f.Key] = g
		}
	}
	return all
}

func (o *oracle) example(entity, key string) (got, bool) {
	versions := o.versions(entity, "offers", key)
	var first *held
	for i, f := range versions {
		if !f.Deleted {
			first = &held{fact: f, newer: versions[i+1:]}
			break
		}
	}
	if first == nil {
		return got{}, false
	}
	last := versions[len(versions)-1]
	if last.Deleted && last.Moved {
		return got{}, false
	}
	o.t = micros(first.Values["made"].(string))
	if o.t < o.asOf-o.window || o.t >= o.asOf {
		return got{}, false
	}
	o.candidates++
	if last.Deleted {
		o.dropped["deleted"]++
		return got{}, false
	}
	o.c, o.entity, o.own, o.late, o.trusted = o.t, entity, key, false, false
	if !first.Backfilled {
		o.c = min(o.t, first.Version-1)
		if horizon := o.asOf - o.window; o.c < horizon { // recorded before its window
			o.c, o.late = horizon, true
		}
	}
	out := map[string]string{}
	set := func(column string, h *held, from string) {
		if h == nil {
			return
		}
		if text, ok := o.get(h, from); ok {
			out[column] = text
		}
	}

	var person *held
	for _, h := range o.table("people") {
		if later(h, person) {
			person = h
		}
	}
	if person == nil {
		o.dropped["no_person"]++
		return got{}, false
	}
	out["moment"] = fmt.Sprint(o.t)
	set("name", person, "name")
	var setting *held
	for _, h := range o.table("settings") {
		if tone, _ := o.get(h, "tone"); tone != "mute" && later(h, setting) { // in CEL null != "mute" holds
			setting = h
		}
	}
	set("tone", setting, "tone")
	set("extra", setting, "extra")
	set("note", first, "note")

	o.thing(first, set)
	o.events(first, set, out)
	o.mixed(person, setting, out)
	out["offers_before"] = fmt.Sprint(len(o.table("offers")))

	g := got{Entity: entity, Time: o.t, CutOff: o.c, Outcome: 2, Columns: out}
	state, _ := last.Values["state"].(string)
	switch _, seen := last.Values["seen"].(string); {
	case state == "TAKEN":
		g.Outcome = 0
	case state == "SEEN" || seen:
		g.Outcome = 1
	}
	out["outcome"] = []string{"TAKEN", "SEEN", "NONE"}[g.Outcome]
	out["worth"] = []string{"2", "1", "0"}[g.Outcome]
	out["taken"] = []string{"1", "0", "0"}[g.Outcome]
	switch {
	case o.late && o.c < o.birth:
		g.Exact = pit.InexactOlder
	case o.late || slices.ContainsFunc(o.gaps, func(g history.Gap) bool { return o.c > int64(g.From) && o.c < int64(g.To) }):
		g.Exact = pit.Inexact
	case o.trusted:
		g.Exact = pit.ExactTrusted
	}
	out["exact"] = strconv.FormatBool(g.Exact <= pit.ExactTrusted)
	o.exactnessCount[g.Exact]++
	if o.asOf-o.t < 5_000_000 {
		o.immature++
	}
	return g, true
}

// thing is the row of another entity: by id, else by (a, b).
func (o *oracle) thing(example *held, set func(string, *held, string)) {
	var best *held
	find := func(matches func(h *held, get func(string) string) bool) {
		seen := map[[2]string]bool{}
		for _, f := range o.facts {
			k := [2]string{f.Entity, f.Key}
			if f.Table != "things" || seen[k] {
				continue
			}
			seen[k] = true
			versions := o.versions(f.Entity, "things", f.Key)
			h := o.at(versions)
			if h == nil {
				continue
			}
			// A row that never matched has no say, one that matched at any time has,
			// even if it is then found not to match.
			before, ever := o.late, false
			for i, f := range versions {
				x := &held{fact: f, newer: versions[i+1:]}
				ever = ever || !f.Deleted && matches(x, func(c string) string { text, _ := o.get(x, c); return text })
			}
			o.late = before
			if !ever {
				continue
			}
			same := matches(h, func(c string) string { text, _ := o.get(h, c); return text })
			o.late = o.late || h.late
			o.trusted = o.trusted || h.trusted
			if same && later(h, best) {
				best = h
			}
		}
	}
	if id, ok := o.get(example, "thing"); ok {
		find(func(h *held, _ func(string) string) bool { return h.Entity == id })
	}
	if best == nil {
		a, ok1 := o.get(example, "a")
		b, ok2 := o.get(example, "b")
		if ok1 && ok2 {
			// Nobody knows which rows would match that lack a column at the cut-off.
			o.late = o.late || o.c < o.unsure("things", "a", "b")
			find(func(_ *held, get func(string) string) bool {
				x, y := get("a"), get("b") // both are looked at
				return x == a && y == b
			})
		}
	}
	set("thing_id", best, "id")
	set("thing_score", best, "score")
}

// unsure is the moment before which a version of some row of a table had not
// captured one of the columns.
func (o *oracle) unsure(table string, columns ...string) (until int64) {
	for _, f := range o.facts {
		if f.Table != table || f.Deleted {
			continue
		}
		versions := o.versions(f.Entity, table, f.Key)
		at := slices.IndexFunc(versions, func(v fact) bool { return v.Version == f.Version && v.Ordinal == f.Ordinal })
		if at < 0 {
			continue
		}
		for _, column := range columns {
			if _, captured := f.Values[column]; captured {
				continue
			}
			next := int64(math.MaxInt64)
			for _, v := range versions[at+1:] {
				if _, captured := v.Values[column]; captured || v.Deleted {
					next = v.Known
					break
				}
			}
			until = max(until, next)
		}
	}
	return until
}

// mixed are columns over several rows and other columns.
func (o *oracle) mixed(person, setting *held, out map[string]string) {
	if setting != nil {
		// A null tone is not equal to loud.
		tone, _ := o.get(setting, "tone")
		out["loud"] = strconv.FormatBool(tone == "loud" && out["events"] != "0")
	} else {
		out["loud"] = "false"
	}
	out["hour"] = fmt.Sprint(time.UnixMicro(o.t).UTC().Hour())
	out["edition"] = "7"
	out["events_again"] = out["events"]
	end := min(o.t, o.anyAt)
	if text, ok := o.get(person, "made"); ok {
		if n := (end - micros(text)) / 1_000_000; end >= micros(text) {
			out["minute"] = fmt.Sprint(min(n, 40))
		}
	}
}

func (o *oracle) events(example *held, set func(string, *held, string), out map[string]string) {
	rows := o.table("events")
	var last, newest *held
	var lastAt, anyAt int64
	recent, paid := 0, 0
	sum, n := new(big.Rat), int64(0)
	a, hasA := o.get(example, "a")
	has := false
	for _, h := range rows {
		kind, _ := o.get(h, "kind")
		if hasA && kind == a {
			has = true
		}
		at, okAt := o.event(h, "at")
		if okAt && at < o.t {
			if at >= o.t-20_000_000 {
				recent++
			}
			if newest == nil || at > anyAt || at == anyAt && later(h, newest) {
				newest, anyAt = h, at
			}
		}
		// The filter looks at every row that holds, the window at those that pass.
		xy := kind == "x" || kind == "y"
		number, _ := o.get(h, "n")
		k, _ := strconv.Atoi(number)
		if !xy && k <= 1 {
			continue
		}
		when, ok := o.event(h, "paid", "at")
		if !ok || when >= o.t {
			continue
		}
		if xy {
			paid++
			if last == nil || when > lastAt || when == lastAt && later(h, last) {
				last, lastAt = h, when
			}
		}
		if k > 1 {
			if amount, ok := o.get(h, "amount"); ok && amount != "NaN" {
				r, _ := new(big.Rat).SetString(amount)
				sum.Add(sum, r)
				n++
			}
		}
	}
	set("last_mark", last, "mark")
	set("last_kind", last, "kind")
	if last != nil {
		out["last_age"] = fmt.Sprint((o.t - lastAt) / 1_000_000)
	}
	set("any_mark", newest, "mark")
	if o.anyAt = o.t; newest != nil {
		o.anyAt = anyAt
	}
	out["events"] = fmt.Sprint(recent)
	out["events_ever"] = fmt.Sprint(len(rows))
	out["paid_events"] = fmt.Sprint(paid)
	out["has_kind"] = strconv.FormatBool(has)
	if n > 0 {
		mean, _ := sum.Quo(sum, new(big.Rat).SetInt64(n)).Float64()
		out["mean_amount"] = strconv.FormatFloat(float64(float32(mean)), 'g', -1, 32)
	}
}
