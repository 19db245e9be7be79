package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

// day is a day in microseconds.
const day = 86400 * 1_000_000

var (
	asOf = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	key  = []byte{
		0x8f, 0x1b, 0x52, 0xe0, 0x77, 0x3c, 0x9a, 0x04, 0xd6, 0x61, 0x2e, 0xbb, 0x15, 0xf8, 0x40, 0xc9,
		0x33, 0xa7, 0x5d, 0x0e, 0x92, 0x6b, 0xfc, 0x28, 0x81, 0xd4, 0x1f, 0x76, 0xe3, 0x4a, 0xb0, 0x59,
	}
)

// emptyView is a view for builds whose examples come from elsewhere.
type emptyView struct{ info history.Info }

func (v *emptyView) Info() history.Info { return v.info }
func (v *emptyView) Ranges(context.Context, string, int) ([]history.Range, error) {
	return nil, errors.New("no ranges")
}

func (v *emptyView) Scan(context.Context, string, history.Range, func(*history.Entity) error) error {
	return errors.New("no entities")
}

func (v *emptyView) Entity(context.Context, string, string) (*history.Entity, error) {
	return nil, errors.New("no entities")
}
func (v *emptyView) Close() error { return nil }

func ref(name string) *definition.Ref {
	row, column, _ := strings.Cut(name, ".")
	return &definition.Ref{Row: row, Column: column}
}

// The places of the definition's columns.
const (
	colUser = iota
	colID
	colTime
	colV0
	colV1
	colSegment
	colTypes
	colBudget
	colCount
	colFlag
	colPassengers
	colItem
	colName
	colScore
	colGoal
	colRating
	colExact
	colWeight
	colAlias
	colsN
)

