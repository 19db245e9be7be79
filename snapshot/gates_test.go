package snapshot_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
	"dreamfeed/snapshot/report"
)

// mix makes examples that trip no gate but by their number: each of a user of
// its own, so many of each outcome of testDefinition, in its order.
func mix(counts ...int) []pit.Example {
	def := testDefinition()
	var list []pit.Example
	for outcome, n := range counts {
		for range n {
			i := len(list)
			e := pit.Example{
				ID: fmt.Sprintf("offer-%d", i), EntityID: fmt.Sprintf("reader-%03d", i), Outcome: outcome,
				Time: asOf.UnixMicro() - int64(i+1)*day/4, Columns: make([]pit.Value, colsN),
				Values: []pit.Value{number(40)}, Uniform: [][]pit.Value{{text("EUR")}},
			}
			o := def.Labels.Outcomes[outcome]
			e.Columns[colTime] = number(e.Time)
			e.Columns[colV0], e.Columns[colV1] = float(0.5), float(0.5)
			e.Columns[colBudget], e.Columns[colItem] = float(1000), text("item")
			e.Columns[colName], e.Columns[colScore], e.Columns[colGoal] = text(o.Name), float(float32(o.Score)), number(0)
			if o.Name == def.Labels.Goal {
				e.Columns[colGoal] = number(1)
			}
			list = append(list, e)
		}
	}
	return list
}

// The first example of each outcome of the usual 100.
const (
	borrowed = 0
	refused  = 10
	opened   = 30
	ignored  = 60
)

func usual() []pit.Example { return mix(10, 20, 30, 40) }

// judged are the gates of a build: all of them if it is published, else those
// that stopped it.
func judged(t *testing.T, c snapshot.Config, list []pit.Example) (gates []snapshot.Gate, published *snapshot.Result) {
	t.Helper()
	r, err := snapshot.BuildFrom(context.Background(), c, source(rand.New(rand.NewPCG(1, 2)), list, 3))
	var failed *snapshot.GateError
	switch {
	case errors.As(err, &failed):
		wantEmpty(t, c.Output)
		return failed.Gates, nil
	case err != nil:
		t.Fatal(err)
	}
	return r.Gates, r
}

// limitConfig keeps every example of mix.
func limitConfig(t *testing.T) snapshot.Config {
	c := config(t, testDefinition())
	c.NegativeRatio = "100"
	return c
}

func gateNamed(gates []snapshot.Gate, name string) *snapshot.Gate {
	for i := range gates {
		if gates[i].Name == name {
			return &gates[i]
		}
	}
	return nil
}

func wantGate(t *testing.T, gates []snapshot.Gate, name string, figure float64, verdict report.Verdict) {
	t.Helper()
	g := gateNamed(gates, name)
	if g == nil {
		t.Fatalf("gates %+v, want %q among them", gates, name)
	}
	if g.Verdict != verdict || math.Abs(g.Figure.Value-figure) > 1e-12 || g.Figure != report.Of(g.Figure.Value) {
		t.Errorf("%s: %+v, verdict %s; want %v, %s", name, g.Figure, g.Verdict, figure, verdict)
	}
	if g.Sentence == "" {
		t.Errorf("%s says nothing", name)
	}
}

// shared gives n test users of the usual examples a row in train too.
func shared(c *snapshot.Config, n int) []pit.Example {
	list := usual()
	var test, train []*pit.Example
	for outcome := range c.Definition.Labels.Outcomes {
		var class []*pit.Example
		for i := range list {
			if list[i].Outcome == outcome {
				class = append(class, &list[i])
			}
		}
		slices.SortFunc(class, func(a, b *pit.Example) int {
			return cmp.Compare(hashOf("split", c.Seed, a.ID), hashOf("split", c.Seed, b.ID))
		})
		test, train = append(test, class[:len(class)/5]...), append(train, class[len(class)/5:]...)
	}
	for i := range n {
		train[i].EntityID = test[i].EntityID
	}
	slices.SortStableFunc(list, func(a, b pit.Example) int { return strings.Compare(a.EntityID, b.EntityID) })
	return list
}

