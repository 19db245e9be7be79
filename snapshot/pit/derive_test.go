package pit_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/definition"
)

// scene is a traveller with one recommendation, before a test changes some of it.
type scene map[string]cols

// at is the moment of the scene's recommendation, a Saturday.
var at = time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC).UnixMicro()

func newScene() scene {
	before := stamp(at - 3600*second)
	return scene{
		"users":                      {"id": "u", "dateOfBirth": nil, "nationality": nil, "userCategory": "LEISURE", "created_at": before, "updated_at": before},
		"user_vectors":               {"id": "v", "userId": "u", "vector": "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]", "version": "1", "primarySegment": nil, "segmentConfidence": nil, "createdAt": before, "updatedAt": before},
		"travel_onboarding_profiles": {"id": "p", "userId": "u", "travelTypes": nil, "globalBudgetRange": nil, "budgetFlexibility": nil, "activityLevel": nil, "accommodationLevel": nil, "travelWithChildren": nil, "createdAt": before, "updatedAt": before},
		"user_preferences":           {"id": "q", "userId": "u", "budgetRange": nil},
		"item_vectors": {
			"id": "i", "destinationId": "d", "destinationType": "CITY", "country": "France", "vector": "[1, 0, 0, 0, 0, 0, 0, 0]", "version": "1", "popularityScore": "0.5",
			"bookingCount": "3", "searchCount": "4", "createdAt": before, "updatedAt": before,
		},
		"recommendations": {
			"id": "r", "userId": "u", "itemVectorId": "i", "destinationId": "d", "destinationName": "Lyon", "destinationType": "CITY", "score": "0.5", "confidence": nil,
			"contextType": "general", "status": "GENERATED", "viewedAt": nil, "clickedAt": nil, "bookedAt": nil, "rejectedAt": nil, "userRating": nil, "createdAt": stamp(at), "updatedAt": stamp(at),
		},
		"search_history": {"id": "s", "userId": "u", "origin": "PAR", "departureDate": nil, "passengers": nil, "cabinClass": nil, "searchedAt": before},
	}
}

// facts are the scene's rows, known well before the example, which came live
// at its moment.
func (s scene) facts() []fact {
	var facts []fact
	for _, table := range []string{"users", "user_vectors", "travel_onboarding_profiles", "user_preferences", "item_vectors", "recommendations", "search_history"} {
		values := s[table]
		f := fact{Entity: "u", Table: table, Key: values["id"].(string), Version: at - 3000*second, Known: at - 3000*second, Values: values}
		switch table {
		case "item_vectors":
			f.Entity = f.Key
		case "recommendations":
			f.Version, f.Known = at+1, at+1
		}
		facts = append(facts, f)
	}
	return facts
}

// join returns what becomes of the scene's example.
func (s scene) join(t *testing.T, def *definition.Definition, more ...fact) (map[string]string, map[string]int64) {
	t.Helper()
	v := build(t, def, catalog(def, at-4000*second, at+30*86400*second), append(s.facts(), more...))
	all, tally := join(t, def, v, 90*24*time.Hour, 1<<20, 0)
	g, ok := all["r"]
	if !ok {
		t.Fatalf("there is no example: %+v", tally)
	}
	return g.Columns, tally.Faults
}

