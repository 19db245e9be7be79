package cdc

import (
	"context"
	"errors"
	"testing"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
	"dreamfeed/internal/natstest"
)

func TestNATSServer(t *testing.T) { natstest.Serve(t) }

// placeAt is where a store stands that has applied the stream up to the
// sequence of a feed's message.
func placeAt(t testing.TB, l *Log, sequence uint64) Place {
	t.Helper()
	h, err := l.header(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	return Place{Incarnation: l.Incarnation(), Sequence: sequence, State: h}
}

func TestStreamIsLocatedWhereTheStoreStands(t *testing.T) {
	l := openTestLog(t, LogConfig{})
	empty := openTestLog(t, LogConfig{})
	openFeed(t, l).addAll(10, 10)
	trimmed := openTestLog(t, LogConfig{})
	openFeed(t, trimmed).addAll(10, 10)
	if err := trimmed.Trim(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	at := func(incarnation, sequence uint64, last change.Version) Place {
		return Place{Incarnation: incarnation, Sequence: sequence, State: change.Header{Origin: change.Origin{System: 1, Timeline: 1}, Epoch: 1, Last: last}}
	}
	var tail *LostTailError
	var gap *GapError
	var other *OtherStreamError
	for name, c := range map[string]struct {
		log   *Log
		at    Place
		after uint64
		want  any
	}{
		"an empty store, an empty stream":             {empty, Place{}, 0, nil},
		"an empty store, a whole stream":              {l, Place{}, 0, nil},
		"an empty store, a trimmed stream":            {trimmed, Place{}, 0, &gap},
		"a store in the middle":                       {l, at(l.incarnation, 4, 4), 4, nil},
		"a store at the end":                          {l, at(l.incarnation, 10, 10), 10, nil},
		"a store behind the end":                      {l, at(l.incarnation, 11, 11), 0, &tail},
		"a store that knows another version":          {l, at(l.incarnation, 4, 5), 0, &other},
		"a store at what is trimmed last":             {trimmed, at(trimmed.incarnation, 5, 5), 5, nil},
		"a store before what is trimmed":              {trimmed, at(trimmed.incarnation, 4, 4), 0, &gap},
		"a store of another stream, an empty one":     {empty, at(77, 4, 4), 0, &other},
		"a store of another stream":                   {l, at(77, 4, 4), 0, &other},
		"a store of another stream, a trimmed stream": {trimmed, at(77, 4, 4), 0, &other},
	} {
		t.Run(name, func(t *testing.T) {
			after, err := c.log.Locate(t.Context(), c.at)
			if c.want == nil {
				if err != nil || after != c.after {
					t.Errorf("read after %d (%v), want %d", after, err, c.after)
				}
				return
			}
			if !errors.As(err, c.want) {
				t.Errorf("%v is no %T", err, c.want)
			}
			if c.log.Renewable(c.at, err) {
				t.Error("an embedded stream is to be renewed")
			}
		})
	}
}

// What an external server loses with a crash, or its whole disk, is continued
// from the store, and every version comes once.
func TestLostStreamIsRenewedFromTheStore(t *testing.T) {
	for name, lose := range map[string]func(s *natstest.Server, older string){
		"the tail is lost":         (*natstest.Server).Restore,
		"everything is lost":       func(s *natstest.Server, _ string) { s.Empty() },
		"the messages were purged": nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := natstest.Start(t)
			l := openTestLog(t, LogConfig{URL: s.URL()})
			openFeed(t, l).addAll(20, 100)
			s.Kill()
			older := s.Save()
			s.Start()
			l = openTestLog(t, LogConfig{URL: s.URL()})
			openFeed(t, l).addAll(30, 100)
			at := placeAt(t, l, 45) // five messages are not applied
			if lose != nil {
				s.Kill()
				lose(s, older)
				s.Start()
			} else if err := l.stream.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			l = openTestLog(t, LogConfig{URL: s.URL()})
			_, err := l.Locate(t.Context(), at)
			if !l.Renewable(at, err) {
				t.Fatalf("it is not to be renewed: %v", err)
			}
			if err := l.Renew(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			if l.Incarnation() == at.Incarnation {
				t.Error("the renewed stream has the incarnation of the old one")
			}
			continued(t, l, at)
		})
	}
}

// continued requires that the stream goes on behind the place.
func continued(t *testing.T, l *Log, at Place) {
	t.Helper()
	after, err := l.Locate(t.Context(), at)
	if err != nil || after != 0 {
		t.Fatalf("read after %d: %v", after, err)
	}
	r, err := l.Reader(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckChain(at.State, b.Header); err != nil {
		t.Error(err)
	}
	if b.Header.Resume != at.State.Resume || b.Header.Epoch != at.State.Epoch || b.Header.Open || len(b.Entries) != 1 || b.Entries[0].Transaction != nil {
		t.Errorf("it begins with %+v, %d entries", b.Header, len(b.Entries))
	}
	f := openFeed(t, l)
	first := f.next + 1
	f.addAll(5, 100)
	readOn(t, r, first, first+4)
}

// A transaction that the store has applied in part is given up: the source
// sends it again.
func TestRenewedStreamGivesUpWhatIsOpen(t *testing.T) {
	s := natstest.Start(t)
	l := openTestLog(t, LogConfig{URL: s.URL()})
	f := openFeed(t, l)
	f.addAll(3, 100)
	ctx := t.Context()
	row := appendInsert(nil, feedRelation.ID, []change.Value{text("4"), text("x")})
	if err := errors.Join(f.writer.begin(ctx, change.Live, 4, 1, 64, 1), f.writer.row(ctx, row), f.writer.flush(ctx), f.publisher.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	at := placeAt(t, l, 4)
	if !at.State.Open {
		t.Fatal("nothing is open")
	}
	s.Kill()
	s.Empty()
	s.Start()
	l = openTestLog(t, LogConfig{URL: s.URL()})
	if err := l.Renew(ctx, at); err != nil {
		t.Fatal(err)
	}
	continued(t, l, at)
}

// A renewal that ends between its steps is begun again.
func TestRenewalCutShortIsBegunAgain(t *testing.T) {
	s := natstest.Start(t)
	l := openTestLog(t, LogConfig{URL: s.URL()})
	openFeed(t, l).addAll(10, 100)
	at := placeAt(t, l, 10)
	at.Sequence, at.State.Last = 12, 12 // two are lost
	for step := 1; ; step++ {
		if step > 10 {
			t.Fatal("it never comes to an end")
		}
		l := openTestLog(t, LogConfig{URL: s.URL()})
		_, err := l.Locate(t.Context(), at)
		if err == nil {
			if step < 3 {
				t.Errorf("it was cut in %d steps only", step-1)
			}
			continued(t, l, at)
			return
		}
		if !l.Renewable(at, err) {
			t.Fatalf("after %d steps: %v", step-1, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		l.cfg.Hook = func(durable.Step, uint64) error {
			if n++; n < step {
				return nil
			}
			cancel() // the publisher would try again
			return errors.New("cut")
		}
		if err := l.Renew(ctx, at); err == nil {
			t.Logf("whole with %d steps", n)
		}
		cancel()
	}
}
