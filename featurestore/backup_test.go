package featurestore_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// backUp writes a backup of a store to a new file.
func backUp(t testing.TB, s *featurestore.Store, base string) string {
	t.Helper()
	var b *featurestore.Backup
	if base != "" {
		var err error
		if b, _, err = featurestore.ReadBackup(t.Context(), base); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := s.Backup(t.Context(), f, b); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// restored makes a store of backups in a new directory.
func restored(t testing.TB, files ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := featurestore.Restore(t.Context(), dir, featurestore.RestoreOptions{Memory: 48 << 20, DiskReserve: 1}, files...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// everything reads all keys and values of a store that is closed.
func everything(t testing.TB, dir string) map[string]string {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(dir).WithReadOnly(true).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	out := map[string]string{}
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			k := it.Item().KeyCopy(nil)
			v, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			name, text := fmt.Sprintf("%x", k), fmt.Sprintf("%q", v)
			if k[0] == 0 {
				name = "meta " + string(k[1:])
			} else if len(v) > 200 {
				text = fmt.Sprintf("%x", sha256.Sum256(v))
			}
			out[name] = fmt.Sprintf("%02x %s", it.Item().UserMeta(), text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameKeys(t testing.TB, want, got map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000]
		}
		t.Fatalf("the restored store differs (-original +restored):\n%s", diff)
	}
}

func closeStore(t testing.TB, s *featurestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRestoredStoreHoldsEveryKey(t *testing.T) {
	g := newGenerator(seed(t))
	g.step(change.Backfill)
	for range 60 {
		g.step(change.Live)
	}
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{})
	apply(t, s, g.f.batches...)
	full := backUp(t, s, "")
	f, err := os.Create(filepath.Join(t.TempDir(), "pieced"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.BackupReopening(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	pieced := f.Name()
	closeStore(t, s)
	again := restored(t, full)
	got := everything(t, again)
	// Until it applies something, a restored store knows that it is one.
	before := got["meta state"]
	if got["meta state"] = strings.Replace(before, `,\"restored\":true`, "", 1); got["meta state"] == before {
		t.Errorf("the state does not say that the store was restored: %s", before)
	}
	sameKeys(t, everything(t, dir), got)
	if diff := cmp.Diff(everything(t, restored(t, pieced)), everything(t, again)); diff != "" {
		t.Errorf("a backup by many iterators differs:\n%.4000s", diff)
	}
	v := view(t, open(t, again, featurestore.Options{}), 0)
	sameRows(t, g.m.asOf(v.Info().AsOf), dump(t, v, 2))
}
