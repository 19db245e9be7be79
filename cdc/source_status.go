package cdc

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
)

// State is what a Source is doing.
type State string

// The states of a Source.
const (
	Starting     State = "starting"
	Backfilling  State = "backfill"
	Streaming    State = "streaming"
	Reconnecting State = "reconnecting"
	Stopped      State = "stopped"
)

// Status is a Source's state at one moment.
type Status struct {
	State State
	// BackfillRows counts the rows read by the backfill of this process, by
	// table; BackfillTables says how many tables are read completely, of how many.
	BackfillRows         map[string]uint64
	BackfillDone, Tables int
	// SourceLSN is the end of the server's log as it last told us; ReceivedLSN is
	// the end of the newest transaction, or idle position, that was framed;
	// DurableLSN is what has been confirmed to the server. 0 means unknown.
	SourceLSN, ReceivedLSN, DurableLSN change.LSN
	// LagBytes is SourceLSN − DurableLSN, at least 0.
	LagBytes uint64
	// LastMoment is the newest version that was assigned.
	LastMoment change.Version
	// Transactions and Rows were received since the process started, Messages
	// are logical messages, Ticks are idle marks published.
	Transactions, Rows, Messages, Ticks uint64
	Reconnects                          uint64
	// Clamps counts versions that were cut to the publisher's clock, StepsBack
	// those pushed above their predecessor, both by 1 s or more.
	Clamps, StepsBack uint64
	// RefillTables are the tables that are refilled at the moment, nil when none
	// are, RefillPhase what is done, and RefillRows the rows of them that are read;
	// Refills counts the refills that were completed since the process started.
	RefillTables []string
	RefillPhase  RefillPhase
	RefillRows   uint64
	Refills      uint64
	// Skipped counts changes of tables that the definition has dropped, and that
	// are not published any more.
	Skipped uint64
	// Parked says that the stream takes nothing at the moment.
	Parked bool
	// Pressure is how much log the server keeps for us, as of the last look.
	Pressure Pressure
	// Fault is why the connection was last lost, "" when there was no reason.
	Fault string
	// Faults are what the last check found.
	Faults []Fault
}

// statusBoard is where a Source's goroutines write what Status shows.
type statusBoard struct {
	mu  sync.Mutex
	now Status
	was bool // there was a connection
	// verified is closed once the server was found to be the stream's.
	verified chan struct{}

	warned time.Time // of a clock that is off
}

// warnEvery is the least time between two warnings of a clock that is off.
const warnEvery = 10 * time.Second

// warn says whether to warn of a clock again. The lock is held.
func (b *statusBoard) warn(now time.Time) bool {
	if d := now.Sub(b.warned); d >= 0 && d < warnEvery {
		return false
	}
	b.warned = now
	return true
}

func (b *statusBoard) init() {
	b.now = Status{State: Starting, BackfillRows: map[string]uint64{}}
	b.verified = make(chan struct{})
}

// update changes the status under the lock.
func (b *statusBoard) update(change func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.now)
}

func (b *statusBoard) state(state State) {
	b.update(func(s *Status) {
		s.State = state
		if state != Streaming {
			s.Parked = false
		}
	})
}

func (b *statusBoard) reconnecting(err error) {
	b.update(func(s *Status) {
		s.State, s.Fault, s.Parked = Reconnecting, err.Error(), false
		s.Reconnects++
	})
}

func (b *statusBoard) connected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.was = true
}

// verify notes that the server's positions are those of the stream.
func (b *statusBoard) verify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.verified:
	default:
		close(b.verified)
	}
}

func (b *statusBoard) everConnected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.was
}

// newFaults replaces the faults and returns those that were not there before.
func (b *statusBoard) newFaults(faults []Fault) []Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	var added []Fault
	for _, f := range faults {
		if !slices.Contains(b.now.Faults, f) {
			added = append(added, f)
		}
	}
	b.now.Faults = slices.Clone(faults)
	return added
}

// Status returns the state. It may be called at any time by any goroutine.
func (s *Source) Status() Status {
	s.status.mu.Lock()
	defer s.status.mu.Unlock()
	now := s.status.now
	now.BackfillRows = maps.Clone(now.BackfillRows)
	now.Faults = slices.Clone(now.Faults)
	if now.SourceLSN > now.DurableLSN {
		now.LagBytes = uint64(now.SourceLSN - now.DurableLSN)
	}
	return now
}

// collector shows a Source's Status as metrics.
type collector struct{ source *Source }

// metric describes one number of the Status.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Status) float64
}