func TestGateLimits(t *testing.T) {
	type edit = func(c *snapshot.Config, list []pit.Example) []pit.Example
	of := func(counts ...int) edit {
		return func(*snapshot.Config, []pit.Example) []pit.Example { return mix(counts...) }
	}
	rows := func(n int, change func(e *pit.Example)) edit {
		return func(_ *snapshot.Config, list []pit.Example) []pit.Example {
			for i := range n {
				change(&list[ignored+i])
			}
			return list
		}
	}
	// Required, and empty texts of it nevertheless count as missing.
	needsItem := func(items ...pit.Value) edit {
		return func(c *snapshot.Config, list []pit.Example) []pit.Example {
			c.Definition.Columns[colItem].Required = true
			for i, v := range items {
				list[ignored+i].Columns[colItem] = v
				list[ignored+i].EntityID = list[ignored].EntityID
			}
			return list
		}
	}
	set := func(at, column int, v pit.Value) edit {
		return func(_ *snapshot.Config, list []pit.Example) []pit.Example {
			list[at].Columns[column] = v
			return list
		}
	}
	sameID := func(n int) edit {
		return rows(n, func(e *pit.Example) { e.ID = "offer-0" })
	}
	exactness := func(n int, exact pit.Exactness, handling string) edit {
		return func(c *snapshot.Config, list []pit.Example) []pit.Example {
			c.Inexact = handling
			for i := range n {
				list[i].Exact = exact
			}
			return list
		}
	}
	overlap := func(n int) edit {
		return func(c *snapshot.Config, _ []pit.Example) []pit.Example { return shared(c, n) }
	}
	extreme := func(list []pit.Example, handling string, change func(e *pit.Example)) edit {
		return func(c *snapshot.Config, _ []pit.Example) []pit.Example {
			c.Outliers = handling
			change(&list[len(list)-1])
			return list
		}
	}
	rich := func(e *pit.Example) { e.Columns[colBudget] = float(99999) }
	old := func(e *pit.Example) { e.Values[0] = number(119) }
	currencies := func(n int) edit {
		return func(_ *snapshot.Config, list []pit.Example) []pit.Example {
			for i := range list {
				list[i].Uniform = [][]pit.Value{{{}}}
				if n > 0 {
					list[i].Uniform[0][0] = text(fmt.Sprint("C", i%n))
				}
			}
			return list
		}
	}
	one49 := (1.0 / 49) / (1.0 / 100)

	tests := map[string]struct {
		gate    string
		edit    edit
		figure  float64
		verdict report.Verdict
	}{
		"a row that lacks a required value is dropped": {"Required values", needsItem(pit.Value{}), 0, report.Pass},
		"a required value that counts as missing":      {"Required values", needsItem(text("")), 1, report.Fail},
		"two required values that count as missing":    {"Required values", needsItem(text(""), text("")), 2, report.Fail},

		"elements beyond the range are clipped to it": {"Vector range", rows(2, func(e *pit.Example) {
			e.Columns[colV0], e.Columns[colV1] = float(-0.5), float(1.5)
		}), 0, report.Pass},

		"known labels":      {"Label set", of(10, 20, 30, 40), 0, report.Pass},
		"one unknown name":  {"Label set", set(ignored, colName, text("LOST")), 1, report.Fail},
		"one missing name":  {"Label set", set(ignored, colName, pit.Value{}), 1, report.Fail},
		"one unknown score": {"Label set", set(ignored, colScore, float(4)), 1, report.Fail},
		"one unknown goal":  {"Label set", set(ignored, colGoal, number(2)), 1, report.Fail},

		"goals with their scores":   {"Goal against score", of(10, 20, 30, 40), 0, report.Pass},
		"one goal without a score":  {"Goal against score", set(opened, colGoal, number(1)), 1, report.Fail},
		"one score without a goal":  {"Goal against score", set(borrowed, colGoal, number(0)), 1, report.Fail},
		"one goal, another's score": {"Goal against score", set(borrowed, colScore, float(1)), 1, report.Fail},
		"a score that the goal shares with another outcome": {"Goal against score", func(c *snapshot.Config, list []pit.Example) []pit.Example {
			c.Definition.Labels.Outcomes[1].Score = 5
			for i := refused; i < opened; i++ {
				list[i].Columns[colScore] = float(5)
			}
			return list
		}, 0, report.Pass},

		"ids that differ": {"Duplicate ids", of(10, 20, 30, 40), 0, report.Pass},
		"an id that a dropped row has too": {"Duplicate ids", rows(1, func(e *pit.Example) {
			e.ID, e.Columns[colV0] = "offer-0", pit.Value{}
		}), 0, report.Pass},
		"an id twice":        {"Duplicate ids", sameID(1), 1, report.Fail},
		"an id three times":  {"Duplicate ids", sameID(2), 2, report.Fail},
		"only aliases unset": {"Unclassified columns", of(10, 20, 30, 40), 0, report.Pass},
		"two columns of no known class": {"Unclassified columns", func(c *snapshot.Config, list []pit.Example) []pit.Example {
			c.Definition.Columns[colItem].Class, c.Definition.Columns[colCount].Class = "", "public"
			return list
		}, 2, report.Fail},

		"two rows, of which none goes to test": {"Smaller split", of(2), 0, report.Fail},
		"three rows, of which one goes to it":  {"Smaller split", of(3), 1, report.Pass},

		"goals at the low end":    {"Share of BORROWED", of(5, 25, 30, 40), 0.05, report.Pass},
		"goals below the low end": {"Share of BORROWED", of(4, 26, 30, 40), 0.04, report.Warn},
		"goals at the high end":   {"Share of BORROWED", of(15, 15, 30, 40), 0.15, report.Pass},
		"goals above it":          {"Share of BORROWED", of(16, 14, 30, 40), 0.16, report.Warn},

		"a class of 80 %":       {"Largest class", of(10, 5, 5, 80), 0.8, report.Pass},
		"a class of 81 %":       {"Largest class", of(10, 4, 5, 81), 0.81, report.Warn},
		"a class of one row":    {"Classes without rows", of(10, 1, 30, 59), 0, report.Pass},
		"a class of no row":     {"Classes without rows", of(10, 0, 30, 60), 1, report.Warn},
		"two classes of no row": {"Classes without rows", of(10, 0, 0, 90), 2, report.Warn},

		"20 % inexact":               {"Inexact features", exactness(20, pit.Inexact, snapshot.Keep), 0.2, report.Pass},
		"21 % inexact":               {"Inexact features", exactness(21, pit.Inexact, snapshot.Keep), 0.21, report.Warn},
		"21 % older than the feed":   {"Inexact features", exactness(21, pit.InexactOlder, snapshot.Keep), 0.21, report.Warn},
		"trusted counts as exact":    {"Inexact features", exactness(50, pit.ExactTrusted, snapshot.Keep), 0, report.Pass},
		"dropped rows do not count":  {"Inexact features", exactness(5, pit.Inexact, snapshot.Drop), 0, report.Pass},
		"no test user in train":      {"Test users in train", overlap(0), 0, report.Pass},
		"half of them in train":      {"Test users in train", overlap(10), 0.5, report.Pass},
		"over half of them in train": {"Test users in train", overlap(11), 0.55, report.Warn},

		"twice the overall share":      {"Outliers by class: budget", extreme(mix(10, 10, 30, 50), snapshot.Drop, rich), 2, report.Pass},
		"over twice the overall share": {"Outliers by class: budget", extreme(mix(10, 11, 30, 49), snapshot.Drop, rich), one49, report.Warn},
		"over twice it, all kept":      {"Outliers by class: budget", extreme(mix(10, 11, 30, 49), snapshot.Keep, rich), one49, report.Warn},
		"a whole number, twice":        {"Outliers by class: age", extreme(mix(10, 10, 30, 50), snapshot.Drop, old), 2, report.Pass},
		"a whole number, over twice":   {"Outliers by class: age", extreme(mix(10, 11, 30, 49), snapshot.Drop, old), one49, report.Warn},

		"no currency":    {"Uniform: currency", currencies(0), 0, report.Pass},
		"one currency":   {"Uniform: currency", currencies(1), 1, report.Pass},
		"two currencies": {"Uniform: currency", currencies(2), 2, report.Warn},
		"values of two paths that differ": {"Uniform: currency", func(c *snapshot.Config, list []pit.Example) []pit.Example {
			u := &c.Definition.Gates.Uniform[0]
			u.Of = append(u.Of, definition.Path{Ref: *ref("v.cash"), Field: "currency"})
			for i := range list {
				list[i].Uniform = [][]pit.Value{{text("EUR"), text("USD")}}
			}
			return list
		}, 2, report.Warn},
		"more currencies than are counted": {"Uniform: currency", func(c *snapshot.Config, _ []pit.Example) []pit.Example {
			return currencies(101)(c, mix(20, 40, 60, 80))
		}, 100, report.Warn},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := limitConfig(t)
			list := test.edit(&c, usual())
			gates, published := judged(t, c, list)
			wantGate(t, gates, test.gate, test.figure, test.verdict)
			if (published == nil) != (test.verdict == report.Fail) {
				t.Errorf("published %v with the verdict %s", published != nil, test.verdict)
			}
			if test.verdict != report.Warn {
				return
			}
			c.Strict, c.Version = true, "1.1"
			c.Output = t.TempDir()
			gates, published = judged(t, c, list)
			wantGate(t, gates, test.gate, test.figure, test.verdict)
			if published != nil {
				t.Error("published in spite of Strict")
			}
		})
	}
}

