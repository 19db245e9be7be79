package featurestore_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// input gives batches, and then io.EOF.
type input struct{ batches []*change.Batch }

func (in *input) Next(context.Context) (*change.Batch, error) {
	if len(in.batches) == 0 {
		return nil, io.EOF
	}
	b := in.batches[0]
	in.batches = in.batches[1:]
	return b, nil
}

func (in *input) Ready() bool { return true }

// I7: a store that is rebuilt as of any closed moment, out of nothing or behind a
// base that ends before or after it, shows at that moment and at every one before
// it what the store showed that went on, and nothing later.
func TestI7RebuiltStoreShowsItsMoment(t *testing.T) {
	r := seed(t)
	g := newGenerator(r)
	g.step(change.Backfill)
	for range 40 {
		g.step(change.Live)
		if tail := g.f.batches; len(tail) > 5 && r.IntN(2) == 0 && whole(tail[len(tail)-2:]) {
			g.f.merge(2)
		}
	}
	g.now++
	g.f.tick(g.now)
	feed := g.f.batches
	live := open(t, t.TempDir(), featurestore.Options{})
	apply(t, live, feed...)
	birth, newest := live.Watermark().Birth, live.Watermark().Version
	for range 12 {
		var until change.Version
		switch e := pick(r, pick(r, feed).Entries); {
		case e.Transaction != nil:
			until = e.Transaction.Version - change.Version(r.IntN(2))
		case e.Tick != nil:
			until = e.Tick.Moment
		default:
			until = birth + change.Version(r.Int64N(int64(newest-birth)+1))
		}
		cut := r.IntN(len(feed))
		dir := t.TempDir()
		s := open(t, dir, featurestore.Options{GroupEntries: 1 + r.IntN(40)})
		apply(t, s, feed[:cut]...)
		err := s.Rebuild(t.Context(), &input{feed[cut:]}, until)
		if until < birth {
			var early *featurestore.TooEarlyError
			if !errors.As(err, &early) || early.Earliest != birth {
				t.Errorf("rebuild as of %s, before the birth %s: %v", until, birth, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, featurestore.Options{ReadOnly: true})
		v := view(t, s, 0)
		got := v.Info()
		if got.AsOf != until || got.Applied != until || s.Until() != until {
			t.Errorf("rebuilt as of %s, the newest view is as of %s, applied %s", until, got.AsOf, got.Applied)
		}
		want := view(t, live, until).Info()
		want.Applied = until
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("as of %s (-live +rebuilt):\n%s", until, diff)
		}
		sameRows(t, dump(t, view(t, live, until), 2), dump(t, v, 2))
		before := birth + change.Version(r.Int64N(int64(until-birth)+1))
		sameRows(t, dump(t, view(t, live, before), 2), dump(t, view(t, s, before), 2))
		var open *featurestore.NotClosedError
		if _, err := s.View(until + 1); !errors.As(err, &open) || open.Newest != until {
			t.Errorf("a view behind the moment %s: %v", until, err)
		}
	}
}

// What a rebuild cannot reach is named, and the next batch ends it.
func TestRebuildRefusesAndGoesOn(t *testing.T) {
	users := relations()["users"]
	f := newFeed()
	f.tick(500)
	f.transaction(change.Backfill, 1000, []change.Row{insert(users, 0, map[string]string{"id": "1"})}, 1, false)
	f.tick(2000)
	f.reset(2500)
	f.scope = &change.Scope{Low: 2500, Tables: []change.Table{{Schema: "public", Name: "users"}}}
	f.transaction(change.Backfill, 3000, []change.Row{insert(users, 0, map[string]string{"id": "2"})}, 1, false)
	f.tick(4000)
	fresh := func() *featurestore.Store { return open(t, t.TempDir(), featurestore.Options{}) }

	var early *featurestore.TooEarlyError
	for _, before := range []change.Version{400, 500, 700, 999} { // also where a tick has closed it
		early = nil
		if err := fresh().Rebuild(t.Context(), &input{f.batches}, before); !errors.As(err, &early) || early.Earliest != 1000 {
			t.Errorf("at %d, before the birth: %v", before, err)
		}
	}
	var open *featurestore.NotClosedError
	if err := fresh().Rebuild(t.Context(), &input{f.batches}, 4001); !errors.As(err, &open) || open.Newest != 4000 {
		t.Errorf("behind the end: %v", err)
	}
	if err := fresh().Rebuild(t.Context(), &input{f.batches[:1]}, 400); !errors.Is(err, featurestore.ErrEmpty) {
		t.Errorf("without a backfill: %v", err)
	}
	var gap *featurestore.GapError
	for _, inside := range []change.Version{2001, 2600, 2999} {
		if err := fresh().Rebuild(t.Context(), &input{f.batches}, inside); !errors.As(err, &gap) || gap.Gap.From != 2000 {
			t.Errorf("inside the gap, at %d: %v", inside, err)
		}
	}
	if err := fresh().Rebuild(t.Context(), &input{f.batches[2:]}, 2000); err == nil {
		t.Error("a stream that begins too late is taken")
	}

	s := fresh()
	apply(t, s, f.batches...)
	if err := s.Rebuild(t.Context(), nil, 1500); err != nil { // a base that reaches further
		t.Fatal(err)
	}
	info := view(t, s, 0).Info()
	if info.AsOf != 1500 || info.Epoch != 1 || len(info.Gaps) != 0 {
		t.Errorf("the newest view is %+v", info)
	}
	f.tick(5000)
	apply(t, s, f.batches[len(f.batches)-1])
	if info := view(t, s, 0).Info(); info.AsOf != 5000 || s.Until() != 0 || len(info.Gaps) != 1 {
		t.Errorf("after another batch the newest view is %+v", info)
	}
}

// Nothing lies at the place of a directory that is being made, and what a killed
// process left goes.
func TestStageLeavesNothingHalfMade(t *testing.T) {
	target := filepath.Join(t.TempDir(), "rebuilt")
	first, err := featurestore.NewStage(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(first.Dir, "file")
	if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := featurestore.NewStage(target, nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second stage beside the first: %v", err)
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before it is published: %v", err)
	}
	if err := first.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := featurestore.NewStage(target+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second.Dir, "whole"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := second.Publish(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(target)
	if err != nil || len(entries) != 1 || entries[0].Name() != "whole" {
		t.Errorf("%v, %v: want the whole file alone", entries, err)
	}
	var vacant *featurestore.VacantError
	if _, err := featurestore.NewStage(target, nil); !errors.As(err, &vacant) {
		t.Errorf("a target that holds something: %v", err)
	}
	if _, err := featurestore.NewStage(filepath.Join(target, "whole"), nil); !errors.As(err, &vacant) {
		t.Errorf("a target that is a file: %v", err)
	}
}
