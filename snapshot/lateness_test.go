package snapshot_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

// late is the lateness of rows 1 to n, known so many milliseconds after they
// were made, and of one that was known 2.5 s before.
func late(n, entities int64) *pit.Lateness {
	l := &pit.Lateness{Entities: entities}
	for ms := int64(1); ms <= n; ms++ {
		l.Add(ms * 1000)
	}
	l.Add(-2_500_000)
	return l
}

func TestLatenessIsToldInMetadataAndReportUnlessUsersAreTooFew(t *testing.T) {
	const seed = 4
	def := testDefinition()
	def.Tables = append(
		def.Tables,
		definition.Table{Name: "visits", Entity: "reader", Key: []string{"id"}},
		definition.Table{Name: "books", Entity: "book", Key: []string{"id"}},
		definition.Table{Name: "moods", Entity: "reader", Key: []string{"id"}},
	)
	c := config(t, def)
	r := rand.New(rand.NewPCG(seed, 1))
	s := source(r, randomExamples(r, 150, def), 3)
	punctual := &pit.Lateness{Entities: 1}
	punctual.Add(0)
	s.Tally.Lateness = map[string]*pit.Lateness{"offers": late(100, 10), "visits": late(100, 9), "books": punctual}
	got, err := snapshot.BuildFrom(context.Background(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(got.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Lateness []map[string]any `json:"lateness"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	// The median of 101 rows is 50 ms, and at most 1/64 more is told.
	if len(m.Lateness) > 0 {
		for _, column := range []string{"p50_ms", "p99_ms"} {
			told, _ := m.Lateness[0][column].(float64)
			exact := map[string]float64{"p50_ms": 50, "p99_ms": 99}[column]
			if told < exact || told > exact*(1+1.0/64) {
				t.Errorf("%s of offers is %v, want %v", column, told, exact)
			}
			m.Lateness[0][column] = exact
		}
	}
	want := []map[string]any{
		{"table": "offers", "rows": 101.0, "p50_ms": 50.0, "p99_ms": 99.0, "max_ms": 100.0, "ahead": 1.0, "lead_ms": 2500.0},
		{"table": "visits", "rows": 101.0, "p50_ms": "masked", "p99_ms": "masked", "max_ms": "masked", "ahead": 1.0, "lead_ms": "masked"},
		{"table": "books", "rows": 1.0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0, "ahead": 0.0, "lead_ms": nil},
	}
	if diff := cmp.Diff(want, m.Lateness); diff != "" {
		t.Errorf("lateness (-want +got)\n%s", diff)
	}
	page, err := os.ReadFile(got.Report)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"<h3>Lateness</h3>", "<code>offers</code>", "<code>visits</code>", "<code>books</code>", "0.1\u00a0s"} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the report lacks %q", part)
		}
	}
	if strings.Contains(string(page), "<code>moods</code>") {
		t.Error("the report tells of a table without rows")
	}
}