// TestGateOfVectorRangeLimits judges values that no clipping can let through.
func TestGateOfVectorRangeLimits(t *testing.T) {
	below, above := math.Nextafter32(0, -1), math.Nextafter32(1, 2)
	for name, test := range map[string]struct {
		column  int
		values  []float32
		figure  float64
		verdict report.Verdict
	}{
		"both ends belong to the range": {colV0, []float32{0, 1}, 0, report.Pass},
		"the next value below does not": {colV0, []float32{0, below}, 1, report.Fail},
		"the next value above does not": {colV0, []float32{above, 1}, 1, report.Fail},
		"elements are counted":          {colV1, []float32{above, 1, below}, 2, report.Fail},
		"other columns have no range":   {colBudget, []float32{above, below}, 0, report.Pass},
	} {
		t.Run(name, func(t *testing.T) {
			gates, err := snapshot.GatesOfVector(limitConfig(t), test.column, test.values...)
			if err != nil {
				t.Fatal(err)
			}
			wantGate(t, gates, "Vector range", test.figure, test.verdict)
		})
	}
}

func TestGatesOfSizeWarnFromOneByteTooFew(t *testing.T) {
	_, published := judged(t, limitConfig(t), usual())
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	train, test := size(published.Train), size(published.Test)
	for name, over := range map[string]struct {
		train, test int64
		verdicts    [2]report.Verdict
	}{
		"both as large as asked": {0, 0, [2]report.Verdict{report.Pass, report.Pass}},
		"train a byte short":     {1, 0, [2]report.Verdict{report.Warn, report.Pass}},
		"test a byte short":      {0, 1, [2]report.Verdict{report.Pass, report.Warn}},
	} {
		t.Run(name, func(t *testing.T) {
			c := limitConfig(t)
			c.Definition.Gates.TrainBytes, c.Definition.Gates.TestBytes = train+over.train, test+over.test
			gates, _ := judged(t, c, usual())
			wantGate(t, gates, "Size of train", float64(train), over.verdicts[0])
			wantGate(t, gates, "Size of test", float64(test), over.verdicts[1])
		})
	}
}

