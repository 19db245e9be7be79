package oracle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/pgtest"
)

// The oracle itself is checked on cases small enough to be worked out by hand.
// Moments are minutes of one hour; the example is made at minute 30.

func minute(m float64) string {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(m * float64(time.Minute))).Format("2006-01-02T15:04:05.999999")
}

// handMade is one version of a row.
type handMade struct {
	table, id, owner string
	at               float64 // its version
	known            float64 // k; 0 means as its version
	made             float64 // its creation column; 0: it has none
	filled, gone     bool
	row              string // jsonb, with {m} for minute m
}

func (h handMade) sql() string {
	k, made, row := h.known, "NULL", "NULL"
	if k == 0 {
		k = h.at
	}
	if h.made != 0 {
		made = "'" + minute(h.made) + "'"
	}
	if !h.gone {
		row = "'" + h.row + "'"
		for m := range 60 {
			row = strings.ReplaceAll(row, fmt.Sprintf("{%d}", m), minute(float64(m)))
		}
	}
	owner := "'" + h.owner + "'"
	if h.owner == "" {
		owner = "NULL"
	}
	return fmt.Sprintf("INSERT INTO oracle.version SELECT '%s', '%s', %s, '%s', coalesce(max(pos), 0) + 1, %t, %t, '%s', %s, %s FROM oracle.version",
		h.table, h.id, owner, minute(h.at), h.filled, h.gone, minute(k), made, row)
}

const handMadeOffer = `{"createdAt": "{30}", "itemVectorId": null, "destinationId": "d", "destinationType": "CITY", "score": 0.5, "status": "GENERATED"}`

func TestRuleTwoOnHandMadeCases(t *testing.T) {
	server := pgtest.New(t)
	conn := connect(t, server.NewDatabase(t))
	// The example came live at minute 31, or by a backfill at minute 50.
	live := handMade{table: "recommendations", id: "r", owner: "u", at: 31, row: handMadeOffer}
	old := handMade{table: "recommendations", id: "r", owner: "u", at: 50, known: 30, made: 30, filled: true, row: handMadeOffer}
	favourite := func(h handMade) handMade {
		h.table, h.row = "favorites", `{"entityType": "DESTINATION", "entityId": "d"}`
		if h.owner == "" {
			h.owner = "u"
		}
		return h
	}
	cases := []struct {
		name     string
		versions []handMade
		want     string        // the ids held, ~ for inexact
		window   time.Duration // an hour if 0
	}{
		{"a live version is known from its version on", []handMade{live, favourite(handMade{id: "a", at: 29}), favourite(handMade{id: "b", at: 30.5})}, "a", 0},
		{"what the example's own transaction did is not known", []handMade{
			{table: "recommendations", id: "r", owner: "u", at: 29, row: handMadeOffer}, favourite(handMade{id: "a", at: 29}),
		}, "", 0},
		{"a backfilled version is known from its updated moment on", []handMade{old, favourite(handMade{id: "a", at: 50, known: 20, made: 10, filled: true})}, "a", 0},
		{"a backfilled version updated later is used, inexactly, once created", []handMade{
			old,
			favourite(handMade{id: "a", at: 50, known: 40, made: 30, filled: true}),
			favourite(handMade{id: "b", at: 50, known: 40, made: 31, filled: true}),
		}, "~a", 0},
		{"a backfilled version without creation column is used, inexactly", []handMade{old, favourite(handMade{id: "a", at: 50, filled: true})}, "~a", 0},
		{"a deleted row still holds before its deletion", []handMade{
			live, favourite(handMade{id: "a", at: 10}), favourite(handMade{id: "a", at: 31, gone: true}),
			favourite(handMade{id: "b", at: 10}), favourite(handMade{id: "b", at: 30, gone: true}),
		}, "a", 0},
		{"the place in a transaction orders versions of it", []handMade{live, favourite(handMade{id: "a", at: 10, gone: true}), favourite(handMade{id: "a", at: 10})}, "a", 0},
		{"a row that goes to another user is the one's before and the other's after", []handMade{
			live,
			favourite(handMade{id: "a", at: 10}), favourite(handMade{id: "a", at: 20, owner: "w"}),
			favourite(handMade{id: "b", at: 10, owner: "w"}), favourite(handMade{id: "b", at: 20}),
		}, "b", 0},
		{"a first version that was not backfilled is not used before it was known", []handMade{
			live,
			favourite(handMade{id: "a", at: 40, made: 10}), favourite(handMade{id: "a", at: 41, made: 10, filled: true}),
		}, "", 0},
		{"an example that came live before its window knows what was known at its border", []handMade{
			{table: "recommendations", id: "r", owner: "u", at: 26, row: handMadeOffer},
			favourite(handMade{id: "a", at: 27}), favourite(handMade{id: "b", at: 27}), favourite(handMade{id: "b", at: 28, gone: true}),
			favourite(handMade{id: "c", at: 28.5}),
		}, "a", 27 * time.Minute},
		{"versions after the as-of moment do not exist", []handMade{old, favourite(handMade{id: "a", at: 56, known: 20, made: 10, filled: true})}, "", 0},
	}
	execute(t, conn, functionsSQL)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			execute(t, conn, "TRUNCATE oracle.version")
			for _, version := range c.versions {
				execute(t, conn, version.sql())
			}
			asOf := time.Date(2026, 3, 1, 12, 55, 0, 0, time.UTC)
			if c.window == 0 {
				c.window = time.Hour
			}
			recompute(t, conn, settings{asOf: asOf, window: c.window, ratio: "2.0", seed: "42"})
			var held []string
			for _, m := range rowsOf(t, conn, "SELECT id, inexact FROM known WHERE tbl = 'favorites' ORDER BY id") {
				name := m["id"].(string)
				if m["inexact"].(bool) {
					name = "~" + name
				}
				held = append(held, name)
			}
			if got := strings.Join(held, " "); got != c.want {
				t.Errorf("held are %q, want %q", got, c.want)
			}
		})
	}
}

