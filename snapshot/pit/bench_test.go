package pit_test

import (
	"fmt"
	"testing"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

const dreamscape = "../../deploy/dreamscape.yaml"

// traveller is a user with 30 recommendations, 20 searches, 5 bookings, 10
// vector versions and 5 favourites, among 200 items.
func traveller(b *testing.B, def *definition.Definition) *view {
	at := func(i int) string { return stamp(epoch + int64(i)*3600*second) }
	v := func(i int) int64 { return epoch + int64(i)*3600*second + 1000 }
	var facts []fact
	user := "0b8f2c1e-8f55-4c0e-9d0b-1f0e5d8b6a11"
	id := func(kind, i int) string { return fmt.Sprintf("%08x-8f55-4c0e-9d0b-%012x", kind, i) }
	add := func(entity, table, key string, version int64, values cols) {
		facts = append(facts, fact{Entity: entity, Table: table, Key: key, Version: version, Known: version, Values: values})
	}
	for i := range 200 {
		for k := range 5 {
			add(id(9, i), "item_vectors", id(9, i), v(k*100), cols{
				"id": id(9, i), "destinationId": fmt.Sprint("dest-", i), "destinationType": "CITY", "country": "France",
				"vector": "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]", "version": "1", "popularityScore": "0.5", "bookingCount": fmt.Sprint(k), "searchCount": "7",
				"createdAt": at(0), "updatedAt": at(k * 100),
			})
		}
	}
	add(user, "users", user, v(0), cols{"id": user, "dateOfBirth": "1990-05-17 00:00:00", "nationality": "fr", "userCategory": "LEISURE", "created_at": at(0), "updated_at": at(0)})
	for i := range 10 {
		add(user, "user_vectors", id(1, 0), v(i*70), cols{
			"id": id(1, 0), "userId": user, "vector": "[0.11, 0.22, 0.33, 0.44, 0.55, 0.66, 0.77, 0.88]", "version": "3", "primarySegment": "LUXURY_TRAVELER",
			"segmentConfidence": "0.75", "createdAt": at(0), "updatedAt": at(i * 70),
		})
	}
	add(user, "travel_onboarding_profiles", id(2, 0), v(1), cols{
		"id": id(2, 0), "userId": user, "travelTypes": "{CULTURAL,BEACH}", "globalBudgetRange": `{"max": 3000, "min": 500, "currency": "EUR"}`, "budgetFlexibility": "FLEXIBLE",
		"activityLevel": "MODERATE", "accommodationLevel": "PREMIUM", "travelWithChildren": "f", "createdAt": at(1), "updatedAt": at(1),
	})
	add(user, "user_preferences", id(3, 0), v(1), cols{"id": id(3, 0), "userId": user, "budgetRange": `{"max": 2000, "min": 400}`})
	for i := range 30 {
		add(user, "recommendations", id(4, i), v(100+i*20), cols{
			"id": id(4, i), "userId": user, "itemVectorId": id(9, i*7%200), "destinationId": fmt.Sprint("dest-", i), "destinationName": "Lyon", "destinationType": "CITY",
			"score": "0.875", "confidence": "0.5", "contextType": "general", "status": "GENERATED", "viewedAt": nil, "clickedAt": nil, "bookedAt": nil, "rejectedAt": nil,
			"userRating": nil, "createdAt": at(100 + i*20), "updatedAt": at(100 + i*20),
		})
	}
	for i := range 20 {
		add(user, "search_history", id(5, i), v(50+i*25), cols{
			"id": id(5, i), "userId": user, "origin": "PAR", "departureDate": at(900 + i), "passengers": `{"adults": 2, "children": 1}`, "cabinClass": "ECONOMY", "searchedAt": at(50 + i*25),
		})
	}
	for i := range 5 {
		add(user, "booking_data", id(6, i), v(60+i*100), cols{
			"id": id(6, i), "userId": user, "status": "CONFIRMED", "totalAmount": "1234.50", "currency": "EUR", "confirmedAt": at(60 + i*100), "createdAt": at(59 + i*100), "updatedAt": at(60 + i*100),
		})
		add(user, "favorites", id(7, i), v(60+i*100), cols{
			"id": id(7, i), "userId": user, "entityType": "DESTINATION", "entityId": fmt.Sprint("dest-", i), "created_at": at(60 + i*100), "updated_at": at(60 + i*100),
		})
	}
	return build(b, def, catalog(def, epoch, epoch+80*24*3600*second), facts)
}

// BenchmarkTraveller reports the examples joined in a second on one core.
func BenchmarkTraveller(b *testing.B) {
	def := load(b, dreamscape)
	v := traveller(b, def)
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		b.Fatal(err)
	}
	o := pit.Options{Window: 90 * 24 * time.Hour}
	related := related(b, v, def, o, 1<<20)
	j := p.NewJoiner(related, o)
	e := v.entities["user"][0]
	var tally pit.Tally
	n := 0
	emit := func(*pit.Example) error { n++; return nil }
	one := func(e *history.Entity) {
		if err := j.Entity(e, &tally, emit); err != nil {
			b.Fatal(err)
		}
	}
	one(e)
	if n != 30 || len(tally.Faults) > 0 {
		b.Fatalf("%d examples, want 30; faults %v", n, tally.Faults)
	}
	n = 0
	b.ReportAllocs()
	for b.Loop() {
		one(e)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "examples/s")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/example")
}

// BenchmarkHeavyUser is a user with as many searches as recommendations, 2,000
// of each: the cost of an example grows with the rows of its entity.
func BenchmarkHeavyUser(b *testing.B) {
	const many = 2000
	def := load(b, "testdata/club.yaml")
	facts := []fact{person(sec(1), sec(1), true, "p")}
	for i := range many {
		key := fmt.Sprintf("%05d", i)
		facts = append(facts, event(key, sec(10+int64(i)), sec(10+int64(i)), nil))
		o := offer(sec(10+int64(i)), sec(10+int64(i)), cols{"id": key})
		o.Key = key
		facts = append(facts, o)
	}
	v := build(b, def, catalog(def, sec(0), sec(many+100)), facts)
	p, err := pit.Compile(def, &v.info)
	if err != nil {
		b.Fatal(err)
	}
	o := pit.Options{Window: 90 * 24 * time.Hour}
	related := related(b, v, def, o, 1<<20)
	j := p.NewJoiner(related, o)
	var tally pit.Tally
	n := 0
	for b.Loop() {
		if err := j.Entity(v.entities["member"][0], &tally, func(*pit.Example) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/example")
}
