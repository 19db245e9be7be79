package featurestore_test

import (
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

// TestKeysGolden pins every byte that a small store puts into Badger: keys,
// user meta and values. A difference needs a new Format and a migration.
func TestKeysGolden(t *testing.T) {
	rels := relations()
	const user = "3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3f"
	f := newFeed()
	f.transaction(change.Backfill, 1_700_000_000_000_000, []change.Row{
		insert(rels["users"], 0, map[string]string{"id": user, "name": "ann", "created": "2023-11-14 22:13:19"}),
		insert(rels["orders"], 1, map[string]string{"id": "7", "user_id": user, "name": "first"}),
		insert(rels["orders"], 2, map[string]string{"id": "8", "name": "of nobody"}),
		insert(rels["shop.items"], 3, map[string]string{"id": "-300", "lang": "de"}),
		insert(rels["config"], 4, map[string]string{"id": "k", "name": "v"}),
	}, 2, false)
	f.transaction(change.Live, 1_700_000_000_000_001, []change.Row{
		{Relation: rels["orders"], Op: change.Update, Ordinal: 0, New: values(rels["orders"], map[string]string{"id": "7", "user_id": "ckx", "name": "moved"})},
		{Relation: rels["orders"], Op: change.Delete, Ordinal: 1, Old: values(rels["orders"], map[string]string{"id": "8"})},
		{Relation: rels["config"], Op: change.Truncate, Ordinal: 2},
	}, 1, false)
	f.transaction(change.Live, 1_700_000_000_000_002, []change.Row{
		insert(rels["users"], 0, map[string]string{"id": "5"}), insert(rels["users"], 1, map[string]string{"id": "6"}),
	}, 2, true)
	f.abandon(1_700_000_000_000_002)
	f.tick(1_700_000_000_000_003)
	f.transaction(change.Live, 1_700_000_000_000_004, []change.Row{
		insert(rels["users"], 0, map[string]string{"id": "9", "big": strings.Repeat("x", 300_000)}),
	}, 1, false)
	// A new epoch, whose backfill finds one row as it is and one not at all, and a
	// refill that is not complete.
	f.reset(1_700_000_000_000_005)
	f.scope = &change.Scope{Low: 1_700_000_000_000_005, Tables: []change.Table{{Schema: "public", Name: "users"}, {Schema: "public", Name: "orders"}}}
	f.transaction(change.Backfill, 1_700_000_000_000_006, []change.Row{
		insert(rels["users"], 0, map[string]string{"id": user, "name": "ann", "created": "2023-11-14 22:13:19"}),
		insert(rels["orders"], 1, map[string]string{"id": "7", "user_id": "ckx", "name": "moved"}),
	}, 1, false)
	f.scope = &change.Scope{Low: 1_700_000_000_000_006, Tables: []change.Table{{Schema: "shop", Name: "items"}}}
	f.transaction(change.Refill, 1_700_000_000_000_007, []change.Row{
		insert(rels["shop.items"], 0, map[string]string{"id": "1", "lang": "de"}),
		insert(rels["shop.items"], 1, map[string]string{"id": "2", "lang": "de"}),
	}, 2, true)
	dir := t.TempDir()
	s, err := featurestore.Open(dir, featurestore.Options{Definition: testDefinition()})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, f.batches...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	db, err := badger.Open(badger.DefaultOptions(dir).WithReadOnly(true).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var b strings.Builder
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			v, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			k := item.Key()
			if k[0] == 0 {
				fmt.Fprintf(&b, "meta %q\n     %s\n", k[1:], v)
				continue
			}
			text := fmt.Sprintf("%x", v)
			if len(v) > 80 {
				text = fmt.Sprintf("%x… %d bytes", v[:16], len(v))
			}
			fmt.Fprintf(&b, "%x flags %02x\n     %s\n", k, item.UserMeta(), text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "keys.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the disk format changed (-want +got):\n%s", diff)
	}
}
