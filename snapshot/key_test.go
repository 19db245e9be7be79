package snapshot_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dreamfeed/snapshot"
)

func TestTheKeyFileIsMadeOnceAndKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, created, err := snapshot.LoadKey(dir, "")
	if err != nil || !created || len(first) != 32 {
		t.Fatalf("LoadKey = %d bytes, %v, %v", len(first), created, err)
	}
	info, err := os.Stat(filepath.Join(dir, snapshot.KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file %v, %v: want mode 0600", info, err)
	}
	second, created, err := snapshot.LoadKey(dir, "")
	if err != nil || created || !bytes.Equal(first, second) {
		t.Fatalf("the second LoadKey gave another key (created %v, error %v)", created, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("directory holds %v, %v", entries, err)
	}
}

func TestTheVariableWinsOverTheFile(t *testing.T) {
	dir := t.TempDir()
	got, created, err := snapshot.LoadKey(dir, hex.EncodeToString(key))
	if err != nil || created || !bytes.Equal(got, key) {
		t.Fatalf("LoadKey = %x, %v, %v", got, created, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Error("a file was made")
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"blank":            "   ",
		"no hex":           strings.Repeat("zz", 32),
		"short":            strings.Repeat("8f1b", 4),
		"long":             hex.EncodeToString(key) + "00",
		"all zero":         strings.Repeat("00", 32),
		"one byte":         strings.Repeat("a5", 32),
		"two halves":       strings.Repeat(hex.EncodeToString(key[:16]), 2),
		"ascending":        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"digits":           strings.Repeat("0123456789abcdef", 4),
		"change me":        hex.EncodeToString([]byte("changeme-changeme-changeme-12345")),
		"deadbeef":         strings.Repeat("deadbeef", 8),
		"a text of 32 hex": hex.EncodeToString([]byte("0f1e2d3c4b5a69788796a5b4c3d2e1f0")),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := snapshot.LoadKey(t.TempDir(), text)
			var weak *snapshot.WeakKeyError
			if !errors.As(err, &weak) {
				t.Fatalf("error %v, want a WeakKeyError", err)
			}
			if strings.Contains(err.Error(), strings.TrimSpace(text)) && strings.TrimSpace(text) != "" {
				t.Error("the error shows the key")
			}
		})
	}
}

func TestPseudonymsOfTwoVersionsDifferUnlessStable(t *testing.T) {
	make1 := func(column, version string, stable bool, length int) string {
		p, err := snapshot.Pseudonym(key, column, version, stable, length, "user-1")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := make1("user_hash", "1.0", false, 0)
	if len(a) != 64 || a == make1("user_hash", "1.1", false, 0) || a == make1("interaction_id", "1.0", false, 0) {
		t.Error("pseudonyms of versions or columns can be joined")
	}
	if make1("user_hash", "1.0", true, 0) != make1("user_hash", "1.1", true, 0) {
		t.Error("stable pseudonyms differ")
	}
	if got := make1("user_hash", "1.0", false, 31); got != a[:31] {
		t.Errorf("31 digits are %s, want %s", got, a[:31])
	}
	// HMAC-SHA-256 under HKDF-SHA-256, computed by the oracle's own code.
	if want := pseudonym("user_hash", "1.0", "user-1"); a != want {
		t.Errorf("pseudonym %s, want %s", a, want)
	}
}
