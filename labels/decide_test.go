package labels_test

import (
	"strings"
	"testing"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/labels"
)

// The outcomes of the trips below, by rank; NONE is the last.
const (
	booked = iota
	rejected
	clicked
	phoned // has no moment
	nothing
)

var (
	names  = []string{"BOOKED", "REJECTED", "CLICKED", "PHONED", "NONE"}
	moment = []string{"bookedAt", "rejectedAt", "clickedAt"}
)

const (
	day = int64(24 * 3600 * 1_000_000) // µs
	t0  = 20_000 * day                 // moment of the example
)

func trips(t *testing.T, change func(*definition.Labels)) *labels.Rules {
	t.Helper()
	l := definition.Labels{Status: "status", Goal: "BOOKED", Recall: definition.DefaultRecall()}
	for i, name := range names {
		o := definition.Outcome{Name: name, Statuses: []string{name}}
		switch {
		case i == nothing:
			o.Statuses = nil
		case i < len(moment):
			o.Moment = moment[i]
		}
		l.Outcomes = append(l.Outcomes, o)
	}
	change(&l)
	r, err := labels.NewRules(l)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// facts are a status ("" is NULL) and moments in µs after the example.
func facts(status string, at map[int]int64) *labels.Facts {
	f := &labels.Facts{At: make([]int64, len(names))}
	if status != "" {
		f.Status = []byte(status)
	}
	for i, after := range at {
		f.Set = f.Set.Set(i)
		f.Dated = f.Dated.Set(i)
		f.At[i] = t0 + after
	}
	return f
}

func rank(*definition.Labels)        {}
func latest(l *definition.Labels)    { l.Latest = true }
func fortnight(l *definition.Labels) { l.Window = 14 * 24 * time.Hour }

func both(l *definition.Labels) { latest(l); fortnight(l) }

// unless takes a booking back when it is cancelled, and a click when it expired.
func unless(l *definition.Labels) {
	l.Outcomes[booked].Unless = []string{"CANCELLED", "REFUNDED"}
	l.Outcomes[clicked].Unless = []string{"EXPIRED"}
}

func TestTheDefinitionDecidesWhatCounts(t *testing.T) {
	undated := facts("", map[int]int64{clicked: day})
	undated.Set = undated.Set.Set(booked) // bookedAt is infinity
	for _, c := range []struct {
		name  string
		rules func(*definition.Labels)
		facts *labels.Facts
		want  int
	}{
		// A booking cancelled later.
		{"by default a booking that was cancelled is a booking", rank, facts("CANCELLED", map[int]int64{booked: day}), booked},
		{"a booking is none while its status is in unless", unless, facts("CANCELLED", map[int]int64{booked: day}), nothing},
		{"each status of unless takes the outcome back", unless, facts("REFUNDED", map[int]int64{booked: day}), nothing},
		{"unless of one outcome leaves the others", unless, facts("CANCELLED", map[int]int64{booked: day, clicked: day}), clicked},
		{"unless needs the status, not its absence", unless, facts("", map[int]int64{booked: day}), booked},
		// An expiry after a click.
		{"by default an expiry after a click is a click", rank, facts("EXPIRED", map[int]int64{clicked: day}), clicked},
		{"an expiry after a click is nothing, if the definition says so", unless, facts("EXPIRED", map[int]int64{clicked: day}), nothing},
		{"an expiry takes no booking back that does not name it", unless, facts("EXPIRED", map[int]int64{booked: day}), booked},
		// A rejection then a booking.
		{"by rank a booking then a rejection is a booking", rank, facts("REJECTED", map[int]int64{booked: day, rejected: 2 * day}), booked},
		{"by rank a rejection then a click is a rejection", rank, facts("CLICKED", map[int]int64{rejected: day, clicked: 2 * day}), rejected},
		{"by the latest a rejection then a booking is a booking", latest, facts("BOOKED", map[int]int64{rejected: day, booked: 2 * day}), booked},
		{"by the latest a booking then a rejection is a rejection", latest, facts("REJECTED", map[int]int64{booked: day, rejected: 2 * day}), rejected},
		{"by the latest a rejection then a click is a click", latest, facts("CLICKED", map[int]int64{rejected: day, clicked: 2 * day}), clicked},
		{"of equal moments the first in rank counts", latest, facts("", map[int]int64{clicked: day, rejected: day}), rejected},
		{"of equal latest moments the first in rank counts", latest, facts("", map[int]int64{booked: 0, clicked: day, rejected: day}), rejected},
		{"if one that holds has no moment, rank decides", latest, facts("PHONED", map[int]int64{clicked: 3 * day, rejected: day}), rejected},
		{"a booking by status alone is not behind a click with a moment", latest, facts("BOOKED", map[int]int64{clicked: day}), booked},
		{"a moment that is no moment leaves it to rank", latest, undated, booked},
		{"what does not hold has no say in the latest", func(l *definition.Labels) { latest(l); unless(l) }, facts("CANCELLED", map[int]int64{rejected: day, booked: 2 * day}), rejected},
		// Windows.
		{"without a window a year is not too late", rank, facts("", map[int]int64{booked: 365 * day}), booked},
		{"an outcome at the end of the window counts", fortnight, facts("", map[int]int64{booked: 14 * day}), booked},
		{"an outcome just after the window does not", fortnight, facts("", map[int]int64{booked: 14*day + 1}), nothing},
		{"an outcome before the example counts, as it does by default", fortnight, facts("", map[int]int64{clicked: -day}), clicked},
		{"a late booking leaves the click before it", fortnight, facts("BOOKED", map[int]int64{booked: 20 * day, clicked: day}), clicked},
		{"a moment decides by itself against the status known in time", fortnight, facts("BOOKED", map[int]int64{booked: 20 * day}), nothing},
		{"a status known in time counts without a moment", fortnight, facts("BOOKED", nil), booked},
		{"a moment that is no moment leaves it to the status", fortnight, undated, clicked},
		{"what comes after the window is no latest", both, facts("", map[int]int64{rejected: 13 * day, booked: 15 * day}), rejected},
		{"a moment that is no moment is set, by default", rank, undated, booked},
		{"a status that is NULL is in no list", rank, facts("", nil), nothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := trips(t, c.rules).Outcome(c.facts, t0); got != c.want {
				t.Errorf("outcome %s, want %s", names[got], names[c.want])
			}
		})
	}
}

