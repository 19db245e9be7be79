package featurestore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

// benchRelation is a recommendation: about 400 bytes in 16 columns.
func benchRelation() (*definition.Definition, *change.Relation) {
	columns := []struct {
		name string
		oid  uint32
	}{
		{"id", oidText},
		{"user_id", oidText},
		{"item_id", oidText},
		{"destination", oidText},
		{"kind", oidText},
		{"score", 701},
		{"confidence", 701},
		{"reasons", 3802},
		{"context", oidText},
		{"status", oidText},
		{"viewed", oidTimestamp},
		{"clicked", oidTimestamp},
		{"rating", 23},
		{"active", 16},
		{"created", oidTimestamp},
		{"updated", oidTimestamp},
	}
	rel := &change.Relation{ID: 1, Schema: "public", Name: "recommendations", Replica: 'd'}
	table := definition.Table{Name: "recommendations", Entity: "user", By: "user_id", Key: []string{"id"}, Created: "created", Updated: "updated"}
	for _, c := range columns {
		rel.Columns = append(rel.Columns, change.Column{Name: c.name, Type: c.oid, Modifier: -1, Key: c.name == "id"})
		table.Columns = append(table.Columns, definition.SourceColumn{Name: c.name})
	}
	return &definition.Definition{Hash: "b", Entities: []definition.Entity{{Name: "user"}}, Tables: []definition.Table{table}}, rel
}

func uuid(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", uint32(a), uint16(a>>32), uint16(a>>48), uint16(b), b>>16)
}

func benchRow(r *rand.Rand, rel *change.Relation, o uint32, user string) change.Row {
	text := []string{
		uuid(r), user, uuid(r), "destination-" + fmt.Sprint(r.IntN(500)), "city",
		fmt.Sprint(r.Float64()), fmt.Sprint(r.Float64()), `["you like culture and warm weather", "popular with travellers like you", "within your budget"]`,
		"general", "GENERATED", "", "", "", "t", "2024-03-04 10:11:12.123", "2024-03-04 10:11:12.123",
	}
	row := change.Row{Relation: rel, Op: change.Insert, Ordinal: o, New: make([]change.Value, len(text))}
	for i, s := range text {
		if row.New[i] = null; s != "" {
			row.New[i] = value(s)
		}
	}
	return row
}

// benchFeed makes messages of 500 rows each, of n users; extra is the size of one more
// column, of text.
func benchFeed(rows, users, extra int) (*definition.Definition, *feed) {
	def, rel := benchRelation()
	r := rand.New(rand.NewPCG(1, 2))
	texts := []change.Value{value("")}
	if extra > 0 {
		def.Tables[0].Columns = append(def.Tables[0].Columns, definition.SourceColumn{Name: "note"})
		rel.Columns = append(rel.Columns, change.Column{Name: "note", Type: oidText, Modifier: -1})
		texts = benchTexts(r, 1000, extra)
	}
	ids := make([]string, users)
	for i := range ids {
		ids[i] = uuid(r)
	}
	f := newFeed()
	v := change.Version(1_700_000_000_000_000)
	f.transaction(change.Backfill, v, nil, 1, false)
	for range rows / 500 {
		v += 1000
		list := make([]change.Row, 500)
		for i := range list {
			list[i] = benchRow(r, rel, uint32(i), ids[r.IntN(users)])
			if extra > 0 {
				list[i].New = append(list[i].New, texts[r.IntN(len(texts))])
			}
		}
		f.transaction(change.Live, v, list, 1, false)
	}
	return def, f
}

// benchTexts makes n texts of so many bytes, of words that come again.
func benchTexts(r *rand.Rand, n, size int) []change.Value {
	words := make([]string, 4096)
	for i := range words {
		words[i] = strconv.FormatUint(r.Uint64(), 36)
	}
	out := make([]change.Value, n)
	for i := range out {
		var t []byte
		for len(t) < size {
			t = append(append(t, words[r.IntN(len(words))]...), ' ')
		}
		out[i] = value(string(t[:size]))
	}
	return out
}

