package cdc

import (
	"strings"
	"testing"
	"time"
)

func bytesOf(n int64) *int64 { return &n }

func TestPressureSaysHowLongUntilTheSlotIsGivenUp(t *testing.T) {
	const mb = 1 << 20
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type sample struct {
		after      time.Duration
		kept, safe int64 // MiB; safe -1 is NULL
	}
	for name, c := range map[string]struct {
		limit   int64 // MiB, -1 is none
		status  string
		samples []sample
		behind  int64 // MiB not confirmed, of the last sample; all of it when 0
		parked  bool
		growth  float64 // MiB/s
		left    time.Duration
		level   int
		says    []string
	}{
		"one measure has no growth":           {limit: 1000, status: "reserved", samples: []sample{{0, 100, 900}}},
		"two at once have none":               {limit: 1000, status: "reserved", samples: []sample{{0, 100, 900}, {time.Second, 200, 800}}},
		"a slot that lets go does not grow":   {limit: 1000, status: "reserved", samples: []sample{{0, 300, 700}, {time.Minute, 100, 900}}},
		"little kept is no warning":           {limit: 1000, status: "reserved", samples: []sample{{0, 100, 900}, {100 * time.Second, 200, 800}}, growth: 1, left: 800 * time.Second},
		"a quarter, and less than an hour":    {limit: 1000, status: "reserved", samples: []sample{{0, 200, 800}, {100 * time.Second, 300, 700}}, growth: 1, left: 700 * time.Second, level: pressureWarn, says: []string{"keeps 300 MiB", "slot s", "700 MiB more", "in about 11m40s at 3.52 GiB an hour", "max_slot_wal_keep_size is 1000 MiB", "let ingest catch up", "pg_reload_conf"}},
		"a quarter, and more than an hour":    {limit: 1000, status: "reserved", samples: []sample{{0, 290, 710}, {100 * time.Second, 300, 700}}, growth: 0.1, left: 7000 * time.Second},
		"the rate is of the last minutes":     {limit: 10000, status: "reserved", samples: []sample{{0, 0, 10000}, {10 * time.Minute, 600, 9400}, {11 * time.Minute, 720, 9280}}, growth: 2, left: 4640 * time.Second},
		"half of it":                          {limit: 1000, status: "extended", samples: []sample{{0, 501, 499}}, level: pressureWarn, says: []string{"499 MiB more"}},
		"the last tenth":                      {limit: 1000, status: "extended", samples: []sample{{0, 910, 90}}, level: pressureHigh, says: []string{"90 MiB more"}},
		"beyond it":                           {limit: 1000, status: "unreserved", samples: []sample{{0, 1100, -50}}, level: pressureHigh, says: []string{"more than max_slot_wal_keep_size", "next checkpoint"}},
		"given up":                            {limit: 1000, status: "lost", samples: []sample{{0, 0, -1}}, level: pressureHigh, says: []string{"given it up"}},
		"no limit and little kept":            {limit: -1, status: "extended", samples: []sample{{0, 2000, -1}, {time.Minute, 5000, -1}}, growth: 50},
		"no limit and much kept":              {limit: -1, status: "extended", samples: []sample{{0, 9000, -1}, {time.Minute, 9060, -1}}, growth: 1, level: pressureWarn, says: []string{"without a limit", "until its disk is full", "3.52 GiB an hour"}},
		"the stream takes nothing":            {limit: 1000, status: "extended", samples: []sample{{0, 600, 400}}, parked: true, level: pressureWarn, says: []string{"the stream takes nothing more"}},
		"a transaction left open holds it":    {limit: 9000, status: "extended", samples: []sample{{0, 5000, 4000}}, behind: 1, level: pressureWarn, says: []string{"pg_stat_activity", "pg_prepared_xacts"}},
		"a slot with a limit of zero":         {limit: 0, status: "unreserved", samples: []sample{{0, 20, 0}}, level: pressureHigh, says: []string{"next checkpoint"}},
		"a rate that leaves more than a life": {limit: 1 << 30, status: "reserved", samples: []sample{{0, 0, 1 << 40}, {4 * time.Minute, 1, 1 << 40}}, growth: 1.0 / 240, left: 10 * 365 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			var g pressureGauge
			var p Pressure
			for i, s := range c.samples {
				k := walKept{Kept: uint64(s.kept * mb), Unconfirmed: uint64(s.kept * mb), Status: c.status, LimitMB: c.limit}
				if s.safe >= 0 || c.status == "unreserved" {
					k.Safe = bytesOf(s.safe * mb)
				}
				if c.behind != 0 && i == len(c.samples)-1 {
					k.Unconfirmed = uint64(c.behind * mb)
				}
				p = g.take(begin.Add(s.after), k)
			}
			if got := p.Growth / mb; got < c.growth*0.999 || got > c.growth*1.001 {
				t.Errorf("growth %v MiB/s, want %v", got, c.growth)
			}
			if d := p.Left - c.left; d.Abs() > time.Second {
				t.Errorf("left %s, want %s", p.Left, c.left)
			}
			if got := p.level(); got != c.level {
				t.Errorf("level %d, want %d: %+v", got, c.level, p)
			}
			text := p.warning("s", c.parked)
			if (text != "") != (c.level != pressureNone) {
				t.Errorf("it warns %q", text)
			}
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
			if len(g.samples) > len(c.samples) || g.samples[0].at.Before(p.Measured.Add(-growthWindow)) {
				t.Errorf("%d samples are kept, the oldest of %s", len(g.samples), g.samples[0].at)
			}
		})
	}
}
