package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/durable"
)

var errInjected = errors.New("injected")

// failing returns a hook that fails the k-th step, and notes all before.
func failing(k int, seen *[]durable.Step) durable.Hook {
	return func(s durable.Step, _ uint64) error {
		if len(*seen) == k {
			return errInjected
		}
		*seen = append(*seen, s)
		return nil
	}
}

// The order of the steps is what makes a replaced file survive a power cut.
func TestFileIsReplacedInTheOrderThatSurvivesAPowerCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var seen []durable.Step
	if err := durable.ReplaceFile(path, []byte("new"), 0o600, failing(-1, &seen)); err != nil {
		t.Fatal(err)
	}
	want := []durable.Step{durable.WriteFile, durable.SyncFile, durable.RenameFile, durable.SyncDirectory}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	seen = nil
	if err := durable.Remove(path, failing(-1, &seen)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]durable.Step{durable.RemoveFile, durable.SyncDirectory}, seen); diff != "" {
		t.Error(diff)
	}
}

func TestFailedReplacementLeavesTheOldFileOrTheNewOneAndNothingElse(t *testing.T) {
	for k := range 4 {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		var seen []durable.Step
		if err := durable.ReplaceFile(path, []byte("new"), 0o600, failing(k, &seen)); !errors.Is(err, errInjected) {
			t.Errorf("step %d: error %v, want the injected one", k, err)
		}
		want := "old"
		if k == 3 { // it is renamed, and may still be the old one after a power cut
			want = "new"
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("step %d: the file holds %q, %v: want %q", k, got, err, want)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("step %d: %d files, %v: want 1", k, len(entries), err)
		}
	}
}

func TestWhatAKilledWriterLeftIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path+".new", []byte("a longer half of somethi"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := durable.ReplaceFile(path, []byte("new"), 0o600, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files, %v: want 1", len(entries), err)
	}
}

func TestNewNameReplacesNothing(t *testing.T) {
	for name, rename := range map[string]func(from, to string) error{
		"in one step": func(from, to string) error { return durable.RenameNew(from, to, nil) },
		"in two":      durable.RenameUnlessThere,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			for path, text := range map[string]string{from: "new", to: "old"} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := rename(from, to); !errors.Is(err, fs.ErrExist) {
				t.Errorf("rename to a name that is taken: %v", err)
			}
			if got, err := os.ReadFile(to); err != nil || string(got) != "old" {
				t.Errorf("the file holds %q, %v", got, err)
			}
			if err := rename(from, to+"2"); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(to + "2"); err != nil || string(got) != "new" {
				t.Errorf("the file holds %q, %v", got, err)
			}
		})
	}
}
