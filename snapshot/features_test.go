package snapshot_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

// stepFive does step 5 the plain way: what the file of features must hold.
func stepFive(c snapshot.Config, examples []pit.Example) (names []string, rows [][]any) {
	def := c.Definition
	in := func(d *definition.Column) bool {
		return d.Role != definition.RoleLabel && d.Name != "weight"
	}
	for i := range def.Columns {
		if in(&def.Columns[i]) {
			names = append(names, def.Columns[i].Name)
		}
	}
	type keyed struct {
		user string
		time int64
		id   string
		row  []any
	}
	var list []keyed
	for _, e := range examples {
		if c.Inexact == snapshot.Drop && e.Exact >= pit.Inexact {
			continue
		}
		k := keyed{user: pseudonym("reader_hash", c.Version, e.EntityID), time: e.Time, id: pseudonym("offer_id", c.Version, e.ID)[:32]}
		one := func(at int) any {
			d, v := &def.Columns[at], e.Columns[at]
			switch d.Type {
			case definition.Float32:
				if !v.Valid {
					return nil
				}
				if d.Clip != nil {
					return min(max(v.Float, 0), 1)
				}
				return v.Float
			case definition.String:
				if !v.Valid || v.Text == "" {
					return "UNKNOWN"
				}
				return v.Text
			case definition.Boolean:
				return v.Valid && v.Int == 1
			case definition.TimeStamp:
				return v.Int
			}
			switch {
			case v.Valid:
				return int32(v.Int)
			case d.Missing == definition.MissingZero:
				return int32(0)
			}
			return nil
		}
		for i := range def.Columns {
			switch {
			case i == colUser:
				k.row = append(k.row, k.user)
			case i == colID:
				k.row = append(k.row, k.id)
			case i == colAlias:
				k.row = append(k.row, one(colBudget))
			case in(&def.Columns[i]):
				k.row = append(k.row, one(i))
			}
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b keyed) int {
		return cmp.Or(strings.Compare(a.user, b.user), cmp.Compare(a.time, b.time), strings.Compare(a.id, b.id))
	})
	for _, k := range list {
		rows = append(rows, k.row)
	}
	return names, rows
}

// featuresConfig asks for the rows of step 5, and gives none of the settings of
// what comes after.
func featuresConfig(t *testing.T, def *definition.Definition) snapshot.Config {
	t.Helper()
	c := config(t, def)
	c.Stage, c.NegativeRatio, c.TestSize, c.Seed = snapshot.StageFeatures, "", "", 0
	return c
}

