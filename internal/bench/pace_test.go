package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = time.Duration(i + 1)
	}
	tests := []struct {
		values  []time.Duration
		percent float64
		want    time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 0, 7},
		{[]time.Duration{7}, 99.9, 7},
		{[]time.Duration{3, 1, 2}, 50, 2},
		{[]time.Duration{4, 1, 3, 2}, 50, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.9, 100},
		{hundred, 100, 100},
	}
	for _, test := range tests {
		if got := percentile(test.values, test.percent); got != test.want {
			t.Errorf("%v %% of %d values is %d, want %d", test.percent, len(test.values), got, test.want)
		}
	}
}

func TestPaceDoesNotWaitForWhatWasBegun(t *testing.T) {
	const count, rate = 50, 1000
	var begun atomic.Int64
	all := make(chan struct{})
	moments := make([]time.Time, count)
	err := pace(t.Context(), rate, count, count, func(ctx context.Context, _ int, intended time.Time) error {
		i := begun.Add(1)
		moments[i-1] = intended
		if i == count {
			close(all)
		}
		// None returns before all have begun.
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	first, last := moments[0], moments[0]
	for _, m := range moments {
		if m.Before(first) {
			first = m
		}
		if m.After(last) {
			last = m
		}
	}
	if got, want := last.Sub(first), (count-1)*time.Second/rate; got != want {
		t.Errorf("the moments span %s, want %s", got, want)
	}
}

func TestPaceEndsWithTheFirstError(t *testing.T) {
	wrong := errors.New("wrong")
	var calls atomic.Int64
	err := pace(t.Context(), 1e6, 100_000, 4, func(context.Context, int, time.Time) error {
		if calls.Add(1) == 10 {
			return wrong
		}
		return nil
	})
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

func TestDelaysAreToTheFirstSightOfAPosition(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	at := func(ms int, lsn change.LSN) position {
		return position{began.Add(time.Duration(ms) * time.Millisecond), lsn}
	}
	seen := []position{at(10, 100), at(12, 100), at(14, 200), at(16, 200), at(18, 300)}
	got, err := delaysOf([]position{at(4, 100), at(5, 101), at(13, 200), at(15, 150), at(11, 300)}, seen)
	if err != nil {
		t.Fatal(err)
	}
	const ms = time.Millisecond
	if diff := cmp.Diff([]time.Duration{6 * ms, 9 * ms, 1 * ms, 0, 7 * ms}, got); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	if _, err := delaysOf([]position{at(1, 301)}, seen); err == nil {
		t.Error("a position that was never seen is no error")
	}
}
