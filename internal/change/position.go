package change

import (
	"fmt"
	"time"
)

// LSN is a byte position in PostgreSQL's write-ahead log. Commit LSNs are the
// only ordered ones: the LSN of a row repeats and goes backwards, and is never
// used as a key or as a place to resume.
type LSN uint64

// String renders the position as PostgreSQL does, for example 16/B374D848.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// ParseLSN reads the form that String writes.
func ParseLSN(s string) (LSN, error) {
	var hi, lo uint32
	var rest string
	if n, _ := fmt.Sscanf(s, "%X/%X%s", &hi, &lo, &rest); n != 2 {
		return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers with a slash between", s)
	}
	return LSN(hi)<<32 | LSN(lo), nil
}

// Version is the moment at which the system took in a transaction, in
// microseconds since the Unix epoch, made strictly increasing in commit order
// (DESIGN §4). It is at once a total order and a time.
type Version uint64

// Time returns the moment of the version in UTC.
func (v Version) Time() time.Time { return time.UnixMicro(int64(v)).UTC() }

// String renders the version as an RFC 3339 moment with microseconds.
func (v Version) String() string { return v.Time().Format("2006-01-02T15:04:05.000000Z") }

// VersionAt returns the version whose moment is t, rounded down to a microsecond.
func VersionAt(t time.Time) Version { return Version(t.UnixMicro()) }

// ParseMoment reads a moment as persons write one, in RFC 3339 with its zone.
func ParseMoment(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no moment: write it like 2026-11-01T00:00:00Z, with its zone", text)
	}
	return t, nil
}

// Epoch counts the times that a feed was begun anew on purpose, from 1.
type Epoch uint32

// Origin identifies the PostgreSQL cluster and timeline that LSNs belong to.
// LSNs of two origins cannot be compared.
type Origin struct {
	System   uint64 // system identifier, IDENTIFY_SYSTEM
	Timeline uint32
}