// testDefinition has every kind of column, over a schema of its own.
func testDefinition() *definition.Definition {
	vector := func(name string, index int, required bool) definition.Column {
		return definition.Column{
			Name: name, Type: definition.Float32, Derive: definition.Derivation{Element: &definition.Element{From: *ref("v.vector"), Index: index, Length: 2}},
			Required: required, Clip: &[2]float64{0, 1}, Class: definition.ClassVector, Role: definition.RoleFeature, Missing: definition.MissingMedian,
		}
	}
	column := func(name string, t definition.OutputType, class definition.Class, missing definition.Missing) definition.Column {
		return definition.Column{
			Name: name, Type: t, Derive: definition.Derivation{Value: ref("v." + name)}, Class: class,
			Role: definition.RoleFeature, Missing: missing, Doc: "The " + name + ".",
		}
	}
	label := func(name string, t definition.OutputType, part definition.LabelPart, required bool) definition.Column {
		return definition.Column{
			Name: name, Type: t, Derive: definition.Derivation{Label: part}, Required: required,
			Class: definition.ClassSensitive, Role: definition.RoleLabel, Missing: definition.MissingUnknown,
		}
	}
	d := &definition.Definition{
		Name: "readers", Doc: "Loans offered to readers.", Hash: strings.Repeat("ab", 32), Zone: time.UTC,
		Tables: []definition.Table{{
			Name: "offers", Entity: "reader", By: "reader", Key: []string{"id"},
			Columns: []definition.SourceColumn{{Name: "id", Type: definition.Text}, {Name: "reader", Type: definition.Text}, {Name: "at", Type: definition.Timestamp}},
		}},
		Entities: []definition.Entity{{Name: "reader"}},
		Example: definition.Example{
			Table: "offers", ID: "id", Time: "at", Maturity: 7 * 24 * time.Hour,
			Needs: []definition.Need{{Reason: "no_vector", Row: "v"}},
		},
		Values: []definition.Column{{Name: "age", Type: definition.Int32, Derive: definition.Derivation{Age: ref("v.born")}}},
		Columns: []definition.Column{
			colUser:       {Name: "reader_hash", Type: definition.String, Required: true, Class: definition.ClassDirect, Role: definition.RoleID, Derive: definition.Derivation{Pseudonym: &definition.Pseudonym{Of: *ref("example.reader")}}},
			colID:         {Name: "offer_id", Type: definition.String, Required: true, Class: definition.ClassDirect, Role: definition.RoleID, Derive: definition.Derivation{Pseudonym: &definition.Pseudonym{Of: *ref("example.id"), Length: 32}}},
			colTime:       {Name: "at", Type: definition.TimeStamp, Required: true, Class: definition.ClassTime, Role: definition.RoleTime, Derive: definition.Derivation{Value: ref("example.at")}},
			colV0:         vector("v0", 0, true),
			colV1:         vector("v1", 1, false),
			colSegment:    column("segment", definition.String, definition.ClassQuasi, definition.MissingUnknown),
			colTypes:      column("types", definition.String, definition.ClassQuasi, definition.MissingUnknown),
			colBudget:     column("budget", definition.Float32, definition.ClassQuasi, definition.MissingMedian),
			colCount:      column("count", definition.Int32, definition.ClassQuasi, definition.MissingZero),
			colFlag:       column("flag", definition.Boolean, definition.ClassQuasi, definition.MissingFalse),
			colPassengers: column("passengers", definition.Int32, definition.ClassQuasi, definition.MissingNull),
			colItem:       column("item", definition.String, definition.ClassCatalogue, definition.MissingUnknown),
			colName:       label("outcome", definition.String, definition.LabelName, false),
			colScore:      label("score", definition.Float32, definition.LabelScore, true),
			colGoal:       label("goal", definition.Int32, definition.LabelGoal, true),
			colRating:     column("rating", definition.Int32, definition.ClassSensitive, definition.MissingNull),
			colExact:      {Name: "exact", Type: definition.Boolean, Class: definition.ClassSafe, Role: definition.RoleQuality, Derive: definition.Derivation{Quality: definition.QualityExact}, Missing: definition.MissingFalse},
			colWeight:     {Name: "weight", Type: definition.Float32, Class: definition.ClassSafe, Role: definition.RoleQuality, Derive: definition.Derivation{Quality: definition.QualityWeight}, Missing: definition.MissingNull},
			colAlias:      {Name: "budgetCopy", Derive: definition.Derivation{Alias: "budget"}, Role: definition.RoleAlias},
		},
		Labels: definition.Labels{
			Status: "status", Goal: "BORROWED", Sampled: "IGNORED",
			Outcomes: []definition.Outcome{
				{Name: "BORROWED", Score: 5, Statuses: []string{"BORROWED"}},
				{Name: "REFUSED", Score: -1, Statuses: []string{"REFUSED"}},
				{Name: "OPENED", Score: 1, Statuses: []string{"OPENED"}},
				{Name: "IGNORED", Score: 0},
			},
			Recall: definition.DefaultRecall(),
		},
		Outliers: []string{"budget", "age"}, Deviations: 3,
		Privacy: definition.Privacy{MinUsers: 10, Other: "OTHER", Groups: []string{"segment", "flag"}},
		Metadata: []definition.Statistic{
			{Name: "score_distribution", Of: "distribution", Column: "score"},
			{Name: "borrow_rate", Of: "mean", Column: "goal"},
			{Name: "avg_rating", Of: "mean", Column: "rating"},
		},
		Charts: []definition.Chart{
			{Title: "Scores", Kind: "bars", Column: "score"},
			{Title: "Budget", Kind: "histogram", Column: "budget"},
			{Title: "Segments", Kind: "bars", Column: "segment"},
			{Title: "Borrowed", Kind: "rate", Column: "goal"},
		},
		Gates: definition.Gates{
			Rate: [2]float64{0.05, 0.15}, ClassShare: 0.8, Inexact: 0.2, UserOverlap: 0.5, OutlierClass: 2,
			Uniform: []definition.Uniform{{Name: "currency", Of: []definition.Path{{Ref: *ref("v.money"), Field: "currency"}}}},
		},
		Defaults: definition.Defaults{Window: 90 * 24 * time.Hour},
	}
	d.Columns[colTypes].List = true
	return d
}

func config(t *testing.T, def *definition.Definition) snapshot.Config {
	t.Helper()
	at := change.VersionAt(asOf)
	birth := at - 200*day
	return snapshot.Config{
		View:       &emptyView{history.Info{AsOf: at, Applied: at + 5, LSN: 0x1_6B374D8, Birth: birth, Floor: birth}},
		Definition: def, Version: "1.0", NegativeRatio: "2.0", TestSize: "0.2", Seed: 42,
		Output: t.TempDir(), Key: key, Workers: 2, Program: "test",
		Now: func() time.Time { return time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC) },
	}
}

func number[T int | int64](v T) pit.Value { return pit.Value{Valid: true, Int: int64(v)} }
func float(v float32) pit.Value           { return pit.Value{Valid: true, Float: v} }
func text(v string) pit.Value             { return pit.Value{Valid: true, Text: v} }

