package featurestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// people opens a store with n users of three versions each.
func people(t *testing.T, n int) *Store {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%05d", i)
	}
	return peopleOf(t, ids)
}

// peopleOf opens a store with users of these ids, three versions of each.
func peopleOf(t *testing.T, ids []string) *Store {
	t.Helper()
	def := &definition.Definition{
		Hash: "h", Entities: []definition.Entity{{Name: "user"}},
		Tables: []definition.Table{{
			Name: "users", Entity: "user", By: "id", Key: []string{"id"},
			Columns: []definition.SourceColumn{{Name: "id"}, {Name: "name"}},
		}},
	}
	s, err := Open(t.TempDir(), Options{Definition: def, Memory: minMemory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	rel := &change.Relation{
		Schema: "public", Name: "users", Replica: 'd',
		Columns: []change.Column{{Name: "id", Type: 25, Key: true}, {Name: "name", Type: 25}},
	}
	for i, op := range []change.Op{change.Insert, change.Update, change.Update} {
		v := change.Version(1000 + i)
		tx := &change.Transaction{Kind: change.Live, Version: v, EndLSN: change.LSN(v), Last: true}
		if i == 0 {
			tx.Kind = change.Backfill
		}
		for u, id := range ids {
			text := func(s string) change.Value { return change.Value{Kind: change.Text, Text: []byte(s)} }
			tx.Rows = append(tx.Rows, change.Row{
				Relation: rel, Op: op, Ordinal: uint32(u),
				New: []change.Value{text(id), text(fmt.Sprint("name ", i))},
			})
		}
		b := &change.Batch{Incarnation: 1, Sequence: uint64(i + 1), Entries: []change.Entry{{Transaction: tx}}}
		b.Header = change.Header{Epoch: 1, First: v, Last: v}
		if i > 0 {
			b.Header.Previous = v - 1
		}
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestScanGoesOnWithANewTransaction(t *testing.T) {
	s := people(t, 700)
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	v.reopenBytes = 1 // at every entity
	ranges, err := v.Ranges(t.Context(), "user", 3)
	if err != nil || len(ranges) != 3 {
		t.Fatalf("%d ranges, %v", len(ranges), err)
	}
	var seen []string
	for _, r := range ranges {
		err := v.Scan(t.Context(), "user", r, func(e *history.Entity) error {
			seen = append(seen, e.ID)
			if len(e.Rows) != 1 || len(e.Rows[0].Versions) != 3 {
				return fmt.Errorf("user %s has %d rows", e.ID, len(e.Rows))
			}
			for i, h := range e.Rows[0].Versions {
				cells, err := row.Decode(h.Data, nil)
				if err != nil {
					return err
				}
				if want := fmt.Sprint("name ", 2-i); cells[1].String() != want || cells[0].String() != e.ID {
					return fmt.Errorf("user %s, version %d: %q", e.ID, i, cells[1].String())
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 700 {
		t.Fatalf("%d users, want 700", len(seen))
	}
	for i, id := range seen {
		if want := fmt.Sprintf("user-%05d", i); id != want {
			t.Fatalf("user %d is %s, want %s", i, id, want)
		}
	}
}

func TestScanEndsWithItsContextAndItsStore(t *testing.T) {
	s := people(t, 300)
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	ranges, err := v.Ranges(t.Context(), "user", 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = v.Scan(ctx, "user", ranges[0], func(*history.Entity) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled scan: %v", err)
	}
	if err := v.Scan(t.Context(), "user", history.Range{From: []byte{prefixLocator, 0}}, nil); err == nil {
		t.Error("a range of another kind is scanned")
	}
	closed := make(chan error, 1)
	err = v.Scan(t.Context(), "user", ranges[0], func(*history.Entity) error {
		select {
		case <-s.closing:
		default:
			go func() { closed <- s.Close() }()
			<-s.closing
		}
		return nil
	})
	if !errors.Is(err, ErrClosed) {
		t.Errorf("a scan of a store that is being closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestViewsHaveLimits(t *testing.T) {
	s := people(t, 1)
	for asOf, want := range map[change.Version]string{
		999:  "lies before the store's history: the earliest possible is " + change.Version(1000).String(),
		1003: "is not closed: the newest closed moment is " + change.Version(1002).String(),
	} {
		if _, err := s.View(asOf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("view as of %d: %v, want …%s…", asOf, err, want)
		}
	}
	v, err := s.View(1001)
	if err != nil {
		t.Fatal(err)
	}
	e, err := v.Entity(t.Context(), "user", "user-00000")
	if err != nil || e == nil || len(e.Rows[0].Versions) != 2 {
		t.Errorf("the user as of 1001 is %+v, %v", e, err)
	}
	if e, err := v.Entity(t.Context(), "user", "nobody"); e != nil || err != nil {
		t.Errorf("nobody is %+v, %v", e, err)
	}
}

func TestFormatsOfTheFutureAreRefused(t *testing.T) {
	s := people(t, 1)
	dir := s.dir
	txn := s.db.NewTransaction(true)
	if err := txn.Set(metaKey(metaFormat), []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := txn.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{true, false} {
		_, err := Open(dir, Options{Definition: s.def, ReadOnly: readOnly})
		var format *FormatError
		if !errors.As(err, &format) || format.Have != 2 {
			t.Errorf("read-only %t: %v", readOnly, err)
		}
	}
}

// A dataset's metadata names the position, so it must not move (I7).
func TestViewNamesTheSamePositionHoweverMuchCameSince(t *testing.T) {
	s := people(t, 1) // versions 1000, 1001 and 1002, within one second
	at := func(asOf change.Version) change.LSN {
		t.Helper()
		v, err := s.View(asOf)
		if err != nil {
			t.Fatal(err)
		}
		return v.Info().LSN
	}
	if got := at(1002); got != 1000 {
		t.Errorf("as of 1002: %s, want the sample at 1000", got)
	}
	last, sequence := change.Version(1002), uint64(3)
	for _, v := range []change.Version{2_500_000, 2_600_000, 4_000_000} {
		sequence++
		b := &change.Batch{Incarnation: 1, Sequence: sequence, Header: change.Header{Epoch: 1, Previous: last, First: v, Last: v}}
		b.Entries = []change.Entry{{Transaction: &change.Transaction{Kind: change.Live, Version: v, EndLSN: change.LSN(v), Last: true}}}
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		last = v
	}
	for asOf, want := range map[change.Version]change.LSN{1002: 1000, 2_500_000: 2_500_000, 2_600_000: 2_500_000, 4_000_000: 4_000_000} {
		if got := at(asOf); got != want {
			t.Errorf("as of %d: %s, want %s", asOf, got, want)
		}
	}
}
