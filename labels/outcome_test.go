package labels_test

import (
	"fmt"
	"testing"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/labels"
)

func rules(t testing.TB) *labels.Rules {
	t.Helper()
	r, err := labels.NewRules(definition.Labels{
		Status: "status", Goal: "BOOKED", Sampled: "NOT_VIEWED",
		Outcomes: []definition.Outcome{
			{Name: "BOOKED", Score: 5, Statuses: []string{"BOOKED"}, Moment: "bookedAt"},
			{Name: "REJECTED", Score: -1, Statuses: []string{"REJECTED"}, Moment: "rejectedAt"},
			{Name: "CLICKED", Score: 3, Statuses: []string{"CLICKED"}, Moment: "clickedAt"},
			{Name: "VIEWED", Score: 1, Statuses: []string{"VIEWED"}, Moment: "viewedAt"},
			{Name: "NOT_VIEWED"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOutcomeIsTheFirstThatHolds(t *testing.T) {
	const booked, rejected, clicked, viewed = 0, 1, 2, 3
	var none labels.Moments
	for _, c := range []struct {
		name    string
		status  string
		moments labels.Moments
		want    string
	}{
		{"generated only is not viewed", "GENERATED", none, "NOT_VIEWED"},
		{"expired alone is not viewed", "EXPIRED", none, "NOT_VIEWED"},
		{"expired after a click is clicked", "EXPIRED", none.Set(viewed).Set(clicked), "CLICKED"},
		{"a rejection ranks before a click", "CLICKED", none.Set(rejected), "REJECTED"},
		{"a status ranks like its moment", "REJECTED", none.Set(viewed), "REJECTED"},
		{"a booking ranks before a rejection", "REJECTED", none.Set(booked), "BOOKED"},
		{"a status without its moment counts", "BOOKED", none, "BOOKED"},
		{"an unknown status is not viewed", "LOST", none, "NOT_VIEWED"},
		{"case matters", "booked", none, "NOT_VIEWED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rules(t)
			if got := r.Name(r.Outcome(&labels.Facts{Status: []byte(c.status), Set: c.moments}, 0)); got != c.want {
				t.Errorf("outcome of %s with moments %b is %s, want %s", c.status, c.moments, got, c.want)
			}
		})
	}
	r := rules(t)
	if got := r.Name(r.Outcome(&labels.Facts{Set: none.Set(viewed)}, 0)); got != "VIEWED" {
		t.Errorf("outcome without a status is %s, want VIEWED", got)
	}
	for i, want := range []struct {
		score                   float64
		goal, positive, sampled bool
	}{{5, true, true, false}, {-1, false, false, false}, {3, false, true, false}, {1, false, true, false}, {0, false, false, true}} {
		if r.Score(i) != want.score || r.Goal(i) != want.goal || r.Positive(i) != want.positive || r.Sampled(i) != want.sampled {
			t.Errorf("outcome %s: score %v goal %v positive %v sampled %v, want %+v", r.Name(i), r.Score(i), r.Goal(i), r.Positive(i), r.Sampled(i), want)
		}
	}
}

func TestRulesThatLeaveAnExampleWithoutOutcomeAreRefused(t *testing.T) {
	last := definition.Outcome{Name: "NONE"}
	many := make([]definition.Outcome, labels.MaxOutcomes+1)
	for name, l := range map[string]definition.Labels{
		"no outcome":          {},
		"no last outcome":     {Outcomes: []definition.Outcome{{Name: "A", Moment: "a"}}},
		"unknown goal":        {Outcomes: []definition.Outcome{last}, Goal: "B"},
		"unknown sampled":     {Outcomes: []definition.Outcome{last}, Sampled: "B"},
		"more than the limit": {Outcomes: many},
		"censored, no window": {Outcomes: []definition.Outcome{last}, DropCensored: true},
		"a negative window":   {Outcomes: []definition.Outcome{last}, Window: -time.Hour},
		"a recall that falls": {Outcomes: []definition.Outcome{last}, Recall: []time.Duration{2 * time.Hour, time.Hour}},
		"a recall of nothing": {Outcomes: []definition.Outcome{last}, Recall: []time.Duration{0}},
	} {
		if _, err := labels.NewRules(l); err == nil {
			t.Errorf("%s: the rules were accepted", name)
		}
	}
}

func TestMaturityIsReachedExactlyAtItsAge(t *testing.T) {
	const week = 7 * 24 * time.Hour
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	if labels.Immature(at-week.Microseconds(), at, week) {
		t.Error("an example of exactly seven days is immature")
	}
	if !labels.Immature(at-week.Microseconds()+1, at, week) {
		t.Error("an example one microsecond younger is mature")
	}
}

func ExampleRules_Outcome() {
	r, _ := labels.NewRules(definition.Labels{Outcomes: []definition.Outcome{
		{Name: "SOLD", Score: 1, Statuses: []string{"paid"}, Moment: "paid_at"},
		{Name: "SEEN"},
	}})
	paid := r.Outcome(&labels.Facts{Status: []byte("paid")}, 0)
	fresh := r.Outcome(&labels.Facts{Status: []byte("new")}, 0)
	fmt.Println(r.Name(paid), r.Name(fresh))
	// Output: SOLD SEEN
}