func TestAStatusThatIsNotKnownIsNotTheEmptyOne(t *testing.T) {
	r := trips(t, func(l *definition.Labels) {
		l.Outcomes[phoned].Statuses = []string{""}
		l.Outcomes[booked].Unless = []string{""}
	})
	if got := r.Outcome(facts("", map[int]int64{booked: day}), t0); got != booked {
		t.Errorf("a booking without status is %s", names[got])
	}
	if got := r.Outcome(facts("", nil), t0); got != nothing {
		t.Errorf("nothing without status is %s", names[got])
	}
	if got := r.Outcome(&labels.Facts{Status: []byte{}}, t0); got != phoned {
		t.Errorf("the empty status is %s", names[got])
	}
}

func TestTheFinalOutcomeHasNoWindow(t *testing.T) {
	late := facts("CANCELLED", map[int]int64{booked: 20 * day, clicked: day})
	if got := trips(t, fortnight).Final(late); got != booked {
		t.Errorf("in the end it is %s", names[got])
	}
	if got := trips(t, func(l *definition.Labels) { both(l); unless(l) }).Final(late); got != clicked {
		t.Errorf("in the end, the booking taken back, it is %s", names[got])
	}
}

func TestTheDeadlineIsTheEarlierOfWindowAndAsOfMoment(t *testing.T) {
	windowed, open := trips(t, fortnight), trips(t, rank)
	for _, c := range []struct {
		name     string
		asOf     int64
		deadline int64
		censored bool
	}{
		{"a window that passes the as-of moment is censored", t0 + 14*day - 1, t0 + 14*day - 1, true},
		{"a window that ends with it is not", t0 + 14*day, t0 + 14*day, false},
		{"a window that ended before is not", t0 + 90*day, t0 + 14*day, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := windowed.Deadline(t0, c.asOf); got != c.deadline {
				t.Errorf("the deadline is %d days after the example", (got-t0)/day)
			}
			if got := windowed.Censored(t0, c.asOf); got != c.censored {
				t.Errorf("censored is %v", got)
			}
			if open.Deadline(t0, c.asOf) != c.asOf || open.Censored(t0, c.asOf) {
				t.Error("without a window there is a deadline or a censored example")
			}
		})
	}
}

