package pit

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

func TestArrayTextIsReadAsPostgreSQLWritesIt(t *testing.T) {
	for text, want := range map[string][]string{
		`{}`:                    nil,
		`{a}`:                   {"a"},
		`{a,NULL,"NULL",null}`:  {"a", "NULL"},
		`{"",a b,"x,y","{q}"}`:  {"", "a b", "x,y", "{q}"},
		`{"a\"b","a\\b","a,b"}`: {`a"b`, `a\b`, "a,b"},
		`[0:1]={a,b}`:           {"a", "b"},
		`{é,日本}`:                {"é", "日本"},
	} {
		var got []string
		if !parseArray([]byte(text), func(e []byte) { got = append(got, string(e)) }) {
			t.Errorf("%s is refused", text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", text, diff)
		}
	}
	for _, text := range []string{``, `{`, `}`, `a`, `{a`, `a}`, `{,}`, `{a,}`, `{"a}`, `{"a"b}`, `{{a}}`, `{a"b"}`, `{"a\`, `{"a\"}`, `[0:1]`, `{a\}`, `{a\,b}`} {
		if parseArray([]byte(text), func([]byte) {}) {
			t.Errorf("%q is taken for an array", text)
		}
	}
}

// FuzzParse runs everything that reads the source's text: it must not panic,
// and must agree with encoding/json.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{a,"b\"c",NULL}`, `[1, 2.5, "x", null]`, `{"a": {"min": 1}, "b\u0061": [1,{"c":"}"}]}`, `"12"`, ` 3 `, `{"min":1,"min":2}`, `[]`, `[[],[]]`, "{\"\xee\":0}", "{\"\xee\":0,\"\ufffd\":1}"} {
		f.Add([]byte(seed), "a")
	}
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		joined(text)
		_, _ = decodeEntity(text)
		b := validJSON(text)
		if b == nil {
			if json.Valid(text) && utf8.Valid(text) {
				t.Fatalf("%q is JSON", text)
			}
			return
		}
		var array []json.RawMessage
		if b[0] == '[' {
			if err := json.Unmarshal(b, &array); err != nil {
				t.Fatal(err)
			}
			var got []json.RawMessage
			jsonElements(b, func(_ int, e []byte) { got = append(got, e) })
			if !slices.EqualFunc(array, got, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
				t.Fatalf("elements of %s are %s, want %s", b, got, array)
			}
		}
		if b[0] == '{' {
			var object map[string]json.RawMessage
			if err := json.Unmarshal(b, &object); err != nil {
				t.Fatal(err)
			}
			if want, got := object[name], jsonMember(b, name); string(want) != string(got) {
				t.Fatalf("member %q of %s is %q, want %q", name, b, got, want)
			}
			for key, want := range object {
				if got := jsonMember(b, key); string(want) != string(got) {
					t.Fatalf("member %q of %s is %q, want %q", key, b, got, want)
				}
			}
		}
		_, _ = totalOf(b, []string{name, "a"})
	})
}

// TestAgeIsThatOfPostgreSQL compares with a count of whole years by calendar.
func TestAgeIsThatOfPostgreSQL(t *testing.T) {
	at := func(s string) int64 {
		m, err := time.Parse("2006-01-02 15:04:05.999999", s)
		if err != nil {
			t.Fatal(err)
		}
		return m.UnixMicro()
	}
	for _, c := range []struct { // years of: SELECT age('…', '…')
		t, birth string
		want     int64
	}{
		{"2023-02-28 23:59:59", "2004-02-29 00:00:00", 18},
		{"2023-03-01 00:00:00", "2004-02-29 00:00:00", 19},
		{"2024-02-28 23:59:59.999999", "2004-02-29 00:00:00", 19},
		{"2024-02-29 00:00:00", "2004-02-29 00:00:00", 20},
		{"2026-06-15 09:59:59.999999", "2000-06-15 10:00:00", 25},
		{"2026-06-15 10:00:00", "2000-06-15 10:00:00", 26},
		{"2026-01-01 00:00:00", "1955-12-31 00:00:00", 70},
		{"1969-12-31 23:59:59", "1949-12-31 23:59:59.5", 19},
		{"2026-06-15 10:00:00", "2026-06-15 10:00:00", 0},
	} {
		if got := age(at(c.birth), at(c.t)); got != c.want {
			t.Errorf("age at %s of who was born %s is %d, want %d", c.t, c.birth, got, c.want)
		}
	}
}

