package featurestore

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// meters count what this process did; what outlives it is in Counters.
type meters struct {
	groups, entries, bytesOut, bytesIn, lookups atomic.Uint64
	commitNanos                                 atomic.Uint64
	paused                                      atomic.Bool
	// What the sweeper removed, and how long its last pass took.
	sweptVersions, sweptBytes, sweepNanos atomic.Uint64
}

func (m *meters) note(g *group, took time.Duration) {
	m.groups.Add(1)
	m.entries.Add(uint64(len(g.entries)))
	m.bytesOut.Add(uint64(g.size))
	m.commitNanos.Add(uint64(took))
}

// Status is a picture of the store for people and dashboards.
type Status struct {
	Watermark Watermark `json:"watermark"`
	// Durable is the newest closed moment that no crash takes back (Store.Durable): what
	// came behind it the stream keeps.
	Durable  change.Version `json:"durable"`
	Counters Counters       `json:"counters"`
	// Rows are the live rows by table name, as of the watermark.
	Rows map[string]int64 `json:"rows"`
	// Unfilled are the tables that need a refill (Store.Unfilled).
	Unfilled []string `json:"unfilled,omitempty"`
	// Gaps are the times without changes; the last may be open.
	Gaps []history.Gap `json:"gaps,omitempty"`
	// Paused says that applying waits for free disk.
	Paused     bool   `json:"paused"`
	Definition string `json:"definition"`
	// Leases are those that readers of views hold; OldestLease is the moment that
	// the retention floor cannot pass for them, 0 without any.
	Leases      int            `json:"leases"`
	OldestLease change.Version `json:"oldest_lease,omitempty"`
	// Floor is the moment from which on history is whole (Store.Floor); Kept is
	// how many versions are kept from being removed.
	Floor change.Version `json:"floor"`
	Kept  int            `json:"kept"`
	// Since this process opened the store: versions of rows and bytes that were
	// removed, and how long the last pass over the store took.
	SweptVersions uint64        `json:"swept_versions"`
	SweptBytes    uint64        `json:"swept_bytes"`
	SweepTime     time.Duration `json:"sweep_ns"`
	// Since this process opened the store: groups written, entries and bytes in
	// them, bytes of messages taken in, lookups of older versions, time spent
	// writing groups.
	Groups     uint64        `json:"groups"`
	Entries    uint64        `json:"entries"`
	BytesOut   uint64        `json:"bytes_out"`
	BytesIn    uint64        `json:"bytes_in"`
	Lookups    uint64        `json:"lookups"`
	CommitTime time.Duration `json:"commit_ns"`
	// DiskBytes is the size of the store's tables, as Badger last measured it.
	DiskBytes int64 `json:"disk_bytes"`
}

// Status returns the present state; it does no I/O.
func (s *Store) Status() Status {
	st := s.published.Load().state
	out := Status{
		Watermark: st.Watermark, Durable: s.Durable().Version, Counters: st.Counters, Rows: map[string]int64{},
		Paused: s.meters.paused.Load(), Definition: s.catalog.Definition,
		Groups: s.meters.groups.Load(), Entries: s.meters.entries.Load(),
		BytesOut: s.meters.bytesOut.Load(), BytesIn: s.meters.bytesIn.Load(),
		Lookups: s.meters.lookups.Load(), CommitTime: time.Duration(s.meters.commitNanos.Load()),
	}
	out.OldestLease, out.Leases = s.oldestLease()
	out.Floor, out.Kept = s.Floor(), len(s.Kept())
	out.SweptVersions, out.SweptBytes = s.meters.sweptVersions.Load(), s.meters.sweptBytes.Load()
	out.SweepTime = time.Duration(s.meters.sweepNanos.Load())
	out.Unfilled = s.Unfilled()
	for i := range st.Gaps {
		out.Gaps = append(out.Gaps, st.Gaps[i].Gap)
	}
	for i := range s.catalog.Tables {
		t := &s.catalog.Tables[i]
		out.Rows[t.Name] = st.Live[t.ID]
	}
	if done, err := s.read(); err == nil {
		out.DiskBytes, _ = s.db.Size()
		done()
	}
	return out
}

