package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
	"dreamfeed/snapshot/spill"
)

// TestBuildFollowsTheContract holds builds of random examples against a plain
// re-implementation of steps 6 to 10.
func TestBuildFollowsTheContract(t *testing.T) {
	base := rand.Uint64()
	for i := range 12 {
		seed := base + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("repeat with seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			def := testDefinition()
			c := config(t, def)
			c.NegativeRatio = []string{"2.0", "0.7", "0", "100"}[r.IntN(4)]
			c.TestSize = []string{"0.2", "0.5", "0.333"}[r.IntN(3)]
			c.Seed = r.Int64N(100)
			c.Workers = 1 + r.IntN(4)
			if r.IntN(3) == 0 {
				c.Inexact = snapshot.Drop
			}
			if r.IntN(3) == 0 {
				c.Outliers = snapshot.Keep
			}
			if r.IntN(3) == 0 {
				def.Privacy.GroupMinUsers = 30
			}
			if def.Example.DropImmature = r.IntN(3) == 0; r.IntN(3) == 0 {
				def.Labels.Window, def.Labels.DropCensored = 14*24*time.Hour, true
			}
			examples := lengthen(r, randomExamples(r, []int{40, 300, 600}[i%3], def))
			want := contract(c, examples)
			got, err := snapshot.BuildFrom(context.Background(), c, source(r, examples, 1+r.IntN(20)))
			if gates := (*snapshot.GateError)(nil); errors.As(err, &gates) && (len(want.train) == 0 || len(want.test) == 0) {
				return // an empty split is rightly refused
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want.funnel, got.Funnel); d != "" {
				t.Errorf("funnel (-want +got):\n%s", d)
			}
			for path, rows := range map[string][][]any{got.Train: want.train, got.Test: want.test} {
				if _, read := readParquet(t, path); !cmp.Equal(rows, read) {
					t.Errorf("%s differs (-want +got):\n%s", filepath.Base(path), firstDiff(rows, read))
				}
			}
		})
	}
}

// lengthen gives some entities as many rows as make a chunk of the spill, or several,
// and some of these another segment, types or budget now and then.
func lengthen(r *rand.Rand, list []pit.Example) (all []pit.Example) {
	rare := 15
	if len(list) < 2000 && r.IntN(2) == 0 {
		rare = 3
	}
	for i, e := range list {
		all = append(all, e)
		if last := i+1 == len(list) || list[i+1].EntityID != e.EntityID; !last || r.IntN(rare) > 0 {
			continue
		}
		changes := r.IntN(2) == 0
		for range []int{31, 60, 127, 128, 260}[r.IntN(5)] {
			e.ID = fmt.Sprintf("offer-%x", r.Uint64())
			e.Columns = slices.Clone(e.Columns)
			e.Columns[colItem] = text(fmt.Sprintf("item-%d", r.IntN(200)))
			if changes {
				e.Columns[colFlag] = number(r.IntN(2))
				if at := []int{colSegment, colTypes, colBudget}[r.IntN(3)]; r.IntN(15) == 0 {
					e.Columns[at] = list[r.IntN(len(list))].Columns[at]
				}
			}
			all = append(all, e)
		}
	}
	return all
}

// TestMoreTextsThanAreNumberedAreWrittenAsTheyAre: of long texts and of many
// only the first ones are numbered.
func TestMoreTextsThanAreNumberedAreWrittenAsTheyAre(t *testing.T) {
	for name, c := range map[string]struct {
		users int
		item  func(i int) string
	}{
		"long": {600, func(i int) string { return fmt.Sprint(i, strings.Repeat(" item", 200+i%200)) }},
		"many": {6000, func(i int) string { return fmt.Sprint("item ", i) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			def := testDefinition()
			examples := randomExamples(r, c.users, def)
			bytes := 0
			for i := range examples {
				if item := &examples[i].Columns[colItem]; i%3 > 0 || !item.Valid { // some occur again and again
					*item = text(c.item(i))
					bytes += len(item.Text)
				}
			}
			if len(examples)*2/3 < spill.MostTexts && bytes < 2*spill.MostTextBytes {
				t.Fatalf("%d texts of %d bytes are all numbered", len(examples), bytes)
			}
			config := config(t, def)
			config.Workers, config.NegativeRatio = 1, "100"
			want := contract(config, examples)
			got, err := snapshot.BuildFrom(context.Background(), config, source(r, examples, 5))
			if err != nil {
				t.Fatal(err)
			}
			for path, rows := range map[string][][]any{got.Train: want.train, got.Test: want.test} {
				if _, read := readParquet(t, path); !cmp.Equal(rows, read) {
					t.Errorf("%s differs (-want +got):\n%s", filepath.Base(path), firstDiff(rows, read))
				}
			}
		})
	}
}

func firstDiff(want, got [][]any) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%d rows, not %d", len(got), len(want))
	}
	for i := range want {
		if d := cmp.Diff(want[i], got[i]); d != "" {
			return fmt.Sprintf("row %d: %s", i, d)
		}
	}
	return ""
}

