package workload

// DirtKind is a kind of value that a dataset must cope with.
type DirtKind struct {
	// Name says what is wrong, in a few words.
	Name string
	// Count is a query that counts the values of the kind.
	Count string
}

// DirtKinds returns every kind of dirt that this package writes. The queries
// double as the description of what exactly each kind is.
func DirtKinds() []DirtKind {
	// A CASE keeps jsonb_array_length from what is no array.
	const length = `CASE WHEN jsonb_typeof(vector) = 'array' THEN jsonb_array_length(vector) END`
	const element = `SELECT count(*) FROM (SELECT vector FROM user_vectors WHERE jsonb_typeof(vector) = 'array'
		UNION ALL SELECT vector FROM item_vectors WHERE jsonb_typeof(vector) = 'array') v, jsonb_array_elements(vector) e WHERE `
	const budget = `SELECT count(*) FROM (SELECT "globalBudgetRange" b FROM travel_onboarding_profiles
		UNION ALL SELECT "budgetRange" FROM user_preferences) x WHERE `
	const numeric = `jsonb_typeof(b->'min') = 'number' AND jsonb_typeof(b->'max') = 'number' AND `
	return []DirtKind{
		{"vector of 7", "SELECT count(*) FROM user_vectors WHERE " + length + " = 7"},
		{"vector of 9", "SELECT count(*) FROM user_vectors WHERE " + length + " = 9"},
		{"empty vector", "SELECT count(*) FROM user_vectors WHERE " + length + " = 0"},
		{"vector that is no array", "SELECT count(*) FROM user_vectors WHERE jsonb_typeof(vector) <> 'array'"},
		{"vector with null", element + "jsonb_typeof(e) = 'null'"},
		{"vector with string", element + "jsonb_typeof(e) = 'string'"},
		{"vector above 1", element + "CASE WHEN jsonb_typeof(e) = 'number' THEN e::float8 > 1 END"},
		{"vector below 0", element + "CASE WHEN jsonb_typeof(e) = 'number' THEN e::float8 < 0 END"},
		{"user without vector", `SELECT count(*) FROM users WHERE id NOT IN (SELECT "userId" FROM user_vectors)`},
		{"user without profile", `SELECT count(*) FROM users WHERE id NOT IN (SELECT "userId" FROM travel_onboarding_profiles)`},
		{"user without preferences", `SELECT count(*) FROM users WHERE id NOT IN (SELECT "userId" FROM user_preferences)`},
		{"item only by destination", `SELECT count(*) FROM recommendations r JOIN item_vectors USING ("destinationId", "destinationType") WHERE "itemVectorId" IS NULL`},
		{"viewed before created", `SELECT count(*) FROM recommendations WHERE "viewedAt" < "createdAt"`},
		{"unknown nationality", `SELECT count(*) FROM users WHERE nationality IN ('ZZ', 'QQ', 'X', '1', 'France')`},
		{"nationality in lower case", `SELECT count(*) FROM users WHERE nationality <> upper(nationality)`},
		{"padded nationality", `SELECT count(*) FROM users WHERE nationality <> btrim(nationality)`},
		{"empty nationality", `SELECT count(*) FROM users WHERE nationality = ''`},
		{"unusual but valid nationality", `SELECT count(*) FROM users WHERE nationality IN ('UK', 'TW', 'XK')`},
		{"unknown item country", `SELECT count(*) FROM item_vectors WHERE country IN ('Atlantis', ' france', 'FR')`},
		{"born in the future", `SELECT count(*) FROM users WHERE "dateOfBirth" > created_at`},
		{"born in 1900", `SELECT count(*) FROM users WHERE "dateOfBirth" < '1901-01-01'`},
		{"minor", `SELECT count(*) FROM users WHERE "dateOfBirth" < created_at AND "dateOfBirth" > updated_at - interval '17 years'`},
		{"passengers as digits", `SELECT count(*) FROM search_history WHERE passengers #>> '{}' ~ '^[0-9]+$' AND jsonb_typeof(passengers) = 'string'`},
		{"passengers as words", `SELECT count(*) FROM search_history WHERE passengers #>> '{}' !~ '^[0-9]+$' AND jsonb_typeof(passengers) = 'string'`},
		{"negative passengers", `SELECT count(*) FROM search_history WHERE CASE WHEN jsonb_typeof(passengers) = 'number' THEN passengers::numeric < 0 END`},
		{"fractional passengers", `SELECT count(*) FROM search_history WHERE CASE WHEN jsonb_typeof(passengers) = 'number' THEN passengers::numeric % 1 <> 0 END`},
		{"departure before the search", `SELECT count(*) FROM search_history WHERE "departureDate" < "searchedAt"`},
		{"budget upside down", budget + `CASE WHEN ` + numeric + `true THEN (b->'min')::numeric > (b->'max')::numeric END`},
		{"negative budget", budget + `CASE WHEN ` + numeric + `true THEN (b->'min')::numeric < 0 END`},
		{"budget as strings", budget + `jsonb_typeof(b->'min') = 'string'`},
		{"budget without max", budget + `b ? 'min' AND NOT b ? 'max'`},
		{"budget without min", budget + `b ? 'max' AND NOT b ? 'min'`},
		{"budget in another currency", budget + `b->>'currency' <> 'EUR'`},
		{"budget without content", budget + `b = '{}' OR b = 'null'`},
		{"no budget", budget + `b IS NULL`},
		{"booking in another currency", `SELECT count(*) FROM booking_data WHERE currency <> 'EUR'`},
		{"booking of nobody", `SELECT count(*) FROM booking_data WHERE "userId" NOT IN (SELECT id FROM users)`},
		{"empty string", `SELECT count(*) FROM search_history WHERE origin = '' OR "cabinClass" = ''`},
		{"empty list", `SELECT count(*) FROM travel_onboarding_profiles WHERE "travelTypes" = '{}'`},
		{"number that is none", `SELECT count(*) FROM recommendations WHERE confidence IN ('NaN', 'Infinity', '-Infinity')`},
		{"popularity that is no number", `SELECT count(*) FROM item_vectors WHERE "popularityScore" IN ('NaN', 'Infinity', '-Infinity')`},
	}
}
