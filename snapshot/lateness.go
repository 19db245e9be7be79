package snapshot

import (
	"dreamfeed/snapshot/pit"
	"dreamfeed/snapshot/report"
)

// latePercentiles are those that metadata and report show, beside the largest.
const (
	lateMedian = 50
	lateMost   = 99
)

// latenessEntry is the lateness of a table's rows in the metadata, in
// milliseconds; p50 and p99 are at most 1/64 too large.
type latenessEntry struct {
	Table string        `json:"table"`
	Rows  int64         `json:"rows"`
	P50   report.Figure `json:"p50_ms"`
	P99   report.Figure `json:"p99_ms"`
	Max   report.Figure `json:"max_ms"`
	// Ahead counts rows that were known before they say they were made, Lead is by
	// how much at most.
	Ahead int64         `json:"ahead"`
	Lead  report.Figure `json:"lead_ms"`
}

// addLateness adds what was counted of other entities, by table.
func addLateness(to *map[string]*pit.Lateness, from map[string]*pit.Lateness) {
	if *to == nil && len(from) > 0 {
		*to = make(map[string]*pit.Lateness, len(from))
	}
	for table, l := range from {
		if (*to)[table] == nil {
			(*to)[table] = &pit.Lateness{}
		}
		(*to)[table].Merge(l)
	}
}

// lateness lists the tables in the order of the definition. Of too few users it
// tells no times.
func (b *build) lateness(d *decisions) (entries []latenessEntry, shown []report.Lateness) {
	entries = []latenessEntry{}
	example := b.Definition.Table(b.Definition.Example.Table)
	for i := range b.Definition.Tables {
		t := &b.Definition.Tables[i]
		l := d.found.tally.Lateness[t.Name]
		if l == nil {
			continue
		}
		figure := func(micros int64, unit float64) report.Figure {
			if t.Entity == example.Entity && l.Entities < int64(b.Definition.Privacy.MinUsers) {
				return report.Figure{Hidden: report.Masked}
			}
			return report.Of(float64(micros) / unit)
		}
		lead := func(unit float64) report.Figure {
			if l.Ahead == 0 {
				return report.Figure{Hidden: report.None}
			}
			return figure(l.Lead, unit)
		}
		const ms, s = 1e3, 1e6
		p50, p99 := l.Percentile(lateMedian), l.Percentile(lateMost)
		entries = append(entries, latenessEntry{
			Table: t.Name, Rows: l.Rows, P50: figure(p50, ms), P99: figure(p99, ms), Max: figure(l.Max, ms), Ahead: l.Ahead, Lead: lead(ms),
		})
		shown = append(shown, report.Lateness{
			Table: t.Name, Rows: l.Rows, P50: figure(p50, s), P99: figure(p99, s), Max: figure(l.Max, s), Ahead: l.Ahead, Lead: lead(s),
		})
	}
	return entries, shown
}
