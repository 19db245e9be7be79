package featurestore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// before is what a generator was after a step: where it goes on from if the stream
// loses what came later.
type before struct {
	model    *model
	feed     feed
	now      change.Version
	sequence uint64
}

func (g *generator) note() before {
	return before{g.m.clone(), *g.f, g.now, g.f.sequence}
}

// TestTornStoreEqualsModel: a store that dies at any commit, in groups that are loaded
// and in such that are one transaction, shows what the model holds (I3, I4) - also
// where the stream lost what the store had written and not noted, and goes on
// otherwise.
func TestTornStoreEqualsModel(t *testing.T) {
	r := seed(t)
	for round := range 2 {
		t.Run(fmt.Sprint(round), func(t *testing.T) { tornRound(t, r) })
	}
}

func tornRound(t *testing.T, r *rand.Rand) {
	g := newGenerator(r)
	died := errors.New("died")
	dir := t.TempDir()
	deaths, losses := 0, 0
	begin := func(deadly bool) *featurestore.Store {
		o := featurestore.Options{GroupEntries: pick(r, []int{1 + r.IntN(40), 600, 1000, 0})}
		opened := false
		o.Hook = func(step durable.Step, _ uint64) error {
			if opened && deadly && (step == durable.Commit || step == durable.Show) && r.IntN(8) == 0 {
				return died
			}
			return nil
		}
		s := open(t, dir, o)
		opened = true
		return s
	}
	past := map[change.Version]map[string][]string{}
	steps := []before{g.note()}
	step := func(kind change.Kind) {
		g.step(kind)
		steps = append(steps, g.note())
	}
	step(change.Backfill)
	for range 16 {
		for range r.IntN(80) {
			step(change.Live)
		}
		s := begin(true)
		err := s.Apply(t.Context(), g.f.batches...)
		if closed := s.Close(); closed != nil {
			t.Fatal(closed)
		}
		if err != nil {
			if !errors.Is(err, died) {
				t.Fatal(err)
			}
			deaths++
			if r.IntN(2) == 0 {
				continue
			}
			// The stream has lost its end, up to the step that the store is in; a group
			// that was written and not shown counts as well.
			s := begin(false)
			mark := s.Watermark()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			at := 0
			for at < len(steps)-1 && steps[at].sequence < mark.Sequence {
				at++
			}
			if at < len(steps)-1 {
				losses++
			}
			steps = steps[:at+1]
			was := steps[at]
			f := was.feed
			f.batches = append([]*change.Batch(nil), f.batches...)
			g.f, g.m = &f, was.model.clone()
			if r.IntN(2) == 0 {
				g.now = was.now // else the versions of before are passed by
			}
			if len(g.m.all) == 0 && g.f.sequence == 0 {
				step(change.Backfill)
			}
			continue
		}
		s = begin(false)
		v := view(t, s, 0)
		past[v.Info().AsOf] = g.m.asOf(v.Info().AsOf)
		for asOf, want := range past {
			if asOf == v.Info().AsOf || r.IntN(4) == 0 {
				sameRows(t, want, dump(t, view(t, s, asOf), 1+r.IntN(4)))
			}
		}
		for table, rows := range g.m.live {
			if got := s.Status().Rows[table]; got != int64(len(rows)) {
				t.Errorf("table %s: the store counts %d live rows, the model %d", table, got, len(rows))
			}
		}
		if t.Failed() {
			t.FailNow()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d deaths, %d times the stream lost its end", deaths, losses)
}

// TestTornGroupsWithRefillsEqualModel is the same for feeds with refills, gaps and
// abandoned transactions: what comes again writes the same, group by group.
func TestTornGroupsWithRefillsEqualModel(t *testing.T) {
	r := seed(t)
	g := eventfulFeed(r, 1500, 0)
	died := errors.New("died")
	dir := t.TempDir()
	deaths := 0
	for applied := 0; applied < len(g.f.batches); {
		opened := false
		s := open(t, dir, featurestore.Options{
			Definition: g.def, GroupEntries: pick(r, []int{30, 600, 1000, 0}),
			Hook: func(step durable.Step, _ uint64) error {
				if opened && step == durable.Commit && r.IntN(3) == 0 {
					return died
				}
				return nil
			},
		})
		opened = true
		to := min(len(g.f.batches), applied+1+r.IntN(600))
		switch err := s.Apply(t.Context(), g.f.batches[:to]...); {
		case err == nil:
			applied = to
		case errors.Is(err, died):
			deaths++
		default:
			t.Fatal(err)
		}
		closeStore(t, s)
	}
	t.Logf("%d deaths, %d messages", deaths, len(g.f.batches))
	s := open(t, dir, featurestore.Options{Definition: g.def})
	v := view(t, s, 0)
	sameRows(t, g.asOf(v.Info()), dump(t, v, 3, g.ends))
	for _, table := range g.tables() {
		if got := s.Status().Rows[table]; got != int64(len(g.src[table])) {
			t.Errorf("table %s: the store counts %d live rows, the source has %d", table, got, len(g.src[table]))
		}
	}
	if n, err := s.SeenMarks(); err != nil {
		t.Error(err)
	} else {
		t.Logf("%d marks of refills are left", n)
	}
}