func TestRulesForValuesOnHandMadeCases(t *testing.T) {
	server := pgtest.New(t)
	conn := connect(t, server.NewDatabase(t))
	execute(t, conn, functionsSQL)
	for expression, want := range map[string]string{
		`oracle.element('[0.5, 1, 2, 3, 4, 5, 6, 7]', 0)`:                            "0.5",
		`oracle.element('[0.5, 1, 2, 3, 4, 5, 6]', 0)`:                               "",
		`oracle.element('[0.5, "1", 2, 3, 4, 5, 6, 7]', 1)`:                          "",
		`oracle.element('{}', 1)`:                                                    "",
		`oracle.clip(NULL)`:                                                          "",
		`oracle.clip(1.7)`:                                                           "1",
		`oracle.clip(400, 0, 365)`:                                                   "365",
		`oracle.finite('NaN')`:                                                       "",
		`oracle.passengers('3')`:                                                     "3",
		`oracle.passengers('3.5')`:                                                   "",
		`oracle.passengers('-3')`:                                                    "",
		`oracle.passengers('"12"')`:                                                  "12",
		`oracle.passengers('""')`:                                                    "",
		`oracle.passengers('{"adults": 2, "infants": 1}')`:                           "3",
		`oracle.passengers('{"adults": "2"}')`:                                       "",
		`oracle.passengers('{"pets": 2}')`:                                           "",
		`oracle.passengers('null')`:                                                  "",
		`oracle.budget('{"min": 1, "max": 5}', '{"min": 2, "max": 3}')`:              "(1,5)",
		`oracle.budget('{"min": "1"}', '{"max": 3}')`:                                "(,3)",
		`oracle.budget('{"min": 6, "max": 5}', '{"min": 2, "max": 3}')`:              "(,)",
		`oracle.budget('{"min": -1, "max": 5}', NULL)`:                               "(,)",
		`oracle.budget(NULL, '{"min": 2, "max": 2}')`:                                "(2,2)",
		`oracle.years('2026-03-01', '2008-03-02')`:                                   "17",
		`oracle.years('2026-03-01', '2008-03-01')`:                                   "18",
		`oracle.years('2026-03-01', '2026-03-02')`:                                   "",
		`oracle.years('2026-03-01', '1900-01-01')`:                                   "",
		`oracle.region(' uk ')`:                                                      "Europe",
		`oracle.region('mx')`:                                                        "North America",
		`oracle.region('France')`:                                                    "Other",
		`oracle.region('')`:                                                          "",
		`oracle.joined('["B", "A", "B"]')`:                                           "A,B",
		`oracle.joined('[]')`:                                                        "",
		`oracle.days('2026-03-02 11:59', '2026-03-01 12:00')`:                        "0",
		`oracle.days('2026-03-01 11:59', '2026-03-01 12:00')`:                        "-1",
		`oracle.h('split', '42', 'a') = decode('` + hash("split", "a") + `', 'hex')`: "true",
	} {
		var got *string
		if err := conn.QueryRow(t.Context(), "SELECT ("+expression+")::text").Scan(&got); err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		if got == nil {
			got = new(string)
		}
		if *got != want {
			t.Errorf("%s is %q, want %q", expression, *got, want)
		}
	}
}

