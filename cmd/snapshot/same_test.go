package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dates are the two values of the metadata that may differ between two builds
// of one dataset; the report shows the first.
var dates = regexp.MustCompile(`"(created_at|extraction_date)": "[^"]*"`)

// contents reads a version's data files and its metadata without the two dates.
func contents(t *testing.T, output, version string) (train, test, metadata []byte) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(output, "v"+version, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	train, test = read("train_v"+version+".parquet"), read("test_v"+version+".parquet")
	metadata = read("metadata_v" + version + ".json")
	if n := len(dates.FindAll(metadata, -1)); n != 2 {
		t.Fatalf("the metadata of version %s hold %d dates, want 2", version, n)
	}
	return train, test, dates.ReplaceAll(metadata, nil)
}

// requireSame requires that a version built in two output directories has the
// same bytes but for its dates.
func requireSame(t *testing.T, claim, want, got, version string) {
	t.Helper()
	wantTrain, wantTest, wantMetadata := contents(t, want, version)
	gotTrain, gotTest, gotMetadata := contents(t, got, version)
	if !bytes.Equal(wantTrain, gotTrain) || !bytes.Equal(wantTest, gotTest) {
		t.Errorf("%s: the data files differ", claim)
	}
	if diff := cmp.Diff(string(wantMetadata), string(gotMetadata)); diff != "" {
		t.Errorf("%s: the metadata differ (-want +got):\n%s", claim, diff)
	}
}
