package featurestore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// hours is a store with a backfill and a hundred transactions, an hour apart, each
// of which writes the same row.
func hours(t *testing.T, dir string, o featurestore.Options) (*featurestore.Store, *feed) {
	t.Helper()
	rel := relations()["users"]
	f := newFeed()
	f.transaction(change.Backfill, 1000*hour, []change.Row{insert(rel, 0, map[string]string{"id": "1"})}, 1, false)
	for i := range change.Version(100) {
		row := insert(rel, 0, map[string]string{"id": "1", "name": strings.Repeat("x", int(i))})
		row.Op = change.Update
		f.transaction(change.Live, (1001+i)*hour, []change.Row{row}, 1, false)
	}
	s := open(t, dir, o)
	apply(t, s, f.batches...)
	return s, f
}

func wantFloor(t *testing.T, s *featurestore.Store, to, want change.Version) {
	t.Helper()
	sweep(t, s, to)
	if got := s.Floor(); got != want {
		t.Fatalf("the floor is %d h, want %d h", got/hour, want/hour)
	}
}

func TestKeptVersionPinsItsWindowUntilItIsReleased(t *testing.T) {
	dir := t.TempDir()
	s, _ := hours(t, dir, featurestore.Options{})
	client := func() *featurestore.Client {
		c := featurestore.Endpoint{Address: serve(t, featurestore.NewHandler(s, token)), Token: token}.Client()
		t.Cleanup(c.Close)
		return c
	}
	c, ctx := client(), t.Context()
	k := featurestore.Keep{Name: "v1.0", AsOf: 1050 * hour, From: 1040 * hour, Created: time.UnixMicro(5).UTC()}
	for range 2 { // again changes nothing
		if err := c.Keep(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	wantFloor(t, s, 1080*hour, 1040*hour)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	readOnly, err := featurestore.Open(dir, featurestore.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if readOnly.Floor() != 1040*hour || len(readOnly.Kept()) != 1 {
		t.Errorf("read-only: floor %d h, kept %+v", readOnly.Floor()/hour, readOnly.Kept())
	}
	if err := readOnly.Keep(k); !errors.Is(err, featurestore.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	if err := readOnly.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, featurestore.Options{})
	c = client()
	wantFloor(t, s, 1080*hour, 1040*hour)
	if list, err := c.Kept(ctx); err != nil || !cmp.Equal(list, []featurestore.Keep{k}) {
		t.Errorf("kept: %+v, %v", list, err)
	}
	if st := s.Status(); st.Kept != 1 || st.Floor != 1040*hour {
		t.Errorf("status: %d kept, floor %d h", st.Kept, st.Floor/hour)
	}

	var refused *featurestore.KeepError
	other := k
	other.From -= hour
	if err := c.Keep(ctx, other); !errors.As(err, &refused) || refused.Have == nil || *refused.Have != k {
		t.Errorf("another window under the same name: %v", err)
	}
	other.Name = "v0.9"
	var early *featurestore.TooEarlyError
	if err := c.Keep(ctx, other); !errors.As(err, &early) || *early != (featurestore.TooEarlyError{AsOf: k.AsOf, Earliest: 1051 * hour}) {
		t.Errorf("a window that is swept: %v", err)
	}
	var open *featurestore.NotClosedError
	if err := c.Keep(ctx, featurestore.Keep{Name: "later", AsOf: 9999 * hour, From: 1050 * hour}); !errors.As(err, &open) {
		t.Errorf("a moment to come: %v", err)
	}
	for _, bad := range []featurestore.Keep{{AsOf: 1050 * hour}, {Name: "a\nb", AsOf: 1050 * hour}, {Name: "x"}, {Name: "x", AsOf: 1050 * hour, From: 1051 * hour}} {
		if err := c.Keep(ctx, bad); !errors.As(err, &refused) || refused.What == "" {
			t.Errorf("keep %+v: %v", bad, err)
		}
	}
	stranger := featurestore.Endpoint{Address: serve(t, featurestore.NewHandler(s, token)), Token: "guessed"}.Client()
	t.Cleanup(stranger.Close)
	if _, err := stranger.Release(ctx, "v1.0"); !errors.Is(err, featurestore.ErrToken) {
		t.Errorf("without the token: %v", err)
	}

	for _, want := range []bool{true, false} {
		if found, err := c.Release(ctx, "v1.0"); err != nil || found != want {
			t.Errorf("release: %t, %v: want %t", found, err, want)
		}
	}
	wantFloor(t, s, 1080*hour, 1080*hour)
}

func TestViewOfAWindowPinsTheWindowOnly(t *testing.T) {
	s, _ := hours(t, t.TempDir(), featurestore.Options{})
	endpoint := featurestore.Endpoint{Address: serve(t, featurestore.NewHandler(s, token)), Token: token}
	ctx := t.Context()
	remote, err := endpoint.DialWithin(ctx, 1060*hour, 20*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	local, err := s.ViewWithin(1060*hour, 10*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	before := clip(rowsOf(t, local), 1050*hour)
	wantFloor(t, s, 1090*hour, 1040*hour)
	if err := remote.Close(); err != nil {
		t.Fatal(err)
	}
	wantFloor(t, s, 1090*hour, 1050*hour)
	if diff := cmp.Diff(before, rowsOf(t, local)); diff != "" {
		t.Errorf("what the view promised (-before +after the sweep):\n%s", diff)
	}
	var early *featurestore.TooEarlyError
	if _, err := endpoint.DialWithin(ctx, 1060*hour, 11*time.Hour); !errors.As(err, &early) || early.Earliest != 1061*hour {
		t.Errorf("a window that is swept: %v, want the earliest moment 1061 h", err)
	}
	if err := local.Close(); err != nil {
		t.Fatal(err)
	}
	now, err := s.ViewWithin(1060*hour, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantFloor(t, s, 1090*hour, 1060*hour)
	whole, err := s.View(1070 * hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := now.Close(); err != nil {
		t.Fatal(err)
	}
	wantFloor(t, s, 1090*hour, 1060*hour) // a view of everything holds it where it was
	if got := whole.Info().Floor; got != 1060*hour {
		t.Errorf("the view says that history begins at %d h", got/hour)
	}
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
	wantFloor(t, s, 1090*hour, 1090*hour)
	if _, err := s.View(1089 * hour); !errors.As(err, &early) || early.Earliest != 1090*hour {
		t.Errorf("a moment that is swept: %v", err)
	}
}

func TestWindowMayBeginBeforeTheBirthWhileNothingWasRemoved(t *testing.T) {
	s, _ := hours(t, t.TempDir(), featurestore.Options{})
	v, err := s.ViewWithin(1000*hour, 500*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	wantFloor(t, s, 1001*hour, 1001*hour)
	var early *featurestore.TooEarlyError
	if _, err := s.ViewWithin(1002*hour, 500*time.Hour); !errors.As(err, &early) {
		t.Errorf("after something was: %v", err)
	}
}
