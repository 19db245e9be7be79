package snapshot_test

import (
	"context"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/snapshot"
)

var update = flag.Bool("update", false, "write the golden files")

// TestMetadataIsTheGoldenOne pins the metadata of a small dataset, but for the
// figures that depend on the compressor.
func TestMetadataIsTheGoldenOne(t *testing.T) {
	r := rand.New(rand.NewPCG(2026, 11))
	def := testDefinition()
	c := config(t, def)
	got, err := snapshot.BuildFrom(context.Background(), c, source(r, randomExamples(r, 150, def), 3))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(got.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "metadata.golden.json")
	if *update {
		if err := os.WriteFile(golden, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(stable(t, want), stable(t, data)); d != "" {
		t.Errorf("metadata (-want +got), run with -update if it is meant:\n%s", d)
	}
}

// stable leaves out sizes and hashes of compressed files.
func stable(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, f := range m["files"].([]any) {
		delete(f.(map[string]any), "bytes")
		delete(f.(map[string]any), "sha256")
	}
	return m
}

// TestOnlyTheClockMayDiffer is I6: two builds at different times differ in
// created_at and extraction_date alone, and in the report's moment.
func TestOnlyTheClockMayDiffer(t *testing.T) {
	def := testDefinition()
	list := randomExamples(rand.New(rand.NewPCG(2026, 11)), 150, def)
	build := func(now time.Time) (lines []string, page string, data []byte) {
		c := config(t, def)
		c.Now = func() time.Time { return now }
		got, err := snapshot.BuildFrom(context.Background(), c, source(rand.New(rand.NewPCG(1, 1)), list, 3))
		if err != nil {
			t.Fatal(err)
		}
		read := func(path string) []byte {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		return strings.Split(string(read(got.Metadata)), "\n"), string(read(got.Report)), append(read(got.Train), read(got.Test)...)
	}
	a, pageA, dataA := build(time.Date(2026, 11, 2, 1, 0, 0, 0, time.UTC))
	b, pageB, dataB := build(time.Date(2031, 1, 2, 3, 4, 5, 6, time.UTC))
	if string(dataA) != string(dataB) {
		t.Error("data files differ")
	}
	if len(a) != len(b) || strings.Count(pageA, "\n") != strings.Count(pageB, "\n") {
		t.Fatal("metadata or report have other lines")
	}
	var keys []string
	for i := range a {
		if a[i] != b[i] {
			key, _, _ := strings.Cut(strings.TrimSpace(a[i]), ":")
			keys = append(keys, key)
		}
	}
	if d := cmp.Diff([]string{`"created_at"`, `"extraction_date"`}, keys); d != "" {
		t.Errorf("keys that differ (-want +got):\n%s", d)
	}
}

// TestNoRawIDIsPublished is I8.
func TestNoRawIDIsPublished(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	def := testDefinition()
	list := randomExamples(r, 100, def)
	c := config(t, def)
	got, err := snapshot.BuildFrom(context.Background(), c, source(r, list, 3))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{got.Train, got.Test, got.Metadata, got.Report} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if strings.Contains(string(data), e.EntityID) || strings.Contains(string(data), e.ID) {
				t.Fatalf("%s holds a raw id", filepath.Base(path))
			}
		}
	}
}

// TestRareValuesAndSmallCellsAreNotNamed: what fewer than ten users share
// stands neither in the metadata nor in the report.
func TestRareValuesAndSmallCellsAreNotNamed(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	def := testDefinition()
	list := randomExamples(r, 300, def)
	rare := list[0].EntityID
	for i := range list {
		if list[i].EntityID == rare {
			list[i].Columns[colSegment] = text("TELLTALE")
			list[i].Columns[colRating] = number(5)
		} else {
			list[i].Columns[colRating].Valid = false
		}
	}
	got, err := snapshot.BuildFrom(context.Background(), config(t, def), source(r, list, 3))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{got.Train, got.Test, got.Metadata, got.Report} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "TELLTALE") {
			t.Errorf("%s names a rare value", filepath.Base(path))
		}
		if filepath.Ext(path) != ".json" {
			continue
		}
		var m struct {
			Labels map[string]any `json:"labels"`
		}
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		if m.Labels["avg_rating"] != "masked" {
			t.Errorf("the mean of one user's rating is %v, want it masked", m.Labels["avg_rating"])
		}
	}
}