// Collector returns the store's metrics for a Prometheus registry.
func (s *Store) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("dreamfeed_store_"+name, help, labels, nil)
	}
	return &collector{
		store: s,
		rows:  desc("rows", "Live rows by table, as of the watermark.", "table"),
		gauges: []figure{
			{desc("watermark_seconds", "Newest closed moment, as Unix time."), func(st *Status) float64 { return float64(st.Watermark.Version) / 1e6 }},
			{desc("durable_seconds", "Newest closed moment that is on disk in the store, as Unix time; the stream keeps what came behind it."), func(st *Status) float64 { return float64(st.Durable) / 1e6 }},
			{desc("watermark_lsn", "End LSN of the newest complete transaction or tick."), func(st *Status) float64 { return float64(st.Watermark.EndLSN) }},
			{desc("paused", "1 while applying waits for free disk."), func(st *Status) float64 { return boolFloat(st.Paused) }},
			{desc("leases", "Leases that readers of views hold."), func(st *Status) float64 { return float64(st.Leases) }},
			{desc("oldest_lease_seconds", "Moment that the retention floor cannot pass for a reader, as Unix time; 0 without one."), func(st *Status) float64 { return float64(st.OldestLease) / 1e6 }},
			{desc("floor_seconds", "Retention floor, the moment from which on history is whole, as Unix time."), func(st *Status) float64 { return float64(st.Floor) / 1e6 }},
			{desc("kept_versions", "Dataset versions whose history is kept from being removed."), func(st *Status) float64 { return float64(st.Kept) }},
			{desc("sweep_seconds", "Time that the last pass of removing history took."), func(st *Status) float64 { return st.SweepTime.Seconds() }},
			{desc("unfilled_tables", "Tables of the definition that need a refill."), func(st *Status) float64 { return float64(len(st.Unfilled)) }},
			{desc("disk_bytes", "Size of the store's tables."), func(st *Status) float64 { return float64(st.DiskBytes) }},
		},
		counts: []figure{
			{desc("transactions_total", "Transactions applied over the life of the store."), func(st *Status) float64 { return float64(st.Counters.Transactions) }},
			{desc("changes_total", "Row changes applied over the life of the store."), func(st *Status) float64 { return float64(st.Counters.Changes) }},
			{desc("unknown_deletes_total", "Deletes of keys that the store did not hold."), func(st *Status) float64 { return float64(st.Counters.UnknownDeletes) }},
			{desc("swept_versions_total", "Versions of rows removed since the process began."), func(st *Status) float64 { return float64(st.SweptVersions) }},
			{desc("swept_bytes_total", "Bytes of removed keys and values since the process began."), func(st *Status) float64 { return float64(st.SweptBytes) }},
			{desc("groups_total", "Groups written since the process began."), func(st *Status) float64 { return float64(st.Groups) }},
			{desc("entries_total", "Entries written since the process began."), func(st *Status) float64 { return float64(st.Entries) }},
			{desc("written_bytes_total", "Bytes of entries written since the process began."), func(st *Status) float64 { return float64(st.BytesOut) }},
			{desc("applied_bytes_total", "Bytes of stream messages applied since the process began."), func(st *Status) float64 { return float64(st.BytesIn) }},
			{desc("lookups_total", "Lookups of older versions since the process began."), func(st *Status) float64 { return float64(st.Lookups) }},
			{desc("commit_seconds_total", "Time spent writing groups since the process began."), func(st *Status) float64 { return st.CommitTime.Seconds() }},
		},
	}
}

type figure struct {
	desc  *prometheus.Desc
	value func(*Status) float64
}

type collector struct {
	store          *Store
	rows           *prometheus.Desc
	gauges, counts []figure
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.rows
	for _, list := range [][]figure{c.gauges, c.counts} {
		for _, f := range list {
			ch <- f.desc
		}
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.store.Status()
	for _, t := range sortedKeys(st.Rows) {
		ch <- prometheus.MustNewConstMetric(c.rows, prometheus.GaugeValue, float64(st.Rows[t]), t)
	}
	for _, f := range c.gauges {
		ch <- prometheus.MustNewConstMetric(f.desc, prometheus.GaugeValue, f.value(&st))
	}
	for _, f := range c.counts {
		ch <- prometheus.MustNewConstMetric(f.desc, prometheus.CounterValue, f.value(&st))
	}
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