// BenchmarkApply applies inserts of rows of two sizes, a quarter of a million and a
// sixth of that.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct {
		name        string
		rows, extra int
	}{{"400B", 250_000, 0}, {"1600B", 80_000, 1200}} {
		b.Run(c.name, func(b *testing.B) {
			def, f := benchFeed(c.rows, 20_000, c.extra)
			b.ReportAllocs()
			for b.Loop() {
				s, err := featurestore.Open(b.TempDir(), featurestore.Options{Definition: def})
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Apply(b.Context(), f.batches...); err != nil {
					b.Fatal(err)
				}
				st := s.Status()
				b.ReportMetric(st.CommitTime.Seconds(), "commit-s")
				b.ReportMetric(float64(st.Groups), "groups")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkScan(b *testing.B) {
	const rows = 200_000
	def, f := benchFeed(rows, 20_000, 0)
	s := open(b, b.TempDir(), featurestore.Options{Definition: def})
	apply(b, s, f.batches...)
	v := view(b, s, 0)
	ranges, err := v.Ranges(b.Context(), "user", 1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for b.Loop() {
		err := v.Scan(b.Context(), "user", ranges[0], func(e *history.Entity) error {
			for i := range e.Rows {
				n += len(e.Rows[i].Versions)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "versions/s")
}

// BenchmarkRanges cuts a store into ranges, whose beginnings are probed for: the
// largest should have hardly more than a sixteenth of the versions.
func BenchmarkRanges(b *testing.B) {
	const rows, n = 200_000, 16
	def, f := benchFeed(rows, 20_000, 0)
	s := open(b, b.TempDir(), featurestore.Options{Definition: def})
	apply(b, s, f.batches...)
	v := view(b, s, 0)
	var ranges []history.Range
	for b.Loop() {
		var err error
		if ranges, err = v.Ranges(b.Context(), "user", n); err != nil {
			b.Fatal(err)
		}
	}
	var largest, all int
	for _, r := range ranges {
		before := all
		err := v.Scan(b.Context(), "user", r, func(e *history.Entity) error {
			for i := range e.Rows {
				all += len(e.Rows[i].Versions)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		largest = max(largest, all-before)
	}
	b.ReportMetric(float64(largest)/float64(all), "share-of-the-largest")
}

func BenchmarkEntity(b *testing.B) {
	const rows, users = 200_000, 20_000
	def, f := benchFeed(rows, users, 0)
	s := open(b, b.TempDir(), featurestore.Options{Definition: def})
	apply(b, s, f.batches...)
	v := view(b, s, 0)
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]string, users) // the same as those of the feed
	for i := range ids {
		ids[i] = uuid(r)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		e, err := v.Entity(b.Context(), "user", ids[r.IntN(users)])
		if err != nil {
			b.Fatal(err)
		}
		if e == nil {
			b.Fatal("the entity is gone")
		}
	}
}

func BenchmarkRemoteScan(b *testing.B) {
	const rows = 200_000
	def, f := benchFeed(rows, 20_000, 0)
	s := open(b, b.TempDir(), featurestore.Options{Definition: def})
	apply(b, s, f.batches...)
	v := dial(b, serve(b, featurestore.NewHandler(s, token)), 0)
	ranges, err := v.Ranges(b.Context(), "user", 1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for b.Loop() {
		err := v.Scan(b.Context(), "user", ranges[0], func(e *history.Entity) error {
			for i := range e.Rows {
				n += len(e.Rows[i].Versions)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "versions/s")
}

// BenchmarkUpdates applies updates of hot rows that leave a large value out.
func BenchmarkUpdates(b *testing.B) {
	const rows = 100_000
	rels := relations()
	f := newFeed()
	v := change.Version(1_700_000_000_000_000)
	r := rand.New(rand.NewPCG(1, 2))
	var first []change.Row
	ids := make([]string, 5000)
	for i := range ids {
		ids[i] = uuid(r)
		first = append(first, insert(rels["orders"], uint32(i), map[string]string{"id": ids[i], "user_id": uuid(r), "big": "large"}))
	}
	f.transaction(change.Backfill, v, first, 20, false)
	for range rows / 100 {
		v += 1000
		var list []change.Row
		for i := range 100 {
			u := change.Row{
				Relation: rels["orders"], Op: change.Update, Ordinal: uint32(i),
				New: values(rels["orders"], map[string]string{"id": ids[r.IntN(len(ids))], "name": "x"}),
			}
			u.New[1] = change.Value{Kind: change.Unchanged}
			u.New[3] = change.Value{Kind: change.Unchanged}
			list = append(list, u)
		}
		f.transaction(change.Live, v, list, 1, false)
	}
	b.ReportAllocs()
	for b.Loop() {
		s, err := featurestore.Open(b.TempDir(), featurestore.Options{Definition: testDefinition()})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Apply(b.Context(), f.batches...); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkWideUpdates applies updates of rows drawn at random of which four columns
// change and a text of 3 kB was left out by the source: each is looked up, read and
// written again with its text.
func BenchmarkWideUpdates(b *testing.B) {
	const rows, updates = 10_000, 20_000
	def, rel := benchRelation()
	def.Tables[0].Columns = append(def.Tables[0].Columns, definition.SourceColumn{Name: "note"}, definition.SourceColumn{Name: "story"})
	for _, name := range []string{"note", "story"} {
		rel.Columns = append(rel.Columns, change.Column{Name: name, Type: oidText, Modifier: -1})
	}
	f := newFeed()
	v := change.Version(1_700_000_000_000_000)
	r := rand.New(rand.NewPCG(1, 2))
	notes, stories := benchTexts(r, 1000, 1000), benchTexts(r, 1000, 3000)
	var first []change.Row
	for i := range rows {
		row := benchRow(r, rel, uint32(i), uuid(r))
		row.New = append(row.New, notes[r.IntN(len(notes))], stories[r.IntN(len(stories))])
		first = append(first, row)
	}
	f.transaction(change.Backfill, v, first, 40, false)
	for range updates / 100 {
		v += 1000
		var list []change.Row
		for i := range 100 {
			row := first[r.IntN(rows)]
			row.Op, row.Ordinal, row.New = change.Update, uint32(i), slices.Clone(row.New)
			row.New[5], row.New[15], row.New[17] = value(fmt.Sprint(r.Float64())), value("2024-03-05 10:11:12.123"), change.Value{Kind: change.Unchanged}
			list = append(list, row)
		}
		f.transaction(change.Live, v, list, 1, false)
	}
	b.ReportAllocs()
	for b.Loop() {
		s := open(b, b.TempDir(), featurestore.Options{Definition: def})
		apply(b, s, f.batches[:40]...)
		began := time.Now()
		apply(b, s, f.batches[40:]...)
		b.ReportMetric(updates/time.Since(began).Seconds(), "updates/s")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefill refills a table of which every row is as it is held: each is
// looked up, found, and walked over at the end.
func BenchmarkRefill(b *testing.B) {
	const rows = 100_000
	rels := relations()
	for _, table := range []string{"users", "orders"} {
		b.Run(table, func(b *testing.B) {
			f := newFeed()
			v := change.Version(1_700_000_000_000_000)
			r := rand.New(rand.NewPCG(1, 2))
			var list []change.Row
			for i := range rows {
				list = append(list, insert(rels[table], uint32(i), map[string]string{"id": uuid(r), "user_id": uuid(r), "name": "n", "big": "some text of a row that is neither long nor short"}))
			}
			f.transaction(change.Backfill, v, list, 100, false)
			s := open(b, b.TempDir(), featurestore.Options{})
			apply(b, s, f.batches...)
			b.ReportAllocs()
			for b.Loop() {
				n := len(f.batches)
				f.scope = scopeOf(v, table)
				v++
				f.transaction(change.Refill, v, list, 100, false)
				apply(b, s, f.batches[n:]...)
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