// TestBytesDependOnNeitherWorkersNorScanOrder is I6.
func TestBytesDependOnNeitherWorkersNorScanOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	def := testDefinition()
	examples := randomExamples(r, 500, def)
	var first map[string]string
	for _, workers := range []int{1, 4, 2} {
		c := config(t, def)
		c.Workers = workers
		got, err := snapshot.BuildFrom(context.Background(), c, source(r, examples, 1+r.IntN(12)))
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, path := range []string{got.Train, got.Test, got.Metadata, got.Report} {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(path)] = string(data)
		}
		if first == nil {
			first = files
			continue
		}
		for name, data := range files {
			if data != first[name] {
				at := 0
				for at < min(len(data), len(first[name])) && data[at] == first[name][at] {
					at++
				}
				t.Errorf("%s differs with %d workers at byte %d of %d and %d: %q, %q", name, workers, at, len(first[name]), len(data),
					first[name][at:min(at+60, len(first[name]))], data[at:min(at+60, len(data))])
			}
		}
	}
}

func TestAFailingBuildLeavesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	def := testDefinition()
	examples := randomExamples(r, 300, def)
	stop := errors.New("stop here")
	for _, at := range []int{0, 1, 700} {
		c := config(t, def)
		s := source(r, examples, 5)
		c.Workers = 1
		n := 0
		s.Before = func() error {
			if n++; n > at {
				return stop
			}
			return nil
		}
		if _, err := snapshot.BuildFrom(context.Background(), c, s); !errors.Is(err, stop) {
			t.Fatalf("error %v, want %v", err, stop)
		}
		wantEmpty(t, c.Output)
	}
	// Cancelled in each step.
	steps := map[string]bool{}
	c := config(t, def)
	c.Progress = func(step string, _, _ int64) { steps[step] = true }
	if _, err := snapshot.BuildFrom(context.Background(), c, source(r, examples, 5)); err != nil {
		t.Fatal(err)
	}
	if len(steps) < 8 {
		t.Fatalf("steps %v, want all passes", steps)
	}
	for step := range steps {
		c := config(t, def)
		ctx, cancel := context.WithCancel(context.Background())
		c.Progress = func(at string, done, _ int64) {
			if at == step && done >= 1 {
				cancel()
			}
		}
		if _, err := snapshot.BuildFrom(ctx, c, source(r, examples, 5)); !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled in %s: error %v", step, err)
		}
		cancel()
		wantEmpty(t, c.Output)
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left behind", e.Name())
	}
}

func TestAVersionIsNeverOverwritten(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	def := testDefinition()
	c := config(t, def)
	s := source(r, randomExamples(r, 100, def), 3)
	if _, err := snapshot.BuildFrom(context.Background(), c, s); err != nil {
		t.Fatal(err)
	}
	s.Before = func() error { return errors.New("work was done") }
	_, err := snapshot.BuildFrom(context.Background(), c, s)
	var exists *snapshot.VersionExistsError
	if !errors.As(err, &exists) || exists.Dir != filepath.Join(c.Output, "v1.0") {
		t.Fatalf("error %v, want a VersionExistsError", err)
	}
	if !strings.Contains(err.Error(), exists.Dir) || !strings.Contains(err.Error(), "--version") {
		t.Errorf("the message %q does not help", err)
	}
	// Another build publishes it meanwhile.
	c.Version = "1.1"
	target := filepath.Join(c.Output, "v1.1")
	s.Before = func() error { return os.MkdirAll(filepath.Join(target, "train"), 0o755) }
	if _, err := snapshot.BuildFrom(context.Background(), c, s); !errors.As(err, &exists) {
		t.Fatalf("error %v, want a VersionExistsError", err)
	}
}