func TestDerivationsOfTheDirtThatIsToBeExpected(t *testing.T) {
	const missing = "(missing)"
	def := load(t, dreamscape)
	for _, c := range []struct {
		name   string
		table  string
		column string
		text   any
		want   string // column=value, space between, · is a space in a value
		faults string // keys of Tally.Faults, space between
	}{
		{"a vector is taken element by element", "user_vectors", "vector", "[0.5,1e-1,-0.25,2,0,0,0,1]", "user_climate_pref=0.5 user_culture_pref=0.1 user_budget_level=-0.25 user_activity_level=2 user_popularity_pref=1", ""},
		{"a vector of seven is wholly missing", "item_vectors", "vector", "[1,1,1,1,1,1,1]", "item_climate=(missing) item_popularity=(missing)", "item_climate:vector_length item_culture:vector_length item_budget:vector_length item_activity:vector_length item_group:vector_length item_urban:vector_length item_gastronomy:vector_length item_popularity:vector_length"},
		{"an element that is no number is missing", "user_vectors", "vector", `[0.5, null, "0.5", [1], {"a":1}, true, 1e999, 1]`, "user_climate_pref=0.5 user_culture_pref=(missing) user_budget_level=(missing) user_activity_level=(missing) user_group_type=(missing) user_urban_pref=(missing) user_gastronomy_pref=(missing) user_popularity_pref=1", "user_culture_pref:not_a_number user_budget_level:not_a_number user_activity_level:not_a_number user_group_type:not_a_number user_urban_pref:not_a_number user_gastronomy_pref:not_a_number"},
		{"a NULL vector is missing and no fault", "user_vectors", "vector", nil, "user_climate_pref=(missing)", ""},
		{"a number beyond float32 is missing", "recommendations", "score", "1e300", "recommendation_score=(missing)", "recommendation_score:out_of_range"},
		{"NaN is missing", "recommendations", "score", "NaN", "recommendation_score=(missing)", "recommendation_score:not_a_number"},
		{"an infinity is missing", "recommendations", "confidence", "-Infinity", "recommendation_confidence=(missing)", "recommendation_confidence:not_a_number"},
		{"a count beyond int32 is missing", "item_vectors", "bookingCount", "2147483648", "item_booking_count=(missing)", "item_booking_count:out_of_range"},

		{"18 is the first age of the first group", "users", "dateOfBirth", "2008-02-28 00:00:00", "user_age_group=18-25 user_age=18", ""},
		{"the time of day of a birth counts", "users", "dateOfBirth", "2008-02-28 12:00:00.001", "user_age_group=(missing) user_age=17", "user_age_group:minor"},
		{"born on 29 February, a year is complete on 1 March", "users", "dateOfBirth", "2008-02-29 00:00:00", "user_age_group=(missing) user_age=17", "user_age_group:minor"},
		{"25 is young", "users", "dateOfBirth", "2000-03-01 00:00:00", "user_age_group=18-25", ""},
		{"26", "users", "dateOfBirth", "2000-02-28 00:00:00", "user_age_group=26-35", ""},
		{"36", "users", "dateOfBirth", "1990-02-01 00:00:00", "user_age_group=36-50", ""},
		{"51", "users", "dateOfBirth", "1975-01-31 00:00:00", "user_age_group=51-65", ""},
		{"66", "users", "dateOfBirth", "1960-01-31 00:00:00", "user_age_group=65+", ""},
		{"120 is still an age", "users", "dateOfBirth", "1905-03-01 00:00:00", "user_age_group=65+ user_age=120", ""},
		{"over 120 is no age", "users", "dateOfBirth", "1900-01-01 00:00:00", "user_age_group=(missing) user_age=(missing)", "user_age:bad_birth_date"},
		{"born after the example is no age", "users", "dateOfBirth", "2026-02-28 12:00:00.000001", "user_age_group=(missing)", "user_age:bad_birth_date"},
		{"born at the example is a minor", "users", "dateOfBirth", "2026-02-28 12:00:00", "user_age_group=(missing) user_age=0", "user_age_group:minor"},
		{"an infinity is no birth date", "users", "dateOfBirth", "infinity", "user_age=(missing)", "user_age:bad_birth_date"},
		{"a date before Christ is no birth date", "users", "dateOfBirth", "0044-03-15 00:00:00 BC", "user_age=(missing)", "user_age:bad_birth_date"},

		{"a nationality is trimmed and upper-cased", "users", "nationality", " fr ", "user_region=Europe", ""},
		{"UK is GB", "users", "nationality", "UK", "user_region=Europe", ""},
		{"Mexico is North·America", "users", "nationality", "MX", "user_region=North·America", ""},
		{"Brazil is South·America", "users", "nationality", "BR", "user_region=South·America", ""},
		{"Turkey is the Middle East", "users", "nationality", "TR", "user_region=Middle·East", ""},
		{"Egypt is Africa", "users", "nationality", "EG", "user_region=Africa", ""},
		{"Taiwan is Asia", "users", "nationality", "TW", "user_region=Asia", ""},
		{"Kosovo is Europe", "users", "nationality", "XK", "user_region=Europe", ""},
		{"an unknown country is Other", "users", "nationality", "ZZ", "user_region=Other", ""},
		{"no nationality is missing", "users", "nationality", nil, "user_region=(missing)", ""},

		{"travel types are sorted and distinct", "travel_onboarding_profiles", "travelTypes", `{FAMILY,BEACH,NULL,FAMILY,"ROMANTIC"}`, "travel_types=BEACH,FAMILY,ROMANTIC", ""},
		{"quotes and escapes of an array are undone", "travel_onboarding_profiles", "travelTypes", `{"b \"c\"","NULL","a\\b",é}`, `travel_types=NULL,a\b,b·"c",é`, ""},
		{"an empty list is an empty text", "travel_onboarding_profiles", "travelTypes", "{}", "travel_types=", ""},
		{"what is no array is missing", "travel_onboarding_profiles", "travelTypes", "BEACH", "travel_types=(missing)", "travel_types:not_a_list"},
		{"an array of arrays is missing", "travel_onboarding_profiles", "travelTypes", "{{BEACH}}", "travel_types=(missing)", "travel_types:not_a_list"},

		{"a budget has both bounds", "travel_onboarding_profiles", "globalBudgetRange", `{"min": 10, "max": 20.5, "currency": "EUR"}`, "budget_min=10 budget_max=20.5", ""},
		{"a budget may have one bound", "travel_onboarding_profiles", "globalBudgetRange", `{"max": 20}`, "budget_min=(missing) budget_max=20", ""},
		{"a budget upside down is missing", "travel_onboarding_profiles", "globalBudgetRange", `{"min": 30, "max": 20}`, "budget_min=(missing) budget_max=(missing)", "budget_min:min_over_max budget_max:min_over_max"},
		{"a negative budget is missing", "travel_onboarding_profiles", "globalBudgetRange", `{"min": -1, "max": 20}`, "budget_min=(missing) budget_max=(missing)", "budget_min:negative budget_max:negative"},
		{"numbers as strings are no numbers", "travel_onboarding_profiles", "globalBudgetRange", `{"min": "10", "max": "20"}`, "budget_min=(missing) budget_max=(missing)", "budget_min:not_a_number budget_max:not_a_number"},
		{"one bound as a string is missing alone", "travel_onboarding_profiles", "globalBudgetRange", `{"min": "10", "max": 20}`, "budget_min=(missing) budget_max=20", "budget_min:not_a_number"},
		{"a budget of nulls is absent", "travel_onboarding_profiles", "globalBudgetRange", `{"min": null}`, "budget_min=(missing)", ""},

		{"passengers may be a number", "search_history", "passengers", "3", "search_passengers=3", ""},
		{"passengers may be none", "search_history", "passengers", "0", "search_passengers=0", ""},
		{"passengers may be an object", "search_history", "passengers", `{"adults": 2, "infants": 1, "pets": 4}`, "search_passengers=3", ""},
		{"passengers may be a string of digits", "search_history", "passengers", `"4"`, "search_passengers=4", ""},
		{"text in passengers is missing", "search_history", "passengers", `"two"`, "search_passengers=(missing)", "search_passengers:not_a_count"},
		{"half a passenger is missing", "search_history", "passengers", "1.5", "search_passengers=(missing)", "search_passengers:not_a_count"},
		{"negative passengers are missing", "search_history", "passengers", `{"adults": 2, "children": -1}`, "search_passengers=(missing)", "search_passengers:not_a_count"},
		{"an object without parts is missing", "search_history", "passengers", `{"pets": 1}`, "search_passengers=(missing)", "search_passengers:not_a_count"},
		{"passengers beyond int32 are missing", "search_history", "passengers", "3000000000", "search_passengers=(missing)", "search_passengers:out_of_range"},
		{"passengers null is absent", "search_history", "passengers", "null", "search_passengers=(missing)", ""},

		{"days until departure are floored", "search_history", "departureDate", "2026-03-02 11:59:59.999", "days_until_departure=1", ""},
		{"a departure before the example clips to 0", "search_history", "departureDate", "2026-02-28 11:59:59", "days_until_departure=0", ""},
		{"a departure far ahead clips to 365", "search_history", "departureDate", "9999-12-31 00:00:00", "days_until_departure=365", ""},
		{"a departure at infinity is missing", "search_history", "departureDate", "infinity", "days_until_departure=(missing)", "days_until_departure:not_a_moment"},
		{"an event at infinity is no event", "search_history", "searchedAt", "infinity", "user_search_count=0 search_origin=(missing)", "user_search_count:not_a_moment"},

		{"February is winter and Saturday a weekend", "recommendations", "createdAt", stamp(at), "season=winter is_weekend=true", ""},
		{"an interaction is timed in floored seconds", "recommendations", "viewedAt", "2026-02-28 12:00:01.999", "time_to_interaction=1 interaction_type=VIEWED engagement_score=1 booking_probability=0", ""},
		{"an interaction before the example is missing", "recommendations", "clickedAt", "2026-02-28 11:59:59.999", "time_to_interaction=(missing) interaction_type=CLICKED", "time_to_interaction:negative"},
		{"a booking is the goal", "recommendations", "status", "BOOKED", "interaction_type=BOOKED engagement_score=5 booking_probability=1", ""},
		{"a rating is an integer", "recommendations", "userRating", "4", "user_rating=4", ""},
		{"an item is found by destination too", "recommendations", "itemVectorId", nil, "item_vector_id=i item_country=France", ""},
		{"an item that is gone is found by destination", "recommendations", "itemVectorId", "gone", "item_vector_id=i", ""},
		{"the id of an item goes before its destination", "recommendations", "destinationType", "HOTEL", "item_vector_id=i", ""},
		{"children are told as a bool", "travel_onboarding_profiles", "travelWithChildren", "t", "travel_with_children=true", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene()
			s[c.table] = maps.Clone(s[c.table])
			s[c.table][c.column] = c.text
			got, faults := s.join(t, def)
			for _, pair := range strings.Fields(c.want) {
				column, want, _ := strings.Cut(strings.ReplaceAll(pair, "·", " "), "=")
				value, ok := got[column]
				if !ok {
					value = missing
				}
				if strings.ReplaceAll(want, "North", "North ") == "North " {
					want = "North·America"
				}
				if !strings.HasPrefix(value, want) || want == "" && value != "" {
					t.Errorf("%s is %q, want %q", column, value, want)
				}
			}
			want := map[string]int64{}
			for _, key := range strings.Fields(c.faults) {
				want[key] = 1
			}
			if len(want) == 0 {
				want = nil
			}
			if diff := cmp.Diff(want, faults); diff != "" {
				t.Errorf("faults (-want +got)\n%s", diff)
			}
		})
	}
}

