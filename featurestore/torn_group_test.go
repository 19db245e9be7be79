package featurestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// tornGroup makes a store that died between the entries of the last messages of a
// feed, so many that they are loaded, and the watermark that goes with them.
func tornGroup(t *testing.T, dir string, whole int, batches []*change.Batch) {
	t.Helper()
	var armed bool
	died := errors.New("died")
	s := open(t, dir, featurestore.Options{Hook: func(step durable.Step, _ uint64) error {
		if armed && step == durable.Commit {
			return died
		}
		return nil
	}})
	apply(t, s, batches[:whole]...)
	armed = true
	if err := s.Apply(t.Context(), batches[whole:]...); !errors.Is(err, died) {
		t.Fatalf("apply: %v, want the error of the hook", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, featurestore.Options{ReadOnly: true})
	if keys, err := s.AllKeys(); err != nil || len(keys) < 512 {
		t.Fatalf("%d keys, %v: the group was not loaded", len(keys), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// manyUsers are the rows of users beside which nothing else of a test is seen.
func manyUsers(n int) (rows []change.Row) {
	for i := range n {
		rows = append(rows, insert(relations()["users"], uint32(i), map[string]string{"id": fmt.Sprint("many", i), "big": "b"}))
	}
	return rows
}

// A group that holds a transaction and that it was given up, and whose watermark is
// missing, is applied again as it was the first time: a row that the transaction made
// is there for its own update.
func TestAbandonmentInATornGroupIsAppliedAgain(t *testing.T) {
	f := newFeed()
	v := change.Version(1_700_000_000_000_000)
	f.transaction(change.Backfill, v, nil, 1, false)
	rows := manyUsers(600)
	for i := range 20 { // one in sixteen is written in full
		u := change.Row{Relation: relations()["users"], Op: change.Update, Ordinal: uint32(600 + i), New: values(relations()["users"], map[string]string{"id": "many1", "name": "n"})}
		u.New[1] = change.Value{Kind: change.Unchanged}
		rows = append(rows, u)
	}
	f.transaction(change.Live, v+10, rows, 2, true)
	f.abandon(v + 10)
	f.transaction(change.Live, v+20, []change.Row{insert(relations()["users"], 0, map[string]string{"id": "u"})}, 1, false)
	dir := t.TempDir()
	tornGroup(t, dir, 1, f.batches)
	s := open(t, dir, featurestore.Options{})
	apply(t, s, f.batches...)
	if got := dump(t, view(t, s, 0), 1); len(got) != 1 {
		t.Errorf("%d rows, want the one of the last transaction", len(got))
	}
}

// tornBatch makes a store that applied a part of the last message of a feed.
func tornBatch(t *testing.T, dir string, whole int, batches []*change.Batch) {
	t.Helper()
	s := open(t, dir, featurestore.Options{GroupEntries: 50})
	apply(t, s, batches[:whole]...)
	halfApplied(t, s, batches[whole])
	if n, err := s.RowKeys(); err != nil || n < 500 {
		t.Fatalf("%d rows, %v: nothing was applied", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What was written ahead of the watermark may come again otherwise, or never: an
// external stream that lost its end, or one that was renewed, gives the same
// transactions other versions. Nothing of the first time may be left then, neither
// in the store nor in one that is restored from its backup.
func TestNothingIsLeftOfWhatComesAgainOtherwise(t *testing.T) {
	for name, tear := range map[string]func(t *testing.T, dir string, whole int, batches []*change.Batch){
		"a group without its watermark": tornGroup, "a batch applied in part": tornBatch,
	} {
		t.Run(name, func(t *testing.T) { comesAgainOtherwise(t, tear) })
	}
}

func comesAgainOtherwise(t *testing.T, tear func(t *testing.T, dir string, whole int, batches []*change.Batch)) {
	users, orders := relations()["users"], relations()["orders"]
	v := change.Version(1_700_000_000_000_000)
	begin := func() *feed {
		f := newFeed()
		f.transaction(change.Backfill, v, []change.Row{insert(users, 0, map[string]string{"id": "old"})}, 1, false)
		return f
	}
	first := begin()
	rows := append(manyUsers(600), change.Row{Relation: orders, Op: change.Truncate, Ordinal: 600})
	rows = append(rows, change.Row{Relation: users, Op: change.Truncate, Ordinal: 601})
	first.transaction(change.Live, v+10, rows, 1, false)
	dir := t.TempDir()
	tear(t, dir, 1, first.batches)

	again := begin()
	again.tick(v + 30)
	again.transaction(change.Live, v+40, []change.Row{insert(orders, 0, map[string]string{"id": "o", "user_id": "u"})}, 1, false)
	want := open(t, t.TempDir(), featurestore.Options{})
	apply(t, want, again.batches...)
	torn := open(t, dir, featurestore.Options{ReadOnly: true})
	file := filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := torn.Backup(t.Context(), f, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), torn.Close()); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(t.TempDir(), "store")
	if _, err := featurestore.Restore(t.Context(), restored, featurestore.RestoreOptions{}, file); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, restored} {
		s := open(t, dir, featurestore.Options{})
		apply(t, s, again.batches...)
		sameRows(t, dump(t, view(t, want, 0), 1), dump(t, view(t, s, 0), 1))
		a, err := want.AllKeys()
		b, err2 := s.AllKeys()
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		indexed := func(key string) bool { return key[0] == 0x60 } // by group
		if diff := cmp.Diff(slices.DeleteFunc(a, indexed), slices.DeleteFunc(b, indexed)); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	}
}
