package featurestore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

func openLedger(t testing.TB, path string, key byte) *featurestore.Ledger {
	t.Helper()
	l, err := featurestore.OpenLedger(path, bytes.Repeat([]byte{key}, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What was added is there after the ledger was opened again, and after a crash
// that cut what was being added; damage before it is told, and so is another key.
func TestLedgerHoldsWhatWasAdded(t *testing.T) {
	path := filepath.Join(t.TempDir(), featurestore.LedgerFile)
	l := openLedger(t, path, 1)
	user := featurestore.Erasure{Entity: "user", ID: "3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3f"}
	row := featurestore.Erasure{Table: "shop.items", Key: []string{"en", "7"}}
	other := featurestore.Erasure{Entity: "user", ID: "9"}
	if err := l.Add(user, row, user); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Add(user); err != nil { // held: nothing is written
		t.Fatal(err)
	}
	if err := l.Add(other); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
	if bytes.Contains(whole, []byte("9a4d")) || bytes.Contains(whole, []byte("user")) {
		t.Error("the ledger holds an id")
	}
	require := func(t *testing.T, l *featurestore.Ledger, entities int) {
		t.Helper()
		if n, rows := l.Len(); n != entities || rows != 1 {
			t.Errorf("the ledger names %d entities and %d rows, want %d and 1", n, rows, entities)
		}
		if !l.HasEntity("user", user.ID) || !l.HasRow("shop.items", "en", "7") || l.HasEntity("user", "9") != (entities == 2) {
			t.Error("the ledger does not hold what was added")
		}
		if l.HasEntity("item", user.ID) || l.HasRow("shop.items", "7", "en") || l.HasRow("users", "en", "7") || l.HasEntity("user", "") {
			t.Error("the ledger holds what was not added")
		}
	}
	require(t, openLedger(t, path, 1), 2)

	write := func(t *testing.T, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for cut := len(first); cut < len(whole); cut++ {
		write(t, whole[:cut])
		require(t, openLedger(t, path, 1), 1)
	}
	write(t, append(bytes.Clone(first), make([]byte, 3*(len(whole)-len(first)))...)) // longer, and never written
	l = openLedger(t, path, 1)
	require(t, l, 1)
	if err := l.Add(other); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("after a cut was mended the file is another than without: %v", err)
	}

	var fault *featurestore.LedgerError
	if _, err := featurestore.OpenLedger(path, bytes.Repeat([]byte{2}, 32), nil); !errors.As(err, &fault) {
		t.Errorf("with another key: %v", err)
	}
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x10
		write(t, damaged)
		if _, err := featurestore.OpenLedger(path, bytes.Repeat([]byte{1}, 32), nil); !errors.As(err, &fault) {
			t.Errorf("byte %d of %d changed: %v", at, len(whole), err)
		}
	}
	write(t, append(bytes.Clone(first[:len(first)-21]), whole[len(first):]...)) // a record is taken out
	if _, err := featurestore.OpenLedger(path, bytes.Repeat([]byte{1}, 32), nil); !errors.As(err, &fault) {
		t.Errorf("without a record: %v", err)
	}
}

// A file that no ledger wrote neither ends the program nor takes its memory.
func FuzzOpenLedger(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	l := openLedger(f, path, 1)
	if err := l.Add(featurestore.Erasure{Entity: "user", ID: "1"}, featurestore.Erasure{Table: "t", Key: []string{"k"}}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := featurestore.OpenLedger(path, bytes.Repeat([]byte{1}, 32), nil)
		if err != nil {
			return
		}
		if err := l.Add(featurestore.Erasure{Entity: "user", ID: "new"}); err != nil {
			t.Fatal(err)
		}
		if again := openLedger(t, path, 1); !again.HasEntity("user", "new") {
			t.Error("what was added is not there")
		}
	})
}

// The deletion of a row whose key alone is known is an erased entity's when the
// ledger names the key, and somebody else's when the store holds the row.
func TestDeletionByKeyOfAnErasedEntity(t *testing.T) {
	rel := relations()["orders"]
	ledger := openLedger(t, filepath.Join(t.TempDir(), "ledger"), 1)
	err := ledger.Add(featurestore.Erasure{Entity: "user", ID: "1"},
		featurestore.Erasure{Table: "orders", Key: []string{"a"}}, featurestore.Erasure{Table: "orders", Key: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	gone := func(o uint32, key string) change.Row {
		return change.Row{Relation: rel, Op: change.Delete, Ordinal: o, Old: values(rel, map[string]string{"id": key})}
	}
	untouched := insert(rel, 1, map[string]string{"id": "b"})
	untouched.Op = change.Update
	for _, i := range []int{1, 3} { // user_id and big
		untouched.New[i] = change.Value{Kind: change.Unchanged}
	}
	f := newFeed()
	f.transaction(change.Backfill, 1000, []change.Row{insert(rel, 0, map[string]string{"id": "b", "user_id": "2", "name": "n"})}, 1, false)
	f.transaction(change.Live, 2000, []change.Row{gone(0, "a"), untouched, gone(2, "c")}, 1, false)
	f.transaction(change.Live, 3000, []change.Row{gone(0, "b"), untouched}, 1, false)
	s := open(t, t.TempDir(), featurestore.Options{Ledger: ledger})
	apply(t, s, f.batches...)
	if c := s.Status().Counters; c.Erased != 2 || c.UnknownDeletes != 1 || c.Changes != 4 {
		t.Errorf("%d changes of erased entities, %d unknown deletes and %d changes, want 2, 1 and 4", c.Erased, c.UnknownDeletes, c.Changes)
	}
	if n := s.Status().Rows["orders"]; n != 0 {
		t.Errorf("%d orders are there, want none", n)
	}
}

// A row that a store does not hold yet goes over to an erased entity: the refill
// that read it before does not bring it back under the one it left.
func TestRefillDoesNotBringWhatWentOverToAnErasedEntity(t *testing.T) {
	rels := relations()
	for _, c := range []struct {
		name, key string
		change    func(rel *change.Relation) change.Row
	}{
		{"under its key", "a", func(rel *change.Relation) change.Row {
			r := insert(rel, 0, map[string]string{"id": "a", "user_id": "1"})
			r.Op = change.Update
			return r
		}},
		{"under another key", "a", func(rel *change.Relation) change.Row {
			r := insert(rel, 0, map[string]string{"id": "b", "user_id": "1"})
			r.Op, r.Old = change.Update, values(rel, map[string]string{"id": "a"})
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ledger := openLedger(t, filepath.Join(t.TempDir(), "ledger"), 1)
			if err := ledger.Add(featurestore.Erasure{Entity: "user", ID: "1"}); err != nil {
				t.Fatal(err)
			}
			narrow := testDefinition()
			narrow.Hash = "narrow"
			narrow.Tables = slices.DeleteFunc(narrow.Tables, func(t definition.Table) bool { return t.Name == "orders" })
			dir := t.TempDir()
			f := newFeed()
			f.transaction(change.Backfill, 1000, []change.Row{insert(rels["users"], 0, map[string]string{"id": "2"})}, 1, false)
			s, err := featurestore.Open(dir, featurestore.Options{Definition: narrow, Ledger: ledger, Memory: 48 << 20})
			if err != nil {
				t.Fatal(err)
			}
			apply(t, s, f.batches...)
			closeStore(t, s)
			s = open(t, dir, featurestore.Options{Ledger: ledger})
			f.transaction(change.Live, 2000, []change.Row{c.change(rels["orders"])}, 1, false)
			f.scope = scopeOf(1500, "orders")
			f.transaction(change.Refill, 3000, []change.Row{insert(rels["orders"], 0, map[string]string{"id": c.key, "user_id": "2"})}, 1, false)
			apply(t, s, f.batches[1:]...)
			if n := s.Status().Rows["orders"]; n != 0 {
				t.Errorf("the refill brought %d orders that are an erased entity's", n)
			}
		})
	}
}

// Where the source sends whole old rows, or the key holds the entity, the deletion
// of an erased entity's row that the store never met is recognised by its entity:
// nothing is left of its key.
func TestDeletionThatNamesAnErasedEntity(t *testing.T) {
	whole := *relations()["orders"]
	whole.Replica = 'f'
	users := relations()["users"]
	for _, c := range []struct {
		name string
		row  change.Row
	}{
		{"by the old row", change.Row{Relation: &whole, Op: change.Delete, OldFull: true, Old: values(&whole, map[string]string{"id": "x", "user_id": "1"})}},
		{"by the key", change.Row{Relation: users, Op: change.Delete, Old: values(users, map[string]string{"id": "1"})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ledger := openLedger(t, filepath.Join(t.TempDir(), "ledger"), 1)
			if err := ledger.Add(featurestore.Erasure{Entity: "user", ID: "1"}); err != nil {
				t.Fatal(err)
			}
			f := newFeed()
			f.transaction(change.Backfill, 1000, []change.Row{insert(users, 0, map[string]string{"id": "2"})}, 1, false)
			s := open(t, t.TempDir(), featurestore.Options{Ledger: ledger})
			apply(t, s, f.batches...)
			before, err := s.AllKeys()
			if err != nil {
				t.Fatal(err)
			}
			f.transaction(change.Live, 2000, []change.Row{c.row}, 1, false)
			apply(t, s, f.batches[1:]...)
			after, err := s.AllKeys()
			if err != nil {
				t.Fatal(err)
			}
			held := func(keys []string) []string { // rows and locators
				return slices.DeleteFunc(keys, func(k string) bool { return k[0] != 0x10 && k[0] != 0x20 })
			}
			if diff := cmp.Diff(held(before), held(after)); diff != "" {
				t.Errorf("keys (-before +after):\n%q", diff)
			}
			if n := s.Status().Counters; n.Erased != 1 || n.UnknownDeletes != 0 {
				t.Errorf("%d changes of erased entities and %d unknown deletes, want 1 and 0", n.Erased, n.UnknownDeletes)
			}
		})
	}
}

// A base that was taken in the middle of a transaction which empties a table and
// fills it again counts the rows that are there without those of erased entities.
func TestBaseWithAnOpenTruncationCountsItsRows(t *testing.T) {
	rel := relations()["orders"]
	order := func(o uint32, id, user string) change.Row {
		return insert(rel, o, map[string]string{"id": id, "user_id": user})
	}
	path := filepath.Join(t.TempDir(), "ledger")
	ledger := openLedger(t, path, 1)
	if err := ledger.Add(featurestore.Erasure{Entity: "user", ID: "1"}); err != nil {
		t.Fatal(err)
	}
	f := newFeed()
	f.transaction(change.Backfill, 1000, []change.Row{order(0, "a", "1"), order(1, "b", "2")}, 1, false)
	f.transaction(change.Live, 2000, []change.Row{{Relation: rel, Op: change.Truncate}, order(1, "c", "1"), order(2, "d", "2"), order(3, "e", "2")}, 2, false)
	base, clean := t.TempDir(), filepath.Join(t.TempDir(), "clean")
	s := open2(t, base, featurestore.Options{Definition: testDefinition()})
	apply(t, s, f.batches[:2]...)
	closeStore(t, s)
	if _, err := featurestore.LeaveOut(t.Context(), base, clean, ledger, featurestore.Options{Memory: 48 << 20}); err != nil {
		t.Fatal(err)
	}
	s = open(t, clean, featurestore.Options{Ledger: ledger})
	if n := s.Status().Rows["orders"]; n != 1 {
		t.Errorf("%d orders are counted before the transaction ends, want 1", n)
	}
	apply(t, s, f.batches[2:]...)
	if n := s.Status().Rows["orders"]; n != 2 {
		t.Errorf("%d orders are counted, want 2", n)
	}
}
