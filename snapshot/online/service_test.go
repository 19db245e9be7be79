package online_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/online"
	"dreamfeed/snapshot/pit"
)

func service(t testing.TB, m online.Store, o online.Options) *online.Service {
	t.Helper()
	s, err := online.New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// traffic writes random rows of the club.
type traffic struct {
	rng *rand.Rand
	at  int64
}

func (x *traffic) pick(list ...string) string { return list[x.rng.IntN(len(list))] }

func (x *traffic) maybe(v string) any {
	if x.rng.IntN(5) == 0 {
		return nil
	}
	return v
}

func (x *traffic) commit(m *memory) {
	x.at += 1 + int64(x.rng.IntN(second))
	var rows []changed
	for range 1 + x.rng.IntN(4) {
		member := fmt.Sprint("m", x.rng.IntN(4))
		now := stamp(x.at)
		switch x.rng.IntN(5) {
		case 0:
			rows = append(rows, changed{member, "people", member, map[string]any{"id": member, "name": x.maybe(x.pick("A", "B")), "made": now, "changed": now}})
		case 1:
			key := fmt.Sprint("e", x.rng.IntN(6))
			rows = append(rows, changed{"m" + key[1:], "events", key, map[string]any{
				"id": key, "member": "m" + key[1:], "at": now, "paid": nil, "amount": x.maybe("1.5"), "kind": x.maybe(x.pick("x", "y", "z")), "n": "2", "mark": key,
			}})
		default:
			key := fmt.Sprint("t", x.rng.IntN(8))
			r := changed{key, "things", key, map[string]any{
				"id": key, "a": x.maybe(x.pick("x", "y")), "b": x.maybe(x.pick("p", "q")), "score": x.maybe(fmt.Sprint(x.rng.IntN(9))), "made": nil, "changed": now,
			}}
			if x.rng.IntN(5) == 0 {
				r.Values = nil
			}
			rows = append(rows, r)
		}
		if x.rng.IntN(6) == 0 {
			rows[len(rows)-1].Values = nil
		}
	}
	m.commit(change.Version(x.at), rows...)
}

func (x *traffic) question(asOf change.Version) *online.Question {
	text := func(s string) json.RawMessage { return json.RawMessage(strconv.Quote(s)) }
	q := &online.Question{ID: fmt.Sprint("m", x.rng.IntN(5)), Context: map[string]json.RawMessage{}}
	if x.rng.IntN(2) == 0 {
		q.Context["note"] = text("n")
	}
	if x.rng.IntN(8) == 0 {
		at := epoch + x.rng.Int64N(int64(asOf)-epoch+second)
		q.Context["made"] = text(time.UnixMicro(at).UTC().Format(time.RFC3339Nano))
	}
	for range x.rng.IntN(6) {
		i := online.Item{Columns: map[string]json.RawMessage{}}
		if x.rng.IntN(2) == 0 {
			i.ID = text(fmt.Sprint("t", x.rng.IntN(9)))
		} else {
			i.Columns["a"], i.Columns["b"] = text(x.pick("x", "y")), text(x.pick("p", "q"))
		}
		q.Items = append(q.Items, i)
	}
	return q
}

// naive answers a question with a scan of all related rows and nothing kept.
func naive(t testing.TB, m *memory, def *definition.Definition, q *online.Question, asOf change.Version) []online.Row {
	t.Helper()
	view, err := m.View(asOf, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	info := view.Info()
	p, err := pit.Compile(def, &info)
	if err != nil {
		t.Fatal(err)
	}
	related, err := pit.LoadRelated(context.Background(), view, def, pit.Options{Window: time.Duration(asOf) * time.Microsecond}, t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer related.Close()
	e, err := view.Entity(context.Background(), p.Entity(), q.ID)
	if err != nil {
		t.Fatal(err)
	}
	items := q.Items
	if items == nil {
		items = []online.Item{{}}
	}
	var requests []*pit.Request
	for _, item := range items {
		r := p.Request(q.ID)
		for _, columns := range []map[string]json.RawMessage{q.Context, item.Columns, {def.Example.Item: item.ID}} {
			for name, value := range columns {
				if value == nil {
					continue
				}
				if err := r.Set(name, value); err != nil {
					t.Fatal(err)
				}
			}
		}
		requests = append(requests, r)
	}
	var rows []online.Row
	err = p.NewAnswerer(related, 0).Answer(e, asOf, requests, func(a *pit.Answer) error {
		var out online.Row
		for i := range def.Columns {
			if c := &def.Columns[i]; c.Role == definition.RoleFeature {
				out.Values = append(out.Values, pit.Fill(c, a.Columns[i]))
				out.Status = append(out.Status, a.Status[i])
			}
		}
		rows = append(rows, out)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// I4, I6: whatever is applied meanwhile, an answer is what a scan of the store as
// of the answer's moment gives. ONLINE_SEED repeats a run.
func TestI4AnswersEqualNaiveOnesWhileTheStoreGoesOn(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ONLINE_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("repeat with ONLINE_SEED=%d", seed)
	for _, c := range []struct {
		name string
		o    online.Options
	}{
		{"with room", online.Options{}},
		{"a cache of nothing", online.Options{CacheBytes: 1, Workers: 2}},
		{"a watch that loses count", online.Options{MaxTouched: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			def := club(t)
			m := newMemory(def)
			x := &traffic{rand.New(rand.NewPCG(seed, 0)), epoch}
			for range 30 {
				x.commit(m)
			}
			c.o.Definition = def
			s := service(t, m, c.o)
			var askers, writer sync.WaitGroup
			stop := make(chan struct{})
			commits := 0
			writer.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						x.commit(m)
						commits++
					}
					if commits > 3000 { // bounds the test's memory
						<-stop
						return
					}
				}
			})
			var mu sync.Mutex
			versions := map[change.Version]bool{}
			for n := range 4 {
				askers.Go(func() {
					y := &traffic{rng: rand.New(rand.NewPCG(seed, uint64(1+n)))}
					for i := range 60 {
						newest, _ := m.Newest()
						q := y.question(newest)
						if i%10 == 9 {
							q.AsOf = change.Version(epoch + y.rng.Int64N(int64(newest)-epoch) + 1)
						}
						a, err := s.Features(t.Context(), q)
						if err != nil {
							t.Errorf("question %d of asker %d: %v", i, n, err)
							return
						}
						if q.AsOf == 0 && a.Version < newest || q.AsOf != 0 && a.Version != q.AsOf {
							t.Errorf("the answer is of %s, the question came at %s for %d", a.Version, newest, q.AsOf)
							return
						}
						mu.Lock()
						versions[a.Version] = true
						mu.Unlock()
						if diff := cmp.Diff(naive(t, m, def, q, a.Version), a.Rows); diff != "" {
							t.Errorf("question %d of asker %d, as of %s: (-naive +service)\n%s", i, n, a.Version, diff)
							return
						}
					}
				})
			}
			askers.Wait()
			close(stop)
			writer.Wait()
			if len(versions) < 20 {
				t.Errorf("the answers are of %d moments only: the test shows nothing", len(versions))
			}
		})
	}
}

func TestQuestionsAtOneMomentShareOneView(t *testing.T) {
	def := club(t)
	m := newMemory(def)
	m.commit(change.Version(epoch+second), changed{"t0", "things", "t0", map[string]any{"id": "t0", "score": "1"}})
	s := service(t, m, online.Options{Definition: def})
	ask := func() *online.Answer {
		t.Helper()
		a, err := s.Features(t.Context(), &online.Question{ID: "m0", Items: []online.Item{{ID: json.RawMessage(`"t0"`)}}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for range 5 {
		ask()
	}
	if m.viewed != 1 {
		t.Errorf("%d views for five questions at one moment", m.viewed)
	}
	m.commit(change.Version(epoch + 2*second))
	if a := ask(); a.Version != change.Version(epoch+2*second) || m.viewed != 2 || m.closed != 1 {
		t.Errorf("after a commit the answer is of %s, with %d views, %d closed", a.Version, m.viewed, m.closed)
	}
	// A view that cannot be read any more is replaced, once.
	m.failing = 1
	ask()
	if m.viewed != 3 {
		t.Errorf("%d views after one could not be read", m.viewed)
	}
	m.failing = 2
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0"}); err == nil {
		t.Error("a store that cannot be read is answered from")
	}
	s.Close()
	if m.viewed != m.closed || len(m.watches) != 0 {
		t.Errorf("%d views, %d closed, %d watches open", m.viewed, m.closed, len(m.watches))
	}
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0"}); err == nil {
		t.Error("a closed service answers")
	}
}

// I5: before the definition's new column is filled nobody knows which row it
// finds, nor that it finds none.
func TestI5WhatIsFoundByAColumnThatIsNotFilledYetIsInexact(t *testing.T) {
	def := club(t)
	m := newMemory(def)
	narrow := map[string]any{"id": "t0", "a": "x", "score": "1"}
	m.commit(change.Version(epoch+second), changed{"t0", "things", "t0", narrow}, changed{"t1", "things", "t1", narrow})
	s := service(t, m, online.Options{Definition: def})
	status := func(asOf change.Version) string {
		t.Helper()
		text := func(s string) json.RawMessage { return json.RawMessage(strconv.Quote(s)) }
		q := &online.Question{ID: "m0", AsOf: asOf, Context: map[string]json.RawMessage{"a": text("x"), "b": text("p")}}
		a, err := s.Features(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(naive(t, m, def, q, a.Version), a.Rows); diff != "" {
			t.Errorf("(-naive +service)\n%s", diff)
		}
		for i := range s.Columns() {
			if s.Column(i).Name == "thing_id" {
				return a.Rows[0].Status[i].String()
			}
		}
		return ""
	}
	for i, step := range []struct {
		key, want string
	}{{"t0", "inexact"}, {"t1", "never_seen"}} {
		if got := status(0); got != "inexact" {
			t.Errorf("before %d rows are filled it is %s", i+1, got)
		}
		v := change.Version(epoch + int64(2+i)*second)
		m.commit(v, changed{step.key, "things", step.key, map[string]any{"id": step.key, "a": "x", "b": "q", "score": "1"}})
		if got := status(0); got != step.want {
			t.Errorf("after %d rows are filled it is %s, want %s", i+1, got, step.want)
		}
	}
	if got := status(change.Version(epoch + second)); got != "inexact" {
		t.Errorf("as of a moment before it is %s", got)
	}
}

// closing is a store that goes on between the question for the newest moment and
// the next view.
type closing struct {
	*memory
	next func()
}

func (c *closing) View(asOf change.Version, window time.Duration) (pit.View, error) {
	if next := c.next; asOf != 0 && next != nil {
		c.next = nil
		next()
	}
	return c.memory.View(asOf, window)
}

func TestI6AMomentThatIsClosedWhileItIsAskedForIsAnsweredFromWhatWasTouched(t *testing.T) {
	def := club(t)
	m := newMemory(def)
	score := func(v string) changed {
		return changed{"t0", "things", "t0", map[string]any{"id": "t0", "a": nil, "b": nil, "score": v}}
	}
	m.commit(change.Version(epoch+second), score("1"))
	store := &closing{memory: m}
	s := service(t, store, online.Options{Definition: def, Workers: 1})
	ask := func(asOf change.Version) {
		t.Helper()
		q := &online.Question{ID: "m0", AsOf: asOf, Items: []online.Item{{ID: json.RawMessage(`"t0"`)}}}
		a, err := s.Features(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(naive(t, m, def, q, a.Version), a.Rows); diff != "" || asOf != 0 && a.Version != asOf {
			t.Errorf("as of %s: (-naive +service)\n%s", a.Version, diff)
		}
	}
	ask(0)
	store.next = func() { m.commit(change.Version(epoch+2*second), score("2")) }
	ask(change.Version(epoch + 2*second))
	ask(0)
	if m.viewed-m.closed != 1 {
		t.Errorf("%d views, %d closed", m.viewed, m.closed)
	}
}

func TestTheServiceRefuses(t *testing.T) {
	def := club(t)
	m := newMemory(def)
	now := time.UnixMicro(epoch + 100*second)
	s := service(t, m, online.Options{Definition: def, MaxStaleness: 10 * time.Second, MaxItems: 2, Now: func() time.Time { return now }, Registerer: prometheus.NewRegistry()})
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0"}); !errors.Is(err, online.ErrEmpty) {
		t.Errorf("an empty store: got %v", err)
	}
	m.commit(change.Version(epoch + 93*second))
	m.floor = change.Version(epoch + 50*second)
	at := func(s int64) map[string]json.RawMessage {
		return map[string]json.RawMessage{"made": json.RawMessage(strconv.Quote(time.UnixMicro(epoch + s*second).UTC().Format(time.RFC3339)))}
	}
	var stale *online.StaleError
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0", MaxStaleness: 5 * time.Second}); !errors.As(err, &stale) || stale.Lag != 7*time.Second || stale.Limit != 5*time.Second {
		t.Errorf("a stricter limit: got %v", err)
	}
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0", MaxStaleness: time.Hour}); err != nil {
		t.Errorf("a store that is not stale: %v", err)
	}
	for _, c := range []struct {
		name, want string
		q          online.Question
	}{
		{"a question without id", "the id of the member is missing", online.Question{}},
		{"too many items", "3 items are more than the 2", online.Question{ID: "m0", Items: make([]online.Item, 3)}},
		{"an unknown column", `unknown column "nota", did you mean "note"?`, online.Question{ID: "m0", Context: map[string]json.RawMessage{"nota": json.RawMessage(`"x"`)}}},
		{"a column of an item", "item 2: column note: it is a number, not a text", online.Question{ID: "m0", Items: []online.Item{{}, {Columns: map[string]json.RawMessage{"note": json.RawMessage(`1`)}}}}},
		{"an item of another type", "item 1: column thing: it is a number, not a text", online.Question{ID: "m0", Items: []online.Item{{ID: json.RawMessage(`1`)}}}},
		{"a moment below the floor", "column made lies before 2026-03-01T00:00:50", online.Question{ID: "m0", Context: at(49)}},
		{"a moment that is not closed", "is not closed", online.Question{ID: "m0", AsOf: change.Version(epoch + 99*second)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Features(t.Context(), &c.q)
			var refused *online.RequestError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0", Context: at(50)}); err != nil {
		t.Errorf("a moment at the floor: %v", err)
	}
	now = now.Add(4 * time.Second)
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0", MaxStaleness: time.Hour}); !errors.As(err, &stale) || stale.Limit != 10*time.Second {
		t.Errorf("the limit of the service: got %v", err)
	}
	if _, err := s.Features(t.Context(), &online.Question{ID: "m0", AsOf: change.Version(epoch + 60*second)}); err != nil {
		t.Errorf("a moment that was asked for is not stale: %v", err)
	}
}
