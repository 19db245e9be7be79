package pit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// answered is an answer as a test compares it.
type answered struct {
	Time, CutOff int64
	Exact        pit.Exactness
	Columns      map[string]string
	Status       map[string]string
}

// ask answers requests for an entity from the facts known at a moment.
func ask(t testing.TB, def *definition.Definition, birth, asOf int64, facts []fact, entity string, columns ...map[string]json.RawMessage) []answered {
	t.Helper()
	var known []fact
	for _, f := range facts {
		if f.Version <= asOf {
			known = append(known, f)
		}
	}
	v := build(t, def, catalog(def, birth, asOf), known)
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	j := p.NewAnswerer(related(t, v, def, pit.Options{Window: time.Duration(asOf) * time.Microsecond}, 1<<20), 0)
	var requests []*pit.Request
	for _, given := range columns {
		r := p.Request(entity)
		for name, value := range given {
			if err := r.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
		requests = append(requests, r)
	}
	e, err := v.Entity(context.Background(), p.Entity(), entity)
	if err != nil {
		t.Fatal(err)
	}
	var all []answered
	err = j.Answer(e, change.Version(asOf), requests, func(a *pit.Answer) error {
		g := answered{a.Time, a.CutOff, a.Exact, map[string]string{}, map[string]string{}}
		for i := range def.Columns {
			if c := &def.Columns[i]; c.Role == definition.RoleFeature {
				render(g.Columns, c, a.Columns[i])
				g.Status[c.Name] = a.Status[i].String()
			}
		}
		all = append(all, g)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// given are the columns of an offer as a request gives them.
func given(v cols, timed bool) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for name, value := range v {
		switch name {
		case "member", "state", "seen", "id":
			continue
		case "made":
			if !timed {
				continue
			}
			fallthrough
		case "changed":
			if text, ok := value.(string); ok {
				value = strings.Replace(text, " ", "T", 1) + "Z"
			}
		}
		out[name], _ = json.Marshal(value)
	}
	return out
}

// I5: what a request is answered is what the dataset holds of an example that is
// written right after, and stays so in datasets built later wherever the answer
// does not say that it is inexact. PIT_SEED repeats a run, PIT_CASES sets their
// number.
func TestI5AnAnswerIsTheDatasetsRowOfAnExampleWrittenRightAfter(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PIT_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	cases := 2000
	if text := os.Getenv("PIT_CASES"); text != "" {
		cases, _ = strconv.Atoi(text)
	}
	t.Logf("repeat with PIT_SEED=%d", seed)
	def := load(t, "testdata/club.yaml")
	compared, later, met := 0, 0, map[string]int{}
	for n := range cases {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := generate(rng)
		asOf := s.birth + rng.Int64N(s.now-s.birth+1)
		if rng.IntN(2) == 0 {
			asOf = s.now
		}
		entity := s.pick("m0", "m1", "m2", "m9")
		at, now := asOf, s.now
		s.now = asOf
		_, values := s.values("offers", "new", nil)
		s.now = now
		values["member"] = entity
		timed := rng.IntN(2) == 0
		if !timed {
			values["made"] = stamp(asOf)
		}
		got := ask(t, def, s.birth, asOf, s.facts, entity, given(values, timed))[0]
		for _, status := range got.Status {
			met[status]++
		}

		own := fact{Entity: entity, Table: "offers", Key: "new", Version: at + 1, Known: at + 1, Values: values}
		var upTo []fact
		for _, f := range s.facts {
			if f.Version <= at {
				upTo = append(upTo, f)
			}
		}
		// A dataset has only moments before T, and rows of who has a person.
		T := max(at+1, micros(values["made"].(string))+1)
		window := time.Duration(T) * time.Microsecond
		right, _ := join(t, def, build(t, def, catalog(def, s.birth, T), append(upTo, own)), window, 1<<20, 0)
		row, ok := right["new"]
		if !ok {
			if got.Status["name"] != "never_seen" && got.Status["name"] != "deleted" && got.Status["name"] != "inexact" {
				t.Fatalf("case %d of seed %d: the dataset has no row, the answer has %v", n, seed, got)
			}
			continue
		}
		compared++
		want := answered{row.Time, row.CutOff, row.Exact, features(def, row.Columns), got.Status}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("case %d of seed %d, as of %s: (-dataset +answer)\n%s", n, seed, change.Version(asOf), diff)
		}
		for name, status := range got.Status {
			if _, valid := got.Columns[name]; valid != (status == "present") && status != "inexact" {
				t.Fatalf("case %d of seed %d: %s is there: %v, and its status %s", n, seed, name, valid, status)
			}
			if status == "inexact" && got.Exact < pit.Inexact {
				t.Fatalf("case %d of seed %d: %s is inexact, the example is not", n, seed, name)
			}
		}

		// The same, of the whole history with the row in it, if nothing came later
		// that was known by its own dates before.
		if slices.ContainsFunc(s.facts, func(f fact) bool { return f.Version > at && f.Known <= at }) {
			continue
		}
		T = max(T, s.now+2)
		all, _ := join(t, def, build(t, def, catalog(def, s.birth, T), append(shifted(s.facts, at), own)), time.Duration(T)*time.Microsecond, 1<<20, 0)
		final := features(def, all["new"].Columns)
		for name, status := range got.Status {
			a, okA := got.Columns[name]
			b, okB := final[name]
			if status != "inexact" && (a != b || okA != okB) {
				t.Fatalf("case %d of seed %d: %s was %s (%q) and is %q in a dataset built later", n, seed, name, status, a, b)
			}
		}
		later++
	}
	t.Logf("%d rows compared, %d built later, statuses %v", compared, later, met)
	if cases >= 1000 && (compared < cases/3 || len(met) < 5) {
		t.Errorf("the histories are too poor: %d rows compared, statuses %v", compared, met)
	}
}

// shifted makes room for the version right after a moment.
func shifted(facts []fact, at int64) []fact {
	var out []fact
	for _, f := range facts {
		if f.Version > at {
			f.Version++
			f.Known++
		}
		out = append(out, f)
	}
	return out
}

// features are the columns of a row that an answer shows.
func features(def *definition.Definition, columns map[string]string) map[string]string {
	out := maps.Clone(columns)
	for i := range def.Columns {
		if c := &def.Columns[i]; c.Role != definition.RoleFeature {
			delete(out, c.Name)
		}
	}
	return out
}

func TestStatusesOfAnAnswer(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	gone := func(f fact, version int64) fact {
		f.Version, f.Known, f.Backfilled, f.Deleted, f.Values = version, version, false, true, nil
		return f
	}
	old := person(sec(100), sec(10), true, "old")
	thing := func(version int64, backfilled bool, more cols) fact {
		v := cols{"id": "t0", "a": "x", "b": "p", "score": "0.5", "made": nil, "changed": nil}
		maps.Copy(v, more)
		return fact{Entity: "t0", Table: "things", Key: "t0", Version: version, Known: version, Backfilled: backfilled, Values: v}
	}
	setting := func(key string, version int64, v cols) fact {
		return fact{Entity: "m0", Table: "settings", Key: key, Version: version, Known: version, Values: v}
	}
	soft := cols{"id": "s", "member": "m0", "tone": "soft", "extra": "1"}
	text := func(s string) json.RawMessage { return json.RawMessage(strconv.Quote(s)) }
	byID := map[string]json.RawMessage{"thing": text("t0")}
	byColumns := map[string]json.RawMessage{"a": text("x"), "b": text("p")}
	past := map[string]json.RawMessage{"made": text(time.UnixMicro(sec(50)).UTC().Format(time.RFC3339))}
	for _, c := range []struct {
		name   string
		facts  []fact
		given  map[string]json.RawMessage
		column string
		want   string
	}{
		{"a value that is there is present", []fact{old}, nil, "name", "present"},
		{"a column that is NULL is null", []fact{func() fact { f := person(sec(100), sec(10), true, ""); f.Values["name"] = nil; return f }()}, nil, "name", "null"},
		{"a user that nobody has heard of was never seen", nil, nil, "name", "never_seen"},
		{"a row that was deleted is deleted", []fact{old, gone(old, sec(200))}, nil, "name", "deleted"},
		{"a tombstone alone says deleted", []fact{gone(old, sec(200))}, nil, "name", "deleted"},
		{"a row that was inserted again is present", []fact{old, gone(old, sec(200)), person(sec(300), sec(300), false, "new")}, nil, "name", "present"},
		{"a row that came later was not seen", []fact{person(sec(200), sec(200), false, "late")}, past, "name", "never_seen"},
		{"a backfilled row that changed later is inexact", []fact{person(sec(100), sec(60), true, "now")}, past, "name", "inexact"},
		{"a NULL that rests on such a row is inexact", []fact{func() fact { f := person(sec(100), sec(60), true, ""); f.Values["name"] = nil; return f }()}, past, "name", "inexact"},
		{"what does not rest on it is present", []fact{person(sec(100), sec(60), true, "now")}, past, "edition", "present"},
		{"a count of nothing is present", nil, nil, "events", "present"},
		{"whether nothing is a member is present", nil, nil, "has_kind", "present"},
		{"a count over a row chosen by rule (b) is inexact", []fact{func() fact { f := event("e", sec(100), sec(40), nil); f.Backfilled, f.Known = true, sec(60); return f }()}, past, "events", "inexact"},
		{"a mean over no row was never seen", nil, nil, "mean_amount", "never_seen"},
		{"a mean over rows that do not count is null", []fact{event("e", sec(100), sec(90), cols{"n": "0"})}, nil, "mean_amount", "null"},
		{"a mean over rows that are gone is deleted", []fact{event("e", sec(100), sec(90), nil), gone(event("e", 0, 0, nil), sec(200))}, nil, "mean_amount", "deleted"},
		{"a last row of which there is none was never seen", []fact{old}, nil, "last_mark", "never_seen"},
		{"a last row that the filter passes over was never seen", []fact{event("e", sec(100), sec(90), cols{"kind": "z"})}, nil, "last_mark", "never_seen"},
		{"a last row that is gone is deleted", []fact{event("e", sec(100), sec(90), nil), gone(event("e", 0, 0, nil), sec(200))}, nil, "last_age", "deleted"},
		{"a last row that is gone and did not pass the filter was never seen", []fact{event("e", sec(100), sec(90), cols{"kind": "z"}), gone(event("e", 0, 0, nil), sec(200))}, nil, "last_mark", "never_seen"},
		{"a filtered row of which only the tombstone is left was never seen", []fact{gone(event("e", 0, 0, nil), sec(200))}, nil, "last_mark", "never_seen"},
		{"a row found by id is present", []fact{thing(sec(100), false, nil)}, byID, "thing_score", "present"},
		{"a row found by id with a NULL is null", []fact{thing(sec(100), false, cols{"score": nil})}, byID, "thing_score", "null"},
		{"a row found by id that is gone is deleted", []fact{thing(sec(100), false, nil), gone(thing(0, false, nil), sec(200))}, byID, "thing_score", "deleted"},
		{"a row found by id of which the tombstone is left is deleted", []fact{gone(thing(0, false, nil), sec(200))}, byID, "thing_score", "deleted"},
		{"a row found by columns is present", []fact{thing(sec(100), false, nil)}, byColumns, "thing_score", "present"},
		{"a row found by columns that is gone is deleted", []fact{thing(sec(100), false, nil), gone(thing(0, false, nil), sec(200))}, byColumns, "thing_score", "deleted"},
		{"a row that has changed its columns since was never seen", []fact{thing(sec(100), false, nil), thing(sec(200), false, cols{"a": "y"})}, byColumns, "thing_score", "never_seen"},
		{"a row that nothing was given to find by was never seen", []fact{thing(sec(100), false, nil)}, nil, "thing_score", "never_seen"},
		{"a column of the request is present", nil, map[string]json.RawMessage{"note": text("n")}, "note", "present"},
		{"a column that the request lacks is null", nil, nil, "note", "null"},
		{"what rests on the request's own moment is present", nil, nil, "hour", "present"},
		{"of two things that are both needed the one that is lacking tells", nil, nil, "minute", "never_seen"},
		{"a column that was not captured is inexact", []fact{setting("s", sec(200), cols{"id": "s", "member": "m0", "tone": "soft"})}, nil, "extra", "inexact"},
		{"a row that the filter chooses is present", []fact{setting("s", sec(200), soft)}, nil, "tone", "present"},
		{"a value made of another column has its status", nil, nil, "events_again", "present"},
		{"an expression over rows that are not there has a value", nil, nil, "loud", "present"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, def, sec(100), sec(1000), c.facts, "m0", c.given)[0]
			if got.Status[c.column] != c.want {
				t.Errorf("%s is %s (%q), want %s", c.column, got.Status[c.column], got.Columns[c.column], c.want)
			}
		})
	}
}