func TestRareValuesOnHandMadeCases(t *testing.T) {
	// Users of a value are named by one letter each.
	fold := func(minUsers int, held map[string]string) string {
		holders := map[string]map[string]bool{}
		for value, users := range held {
			for _, user := range users {
				hold(holders, value, string(user))
			}
		}
		var rare []string
		for v := range (finish{minUsers: minUsers, other: "OTHER"}).rareValues(holders) {
			rare = append(rare, v)
		}
		slices.Sort(rare)
		return strings.Join(rare, " ")
	}
	for _, c := range []struct {
		name string
		held map[string]string
		want string
	}{
		{"nothing is rare", map[string]string{"a": "xyz", "b": "xyz"}, ""},
		{"rare ones together suffice", map[string]string{"a": "x", "b": "yz", "c": "xyz"}, "a b"},
		{"the next rarest joins", map[string]string{"a": "x", "c": "xyzw", "d": "xyz"}, "a d"},
		{"of equally rare ones the first by bytes joins", map[string]string{"a": "x", "d": "xyz", "c": "uvw"}, "a c"},
		{"users are counted once", map[string]string{"a": "xy", "b": "xy", "c": "xyz"}, "a b c"},
	} {
		if got := fold(3, c.held); got != c.want {
			t.Errorf("%s: %q become OTHER, want %q", c.name, got, c.want)
		}
	}
}

func TestLowerMedian(t *testing.T) {
	var rows []row
	for _, v := range []any{4.0, nil, 1.0, 3.0, 2.0} {
		rows = append(rows, row{values: map[string]any{"x": v}})
	}
	if diff := cmp.Diff(any(2.0), lowerMedian(rows, "x")); diff != "" {
		t.Error(diff)
	}
}

// TestRegionsAreThoseOfM49 compares the region of every two-letter code with
// what the data dictionary says.
func TestRegionsAreThoseOfM49(t *testing.T) {
	conn := connect(t, pgtest.New(t).NewDatabase(t))
	execute(t, conn, functionsSQL)
	_, docs, found := strings.Cut(run(t, nil, "ingest", "definition", "--docs"), "\n`region`:")
	if !found {
		t.Fatal("the data dictionary has no map of regions")
	}
	docs, _, _ = strings.Cut(docs, "\n#")
	regions := map[string]string{}
	for line := range strings.Lines(docs) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, code := range strings.Fields(cells[2]) {
			if len(code) == 2 && strings.ToUpper(code) == code {
				regions[code] = strings.TrimSpace(cells[1])
			}
		}
	}
	if len(regions) < 240 {
		t.Errorf("the data dictionary has regions of %d codes only", len(regions))
	}
	for _, m := range rowsOf(t, conn, `SELECT code, oracle.region(code) AS region
		FROM (SELECT chr(a) || chr(b) AS code FROM generate_series(65, 90) a, generate_series(65, 90) b) x`) {
		code := m["code"].(string)
		got, ok := regions[code]
		if !ok {
			got = "Other"
		}
		if got != m["region"] {
			t.Errorf("%s is in %s, want %v", code, got, m["region"])
		}
	}
}