func TestBookingsAndSearchesAreThoseKnownThen(t *testing.T) {
	const day = 86400 * second
	def := load(t, dreamscape)
	booking := func(key string, version int64, status string, amount, confirmed any) fact {
		return fact{Entity: "u", Table: "booking_data", Key: key, Version: version, Known: version, Values: cols{
			"id": key, "userId": "u", "status": status, "totalAmount": amount, "currency": "EUR", "confirmedAt": confirmed, "createdAt": stamp(at - 200*day), "updatedAt": stamp(version),
		}}
	}
	search := func(key string, when int64, origin string) fact {
		return fact{Entity: "u", Table: "search_history", Key: key, Version: at - 1000*second, Known: at - 1000*second, Values: cols{
			"id": key, "userId": "u", "origin": origin, "departureDate": nil, "passengers": nil, "cabinClass": "ECONOMY", "searchedAt": stamp(when),
		}}
	}
	favorite := func(key, kind, of string) fact {
		return fact{Entity: "u", Table: "favorites", Key: key, Version: at - 900*second, Known: at - 900*second, Values: cols{
			"id": key, "userId": "u", "entityType": kind, "entityId": of, "created_at": stamp(at - 900*second), "updated_at": stamp(at - 900*second),
		}}
	}
	before := at - 2000*second
	got, faults := newScene().join(t, def,
		booking("b1", before, "CONFIRMED", "100.10", stamp(at-3*day)),
		booking("b2", before, "COMPLETED", "200.20", nil), // created 200 days before
		booking("b3", before, "CANCELLED", "1000.00", stamp(at-day)),
		booking("b4", before, "CONFIRMED", "1000.00", stamp(at)),         // at the example, not before
		booking("b5", at+5, "CONFIRMED", "1000.00", stamp(at-day)),       // known after it
		booking("b6", before, "CONFIRMED", nil, stamp(at-2*day-second)),  // without an amount
		booking("b7", before, "PENDING", "1.00", stamp(at-day)),          // confirmed then,
		booking("b7", at-10, "CONFIRMED", "300.00", stamp(at-2*day)),     // as known now
		booking("b7", at+10, "CANCELLED", "300.00", stamp(at-2*day)),     // cancelled later
		search("s1", at-90*day, "NCE"), search("s2", at-90*day-1, "LYS"), // the window's edge
		search("s3", at-1, "MRS"), search("s4", at, "BOD"),
		favorite("f1", "DESTINATION", "d"), favorite("f2", "DESTINATION", "e"), favorite("f3", "HOTEL", "d"),
	)
	want := map[string]string{
		"user_booking_count": "4", "user_avg_booking_value": "200.1", "days_since_last_booking": "2",
		"user_search_count": "3", "search_origin": "MRS", "search_cabin_class": "ECONOMY", "days_since_last_search": "0",
		"user_favorite_count": "2", "item_is_favorite": "true", "features_exact": "true",
	}
	for column, value := range want {
		if got[column] != value {
			t.Errorf("%s is %q, want %q", column, got[column], value)
		}
	}
	if len(faults) > 0 {
		t.Errorf("faults %v", faults)
	}
	none, _ := newScene().join(t, def)
	for column, value := range map[string]string{"user_booking_count": "0", "user_favorite_count": "0", "item_is_favorite": "false", "user_search_count": "1"} {
		if none[column] != value {
			t.Errorf("without any, %s is %q, want %q", column, none[column], value)
		}
	}
	for _, column := range []string{"user_avg_booking_value", "days_since_last_booking", "user_hash", "interaction_id", "sample_weight", "itemVectorId"} {
		if value, ok := none[column]; ok {
			t.Errorf("%s is %q, want it missing or left to the dataset", column, value)
		}
	}
}