func TestARowThatIsThereAlreadyIsNotCountedForItself(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	facts := []fact{person(sec(100), sec(10), true, "old"), offer(sec(200), sec(200), nil)}
	got := ask(t, def, sec(100), sec(1000), facts, "m0", nil, map[string]json.RawMessage{"id": json.RawMessage(`"o"`)})
	if got[0].Columns["offers_before"] != "1" || got[1].Columns["offers_before"] != "0" {
		t.Errorf("offers before: %s for a new row, %s for the one that is there", got[0].Columns["offers_before"], got[1].Columns["offers_before"])
	}
}

func TestColumnsOfARequestAreTyped(t *testing.T) {
	const file = `
format: 1
name: typed
doc: A column of every type.
timezone: Europe/Paris
entities: {who: {doc: Who.}}
tables:
  shown:
    entity: who
    by: who
    key: [id]
    columns: {id: int, who: int, at: timestamp, t: text, i: int, f: float, b: bool, m: timestamp, j: json, l: list, late: text}
example: {table: shown, id: id, time: at, outcome: [late]}
labels: {goal: A, outcomes: [{name: A, score: 1, moment: at}, {name: B, score: 0}]}
columns:
  t: {type: string, value: example.t, class: safe, doc: Text.}
  i: {type: int32, value: example.i, class: safe, doc: Int.}
  f: {type: float32, value: example.f, class: safe, doc: Float.}
  b: {type: bool, value: example.b, class: safe, doc: Bool.}
  m: {type: timestamp, value: example.m, class: safe, doc: Moment.}
  j: {type: int32, total: {of: example.j, parts: [a, b]}, class: safe, doc: Object.}
  l: {type: string, joined: example.l, class: safe, doc: List.}
`
	data := strings.ReplaceAll(file, "moment: at}", "moment: late}")
	data = strings.ReplaceAll(data, "late: text", "late: timestamp")
	def, err := definition.Load([]byte(data), "typed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	info := catalog(def, sec(0), sec(100))
	p, err := pit.Compile(def, &info)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ column, value, want, fault string }{
		{"t", `"a \"b\""`, `a "b"`, ""},
		{"t", `null`, ``, ""},
		{"t", `3`, ``, "column t: it is a number, not a text"},
		{"t", `"a\u0000b"`, ``, "column t: a text cannot hold a zero byte"},
		{"i", `-7`, `-7`, ""},
		{"i", `1.5`, ``, "column i: it is not a whole number"},
		{"i", `9223372036854775808`, ``, "column i: it is not a whole number"},
		{"i", `"1"`, ``, "column i: it is a text, not a whole number"},
		{"f", `0.25`, `0.25`, ""},
		{"f", `1e999`, ``, "column f: it is not a number"},
		{"f", `true`, ``, "column f: it is a bool, not a number"},
		{"f", `NaN`, ``, "column f: it is not a number"},
		{"b", `true`, `true`, ""},
		{"b", `0`, ``, "column b: it is a number, not true or false"},
		{"m", `"2026-03-01T01:00:00+01:00"`, fmt.Sprint(epoch), ""},
		{"m", `"2026-03-01 00:00:00"`, ``, `column m: it is not a moment with its zone, such as "2026-11-01T12:00:00Z"`},
		{"m", `"infinity"`, ``, `column m: it is not a moment with its zone, such as "2026-11-01T12:00:00Z"`},
		{"m", `1`, ``, `column m: it is a number, not a moment with its zone, such as "2026-11-01T12:00:00Z"`},
		{"j", `{"a": 1, "b": 2}`, `3`, ""},
		{"j", `{"a": `, ``, "column j: it is no JSON"},
		{"l", `["b", "a,\"", null, "b"]`, `a,",b`, ""},
		{"l", `[]`, ``, ""},
		{"l", `[1]`, ``, "column l: it is a list, not a list of texts"},
		{"l", `"a"`, ``, "column l: it is a text, not a list of texts"},
		{"who", `1`, ``, "column who: it is the id of the who, which is given once, beside the columns"},
		{"late", `null`, ``, "column late: it tells what became of an example, which a request is before"},
		{"mm", `null`, ``, `unknown column "mm", did you mean "m"? (a request gives columns of table shown)`},
	} {
		t.Run(c.column+" "+c.value, func(t *testing.T) {
			r := p.Request("42")
			err := r.Set(c.column, json.RawMessage(c.value))
			if c.fault != "" {
				if err == nil || err.Error() != c.fault {
					t.Fatalf("got %v, want %s", err, c.fault)
				}
				var typed *pit.ColumnError
				var unknown *pit.UnknownColumnError
				if !errors.As(err, &typed) && !errors.As(err, &unknown) {
					t.Errorf("%T is no error of a column", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := ask(t, def, sec(0), sec(100), nil, "42", map[string]json.RawMessage{c.column: json.RawMessage(c.value)})[0]
			if got.Columns[c.column] != c.want {
				t.Errorf("got %q (%s), want %q", got.Columns[c.column], got.Status[c.column], c.want)
			}
		})
	}
}

func TestARequestMayLieInThePastOrAhead(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	facts := []fact{person(sec(100), sec(10), true, "old"), person(sec(500), sec(500), false, "new")}
	at := func(s int64) map[string]json.RawMessage {
		return map[string]json.RawMessage{"made": json.RawMessage(strconv.Quote(time.UnixMicro(sec(s)).UTC().Format(time.RFC3339)))}
	}
	for _, c := range []struct {
		name         string
		given        map[string]json.RawMessage
		time, cutOff int64
		want         string
	}{
		{"without a moment it is that of the answer", nil, sec(1000), sec(1000), "new"},
		{"one in the past knows what was known then", at(300), sec(300), sec(300), "old"},
		{"one ahead knows what is known now", at(2000), sec(2000), sec(1000), "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, def, sec(100), sec(1000), facts, "m0", c.given)[0]
			if got.Time != c.time || got.CutOff != c.cutOff || got.Columns["name"] != c.want {
				t.Errorf("got t %s, c %s, name %q", stamp(got.Time), stamp(got.CutOff), got.Columns["name"])
			}
		})
	}
}

func TestWhatRestsOnHistoryInAGapIsInexact(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	info := catalog(def, sec(100), sec(1000))
	info.Gaps = []history.Gap{{From: change.Version(sec(300)), To: change.Version(sec(400))}}
	v := build(t, def, info, []fact{person(sec(100), sec(10), true, "old")})
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	j := p.NewAnswerer(related(t, v, def, pit.Options{Window: time.Hour}, 1<<20), 0)
	r := p.Request("m0")
	if err := r.Set("made", json.RawMessage(strconv.Quote(time.UnixMicro(sec(350)).UTC().Format(time.RFC3339)))); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"name": "inexact", "events": "inexact", "thing_score": "inexact", "hour": "present", "edition": "present", "note": "null"}
	err = j.Answer(v.entities["member"][0], change.Version(sec(1000)), []*pit.Request{r}, func(a *pit.Answer) error {
		for i := range def.Columns {
			if status, ok := want[def.Columns[i].Name]; ok && a.Status[i].String() != status {
				t.Errorf("%s is %s, want %s", def.Columns[i].Name, a.Status[i], status)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
