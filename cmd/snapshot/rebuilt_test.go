package main

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
)

// A directory that was rebuilt with a key from the environment gets no key of its
// own: it would make other pseudonyms.
func TestRebuiltDirectoryGetsNoKeyOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := featurestore.WriteRebuilt(dir, featurestore.Rebuilt{Until: 1}, nil); err != nil {
		t.Fatal(err)
	}
	p := &program{stderr: io.Discard, common: &cli.Common{DataDir: dir}}
	path := filepath.Join(dir, "anonymization.key")
	_, err := loadKey(p, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "ANONYMIZATION_KEY") || !strings.Contains(err.Error(), "none is made") {
		t.Errorf("without a key: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	const secret = "5ca1ab1e0ddba11c0ffee00dfacade00112233445566778899aabbccddeeff01"
	t.Setenv("ANONYMIZATION_KEY", secret)
	fromEnvironment, err := loadKey(p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	os.Unsetenv("ANONYMIZATION_KEY") // t.Setenv puts back what was there
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if fromFile, err := loadKey(p, slog.New(slog.DiscardHandler)); err != nil || string(fromFile) != string(fromEnvironment) {
		t.Errorf("with its key's file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, featurestore.RebuiltFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey(p, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a mark that cannot be read is passed over")
	}
}