// metrics lists what is collected beside the backfill's rows.
func metrics() []metric {
	m := func(name, help string, kind prometheus.ValueType, value func(*Status) float64) metric {
		return metric{prometheus.NewDesc("dreamfeed_source_"+name, help, nil, nil), kind, value}
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []metric{
		m("streaming", "1 while changes are followed.", gauge, func(s *Status) float64 { return oneIf(s.State == Streaming) }),
		m("parked", "1 while the stream takes nothing more.", gauge, func(s *Status) float64 { return oneIf(s.Parked) }),
		m("lag_bytes", "Bytes of the server's log that are not confirmed yet.", gauge, func(s *Status) float64 { return float64(s.LagBytes) }),
		m("received_lsn", "End of the newest transaction received.", gauge, func(s *Status) float64 { return float64(s.ReceivedLSN) }),
		m("confirmed_lsn", "Position confirmed to the server.", gauge, func(s *Status) float64 { return float64(s.DurableLSN) }),
		m("last_moment_seconds", "Newest version assigned, as Unix time.", gauge, func(s *Status) float64 { return float64(s.LastMoment) / float64(time.Second/time.Microsecond) }),
		m("faults", "Faults that the last check of the source found.", gauge, func(s *Status) float64 { return float64(len(s.Faults)) }),
		m("wal_kept_bytes", "Bytes of its log that the server keeps for our slot.", gauge, func(s *Status) float64 { return s.Pressure.orInfinite(true, float64(s.Pressure.KeptBytes)) }),
		m("wal_limit_bytes", "max_slot_wal_keep_size, +Inf when there is none.", gauge, func(s *Status) float64 {
			return s.Pressure.orInfinite(s.Pressure.Limited, float64(s.Pressure.LimitBytes))
		}),
		m("wal_safe_bytes", "Bytes that the server may write before it gives our slot up, +Inf without a limit.", gauge, func(s *Status) float64 {
			return s.Pressure.orInfinite(s.Pressure.Limited, float64(s.Pressure.SafeBytes))
		}),
		m("wal_growth_bytes_per_second", "Growth of the log that the server keeps for our slot, over the last minutes.", gauge, func(s *Status) float64 { return s.Pressure.orInfinite(true, s.Pressure.Growth) }),
		m("wal_left_seconds", "Time until the server gives our slot up at the present growth, +Inf without a limit or growth.", gauge, func(s *Status) float64 { return s.Pressure.orInfinite(s.Pressure.Left > 0, s.Pressure.Left.Seconds()) }),
		m("wal_warning", "1 while the kept log is warned of.", gauge, func(s *Status) float64 { return oneIf(s.Pressure.Warning != "") }),
		m("transactions_total", "Transactions received.", counter, func(s *Status) float64 { return float64(s.Transactions) }),
		m("rows_total", "Row changes received.", counter, func(s *Status) float64 { return float64(s.Rows) }),
		m("logical_messages_total", "Logical messages received.", counter, func(s *Status) float64 { return float64(s.Messages) }),
		m("ticks_total", "Idle marks published.", counter, func(s *Status) float64 { return float64(s.Ticks) }),
		m("refilling", "1 while tables are refilled.", gauge, func(s *Status) float64 { return oneIf(s.RefillTables != nil) }),
		m("refill_rows", "Rows read by the refill under way.", gauge, func(s *Status) float64 { return float64(s.RefillRows) }),
		m("refills_total", "Refills completed.", counter, func(s *Status) float64 { return float64(s.Refills) }),
		m("skipped_rows_total", "Row changes of tables that the definition has dropped.", counter, func(s *Status) float64 { return float64(s.Skipped) }),
		m("reconnects_total", "Connections lost.", counter, func(s *Status) float64 { return float64(s.Reconnects) }),
		m("clock_clamps_total", "Versions cut to the publisher's clock by 1 s or more.", counter, func(s *Status) float64 { return float64(s.Clamps) }),
		m("clock_steps_back_total", "Versions pushed above their predecessor by 1 s or more.", counter, func(s *Status) float64 { return float64(s.StepsBack) }),
	}
}

func oneIf(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func backfillDesc() *prometheus.Desc {
	return prometheus.NewDesc("dreamfeed_source_backfill_rows_total", "Rows read by the backfill.", []string{"table"}, nil)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics() {
		out <- m.desc
	}
	out <- backfillDesc()
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	now := c.source.Status()
	for _, m := range metrics() {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&now))
	}
	desc := backfillDesc()
	for _, table := range slices.Sorted(maps.Keys(now.BackfillRows)) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(now.BackfillRows[table]), table)
	}
}