func TestFloorDivisionRoundsDown(t *testing.T) {
	for _, c := range [][3]int64{{7, 2, 3}, {-7, 2, -4}, {-8, 2, -4}, {0, 5, 0}, {-1, 86400, -1}} {
		if got := floorDiv(c[0], c[1]); got != c[2] {
			t.Errorf("⌊%d ÷ %d⌋ is %d, want %d", c[0], c[1], got, c[2])
		}
	}
}

// TestMeanDoesNotDependOnTheOrderOfRows holds DESIGN §6.6.
func TestMeanDoesNotDependOnTheOrderOfRows(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 500 {
		var cells []row.Cell
		exact := new(big.Rat)
		for range 1 + rng.IntN(20) {
			c := row.Cell{Kind: row.Decimal, Scale: 2, Int: rng.Int64N(1e6) - 5e5}
			switch {
			case round%4 == 1:
				c.Int = rng.Int64() // sums beyond int64
			case round%4 == 2:
				c = row.Cell{Kind: row.Float, Float: (rng.Float64() - 0.5) * math.Pow10(rng.IntN(40)-20)}
			case round%4 == 3 && rng.IntN(2) == 0:
				c = row.Cell{Kind: row.Text, Bytes: []byte("12345678901234567890.125")}
			}
			r, ok := new(big.Rat).SetString(c.String())
			if c.Kind == row.Float {
				r, ok = new(big.Rat).SetFloat64(c.Float), true
			}
			if !ok {
				t.Fatal(c.String())
			}
			exact.Add(exact, r)
			cells = append(cells, c)
		}
		want, _ := exact.Quo(exact, new(big.Rat).SetInt64(int64(len(cells)))).Float64()
		for range 3 {
			rng.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			var s sum
			for i := range cells {
				s.add(&cells[i])
			}
			if got := s.mean(); got != want {
				t.Fatalf("seed %d, round %d: mean is %v, want %v", seed, round, got, want)
			}
		}
	}
}

func TestTimestampsWithoutZoneAreInTheDefinitionsZone(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{zone: zone}
	wall := time.Date(2026, 7, 1, 12, 0, 0, 5000, time.UTC).UnixMicro()
	for _, c := range []struct {
		name string
		cell row.Cell
		want time.Time
	}{
		{"timestamp", row.Cell{Kind: row.Timestamp, Int: wall}, time.Date(2026, 7, 1, 10, 0, 0, 5000, time.UTC)},
		{"timestamptz", row.Cell{Kind: row.TimestampTZ, Int: wall}, time.UnixMicro(wall)},
		{"date", row.Cell{Kind: row.Date, Int: floorDiv(wall, dayMicros)}, time.Date(2026, 6, 30, 22, 0, 0, 0, time.UTC)},
	} {
		if got, fault := p.moment(&c.cell); fault != "" || !got.Valid || got.Int != c.want.UnixMicro() {
			t.Errorf("%s is %v (%s), want %v", c.name, time.UnixMicro(got.Int).UTC(), fault, c.want)
		}
	}
}

func TestAKeptHistoryIsReadBackWhole(t *testing.T) {
	e := &history.Entity{ID: "ü-1", Rows: []history.Row{
		{Table: 3, Versions: []history.Version{
			{Version: 9, Ordinal: 4, Known: 9, Deleted: true, Moved: true},
			{Version: 7, Known: -12, Backfilled: true, Data: []byte{1, 2, 3}},
		}},
		{Table: 5, Versions: []history.Version{{Version: change.Version(math.MaxInt64), Known: math.MaxInt64, Data: []byte{0}}}},
	}}
	data := appendEntity(nil, e)
	got, err := decodeEntity(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got, cmp.Transformer("bytes", func(b []byte) string { return string(b) })); diff != "" {
		t.Error(diff)
	}
	for n := range data {
		if _, err := decodeEntity(data[:n]); err == nil {
			t.Errorf("a history cut at byte %d of %d is accepted", n, len(data))
		}
	}
}
