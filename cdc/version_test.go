package cdc

import (
	"errors"
	"testing"
	"time"

	"dreamfeed/internal/change"
)

func TestVersionsGrowAndStayNearTheClocks(t *testing.T) {
	const second = 1_000_000
	const now = 1_700_000_000 * second // the publisher's clock
	cases := map[string]struct {
		moment   int64
		previous change.Version
		connect  int64
		elapsed  time.Duration
		accept   bool
		want     change.Version
		clamped  time.Duration
		back     time.Duration
		refused  bool
	}{
		"the commit time is the version":                     {moment: now - 3, previous: now - 9, connect: now, want: now - 3},
		"an equal commit time comes one later":               {moment: now - 9, previous: now - 9, connect: now, want: now - 8},
		"a small step back is not counted":                   {moment: now - second, previous: now - 5, connect: now, want: now - 4},
		"a step back of over a second is counted":            {moment: now - 2*second, previous: now - 5, connect: now, want: now - 4, back: 2*time.Second - 5*time.Microsecond},
		"five seconds ahead are taken":                       {moment: now + 5*second, previous: now, connect: now, want: now + 5*second},
		"more is cut to five seconds":                        {moment: now + 60*second, previous: now, connect: now, want: now + 5*second, clamped: 55 * time.Second},
		"what was cut stays in order":                        {moment: now + 60*second, previous: now + 5*second, connect: now, want: now + 5*second + 1, clamped: 55 * time.Second},
		"years ahead are refused":                            {moment: now + 1e8*second, previous: now, connect: now, refused: true},
		"years ahead are cut when accepted":                  {moment: now + 1e8*second, previous: now, connect: now, accept: true, want: now + 5*second, clamped: (1e8 - 5) * time.Second},
		"both clocks jumped since we connected":              {moment: now, previous: now - 7200*second, connect: now - 7200*second, elapsed: time.Minute, refused: true},
		"both clocks jumped and it is accepted":              {moment: now, previous: now - 7200*second, connect: now - 7200*second, elapsed: time.Minute, accept: true, want: now},
		"hours passed while we were connected":               {moment: now, previous: now - 7200*second, connect: now - 7200*second, elapsed: 2 * time.Hour, want: now},
		"days passed before we connected":                    {moment: now, previous: now - 200_000*second, connect: now, want: now},
		"a commit of long ago is read after an interruption": {moment: now - 100_000*second, previous: now - 200_000*second, connect: now, want: now - 100_000*second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			v := &versioner{
				clock:     func() time.Time { return time.UnixMicro(now) },
				elapsed:   func() time.Duration { return c.elapsed },
				connected: c.connect, accept: c.accept,
			}
			got, event, err := v.assign(c.moment, c.previous, 7)
			var jump *ClockError
			if c.refused != errors.As(err, &jump) {
				t.Fatalf("error %v", err)
			}
			if got != c.want || event.Clamped != c.clamped || event.Back != c.back {
				t.Errorf("version %d (%+d to the clock), %+v; want %d", got, int64(got)-now, event, c.want)
			}
		})
	}
}
