package featurestore

import (
	"testing"
	"time"

	"dreamfeed/internal/change"
)

func TestKnownTimeOfBackfilledRows(t *testing.T) {
	moment := func(s string) int64 {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return at.UnixMicro()
	}
	backfill := change.Version(moment("2024-06-01T00:00:00Z"))
	const timestamp, timestamptz, date, text = 1114, 1184, 1082, 25
	for name, c := range map[string]struct {
		oid              uint32
		updated, created string // "" is NULL
		zone             string
		want             string
	}{
		"the updated column":                     {timestamp, "2024-05-01 10:00:00", "2024-04-01 10:00:00", "UTC", "2024-05-01T10:00:00Z"},
		"else the created column":                {timestamp, "", "2024-04-01 10:00:00", "UTC", "2024-04-01T10:00:00Z"},
		"else the backfill":                      {timestamp, "", "", "UTC", "2024-06-01T00:00:00Z"},
		"never later than the backfill":          {timestamp, "2030-01-01 00:00:00", "2024-04-01 10:00:00", "UTC", "2024-06-01T00:00:00Z"},
		"infinity is no moment":                  {timestamp, "infinity", "2024-04-01 10:00:00", "UTC", "2024-04-01T10:00:00Z"},
		"nor is text":                            {text, "2024-05-01 10:00:00", "", "UTC", "2024-06-01T00:00:00Z"},
		"in the definition's zone":               {timestamp, "2024-05-01 10:00:00", "", "Europe/Berlin", "2024-05-01T08:00:00Z"},
		"a moment with zone has its own":         {timestamptz, "2024-05-01 10:00:00+00", "", "Europe/Berlin", "2024-05-01T10:00:00Z"},
		"a date is its first moment in the zone": {date, "2024-05-01", "", "Europe/Berlin", "2024-04-30T22:00:00Z"},
		"before 1970":                            {timestamp, "1960-01-01 00:00:00", "", "UTC", "1960-01-01T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			zone, err := time.LoadLocation(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			m := &mapping{zone: zone, updated: 0, created: 1, columns: []change.Column{{Type: c.oid}, {Type: c.oid}}}
			values := make([]change.Value, 2)
			for i, s := range []string{c.updated, c.created} {
				values[i] = change.Value{Kind: change.Null}
				if s != "" {
					values[i] = change.Value{Kind: change.Text, Text: []byte(s)}
				}
			}
			known := m.known(backfill, values)
			if want := moment(c.want); known != want {
				t.Errorf("known at %s, want %s", time.UnixMicro(known).UTC(), c.want)
			}
			stored, flags := appendKnown(nil, backfill, known, true)
			back, rest, ok := splitKnown(append(stored, "row"...), flags, backfill)
			if !ok || back != known || string(rest) != "row" || flags&flagBackfilled == 0 {
				t.Errorf("stored as %x with flags %x it comes back as %d, %q, %t", stored, flags, back, rest, ok)
			}
		})
	}
}
