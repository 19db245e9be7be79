//go:build unix

package pit_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// happening is one change of a world: a version of a row.
type happening struct {
	at     int64
	table  string
	update bool
	values cols
}

// crowd are the changes of a number of users, each with 50 recommendations of 3
// versions, 10 versions of a vector, searches, bookings and favourites, among 200
// items of 20 versions: the shape of the histories that a dataset is made of.
func crowd(users int) []happening {
	r := rand.New(rand.NewPCG(1, 2))
	const span = 80 * 24 * 3600 * second
	uuid := func() string {
		a, b := r.Uint64(), r.Uint64()
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", uint32(a), uint16(a>>32), uint16(a>>48), uint16(b), b>>16)
	}
	vector := func() string {
		s := "["
		for i := range 8 {
			if i > 0 {
				s += ", "
			}
			s += fmt.Sprintf("%.4f", r.Float64())
		}
		return s + "]"
	}
	var list []happening
	tell := func(at int64, table string, update bool, values cols) {
		list = append(list, happening{at, table, update, values})
	}
	var items []string
	for i := range 200 {
		items = append(items, uuid())
		for k := range 20 {
			at := epoch + int64(k)*span/20
			tell(at, "item_vectors", k > 0, cols{
				"id": items[i], "destinationId": fmt.Sprint("dest-", i), "destinationType": "CITY", "country": "France", "vector": vector(),
				"version": "1", "popularityScore": fmt.Sprint(r.Float64()), "bookingCount": fmt.Sprint(k), "searchCount": fmt.Sprint(7 * k), "createdAt": stamp(epoch), "updatedAt": stamp(at),
			})
		}
	}
	for range users {
		user, start := uuid(), epoch+r.Int64N(span/4)
		at := func() int64 { return start + r.Int64N(span*3/4) }
		tell(start, "users", false, cols{"id": user, "dateOfBirth": "1990-05-17 00:00:00", "nationality": "fr", "userCategory": "LEISURE", "created_at": stamp(start), "updated_at": stamp(start)})
		id := uuid()
		for k := range 10 {
			at := start + int64(k)*span*3/40
			tell(at, "user_vectors", k > 0, cols{
				"id": id, "userId": user, "vector": vector(), "version": "3", "primarySegment": "LUXURY_TRAVELER", "segmentConfidence": fmt.Sprint(r.Float64()),
				"createdAt": stamp(start), "updatedAt": stamp(at),
			})
		}
		tell(start+second, "travel_onboarding_profiles", false, cols{
			"id": uuid(), "userId": user, "travelTypes": "{CULTURAL,BEACH}", "globalBudgetRange": `{"max": 3000, "min": 500, "currency": "EUR"}`, "budgetFlexibility": "FLEXIBLE",
			"activityLevel": "MODERATE", "accommodationLevel": "PREMIUM", "travelWithChildren": "f", "createdAt": stamp(start), "updatedAt": stamp(start),
		})
		for k := range 50 {
			made, item := at(), r.IntN(len(items))
			rec := cols{
				"id": uuid(), "userId": user, "itemVectorId": items[item], "destinationId": fmt.Sprint("dest-", item), "destinationName": "Lyon", "destinationType": "CITY",
				"score": fmt.Sprint(r.Float64()), "confidence": fmt.Sprint(r.Float64()), "contextType": "general", "status": "GENERATED", "createdAt": stamp(made), "updatedAt": stamp(made),
			}
			tell(made+1000, "recommendations", false, rec)
			for n, status := range []string{"VIEWED", []string{"CLICKED", "BOOKED", "REJECTED"}[k%3]} {
				next := cols{}
				for name, v := range rec {
					next[name] = v
				}
				later := made + int64(n+1)*60*second
				next["status"], next["updatedAt"] = status, stamp(later)
				next["viewedAt"] = stamp(made + 60*second)
				tell(later+1000, "recommendations", true, next)
			}
		}
		for range 8 {
			s := at()
			tell(s+1000, "search_history", false, cols{"id": uuid(), "userId": user, "origin": "PAR", "departureDate": stamp(s + span/10), "passengers": `{"adults": 2, "children": 1}`, "cabinClass": "ECONOMY", "searchedAt": stamp(s)})
		}
		for k := range 3 {
			s := at()
			tell(s+1000, "booking_data", false, cols{"id": uuid(), "userId": user, "status": "CONFIRMED", "totalAmount": "1234.5", "currency": "EUR", "confirmedAt": stamp(s), "createdAt": stamp(s), "updatedAt": stamp(s)})
			tell(s+2000, "favorites", false, cols{"id": uuid(), "userId": user, "entityType": "DESTINATION", "entityId": fmt.Sprint("dest-", k), "created_at": stamp(s), "updated_at": stamp(s)})
		}
	}
	slices.SortStableFunc(list, func(a, b happening) int { return cmp.Compare(a.at, b.at) })
	return list
}