// TestGatesListed pins which gates a definition has, and that a dataset that
// trips none is published by a strict build too.
func TestGatesListed(t *testing.T) {
	fixed := []string{
		"Required values", "Vector range", "Label set", "Goal against score", "Duplicate ids", "Unclassified columns", "Smaller split",
	}
	for name, test := range map[string]struct {
		change func(g *definition.Gates)
		want   []string
	}{
		"every limit": {
			func(g *definition.Gates) { g.TrainBytes, g.TestBytes = 1, 1 },
			[]string{
				"Size of train", "Size of test", "Share of BORROWED", "Largest class", "Classes without rows",
				"Inexact features", "Test users in train", "Uniform: currency",
			},
		},
		"no limit": {func(g *definition.Gates) { *g = definition.Gates{} }, []string{"Classes without rows"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := limitConfig(t)
			c.Strict = true
			test.change(&c.Definition.Gates)
			gates, published := judged(t, c, usual())
			if published == nil {
				t.Fatalf("not published: %+v", gates)
			}
			var names []string
			for _, g := range gates {
				names = append(names, g.Name)
				if g.Verdict != report.Pass {
					t.Errorf("%s: verdict %s", g.Name, g.Verdict)
				}
			}
			if d := gocmp.Diff(append(slices.Clone(fixed), test.want...), names); d != "" {
				t.Errorf("gates (-want +got):\n%s", d)
			}
		})
	}
}
