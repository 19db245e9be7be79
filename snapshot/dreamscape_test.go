package snapshot_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/deploy"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
	"dreamfeed/snapshot"
)

// memoryView is a view of histories in memory, cut into as many ranges as
// asked for.
type memoryView struct {
	info     history.Info
	def      *definition.Definition
	entities map[string][]history.Entity // by kind, in key order
}

func (v *memoryView) Info() history.Info { return v.info }

func (v *memoryView) Ranges(_ context.Context, kind string, n int) ([]history.Range, error) {
	list := v.entities[kind]
	var out []history.Range
	for i := range n {
		from, to := len(list)*i/n, len(list)*(i+1)/n
		if from < to {
			out = append(out, history.Range{From: fmt.Append(nil, from), To: fmt.Append(nil, to)})
		}
	}
	return out, nil
}

func (v *memoryView) Scan(ctx context.Context, kind string, r history.Range, fn func(*history.Entity) error) error {
	var from, to int
	if _, err := fmt.Sscan(string(r.From), &from); err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(r.To), &to); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		if err := fn(&v.entities[kind][i]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (v *memoryView) Entity(_ context.Context, kind, id string) (*history.Entity, error) {
	for i := range v.entities[kind] {
		if v.entities[kind][i].ID == id {
			return &v.entities[kind][i], nil
		}
	}
	return nil, nil
}
func (v *memoryView) Close() error { return nil }

var oids = map[definition.Type]uint32{
	definition.Text: 25, definition.Int: 23, definition.Float: 701, definition.Bool: 16,
	definition.Timestamp: 1114, definition.JSON: 3802, definition.List: 1009,
}

// add stores one version of a row under an entity, which is the last one of
// its kind or a new one.
func (v *memoryView) add(entity, table string, version int64, backfilled bool, values map[string]string) {
	at := v.info.Table(table)
	cells := make([]row.Cell, len(at.Columns))
	for i, name := range at.Columns {
		cells[i] = row.Cell{Kind: row.Null}
		if text, ok := values[name]; ok {
			cells[i] = row.Parse(oids[v.def.Table(table).Column(name).Type], []byte(text))
		}
	}
	list := v.entities[at.Entity]
	if len(list) == 0 || list[len(list)-1].ID != entity {
		list = append(list, history.Entity{ID: entity})
	}
	e := &list[len(list)-1]
	ver := history.Version{Version: change.Version(version), Known: version, Backfilled: backfilled, Data: row.Append(nil, cells)}
	key := []byte(values[at.Key[0]])
	if n := len(e.Rows); n > 0 && e.Rows[n-1].Table == at.ID && string(e.Rows[n-1].Key) == string(key) {
		e.Rows[n-1].Versions = append([]history.Version{ver}, e.Rows[n-1].Versions...)
	} else {
		e.Rows = append(e.Rows, history.Row{Table: at.ID, Key: key, Versions: []history.Version{ver}})
	}
	v.entities[at.Entity] = list
}

func pgTime(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05.999999") }

// dreamscape is a world of the given number of users, each with about 20
// recommendations.
func dreamscape(tb testing.TB, users int, seed uint64) (*memoryView, *definition.Definition) {
	tb.Helper()
	def, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 5))
	t := asOf.UnixMicro()
	birth := t - 200*day
	v := &memoryView{def: def, entities: map[string][]history.Entity{}, info: history.Info{
		AsOf: change.Version(t), Applied: change.Version(t + 7), LSN: 0x16_B374D848, Birth: change.Version(birth), Floor: change.Version(birth),
	}}
	for i, d := range def.Tables {
		h := history.Table{ID: uint16(i + 1), Name: d.Name, Entity: d.Entity, Key: d.Key}
		for _, c := range d.Columns {
			h.Columns = append(h.Columns, c.Name)
		}
		v.info.Tables = append(v.info.Tables, h)
	}
	vector := func() string {
		var parts []string
		for range 8 {
			parts = append(parts, fmt.Sprintf("%.4f", r.Float64()*1.1-0.02))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	for i := range 200 {
		id := fmt.Sprintf("item-%04d", i)
		v.add(id, "item_vectors", birth, true, map[string]string{
			"id": id, "destinationId": fmt.Sprintf("dest-%d", i), "destinationType": "CITY", "country": "FR", "vector": vector(),
			"version": "1", "popularityScore": fmt.Sprint(r.Float64()), "bookingCount": fmt.Sprint(r.IntN(500)), "searchCount": fmt.Sprint(r.IntN(5000)),
			"createdAt": pgTime(birth - day), "updatedAt": pgTime(birth - day),
		})
	}
	for u := range users {
		id := fmt.Sprintf("user-%06d", u)
		known := map[string]string{
			"id": id, "dateOfBirth": fmt.Sprintf("%d-05-17 00:00:00", 1940+r.IntN(70)), "nationality": []string{"FR", "uk", "US", "JP", ""}[r.IntN(5)],
			"userCategory": "LEISURE", "created_at": pgTime(birth - 9*day), "updated_at": pgTime(birth - 9*day),
		}
		v.add(id, "users", birth, true, known)
		if r.IntN(20) > 0 {
			v.add(id, "user_vectors", birth, true, map[string]string{
				"id": "uv" + id, "userId": id, "vector": vector(), "version": "1", "primarySegment": fmt.Sprintf("SEGMENT_%d", r.IntN(9)),
				"segmentConfidence": fmt.Sprint(r.Float64()), "createdAt": pgTime(birth - day), "updatedAt": pgTime(birth - day),
			})
		}
		v.add(id, "travel_onboarding_profiles", birth, true, map[string]string{
			"id": "p" + id, "userId": id, "travelTypes": []string{"{ADVENTURE,CITY}", "{CITY}", "{}"}[r.IntN(3)],
			"globalBudgetRange": fmt.Sprintf(`{"min": %d, "max": %d, "currency": "EUR"}`, r.IntN(900), 1000+r.IntN(3000)),
			"budgetFlexibility": "STRICT", "activityLevel": "HIGH", "accommodationLevel": "COMFORT", "travelWithChildren": "t",
			"createdAt": pgTime(birth - day), "updatedAt": pgTime(birth - day),
		})
		for k := range 10 + r.IntN(20) {
			created := t - 1 - r.Int64N(100*day)
			values := map[string]string{
				"id": fmt.Sprintf("rec-%s-%02d", id, k), "userId": id, "itemVectorId": fmt.Sprintf("item-%04d", r.IntN(200)),
				"destinationId": fmt.Sprintf("dest-%d", r.IntN(200)), "destinationName": "Somewhere", "destinationType": "CITY",
				"score": fmt.Sprint(r.Float64()), "confidence": fmt.Sprint(r.Float64()), "contextType": "HOME", "status": "PENDING",
				"createdAt": pgTime(created), "updatedAt": pgTime(created),
			}
			v.add(id, "recommendations", created+100, false, values)
			if r.IntN(3) == 0 {
				values["status"] = []string{"VIEWED", "CLICKED", "BOOKED", "REJECTED"}[r.IntN(4)]
				values["viewedAt"] = pgTime(created + 60_000_000)
				v.add(id, "recommendations", created+60_000_100, false, values)
			}
		}
		for k := range r.IntN(8) {
			at := t - r.Int64N(150*day)
			v.add(id, "search_history", at+50, false, map[string]string{
				"id": fmt.Sprintf("s-%s-%d", id, k), "userId": id, "origin": []string{"CDG", "LHR", "JFK"}[r.IntN(3)],
				"departureDate": pgTime(at + 30*day), "passengers": `{"adults": 2}`, "cabinClass": "ECONOMY", "searchedAt": pgTime(at),
			})
		}
		e := &v.entities["user"][u]
		slices.SortStableFunc(e.Rows, func(a, b history.Row) int { return int(a.Table) - int(b.Table) })
	}
	return v, def
}

// TestDreamscapeBuildsFromAView joins, builds and reads back a whole dataset.
func TestDreamscapeBuildsFromAView(t *testing.T) {
	view, def := dreamscape(t, 400, 11)
	c := config(t, def)
	c.View = view
	var digests, hashes []string
	for i, workers := range []int{1, 4} {
		c.Version, c.Workers, c.Pseudonyms = fmt.Sprintf("1.%d", i), workers, snapshot.Stable
		got, err := snapshot.Build(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, got.Digest)
		f, rows := readParquet(t, got.Train)
		if int64(len(rows)) != got.TrainRows || got.TrainRows < 500 {
			t.Errorf("%d train rows, %d read", got.TrainRows, len(rows))
		}
		var names, want []string
		for _, field := range f.Schema().Fields() {
			names = append(names, field.Name())
			if column := def.Column(field.Name()); field.Required() != column.Required || field.Optional() == column.Required {
				t.Errorf("column %s: required %v, want %v", field.Name(), field.Required(), column.Required)
			}
		}
		for i := range def.Columns {
			want = append(want, def.Columns[i].Name)
		}
		if d := cmp.Diff(want, names); d != "" {
			t.Errorf("columns (-want +got):\n%s", d)
		}
		hash, ok := f.Lookup("dreamfeed.logical_digest")
		if !ok {
			t.Error("the file has no digest")
		}
		hashes = append(hashes, hash)
	}
	if digests[0] != digests[1] || hashes[0] != hashes[1] {
		t.Errorf("digests %v and %v differ by version name or workers", digests, hashes)
	}
}

func BenchmarkDreamscape(b *testing.B) {
	view, def := dreamscape(b, 5000, 11)
	for _, stage := range []string{snapshot.StageDataset, snapshot.StageFeatures} {
		b.Run(stage, func(b *testing.B) {
			var candidates int64
			for b.Loop() {
				c := snapshot.Config{
					View: view, Definition: def, Stage: stage, Version: "1.0", NegativeRatio: "2.0", TestSize: "0.2", Seed: 42, Output: b.TempDir(), Key: key,
					Workers: 2, Program: "bench",
				}
				got, err := snapshot.Build(context.Background(), c)
				if err != nil {
					b.Fatal(err)
				}
				candidates += got.Funnel[0].Count
			}
			b.ReportMetric(float64(candidates)/b.Elapsed().Seconds(), "candidates/s")
		})
	}
}

// BenchmarkExamples measures everything but the join.
func BenchmarkExamples(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	def := testDefinition()
	list := randomExamples(r, 20000, def)
	s := source(r, list, 16)
	for b.Loop() {
		c := snapshot.Config{
			View: &emptyView{history.Info{AsOf: change.VersionAt(asOf), Applied: change.VersionAt(asOf), Birth: 1, Floor: 1}}, Definition: def, Version: "1.0",
			NegativeRatio: "2.0", TestSize: "0.2", Seed: 42, Output: b.TempDir(), Key: key, Workers: 2, Program: "bench",
		}
		if _, err := snapshot.BuildFrom(context.Background(), c, s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(list)*b.N)/b.Elapsed().Seconds(), "candidates/s")
}
