package cdc

import (
	"fmt"
	"time"

	"dreamfeed/internal/change"
)

// Limits of the clocks (DESIGN §4, "Versions"), in microseconds.
const (
	// clockAhead is how far a version may run ahead of the publisher's clock.
	clockAhead = 5_000_000
	// clockNotice is the smallest clamp or step back that is counted.
	clockNotice = 1_000_000
	// clockJump is the smallest jump forward that stops the publisher.
	clockJump = 3_600_000_000
)

// ClockError says that a clock has jumped forward, so that versions taken from
// it could not be taken back. Nothing of the transaction was published.
type ClockError struct {
	// Moment is what the source stamped, Expected what was expected at most.
	Moment, Expected time.Time
	CommitLSN        change.LSN // 0 for a tick
	// Source tells that the source's clock is ahead of ours; otherwise both
	// have jumped while we were connected.
	Source bool
}

// Error names the moments and what to do.
func (e *ClockError) Error() string {
	who := "the clocks of source and publisher have jumped forward"
	if e.Source {
		who = "the source's clock is ahead of the publisher's"
	}
	return fmt.Sprintf("assign a version at %s: %s: the source says %s where at most %s was expected; set the clocks right, or start once with --accept-clock",
		e.CommitLSN, who, e.Moment.UTC().Format(time.RFC3339), e.Expected.UTC().Format(time.RFC3339))
}

// clockEvent is something odd about a clock that is not an error.
type clockEvent struct {
	// Clamped is by how much the source's moment was cut, Back by how much it
	// lay before the version before; both 0 below clockNotice.
	Clamped, Back time.Duration
}

// versioner assigns versions: v = max(min(moment, clock + 5 s), previous + 1)
// in microseconds (DESIGN §4).
type versioner struct {
	// clock is the publisher's wall clock; elapsed is time that has passed since
	// the connection was made, on a clock that cannot be set.
	clock   func() time.Time
	elapsed func() time.Duration
	// connected is the newest of the source's clock and the publisher's when the
	// connection was made, in microseconds.
	connected int64
	accept    bool
}

// newVersioner makes a versioner at the start of a connection, when the
// source's clock said now.
func newVersioner(clock func() time.Time, now time.Time, accept bool) *versioner {
	began := time.Now()
	return &versioner{
		clock:     clock,
		elapsed:   func() time.Duration { return time.Since(began) },
		connected: max(now.UnixMicro(), clock().UnixMicro()),
		accept:    accept,
	}
}

// assign gives the version of what the source stamped with moment, in
// microseconds since the Unix epoch; previous is the highest version used.
func (v *versioner) assign(moment int64, previous change.Version, commit change.LSN) (change.Version, clockEvent, error) {
	var event clockEvent
	clock := v.clock().UnixMicro()
	if !v.accept {
		if moment > clock+clockJump {
			return 0, event, &ClockError{Moment: time.UnixMicro(moment), Expected: time.UnixMicro(clock), CommitLSN: commit, Source: true}
		}
		// Both clocks may have jumped together. What passed since we connected
		// is known from the monotonic clock.
		expected := v.connected + v.elapsed().Microseconds()
		if moment > expected+clockJump {
			return 0, event, &ClockError{Moment: time.UnixMicro(moment), Expected: time.UnixMicro(expected), CommitLSN: commit}
		}
	}
	version := moment
	if limit := clock + clockAhead; version > limit {
		if cut := version - limit; cut >= clockNotice {
			event.Clamped = time.Duration(cut) * time.Microsecond
		}
		version = limit
	}
	if version <= int64(previous) {
		if back := int64(previous) - version; back >= clockNotice {
			event.Back = time.Duration(back) * time.Microsecond
		}
		version = int64(previous) + 1
	}
	return change.Version(version), event, nil
}
