package pit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
	"dreamfeed/snapshot/pit"
)

// places are budgets of related rows, of items with 200 versions of some 100
// bytes: their histories are in memory, or the heads of the versions alone, or
// neither.
var places = []struct {
	name   string
	budget func(versions int) int64
}{
	{"memory", func(versions int) int64 { return int64(versions) * 1000 }},
	{"heads", func(versions int) int64 { return int64(versions) * 90 }},
	{"file", func(int) int64 { return 0 }},
}

// scored are a member and things t0, t1, … with a version every ten seconds from 200
// on, whose score is 1000 times the thing's number and the version's.
func scored(things, versions int) []fact {
	facts := []fact{person(sec(100), sec(100), true, "p")}
	for i := range things {
		for k := range versions {
			f := thing(sec(200+int64(k)*10), cols{"id": fmt.Sprint("t", i), "a": "a", "b": "b", "score": strconv.Itoa(i*1000 + k), "made": nil, "changed": nil})
			f.Entity, f.Key = fmt.Sprint("t", i), fmt.Sprint("t", i)
			facts = append(facts, f)
		}
	}
	return facts
}

// TestARelatedRowOfManyVersionsIsTheSameWhereverItStands: the version that holds
// at the cut-off is found, and what is kept of those met before is theirs.
func TestARelatedRowOfManyVersionsIsTheSameWhereverItStands(t *testing.T) {
	const things, versions, offers = 8, 200, 300
	def := load(t, "testdata/club.yaml")
	facts := scored(things, versions)
	// One is gone for a while, between two of its versions.
	facts = append(facts, fact{Entity: "t7", Table: "things", Key: "t7", Version: sec(1196), Known: sec(1196), Deleted: true})
	gone := 0
	want := map[string]string{}
	for i := range offers {
		at := 195 + int64(i*7%(versions*10))
		o := offer(sec(at)+1, sec(at), cols{"id": fmt.Sprint("o", i), "thing": fmt.Sprint("t", i%things)})
		o.Key = fmt.Sprint("o", i)
		facts = append(facts, o)
		if i%things == 7 && at >= 1196 && at < 1200 {
			gone++
		} else if at >= 200 {
			want[o.Key] = strconv.Itoa(i%things*1000 + int(at-200)/10)
		}
	}
	if gone == 0 {
		t.Fatal("no offer is of a thing while it is gone")
	}
	info := catalog(def, sec(100), sec(200+versions*10))
	v := build(t, def, info, facts)
	spilled := map[string]int64{}
	for _, place := range places {
		budget := place.budget(things * versions)
		spilled[place.name] = related(t, v, def, pit.Options{Window: time.Hour}, budget).Spilled()
		for _, cache := range []int64{1, 1 << 14, 1 << 20} {
			all, _ := join(t, def, v, time.Hour, budget, cache)
			got := map[string]string{}
			for id, x := range all {
				if score, ok := x.Columns["thing_score"]; ok {
					got[id] = score
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, cache of %d: (-want +got)\n%s", place.name, cache, diff)
			}
		}
	}
	// A question as of a moment before that of the store finds the same.
	p, err := pit.Compile(def, &info)
	if err != nil {
		t.Fatal(err)
	}
	column := slices.IndexFunc(def.Columns, func(c definition.Column) bool { return c.Name == "thing_score" })
	for _, place := range places {
		o := pit.Options{Window: time.Duration(info.AsOf) * time.Microsecond}
		store := related(t, v, def, o, place.budget(things*versions))
		for k := range versions {
			at, score, status := sec(205+int64(k)*10), pit.Value{Valid: true, Float: float32(7000 + k)}, pit.StatusPresent
			if k == 99 {
				at, score, status = sec(1198), pit.Value{}, pit.StatusDeleted
			}
			// What a joiner keeps of a number is as of the moments that it was asked for.
			j := p.NewAnswerer(store, 1<<14)
			q := p.Request("m0")
			if err := q.Set("thing", json.RawMessage(`"t7"`)); err != nil {
				t.Fatal(err)
			}
			err := j.Answer(v.entities["member"][0], change.Version(at), []*pit.Request{q}, func(a *pit.Answer) error {
				if got := a.Columns[column]; got != score || a.Status[column] != status {
					t.Errorf("%s, version %d: score is %+v, status %v", place.name, k, got, a.Status[column])
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if spilled["memory"] != 0 || spilled["heads"] == 0 || spilled["heads"] >= spilled["file"] {
		t.Errorf("spilled %v: want nothing, some, more", spilled)
	}
}

// TestJoinersAtOnceShareWhatTheyDerive: whoever derives the values of a version first,
// all show the same, and what one shows is not derived again by another.
func TestJoinersAtOnceShareWhatTheyDerive(t *testing.T) {
	const things, versions, offers, joiners = 4, 50, 400, 4
	def := load(t, "testdata/club.yaml")
	facts := scored(things, versions)
	for i := range offers {
		at := 205 + int64(i*7%(versions*10))
		o := offer(sec(at)+1, sec(at), cols{"id": fmt.Sprint("o", i), "thing": fmt.Sprint("t", i%things)})
		o.Key = fmt.Sprint("o", i)
		facts = append(facts, o)
	}
	v := build(t, def, catalog(def, sec(100), sec(300+versions*10)), facts)
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	o := pit.Options{Window: time.Hour, CacheBytes: 1}
	store := related(t, v, def, o, 1<<20)
	found := make([]map[string]got, joiners)
	var group sync.WaitGroup
	for i := range found {
		found[i] = map[string]got{}
		group.Go(func() { joinWith(t, def, v, p, p.NewJoiner(store, o), found[i]) })
	}
	group.Wait()
	if len(found[0]) != offers {
		t.Fatalf("%d examples, want %d", len(found[0]), offers)
	}
	for i := range found {
		if diff := cmp.Diff(found[0], found[i]); diff != "" {
			t.Errorf("joiner %d joins otherwise than joiner 0:\n%s", i, diff)
		}
	}
	if kept := store.Derived(); kept < things*versions*9/10 {
		t.Errorf("%d records are kept, of %d versions that are met", kept, things*versions)
	}
	before := store.Derived()
	joinWith(t, def, v, p, p.NewJoiner(store, o), map[string]got{})
	if now := store.Derived(); now != before {
		t.Errorf("a joiner that comes later keeps %d records more", now-before)
	}
	if j := p.NewJoiner(store, pit.Options{Window: time.Minute}); j.Shares() {
		t.Error("a joiner of another window shares what rests on another horizon")
	}
	if j := p.NewAnswerer(store, 1); j.Shares() {
		t.Error("who is asked as of many moments shares what rests on one")
	}
}

// spendthrift is a Related that always gives all entities: which of them match is for the
// joiner to find.
type spendthrift struct {
	*pit.RelatedStore
	numbers []uint64
}

func (s spendthrift) Find([]uint64, int, []byte) ([]uint64, error) { return s.numbers, nil }

// TestOthersThatAreGivenDoNotMatch holds what is found by an entity's id against a
// Related that gives others too.
func TestOthersThatAreGivenDoNotMatch(t *testing.T) {
	const things = 5
	def := load(t, "testdata/club.yaml")
	facts := []fact{person(sec(100), sec(100), true, "p")}
	a := spendthrift{}
	for i := range things {
		id := fmt.Sprint("t", i)
		f := thing(sec(200+int64(i)), cols{"id": id, "a": id, "b": "b", "score": strconv.Itoa(i), "made": nil, "changed": nil})
		f.Entity, f.Key = id, id
		o := offer(sec(300), sec(300), cols{"id": fmt.Sprint("o", i), "thing": id})
		o.Key = fmt.Sprint("o", i)
		facts = append(facts, f, o)
		a.numbers = append(a.numbers, uint64(i))
	}
	v := build(t, def, catalog(def, sec(100), sec(400)), facts)
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	o := pit.Options{Window: time.Hour}
	a.RelatedStore = related(t, v, def, o, 1<<20)
	want, got := map[string]got{}, map[string]got{}
	joinWith(t, def, v, p, p.NewJoiner(a.RelatedStore, o), want)
	joinWith(t, def, v, p, p.NewJoiner(a, o), got)
	if diff := cmp.Diff(want, got); diff != "" || len(want) != things || want["o3"].Columns["thing_score"] != "3" {
		t.Errorf("%d examples, (-want +got):\n%s", len(want), diff)
	}
}

// cut is a Related whose histories end too early: rows that cannot be read.
type cut struct{ pit.Related }

func (c cut) Entity(number uint64) (*history.Entity, error) {
	e, err := c.Related.Entity(number)
	if err != nil {
		return nil, err
	}
	whole := e.Rows[0].Versions[0].Data
	broken := history.Version{Version: e.Rows[0].Versions[0].Version, Known: e.Rows[0].Versions[0].Known, Data: whole[:len(whole)-1]}
	return &history.Entity{ID: e.ID, Rows: []history.Row{{Table: e.Rows[0].Table, Versions: []history.Version{broken}}}}, nil
}

// TestARelatedRowThatCannotBeReadIsAnErrorEveryTime: a joiner that returned an
// error may be used again, and takes nothing for what it could not read.
func TestARelatedRowThatCannotBeReadIsAnErrorEveryTime(t *testing.T) {
	def := load(t, "testdata/club.yaml")
	f := thing(sec(200), cols{"id": "t", "a": "a", "b": "b", "score": "2.5", "made": nil, "changed": nil})
	o := offer(sec(300), sec(300), cols{"thing": "t"})
	v := build(t, def, catalog(def, sec(100), sec(400)), []fact{person(sec(100), sec(100), true, "p"), f, o})
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		t.Fatal(err)
	}
	options := pit.Options{Window: time.Hour}
	j := p.NewJoiner(cut{related(t, v, def, options, 1<<20)}, options)
	for n := range 3 {
		var tally pit.Tally
		err := j.Entity(v.entities["member"][0], &tally, func(x *pit.Example) error {
			t.Errorf("join %d hands out %+v", n, x.Columns)
			return nil
		})
		if !errors.Is(err, row.ErrCorrupt) {
			t.Errorf("join %d: error %v is no ErrCorrupt", n, err)
		}
	}
}

// BenchmarkRelated joins users whose offers are of random items at random moments,
// among 300 with 200 versions each, by where the histories stand.
func BenchmarkRelated(b *testing.B) {
	const items, versions, users, offers = 300, 200, 40, 50
	def := load(b, dreamscape)
	id := func(kind, i int) string { return fmt.Sprintf("%08x-8f55-4c0e-9d0b-%012x", kind, i) }
	at := func(i int) int64 { return epoch + int64(i)*600*second }
	var facts []fact
	for i := range items {
		for k := range versions {
			facts = append(facts, fact{Entity: id(9, i), Table: "item_vectors", Key: id(9, i), Version: at(k * 50), Known: at(k * 50), Values: cols{
				"id": id(9, i), "destinationId": fmt.Sprint("dest-", i), "destinationType": "CITY", "country": "France",
				"vector": "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]", "version": "1", "popularityScore": "0.5", "bookingCount": fmt.Sprint(k), "searchCount": "7",
				"createdAt": stamp(at(0)), "updatedAt": stamp(at(k * 50)),
			}})
		}
	}
	for u := range users {
		user := id(1, u)
		facts = append(facts,
			fact{Entity: user, Table: "users", Key: user, Version: at(1), Known: at(1), Values: cols{"id": user, "created_at": stamp(at(1)), "updated_at": stamp(at(1))}},
			fact{Entity: user, Table: "user_vectors", Key: user, Version: at(1), Known: at(1), Values: cols{
				"id": user, "userId": user, "vector": "[0.11, 0.22, 0.33, 0.44, 0.55, 0.66, 0.77, 0.88]", "version": "3", "createdAt": stamp(at(1)), "updatedAt": stamp(at(1)),
			}})
		for k := range offers {
			n := u*offers + k
			when := 10 + n*7919%(versions*50-20)
			facts = append(facts, fact{Entity: user, Table: "recommendations", Key: id(4, n), Version: at(when) + 1000, Known: at(when) + 1000, Values: cols{
				"id": id(4, n), "userId": user, "itemVectorId": id(9, n*31%items), "destinationName": "Lyon", "destinationType": "CITY", "score": "0.875", "confidence": "0.5",
				"contextType": "general", "status": "GENERATED", "createdAt": stamp(at(when)), "updatedAt": stamp(at(when)),
			}})
		}
	}
	v := build(b, def, catalog(def, epoch, at(versions*50)), facts)
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		b.Fatal(err)
	}
	o := pit.Options{Window: 90 * 24 * time.Hour, CacheBytes: 4 << 20}
	for _, place := range places {
		b.Run(place.name, func(b *testing.B) {
			j := p.NewJoiner(related(b, v, def, o, place.budget(items*versions)), o)
			var tally pit.Tally
			n := 0
			one := func(e *history.Entity) {
				if err := j.Entity(e, &tally, func(*pit.Example) error { n++; return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, e := range v.entities["user"] {
					one(e)
				}
			}
			if int64(n) != tally.Candidates || len(tally.Faults) > 0 {
				b.Fatalf("%d of %d candidates, faults %v", n, tally.Candidates, tally.Faults)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/example")
		})
	}
}