func TestLeftoversOfCrashedBuildsGoAndThoseOfLiveOnesStay(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	def := testDefinition()
	examples := randomExamples(r, 100, def)
	c := config(t, def)
	dead := filepath.Join(c.Output, ".building-v9.9-123")
	if err := os.MkdirAll(filepath.Join(dead, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	inner := false
	s := source(r, examples, 2)
	s.Before = func() error {
		if inner {
			return nil
		}
		inner = true
		other := c
		other.Version = "2.0"
		_, err := snapshot.BuildFrom(context.Background(), other, source(r, examples, 2))
		return err
	}
	c.Workers = 1
	if _, err := snapshot.BuildFrom(context.Background(), c, s); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(c.Output)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if d := cmp.Diff([]string{"v1.0", "v2.0"}, names); d != "" {
		t.Errorf("directory (-want +got):\n%s", d)
	}
}

func TestGates(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 3))
	examples := randomExamples(r, 200, testDefinition())
	tests := map[string]struct {
		change func(c *snapshot.Config, list []pit.Example) []pit.Example
		gate   string
	}{
		"a duplicate id fails": {gate: "Duplicate ids", change: func(_ *snapshot.Config, list []pit.Example) []pit.Example {
			list[20].ID, list[20].Outcome, list[400].Outcome = list[400].ID, 0, 0
			for _, i := range []int{20, 400} {
				list[i].Columns[colV0] = float(0.5)
				list[i].Columns[colName], list[i].Columns[colScore], list[i].Columns[colGoal] = text("BORROWED"), float(5), number(1)
				list[i].Columns[colBudget], list[i].Values[0] = pit.Value{}, pit.Value{}
			}
			return list
		}},
		"a goal without its score fails": {gate: "Goal against score", change: func(_ *snapshot.Config, list []pit.Example) []pit.Example {
			for i := range list {
				list[i].Columns[colGoal] = number(1)
			}
			return list
		}},
		"an unknown label fails": {gate: "Label set", change: func(_ *snapshot.Config, list []pit.Example) []pit.Example {
			for i := range list {
				list[i].Columns[colName] = text("SOMETHING")
			}
			return list
		}},
		"an empty split fails": {gate: "Smaller split", change: func(_ *snapshot.Config, list []pit.Example) []pit.Example { return list[:1] }},
		"no candidate fails":   {gate: "Smaller split", change: func(_ *snapshot.Config, list []pit.Example) []pit.Example { return nil }},
		"an unclassified column fails": {gate: "Unclassified columns", change: func(c *snapshot.Config, list []pit.Example) []pit.Example {
			c.Definition.Columns[colItem].Class = ""
			return list
		}},
		"strict turns a warning into a failure": {gate: "Inexact features", change: func(c *snapshot.Config, list []pit.Example) []pit.Example {
			c.Strict = true
			return list
		}},
		"several currencies warn": {gate: "Uniform: currency", change: func(c *snapshot.Config, list []pit.Example) []pit.Example {
			c.Strict = true
			for i := range list {
				list[i].Uniform = [][]pit.Value{{text([]string{"EUR", "USD"}[i%2])}}
			}
			return list
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := config(t, testDefinition())
			list := make([]pit.Example, len(examples))
			for i, e := range examples {
				e.Columns = append([]pit.Value(nil), e.Columns...)
				e.Values = append([]pit.Value(nil), e.Values...)
				list[i] = e
			}
			list = test.change(&c, list)
			_, err := snapshot.BuildFrom(context.Background(), c, source(r, list, 3))
			var gates *snapshot.GateError
			if !errors.As(err, &gates) {
				t.Fatalf("error %v, want a GateError", err)
			}
			found := false
			for _, g := range gates.Gates {
				found = found || g.Name == test.gate
			}
			if !found {
				t.Errorf("gates %v, want %q among them", err, test.gate)
			}
			wantEmpty(t, c.Output)
		})
	}
}

func TestBadSettingsAreRefusedTogether(t *testing.T) {
	c := config(t, testDefinition())
	c.Version, c.TestSize, c.NegativeRatio, c.Inexact = "v1/../x", "1", "-2", "maybe"
	c.Key = make([]byte, 32)
	_, err := snapshot.BuildFrom(context.Background(), c, &snapshot.TestSource{})
	for _, want := range []string{"--version", "--test-size", "--negative-ratio", "--inexact", "key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	var setting *snapshot.ConfigError
	if !errors.As(err, &setting) {
		t.Errorf("error %v holds no ConfigError", err)
	}
}

func TestDefinitionsThatNoDatasetCanFollowAreRefused(t *testing.T) {
	for name, change := range map[string]func(d *definition.Definition){
		"an alias of nothing":      func(d *definition.Definition) { d.Columns[colAlias].Derive.Alias = "nothing" },
		"an outlier rule for text": func(d *definition.Definition) { d.Outliers = []string{"segment"} },
		"an unknown group":         func(d *definition.Definition) { d.Privacy.Groups = []string{"nothing"} },
		"a foreign pseudonym":      func(d *definition.Definition) { d.Columns[colID].Derive.Pseudonym.Of.Column = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			def := testDefinition()
			change(def)
			c := config(t, def)
			if _, err := snapshot.BuildFrom(context.Background(), c, &snapshot.TestSource{}); err == nil {
				t.Error("no error")
			}
			wantEmpty(t, c.Output)
		})
	}
}

// TestEachGroupOfAUserCounts: a user of two groups counts in both, in whatever order
// her rows come.
func TestEachGroupOfAUserCounts(t *testing.T) {
	def := testDefinition()
	def.Privacy.GroupMinUsers = 10
	like := randomExamples(rand.New(rand.NewPCG(1, 1)), 40, def)
	var examples []pit.Example
	for user := range 12 {
		for n := range 48 {
			e := like[n]
			e.ID, e.EntityID, e.Columns = fmt.Sprint(user, "/", n), fmt.Sprint("reader ", user), slices.Clone(e.Columns)
			e.Columns[colSegment], e.Columns[colFlag] = text("one"), number((user+n)%2)
			examples = append(examples, e)
		}
	}
	c := config(t, def)
	c.NegativeRatio, c.Outliers = "100", snapshot.Keep
	got, err := snapshot.BuildFrom(context.Background(), c, source(rand.New(rand.NewPCG(1, 1)), examples, 3))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range got.Funnel {
		if step.Key == "suppressed" && step.Removed != 0 {
			t.Errorf("%d rows are suppressed, of groups of 12 users", step.Removed)
		}
	}
}
