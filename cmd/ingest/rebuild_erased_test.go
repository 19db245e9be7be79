package main

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dreamfeed/featurestore"
)

// I7: erased users, of the base and of the stream, are not in a rebuilt store;
// everything else is.
func TestI7RebuiltStoreLacksWhoWasErased(t *testing.T) {
	url, dataDir, base := populated(t, 30), filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "base")
	catchUp(t, dataDir, url)
	giveKey(t, dataDir)
	done(t, "backup", "--data-dir", dataDir, "--to", base)
	def := dreamscape(t)
	stop := traffic(t, url, 400)
	catchUp(t, dataDir, url)
	stop()
	catchUp(t, dataDir, url)
	want := tellStore(t, def, dataDir, 0)
	key, err := hex.DecodeString(rebuildSecret)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := featurestore.OpenLedger(filepath.Join(dataDir, featurestore.LedgerFile), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]bool{}
	for name := range want.Rows {
		if id, ok := strings.CutPrefix(name, `user "`); ok && len(users) < 5 {
			id, _, _ = strings.Cut(id, `"`)
			users[id] = true
		}
	}
	for id := range users {
		if err := ledger.Add(featurestore.Erasure{Entity: "user", ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range users {
		if !holdsID(t, filepath.Join(dataDir, "store"), id) {
			t.Fatal("an id is not found where it is held")
		}
	}
	erased := 0
	maps.DeleteFunc(want.Rows, func(name string, lines []string) bool {
		id, _ := strings.CutPrefix(name, `user "`)
		id, _, _ = strings.Cut(id, `"`)
		if users[id] {
			erased += len(lines)
		}
		return users[id]
	})
	if erased == 0 {
		t.Fatal("nothing is erased")
	}
	for _, from := range [][]string{nil, {"--from", base}} {
		into := filepath.Join(t.TempDir(), "rebuilt")
		said := done(t, append([]string{"rebuild", "--data-dir", dataDir, "--until", want.Info.AsOf.String(), "--into", into, "--log-level", "error"}, from...)...)
		if !strings.Contains(said, "were left out") {
			t.Errorf("it said %q", said)
		}
		requireTold(t, want, tellStore(t, def, into, 0))
		for id := range users {
			if holdsID(t, into, id) {
				t.Errorf("from %q: a file holds an erased id", from)
			}
		}
	}
	t.Setenv("ANONYMIZATION_KEY", strings.Repeat("5ca1ab1e0ddba110", 3)+"0123456789abcdef")
	code, out := invoke(t, "rebuild", "--data-dir", dataDir, "--until", want.Info.AsOf.String(), "--into", filepath.Join(t.TempDir(), "rebuilt"))
	if code != 1 || !strings.Contains(out, "another anonymisation key") {
		t.Errorf("with another key: exit code %d: %s", code, out)
	}
}

// holdsID says whether a file of a directory holds an id, which is a uuid: as text,
// or as the store writes it in keys, which may leave the first bytes to the key
// before.
func holdsID(t *testing.T, dir, id string) (found bool) {
	t.Helper()
	packed, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || bytes.Contains(data, []byte(id)) || bytes.Contains(data, packed[len(packed)-12:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
