package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/deploy"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/online"
	"dreamfeed/snapshot/pit"
)

// fed is a store that a test feeds, with the Dreamscape definition.
type fed struct {
	def      *definition.Definition
	store    *featurestore.Store
	sequence uint64
	last     change.Version
	rel      map[string]*change.Relation
}

func newFed(t testing.TB) *fed {
	t.Helper()
	def, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := &fed{def: def, rel: map[string]*change.Relation{}, last: change.VersionAt(time.Now().Add(-time.Hour))}
	oids := map[definition.Type]uint32{
		definition.Text: 25, definition.Int: 23, definition.Float: 701, definition.Bool: 16,
		definition.Timestamp: 1114, definition.JSON: 3802, definition.List: 1009,
	}
	for i := range def.Tables {
		table := &def.Tables[i]
		r := &change.Relation{ID: uint32(i + 1), Schema: "public", Name: table.Name, Replica: 'd'}
		for _, c := range table.Columns {
			r.Columns = append(r.Columns, change.Column{Name: c.Name, Type: oids[c.Type], Modifier: -1, Key: slices.Contains(table.Key, c.Name)})
		}
		f.rel[table.Name] = r
	}
	if f.store, err = featurestore.Open(t.TempDir(), featurestore.Options{Definition: def}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// row is an upsert of a row, or its removal, or the truncation of its table.
func (f *fed) row(op change.Op, table string, given map[string]string) change.Row {
	rel := f.rel[table]
	values := make([]change.Value, len(rel.Columns))
	for i, c := range rel.Columns {
		values[i] = change.Value{Kind: change.Null}
		if text, ok := given[c.Name]; ok {
			values[i] = change.Value{Kind: change.Text, Text: []byte(text)}
		}
	}
	r := change.Row{Relation: rel, Op: op}
	switch op {
	case change.Delete:
		r.Old = values
	case change.Truncate:
	default:
		r.New = values
	}
	return r
}

// apply applies one transaction.
func (f *fed) apply(t testing.TB, kind change.Kind, rows ...change.Row) {
	t.Helper()
	f.sequence++
	v := f.last + 1000
	for i := range rows {
		rows[i].Ordinal = uint32(i)
	}
	h := change.Header{
		Epoch: 1, Origin: change.Origin{System: 7, Timeline: 1}, First: v, Last: v, CommitLSN: change.LSN(v), EndLSN: change.LSN(v) + 1,
		OpenKind: kind, NextOrdinal: uint32(len(rows)),
	}
	if f.sequence > 1 {
		h.Previous = f.last
	}
	tx := &change.Transaction{Kind: kind, Version: v, CommitTime: int64(v), CommitLSN: h.CommitLSN, EndLSN: h.EndLSN, Last: true, Rows: rows}
	b := &change.Batch{Incarnation: 1, Sequence: f.sequence, Header: h, Entries: []change.Entry{{Transaction: tx}}, Bytes: 100}
	if err := f.store.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	f.last = v
}

func stamped(v change.Version) string { return v.Time().UTC().Format("2006-01-02 15:04:05.999999") }

func (f *fed) item(n, score int) map[string]string {
	return map[string]string{
		"id": fmt.Sprintf("item-%d", n), "destinationId": fmt.Sprintf("d%d", n%7), "destinationType": []string{"CITY", "ISLAND"}[n%2], "country": "FR",
		"vector": "[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8]", "popularityScore": fmt.Sprint(score), "bookingCount": fmt.Sprint(score), "searchCount": "3",
		"createdAt": stamped(f.last), "updatedAt": stamped(f.last),
	}
}

func (f *fed) vector(n, score int) map[string]string {
	return map[string]string{
		"id": fmt.Sprintf("v-%d", n), "userId": fmt.Sprintf("user-%d", n), "vector": fmt.Sprintf("[0.%d,0.2,0.3,0.4,0.5,0.6,0.7,0.8]", score%10),
		"primarySegment": "LUXURY", "segmentConfidence": "0.5", "createdAt": stamped(f.last), "updatedAt": stamped(f.last),
	}
}

// scanned answers a question with a scan of all related rows of a view.
func scanned(t *testing.T, f *fed, q *online.Question, asOf change.Version) []online.Row {
	t.Helper()
	view, err := f.store.View(asOf)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	info := view.Info()
	p, err := pit.Compile(f.def, &info)
	if err != nil {
		t.Fatal(err)
	}
	related, err := pit.LoadRelated(t.Context(), view, f.def, pit.Options{Window: time.Duration(asOf) * time.Microsecond}, t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer related.Close()
	e, err := view.Entity(t.Context(), p.Entity(), q.ID)
	if err != nil {
		t.Fatal(err)
	}
	var requests []*pit.Request
	for _, item := range q.Items {
		r := p.Request(q.ID)
		for name, value := range item.Columns {
			if err := r.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
		if item.ID != nil {
			if err := r.Set(f.def.Example.Item, item.ID); err != nil {
				t.Fatal(err)
			}
		}
		requests = append(requests, r)
	}
	var rows []online.Row
	err = p.NewAnswerer(related, 0).Answer(e, asOf, requests, func(a *pit.Answer) error {
		var out online.Row
		for i := range f.def.Columns {
			if c := &f.def.Columns[i]; c.Role == definition.RoleFeature {
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

// I4: while a real store goes on, with items that change, go, come again and are
// truncated, every answer is what a scan as of its moment gives.
func TestI4OnlineFeaturesEqualAScanWhileTheStoreGoesOn(t *testing.T) {
	f := newFed(t)
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, 0))
	var first []change.Row
	alive := map[int]bool{}
	for n := range 20 {
		first = append(first, f.row(change.Insert, "item_vectors", f.item(n, n)), f.row(change.Insert, "user_vectors", f.vector(n, n)))
		alive[n] = true
	}
	f.apply(t, change.Backfill, first...)
	s, err := online.New(onlineStore{f.store}, online.Options{Definition: f.def, MaxTouched: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	asked := make(chan struct{})
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-asked:
				return
			default:
			}
			i := rng.IntN(20)
			var rows []change.Row
			switch {
			case n%40 == 39:
				rows = append(rows, f.row(change.Truncate, "item_vectors", nil))
				clear(alive)
			case alive[i] && rng.IntN(4) == 0:
				rows = append(rows, f.row(change.Delete, "item_vectors", map[string]string{"id": fmt.Sprintf("item-%d", i)}))
				alive[i] = false
			case alive[i]:
				rows = append(rows, f.row(change.Update, "item_vectors", f.item(i, n)))
			default:
				rows = append(rows, f.row(change.Insert, "item_vectors", f.item(i, n)))
				alive[i] = true
			}
			rows = append(rows, f.row(change.Update, "user_vectors", f.vector(rng.IntN(20), n)))
			f.apply(t, change.Live, rows...)
		}
	})
	var askers sync.WaitGroup
	for k := range 3 {
		askers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(k+1)))
			moments := map[change.Version]bool{}
			for range 60 {
				q := &online.Question{ID: fmt.Sprintf("user-%d", r.IntN(22))}
				for range 5 {
					n := r.IntN(21)
					if r.IntN(2) == 0 {
						q.Items = append(q.Items, online.Item{ID: json.RawMessage(fmt.Sprintf(`"item-%d"`, n))})
					} else {
						q.Items = append(q.Items, online.Item{Columns: map[string]json.RawMessage{
							"destinationId": json.RawMessage(fmt.Sprintf(`"d%d"`, n%7)), "destinationType": json.RawMessage(`"CITY"`),
						}})
					}
				}
				a, err := s.Features(t.Context(), q)
				if err != nil {
					t.Error(err)
					return
				}
				moments[a.Version] = true
				if diff := cmp.Diff(scanned(t, f, q, a.Version), a.Rows); diff != "" {
					t.Errorf("as of %s: (-scan +service)\n%s", a.Version, diff)
					return
				}
			}
			if len(moments) < 5 {
				t.Errorf("the answers are of %d moments only", len(moments))
			}
		})
	}
	askers.Wait()
	close(asked)
	cancel()
	wg.Wait()
}

// BenchmarkOnlineFeatures is one user, and one user with 100 items, of 20,000
// users and 500 items, in the process and over HTTP; the 50th and 99th hundredth
// of the time are reported.
func BenchmarkOnlineFeatures(b *testing.B) {
	f := newFed(b)
	rng := rand.New(rand.NewPCG(1, 1))
	var rows []change.Row
	for n := range 500 {
		rows = append(rows, f.row(change.Insert, "item_vectors", f.item(n, n)))
	}
	f.apply(b, change.Backfill, rows...)
	for from := 0; from < 20_000; from += 1000 {
		rows = rows[:0]
		for n := from; n < from+1000; n++ {
			user := fmt.Sprintf("user-%d", n)
			rows = append(rows, f.row(change.Insert, "users", map[string]string{"id": user, "dateOfBirth": "1990-05-17 00:00:00", "nationality": "FR", "userCategory": "LEISURE", "created_at": stamped(f.last)}),
				f.row(change.Insert, "user_vectors", f.vector(n, n)))
			for k := range 10 {
				rows = append(rows, f.row(change.Insert, "search_history", map[string]string{
					"id": fmt.Sprintf("s-%d-%d", n, k), "userId": user, "origin": "PAR", "passengers": `{"adults": 2}`, "cabinClass": "ECONOMY", "searchedAt": stamped(f.last),
				}), f.row(change.Insert, "recommendations", map[string]string{
					"id": fmt.Sprintf("r-%d-%d", n, k), "userId": user, "itemVectorId": "item-1", "destinationId": "d1", "destinationType": "CITY", "score": "0.5", "createdAt": stamped(f.last),
				}))
			}
			for k := range 3 {
				rows = append(rows, f.row(change.Insert, "favorites", map[string]string{"id": fmt.Sprintf("f-%d-%d", n, k), "userId": user, "entityType": "DESTINATION", "entityId": fmt.Sprintf("d%d", k)}),
					f.row(change.Insert, "booking_data", map[string]string{"id": fmt.Sprintf("b-%d-%d", n, k), "userId": user, "status": "CONFIRMED", "totalAmount": "100.5", "confirmedAt": stamped(f.last), "createdAt": stamped(f.last)}))
			}
		}
		f.apply(b, change.Live, rows...)
	}
	s, err := online.New(onlineStore{f.store}, online.Options{Definition: f.def})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s.Handler(nil))
	defer server.Close()
	var items []online.Item
	for n := range 100 {
		items = append(items, online.Item{ID: json.RawMessage(fmt.Sprintf(`"item-%d"`, n*5))})
	}
	measure := func(name string, ask func(user string) error) {
		b.Run(name, func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				user := fmt.Sprintf("user-%d", rng.IntN(20_000))
				began := time.Now()
				if err := ask(user); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
		})
	}
	inProcess := func(items []online.Item) func(string) error {
		return func(user string) error {
			q := &online.Question{ID: user, Items: items}
			a, err := s.Features(b.Context(), q)
			if err == nil {
				s.AppendAnswer(nil, q, a)
			}
			return err
		}
	}
	var list []string
	for _, i := range items {
		list = append(list, string(i.ID))
	}
	overHTTP := func(body func(user string) string) func(string) error {
		return func(user string) error {
			resp, err := server.Client().Post(server.URL+"/v1/features", "application/json", strings.NewReader(body(user)))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("answered %s", resp.Status)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		}
	}
	measure("one user", inProcess(nil))
	measure("100 items", inProcess(items))
	measure("one user over HTTP", overHTTP(func(user string) string { return fmt.Sprintf(`{"user": %q}`, user) }))
	question, err := json.Marshal(json.RawMessage("[" + strings.Join(list, ",") + "]"))
	if err != nil {
		b.Fatal(err)
	}
	measure("100 items over HTTP", overHTTP(func(user string) string { return fmt.Sprintf(`{"user": %q, "items": %s}`, user, question) }))
	n := 0
	measure("one user after a change of an item", func(user string) error {
		n++
		b.StopTimer()
		f.apply(b, change.Live, f.row(change.Update, "item_vectors", f.item(n%500, n)))
		b.StartTimer()
		return inProcess(nil)(user)
	})
}