// settle writes changes to a store, 100 in a transaction, and opens it again, so
// that everything lies in tables on disk.
func settle(tb testing.TB, def *definition.Definition, list []happening) *featurestore.Store {
	tb.Helper()
	oids := map[definition.Type]uint32{
		definition.Text: 25, definition.Int: 23, definition.Float: 701, definition.Bool: 16, definition.Timestamp: 1114, definition.JSON: 3802, definition.List: 1009,
	}
	rels := map[string]*change.Relation{}
	for i := range def.Tables {
		rel := &change.Relation{ID: uint32(i + 1), Schema: "public", Name: def.Tables[i].Name, Replica: 'd'}
		for _, c := range def.Tables[i].Columns {
			rel.Columns = append(rel.Columns, change.Column{Name: c.Name, Type: oids[c.Type], Modifier: -1, Key: c.Name == "id"})
		}
		rels[rel.Name] = rel
	}
	dir := tb.TempDir()
	open := func() *featurestore.Store {
		s, err := featurestore.Open(dir, featurestore.Options{Definition: def})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
	s := open()
	zero := change.Version(epoch - 2*second)
	feed := &stream{def: def, epoch: 1}
	transaction := func(kind change.Kind, v change.Version, rows []change.Row) {
		tx := &change.Transaction{Kind: kind, Version: v, CommitTime: int64(v), CommitLSN: change.LSN(v - zero), EndLSN: change.LSN(v-zero) + 1, Rows: rows, Last: true}
		h := change.Header{CommitLSN: tx.CommitLSN, EndLSN: tx.EndLSN, OpenKind: kind, NextOrdinal: uint32(len(rows))}
		feed.add(change.Entry{Transaction: tx}, v, h)
	}
	transaction(change.Backfill, change.Version(epoch-second), nil)
	for part := range slices.Chunk(list, 100) {
		rows := make([]change.Row, len(part))
		for i, t := range part {
			rows[i] = change.Row{Relation: rels[t.table], Op: change.Insert, Ordinal: uint32(i), New: tuple(rels[t.table], t.values)}
			if t.update {
				rows[i].Op = change.Update
			}
		}
		transaction(change.Live, max(change.Version(part[len(part)-1].at), feed.previous+1), rows)
	}
	if err := s.Apply(tb.Context(), feed.batches...); err != nil {
		tb.Fatal(err)
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	s = open()
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDaemon reads a store through a daemon: what an example costs in
// processor time, on both sides, to be read (scan), and to be joined as well.
func BenchmarkDaemon(b *testing.B) {
	const token = "token"
	def := load(b, dreamscape)
	s := settle(b, def, crowd(1000))
	srv := httptest.NewServer(featurestore.NewHandler(s, token))
	b.Cleanup(srv.Close)
	o := pit.Options{Window: 90 * 24 * time.Hour}
	v, err := featurestore.Endpoint{Address: srv.Listener.Addr().String(), Token: token}.DialWithin(b.Context(), 0, o.Window)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := v.Close(); err != nil {
			b.Error(err)
		}
	})
	info := v.Info()
	p, err := pit.Compile(def, &info)
	if err != nil {
		b.Fatal(err)
	}
	r, err := pit.LoadRelated(b.Context(), v, def, o, b.TempDir(), 64<<20)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Close(); err != nil {
			b.Error(err)
		}
	})
	for _, what := range []string{"scan", "join"} {
		b.Run(what, func(b *testing.B) {
			j := p.NewJoiner(r, o)
			var tally pit.Tally
			examples, versions := 0, 0
			emit := func(*pit.Example) error { examples++; return nil }
			ranges, err := v.Ranges(b.Context(), p.Entity(), 8)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			begun := cpu(b)
			for b.Loop() {
				for _, part := range ranges {
					err := v.Scan(b.Context(), p.Entity(), part, func(e *history.Entity) error {
						for i := range e.Rows {
							versions += len(e.Rows[i].Versions)
						}
						if what == "scan" {
							examples += 50
							return nil
						}
						return j.Entity(e, &tally, emit)
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			used := cpu(b) - begun
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(used.Nanoseconds())/float64(examples), "cpu-ns/example")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(examples), "ns/example")
			b.ReportMetric(float64(versions)/float64(examples), "versions/example")
			if len(tally.Faults) > 0 || tally.Dropped["no_vector"] > tally.Candidates/100 {
				b.Fatalf("faults %v, dropped %v", tally.Faults, tally.Dropped)
			}
		})
	}
}