// randomExamples are the histories of some users: skewed values, gaps, rare
// ones, extremes.
func randomExamples(r *rand.Rand, users int, def *definition.Definition) []pit.Example {
	maybe := func(p float64, v pit.Value) pit.Value {
		if r.Float64() < p {
			return pit.Value{}
		}
		return v
	}
	zipf := rand.NewZipf(r, 1.3, 1, 60)
	kinds := []string{"beach", "city", "food", "hike", "museum", "opera", "rail", "ski", "spa", "zoo"}
	var list []pit.Example
	for u := range users {
		entity := fmt.Sprintf("reader-%d-%x", u, r.Uint32())
		segment := maybe(0.1, text(fmt.Sprintf("segment-%02d", zipf.Uint64())))
		if r.IntN(40) == 0 {
			segment = text("")
		}
		var chosen []string
		for i, k := range kinds {
			if r.IntN(2+3*i) == 0 {
				chosen = append(chosen, k)
			}
		}
		types := maybe(0.1, text(strings.Join(chosen, ",")))
		budget := maybe(0.2, float(float32(r.NormFloat64()*300+1000)))
		if r.IntN(50) == 0 {
			budget = float(99999.5)
		}
		age := maybe(0.2, number(18+r.IntN(60)))
		if r.IntN(100) == 0 {
			age = number(119)
		}
		for range r.IntN(12) {
			e := pit.Example{
				ID: fmt.Sprintf("offer-%x", r.Uint64()), EntityID: entity, Outcome: pickOutcome(r),
				Time: asOf.UnixMicro() - 1 - r.Int64N(90*day), Exact: pit.Exactness(r.IntN(4)), Immature: r.IntN(9) == 0,
				Columns: make([]pit.Value, colsN), Values: []pit.Value{age},
				Uniform: [][]pit.Value{{text("EUR")}},
			}
			if r.IntN(7) == 0 && len(list) > 0 && list[len(list)-1].EntityID == entity {
				e.Time = list[len(list)-1].Time
			}
			age := asOf.UnixMicro() - e.Time
			e.Censored = age < 14*day
			if e.Goal = e.Outcome == 0 && age >= 30*day; e.Goal {
				e.GoalAfter = e.Time % (40 * day)
			}
			o := def.Labels.Outcomes[e.Outcome]
			c := e.Columns
			c[colTime] = number(e.Time)
			c[colV0] = maybe(0.05, float(r.Float32()*1.2-0.1))
			c[colV1] = maybe(0.3, float(r.Float32()*1.2-0.1))
			c[colSegment], c[colTypes], c[colBudget] = segment, types, budget
			c[colCount] = maybe(0.2, number(r.IntN(30)))
			c[colFlag] = maybe(0.3, number(r.IntN(2)))
			c[colPassengers] = maybe(0.5, number(r.IntN(5)))
			c[colItem] = maybe(0.05, text(fmt.Sprintf("item-%d", r.IntN(200))))
			c[colName] = text(o.Name)
			c[colScore] = float(float32(o.Score))
			c[colGoal] = number(0)
			if o.Name == def.Labels.Goal {
				c[colGoal] = number(1)
				c[colRating] = maybe(0.4, number(1+r.IntN(5)))
			}
			c[colExact] = number(0)
			if e.Exact < pit.Inexact {
				c[colExact] = number(1)
			}
			list = append(list, e)
		}
	}
	return list
}

func pickOutcome(r *rand.Rand) int {
	switch n := r.IntN(100); {
	case n < 8:
		return 0
	case n < 14:
		return 1
	case n < 26:
		return 2
	}
	return 3
}

// sayWhatIsTheSame sets Same of the examples of an entity.
func sayWhatIsTheSame(list []pit.Example) {
	var before []pit.Value
	for i := range list {
		e := &list[i]
		now := slices.Concat(e.Columns, e.Values, slices.Concat(e.Uniform...))
		e.Same = make([]bool, len(now))
		for k := range now {
			e.Same[k] = i > 0 && len(before) == len(now) && now[k] == before[k]
		}
		before = now
	}
}

// source deals the entities out to n parts, in random order.
func source(r *rand.Rand, list []pit.Example, n int) *snapshot.TestSource {
	var entities [][]pit.Example
	for len(list) > 0 {
		end := slices.IndexFunc(list, func(e pit.Example) bool { return e.EntityID != list[0].EntityID })
		if end < 0 {
			end = len(list)
		}
		entities = append(entities, list[:end])
		list = list[end:]
	}
	r.Shuffle(len(entities), func(i, j int) { entities[i], entities[j] = entities[j], entities[i] })
	s := &snapshot.TestSource{Parts: make([][]pit.Example, n)}
	for _, e := range entities {
		if r.IntN(2) == 0 {
			sayWhatIsTheSame(e)
		}
		p := r.IntN(n)
		s.Parts[p] = append(s.Parts[p], e...)
	}
	return s
}