func TestFeaturesAreAllRowsOfStepFive(t *testing.T) {
	for _, inexact := range []string{snapshot.Keep, snapshot.Drop} {
		t.Run("inexact "+inexact, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("repeat with seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			def := testDefinition()
			// What the label says of an example drops no row of features.
			def.Example.DropImmature, def.Labels.DropCensored, def.Labels.Window = true, true, time.Hour
			c := featuresConfig(t, def)
			c.Inexact, c.Workers = inexact, 1+r.IntN(4)
			examples := randomExamples(r, 300, def)
			for i := range examples {
				examples[i].Censored = i%3 == 0
			}
			names, want := stepFive(c, examples)
			got, err := snapshot.BuildFrom(context.Background(), c, source(r, examples, 1+r.IntN(20)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Dir != filepath.Join(c.Output, "features_v1.0") || filepath.Dir(got.Features) != got.Dir ||
				filepath.Base(got.Features) != "features_v1.0.parquet" || filepath.Base(got.Metadata) != "metadata_features_v1.0.json" {
				t.Errorf("published %s and %s in %s", got.Features, got.Metadata, got.Dir)
			}
			file, read := readParquet(t, got.Features)
			var columns []string
			for _, f := range file.Schema().Fields() {
				columns = append(columns, f.Name())
				if wantOptional := f.Name() != "reader_hash" && f.Name() != "offer_id"; f.Optional() != wantOptional {
					t.Errorf("column %s: optional %t, want %t", f.Name(), f.Optional(), wantOptional)
				}
			}
			if d := gocmp.Diff(names, columns); d != "" {
				t.Errorf("columns (-want +got):\n%s", d)
			}
			if !gocmp.Equal(want, read) {
				t.Errorf("rows differ (-want +got):\n%s", firstDiff(want, read))
			}
			n, all := int64(len(want)), int64(len(examples))
			funnel := []snapshot.FunnelStep{
				{Key: "candidates", Count: all},
				{Key: "deleted", Count: all},
				{Key: "no_vector", Count: all},
				{Key: "deletion_pending", Count: all},
				{Key: "consent", Count: all},
				{Key: "inexact", Count: n, Removed: all - n},
			}
			if d := gocmp.Diff(funnel, got.Funnel); d != "" || got.FeatureRows != n {
				t.Errorf("%d rows, want %d; funnel (-want +got):\n%s", got.FeatureRows, n, d)
			}
		})
	}
}

// TestFeatureRowsAreThoseOfTheDataset joins both by pseudonym: the dataset has
// the values of step 5, where it neither filled a gap nor merged a rare value.
func TestFeatureRowsAreThoseOfTheDataset(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	def := testDefinition()
	examples := randomExamples(r, 400, def)
	c := config(t, def)
	c.Outliers = snapshot.Keep
	// Neither stage blocks the other, and both are of one version.
	f := c
	f.Stage = snapshot.StageFeatures
	rows, err := snapshot.BuildFrom(context.Background(), f, source(r, examples, 7))
	if err != nil {
		t.Fatal(err)
	}
	dataset, err := snapshot.BuildFrom(context.Background(), c, source(r, examples, 3))
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []snapshot.Config{c, f} {
		var exists *snapshot.VersionExistsError
		if err := again.Validate(); !errors.As(err, &exists) {
			t.Errorf("stage %s again: error %v, want a VersionExistsError", again.Stage, err)
		}
	}
	named := func(path string) map[string]map[string]any {
		file, read := readParquet(t, path)
		out := map[string]map[string]any{}
		for _, row := range read {
			m := map[string]any{}
			for i, field := range file.Schema().Fields() {
				m[field.Name()] = row[i]
			}
			out[m["offer_id"].(string)] = m
		}
		return out
	}
	all := named(rows.Features)
	compared := 0
	for _, path := range []string{dataset.Train, dataset.Test} {
		for id, row := range named(path) {
			found, ok := all[id]
			if !ok {
				t.Fatalf("row %s of the dataset is no row of step 5", id)
			}
			for name, v := range found {
				if row[name] != v && v != nil && row[name] != "OTHER" && name != "types" {
					t.Errorf("column %s of %s: %v in step 5, %v in the dataset", name, id, v, row[name])
				}
				compared++
			}
		}
	}
	if compared < 1000 {
		t.Errorf("%d values compared, want more", compared)
	}
}

// TestI6FeatureBytesDependOnNeitherWorkersNorLaterSettings is I6.
func TestI6FeatureBytesDependOnNeitherWorkersNorLaterSettings(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	def := testDefinition()
	examples := randomExamples(r, 400, def)
	var first map[string]string
	for _, workers := range []int{1, 4, 2} {
		c := featuresConfig(t, def)
		c.Workers = workers
		c.Seed, c.NegativeRatio, c.Strict, c.Outliers = int64(workers), fmt.Sprint(workers), workers == 4, "nonsense"
		got, err := snapshot.BuildFrom(context.Background(), c, source(r, examples, 1+r.IntN(12)))
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, path := range []string{got.Features, got.Metadata} {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(path)] = string(data)
		}
		if first == nil {
			first = files
		} else if !gocmp.Equal(first, files) {
			t.Errorf("the files differ with %d workers", workers)
		}
	}
}

func TestFeaturesOfNothingAreAnEmptyFile(t *testing.T) {
	got, err := snapshot.BuildFrom(context.Background(), featuresConfig(t, testDefinition()), &snapshot.TestSource{})
	if err != nil {
		t.Fatal(err)
	}
	if _, rows := readParquet(t, got.Features); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestFeaturesAreRefusedOrWholeOrNotThere(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	examples := randomExamples(r, 100, testDefinition())
	stop := errors.New("stop here")
	tests := map[string]struct {
		change func(c *snapshot.Config, s *snapshot.TestSource)
		want   func(error) bool
	}{
		"a failing source": {
			func(_ *snapshot.Config, s *snapshot.TestSource) { s.Before = func() error { return stop } },
			func(err error) bool { return errors.Is(err, stop) },
		},
		"an unclassified column": {
			func(c *snapshot.Config, _ *snapshot.TestSource) { c.Definition.Columns[colItem].Class = "" },
			func(err error) bool { return errors.As(err, new(*snapshot.GateError)) },
		},
		"an unknown stage": {
			func(c *snapshot.Config, _ *snapshot.TestSource) { c.Stage = "labels" },
			func(err error) bool { return err != nil && strings.Contains(err.Error(), "--stage") },
		},
		"an account that does not add up": {
			func(_ *snapshot.Config, s *snapshot.TestSource) { s.Tally.Candidates = 1 },
			func(err error) bool { return err != nil && strings.Contains(err.Error(), "account for the rows") },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := featuresConfig(t, testDefinition())
			s := source(r, examples, 3)
			test.change(&c, s)
			if _, err := snapshot.BuildFrom(context.Background(), c, s); !test.want(err) {
				t.Errorf("error %v", err)
			}
			wantEmpty(t, c.Output)
		})
	}
}

// TestFeatureMetadataTellsWhatTheRowsAre pins what a reader relies on.
func TestFeatureMetadataTellsWhatTheRowsAre(t *testing.T) {
	r := rand.New(rand.NewPCG(2026, 11))
	def := testDefinition()
	examples := randomExamples(r, 150, def)
	got, err := snapshot.BuildFrom(context.Background(), featuresConfig(t, def), source(r, examples, 3))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(got.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "features.golden.json")
	if *update {
		if err := os.WriteFile(golden, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(stable(t, want), stable(t, data)); d != "" {
		t.Errorf("metadata (-want +got), run with -update if it is meant:\n%s", d)
	}
	var m struct {
		Statement string
		Files     []struct{ SHA256, Name string }
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, fact := range []string{"rare values are not merged", "groups are not protected"} {
		if !strings.Contains(m.Statement, fact) {
			t.Errorf("the statement does not say that %s: %s", fact, m.Statement)
		}
	}
	file, _ := readParquet(t, got.Features)
	for key, want := range map[string]string{"dreamfeed.stage": "features", "dreamfeed.statement": m.Statement, "dreamfeed.logical_digest": got.Digest} {
		if v, _ := file.Lookup(key); v != want {
			t.Errorf("%s is %q, want %q", key, v, want)
		}
	}
}