func TestRecallLooksAtOldExamplesAndPlacesTheirGoals(t *testing.T) {
	r := trips(t, rank)
	if r.Measured(t0, t0+30*day-1) || !r.Measured(t0, t0+30*day) {
		t.Error("an example is looked at before it is 30 days old, or not then")
	}
	for after, want := range map[int64]int{-9 * day: 0, 0: 0, day: 0, day + 1: 1, 7 * day: 1, 14*day + 1: 3, 30 * day: 3, 30*day + 1: 4} {
		if got := r.RecallPlace(after); got != want {
			t.Errorf("a goal %d µs after the example has place %d, want %d", after, got, want)
		}
	}
	none := trips(t, func(l *definition.Labels) { l.Goal = "NONE" })
	if none.Recall() != 0 || none.Measured(t0, t0+90*day) {
		t.Error("a goal that nothing reaches is measured")
	}
}

func TestDecidingDoesNotAllocate(t *testing.T) {
	r := trips(t, func(l *definition.Labels) { both(l); unless(l) })
	f := facts("EXPIRED", map[int]int64{rejected: day, booked: 2 * day, clicked: 3 * day})
	if n := testing.AllocsPerRun(100, func() { r.Outcome(f, t0); r.Final(f); r.Deadline(t0, t0); r.RecallPlace(day) }); n != 0 {
		t.Errorf("an outcome allocates %v times", n)
	}
}

func FuzzOutcomeIsOneOfTheOutcomes(f *testing.F) {
	f.Add("BOOKED", uint64(3), uint64(1), int64(5), true)
	f.Fuzz(func(t *testing.T, status string, set, dated uint64, at int64, last bool) {
		r := trips(t, func(l *definition.Labels) { fortnight(l); unless(l); l.Latest = last })
		x := &labels.Facts{Status: []byte(status), Set: labels.Moments(set), Dated: labels.Moments(dated & set), At: make([]int64, labels.MaxOutcomes)}
		for i := range x.At {
			x.At[i] = at * int64(i%3)
		}
		got := r.Outcome(x, t0)
		if got < 0 || got >= r.Len() || got != nothing && got != r.Final(x) && !last && r.Final(x) > got {
			t.Errorf("outcome %d, final %d of %s", got, r.Final(x), strings.ToValidUTF8(status, "?"))
		}
	})
}

func BenchmarkOutcome(b *testing.B) {
	l := definition.Labels{Status: "status", Goal: "BOOKED", Window: time.Hour, Latest: true}
	for i, name := range names[:3] {
		l.Outcomes = append(l.Outcomes, definition.Outcome{Name: name, Statuses: []string{name}, Moment: moment[i], Unless: []string{"CANCELLED"}})
	}
	l.Outcomes = append(l.Outcomes, definition.Outcome{Name: "NONE"})
	r, err := labels.NewRules(l)
	if err != nil {
		b.Fatal(err)
	}
	f := facts("CLICKED", map[int]int64{clicked: day, rejected: 2 * day})
	b.ReportAllocs()
	for b.Loop() {
		r.Outcome(f, t0)
	}
}
