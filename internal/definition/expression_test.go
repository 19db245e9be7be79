package definition_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/definition"
)

// small is a definition with one of each type, into which tests put one
// filter of a row and one column.
const small = `format: 1
name: small
doc: A small one.
entities: {thing: {doc: A thing.}}
tables:
  events:
    entity: thing
    by: thing
    key: id
    columns: {id: text, thing: text, at: timestamp, kind: text, n: int, x: float, ok: bool, data: json, tags: list, done: timestamp}
example: {table: events, id: id, time: at, outcome: done}
rows:
  last: {table: events, last: at, where: WHERE}
labels:
  goal: DONE
  outcomes: [{name: DONE, score: 1, moment: done}, {name: NOT, score: 0}]
values:
  half: {type: float32, value: last.x, doc: Half.}
columns:
  out: {type: TYPE, cel: CEL, missing: null, class: safe, doc: Out.}
`

func smallWith(t testing.TB, where, kind, expression string) *definition.Definition {
	t.Helper()
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	text := strings.NewReplacer("WHERE", quote(where), "TYPE", kind, "CEL", quote(expression)).Replace(small)
	return load(t, []byte(text), "small.yaml")
}

// values are what a get function finds, by reference.
func values(f *definition.Filter, m map[string]any) func(int) any {
	return func(i int) any { return m[f.Refs()[i].String()] }
}

func TestFiltersFollowSQLOnNulls(t *testing.T) {
	moment := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	full := map[string]any{
		"row.kind": "A", "row.n": int64(3), "row.x": 2.5, "row.ok": true, "row.at": moment,
		"row.tags": []string{"p", "q"}, "row.data": json.RawMessage(`{"a": {"b": 7}, "s": "t"}`),
	}
	cases := []struct {
		filter    string
		full      bool
		fullError bool
		null      bool // with every column null
	}{
		{filter: `row.kind == "A"`, full: true},
		{filter: `row.kind != "B"`, full: true, null: true},
		{filter: `row.kind in ["A", "C"]`, full: true},
		{filter: `!(row.kind in ["B", "C"])`, full: true, null: true},
		{filter: `row.kind == null`, null: true},
		{filter: `row.n > 2`, full: true},
		{filter: `row.n > 2.5`, full: true},
		{filter: `row.x <= 3`, full: true},
		{filter: `row.n + 1 == 4`, full: true},
		{filter: `row.ok`, full: true},
		{filter: `!row.ok || row.n == 3`, full: true},
		{filter: `row.at < timestamp("2026-02-01T00:00:00Z")`, full: true},
		{filter: `row.at.getFullYear() == 2026`, full: true},
		{filter: `row.at == null`, null: true},
		{filter: `"q" in row.tags`, full: true},
		{filter: `row.tags.exists(t, t == "p")`, full: true},
		{filter: `row.kind.startsWith("A")`, full: true},
		{filter: `row.data.a.b == 7`, full: true},
		{filter: `has(row.data.a)`, full: true},
		{filter: `has(row.data.z)`},
		{filter: `row.data.s == "t"`, full: true},
		{filter: `row.data.z == 1`, fullError: true},
		{filter: `1 / (row.n - 3) == 1`, fullError: true},
		{filter: `row.n + 9223372036854775807 > 0`, fullError: true},
	}
	for _, c := range cases {
		f := smallWith(t, c.filter, "bool", "true").Rows[0].Where
		got, err := f.Bool(values(f, full))
		if got != c.full || (err != nil) != c.fullError {
			t.Errorf("%s: is %v, error %v; want %v, error: %v", c.filter, got, err, c.full, c.fullError)
		}
		got, err = f.Bool(values(f, nil))
		if got != c.null || err != nil {
			t.Errorf("%s over nulls: is %v, error %v; want %v and none", c.filter, got, err, c.null)
		}
	}
}

func TestColumnsOfAnExpressionHaveTheirType(t *testing.T) {
	m := map[string]any{
		"last.kind": "A", "last.n": int64(3), "half": 0.5, "example.n": int64(4), "last.at": time.Unix(60, 0).UTC(),
		"last.data": json.RawMessage(`{"b": 7}`),
	}
	cases := []struct {
		kind, expression string
		want             any
	}{
		{"string", `last.kind + "-" + string(last.n)`, "A-3"},
		{"int32", `last.n * example.n`, int64(12)},
		{"float32", `half * 3.0`, 1.5},
		{"float32", `last.n`, int64(3)},
		{"float32", `double(last.data.b)`, 7.0},
		{"bool", `last.n < example.n ? true : false`, true},
		{"timestamp", `last.at`, time.Unix(60, 0).UTC()},
		{"int32", `last.x == null ? last.n : 0`, int64(3)},
		{"string", `last.x > 1.0 ? "big" : "small"`, nil},
	}
	for _, c := range cases {
		f := smallWith(t, "true", c.kind, c.expression).Columns[0].Derive.CEL
		got, err := f.Value(values(f, m))
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.expression, diff)
		}
	}
}

func TestAnExpressionNamesWhatItReads(t *testing.T) {
	f := smallWith(t, "true", "float32", `last.x + half + last.x + example.x`).Columns[0].Derive.CEL
	want := []definition.Ref{{Row: "last", Column: "x"}, {Column: "half"}, {Row: "example", Column: "x"}}
	got := f.Refs()
	less := func(a, b definition.Ref) int { return strings.Compare(a.String(), b.String()) }
	if diff := cmp.Diff(sortedBy(want, less), sortedBy(got, less)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPlainTextFiltersCanDoWithoutCEL(t *testing.T) {
	cases := []struct {
		filter string
		texts  []string
		plain  bool
	}{
		{`row.kind == "A"`, []string{"A"}, true},
		{`row.kind in ["A", "B"]`, []string{"A", "B"}, true},
		{`row.kind != "A"`, nil, false},
		{`row.kind == "A" && row.n == 1`, nil, false},
		{`row.n == 1`, nil, false},
		{`row.kind in ["A", row.thing]`, nil, false},
		{`row.data.a == "A"`, nil, false},
		{`row.kind == row.thing`, nil, false},
		{`row.data == "A"`, nil, false},
		{`row.kind in []`, nil, false},
	}
	for _, c := range cases {
		f := smallWith(t, c.filter, "bool", "true").Rows[0].Where
		texts, plain := f.Texts()
		if plain != c.plain || !cmp.Equal(texts, c.texts) {
			t.Errorf("%s: %v %v, want %v %v", c.filter, texts, plain, c.texts, c.plain)
		}
	}
}

func TestAnExpensiveExpressionIsAnError(t *testing.T) {
	f := smallWith(t, `row.tags.all(a, row.tags.all(b, row.tags.all(c, a + b + c == "")))`, "bool", "true").Rows[0].Where
	tags := make([]string, 1000)
	if ok, err := f.Bool(values(f, map[string]any{"row.tags": tags})); ok || err == nil {
		t.Errorf("is %v, error %v", ok, err)
	}
}

func BenchmarkFilter(b *testing.B) {
	f := smallWith(b, `row.kind in ["A", "B"] && row.n > 2`, "bool", "true").Rows[0].Where
	get := values(f, map[string]any{"row.kind": "B", "row.n": int64(3)})
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := f.Bool(get); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func sortedBy[T any](list []T, less func(a, b T) int) []T {
	list = slices.Clone(list)
	slices.SortFunc(list, less)
	return list
}
