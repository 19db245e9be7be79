package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/report"
)

// describe writes metadata and report beside the data files.
func (b *build) describe(ctx context.Context, d *decisions, e *exported, gates []Gate, s *staging) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := b.Now()
	r := b.report(d, e, gates)
	r.Identity.CreatedAt = now.UTC()
	text, err := encode(b.metadata(d, e, r, now))
	if err != nil {
		return nil, err
	}
	metadataName := fmt.Sprintf("metadata_v%s.json", b.Version)
	reportName := fmt.Sprintf("quality_report_v%s.html", b.Version)
	var page bytes.Buffer
	if err := report.Render(&page, *r); err != nil {
		return nil, fmt.Errorf("render report: %w", err)
	}
	for name, content := range map[string][]byte{metadataName: text, reportName: page.Bytes()} {
		if err := writeFile(s.path(name), content); err != nil {
			return nil, err
		}
	}
	in := func(name string) string { return filepath.Join(s.target, name) }
	return &Result{
		Version: b.Version, Dir: s.target, Train: in(e.train.file), Test: in(e.test.file),
		Metadata: in(metadataName), Report: in(reportName),
		TrainRows: e.train.rows, TestRows: e.test.rows, Funnel: d.funnel.steps,
		Gates: gates, Warnings: r.Warnings, Digest: r.Identity.LogicalDigest,
	}, nil
}

// digest is the logical digest of both files: SHA-256 of the digests of train
// and test.
func (e *exported) digest() string {
	h := sha256.New()
	h.Write(e.train.digest[:])
	h.Write(e.test.digest[:])
	return hex.EncodeToString(h.Sum(nil))
}

// report fills what the page shows, all but created_at.
func (b *build) report(d *decisions, e *exported, gates []Gate) *report.Data {
	info := b.View.Info()
	r := &report.Data{
		Identity: report.Identity{
			Dataset: b.Definition.Name, Doc: b.Definition.Doc, Version: b.Version, DefinitionHash: b.Definition.Hash,
			LogicalDigest: e.digest(), AsOf: micros(b.to), WindowFrom: micros(b.from), WindowTo: micros(b.to),
			Watermark: info.AsOf.Time(), LSN: info.LSN.String(), Seed: b.Seed, Settings: b.settings(),
			Program: programName + " " + b.Program, TrainRows: e.train.rows, TestRows: e.test.rows,
			TrainUsers: e.stats.split[inTrain].users, TestUsers: e.stats.split[inTest].users, ColumnCount: len(b.plan.columns),
		},
		Gates: gates, Warnings: b.warnings(d), Charts: b.charts(e), Columns: b.columns(d, e),
		Faults: faults(d.found), Outliers: b.outliers(d), Privacy: b.privacy(d, e),
		Reproduce: report.Reproduce{
			Command: b.command(),
			Notes: []string{
				"The store's history, the definition, the key and the program must be the same.",
				"Only the moments of creation differ then; the data files are equal byte for byte.",
			},
		},
	}
	b.reportFunnel(d, r)
	b.reportLabels(d, e, r)
	r.PointInTime = pointInTime(e.stats.exact)
	_, r.Lateness = b.lateness(d)
	for _, o := range []*output{e.train, e.test} {
		r.Reproduce.Files = append(r.Reproduce.Files, report.File{Name: o.file, Bytes: o.size, Rows: o.rows, SHA256: o.sha256()})
	}
	return r
}

// pointInTime are the shares of rows by how their features were known.
func pointInTime(x [4]int64) report.PointInTime {
	rows := x[0] + x[1] + x[2] + x[3]
	return report.PointInTime{
		Live: x[0], Trusted: x[1], Inexact: x[2], Older: x[3],
		LiveShare: ratio(x[0], rows), TrustedShare: ratio(x[1], rows), InexactShare: ratio(x[2], rows), OlderShare: ratio(x[3], rows),
	}
}

// faults are the values that a rule made missing.
func faults(found *collected) []report.Fault {
	list := []report.Fault{}
	for _, key := range sortedKeys(found.tally.Faults) {
		column, reason, _ := strings.Cut(key, ":")
		list = append(list, report.Fault{Column: column, Reason: reason, Count: found.tally.Faults[key]})
	}
	return list
}

// settings are all that the identity does not show itself.
func (b *build) settings() []report.Setting {
	return []report.Setting{
		{Name: "window-days", Value: strconv.FormatFloat(b.windowDays(), 'f', -1, 64)},
		{Name: "negative-ratio", Value: b.NegativeRatio},
		{Name: "test-size", Value: b.TestSize},
		{Name: "inexact", Value: b.Inexact},
		{Name: "outliers", Value: b.Outliers},
		{Name: "pseudonyms", Value: b.Pseudonyms},
		{Name: "strict", Value: strconv.FormatBool(b.Strict)},
	}
}

// command builds the same dataset again.
func (b *build) command() string {
	parts := []string{"snapshot --version " + b.Version, "--as-of " + moment(micros(b.to)), "--seed " + strconv.FormatInt(b.Seed, 10)}
	for _, s := range b.settings() {
		switch {
		case s.Name != "strict":
			parts = append(parts, "--"+s.Name+" "+s.Value)
		case b.Strict:
			parts = append(parts, "--strict")
		}
	}
	return strings.Join(parts, " ")
}

func (b *build) reportFunnel(d *decisions, r *report.Data) {
	first := d.funnel.steps[0].Count
	for _, s := range d.funnel.steps {
		r.Funnel = append(r.Funnel, report.Step{
			Key: s.Key, Count: s.Count, Removed: s.Removed, Share: ratio(s.Count, first),
			Split: s.Key == "train" || s.Key == "test",
		})
	}
}

func (b *build) reportLabels(d *decisions, e *exported, r *report.Data) {
	none := report.Figure{Hidden: report.None}
	for i, o := range b.Definition.Labels.Outcomes {
		c := report.Class{Name: o.Name, Score: report.Of(o.Score), TrainShare: none, TestShare: none}
		t := &e.stats.outcomes[i]
		c.Train, c.Test = b.pair(t)
		if c.Train.Hidden == report.Masked {
			c.TrainShare, c.TestShare = c.Train, c.Test
		} else {
			c.TrainShare = report.Of(ratio(t[inTrain].rows, e.train.rows))
			c.TestShare = report.Of(ratio(t[inTest].rows, e.test.rows))
		}
		r.Classes = append(r.Classes, c)
	}
	for _, st := range b.Definition.Metadata {
		at := b.columnAt(st.Column)
		if st.Of != "mean" || at < 0 {
			continue
		}
		c := &b.plan.columns[at]
		l := report.Label{
			Name: st.Name, Doc: c.Doc,
			Train: b.mean(&e.stats.columns[at][inTrain]), Test: b.mean(&e.stats.columns[at][inTest]),
		}
		if c.Derive.Label == definition.LabelGoal {
			l.Unit = report.Share
		}
		r.Labels = append(r.Labels, l)
	}
	var examples int64
	for _, n := range d.found.tally.Exactness {
		examples += n
	}
	r.Maturity = &report.Maturity{
		AfterSeconds: int64(b.Definition.Example.Maturity.Seconds()), Immature: d.found.tally.Immature,
		Examples: examples, Share: ratio(d.found.tally.Immature, examples),
		Dropped: b.Definition.Example.DropImmature,
	}
	b.reportLabelTime(d, examples, r)
}

// columns describes every column in both splits.
func (b *build) columns(d *decisions, e *exported) []report.Column {
	var list []report.Column
	for i := range b.plan.columns {
		c := &b.plan.columns[i]
		out := report.Column{
			Name: c.name, Type: string(c.Type), Class: string(c.class), Role: string(c.role), Doc: c.Doc,
		}
		if !c.Required {
			out.Missing = string(c.Missing)
		}
		if v, ok := b.fill(d, c); ok {
			out.Fill = fmt.Sprint(v)
		}
		at := b.plan.base(i)
		rows := e.stats.split
		out.Train = b.summary(at, &e.stats.columns[at][inTrain], rows[inTrain].rows)
		out.Test = b.summary(at, &e.stats.columns[at][inTest], rows[inTest].rows)
		out.Shift = report.Shift(out.Train, out.Test)
		list = append(list, out)
	}
	return list
}

func (b *build) summary(at int, c *columnStats, rows int64) report.Summary {
	none, masked := report.Figure{Hidden: report.None}, report.Figure{Hidden: report.Masked}
	col := &b.plan.columns[at]
	s := report.Summary{
		Count: report.Count(c.present.rows), Missing: report.Count(c.missing.rows), MissingShare: report.Of(ratio(c.missing.rows, rows)),
		Distinct: none, Mean: none, SD: none, Min: none, Max: none,
	}
	if col.origin == entityPseudonym || col.origin == idPseudonym {
		s.Count, s.Missing, s.MissingShare = report.Count(rows), report.Count(0), report.Of(0)
		return s
	}
	if b.masked(c.present, c.missing) {
		s.Count, s.Missing, s.MissingShare = masked, masked, masked
	}
	if col.Type == definition.String {
		if c.texts != nil && !c.more {
			s.Distinct = report.Count(int64(len(c.texts)))
		}
		return s
	}
	if col.Type == definition.TimeStamp || c.numbers.n == 0 {
		return s
	}
	if b.masked(c.present) {
		s.Mean, s.SD = masked, masked
		return s
	}
	s.Mean = b.mean(c)
	if sd, ok := c.numbers.deviation(); ok {
		s.SD = report.Of(sd)
	}
	if col.class != definition.ClassQuasi {
		s.Min, s.Max = report.Of(c.numbers.min), report.Of(c.numbers.max)
	}
	return s
}

// outliers describes the rules of step 8 (c).
func (b *build) outliers(d *decisions) []report.Outlier {
	list := []report.Outlier{}
	none := report.Figure{Hidden: report.None}
	for i, rule := range b.plan.outliers {
		o := report.Outlier{Column: rule.name, Low: none, High: none, Dropped: b.Outliers == Drop}
		if bd := d.bounds[i]; bd.set {
			o.Low, o.High = report.Of(bd.lowest), report.Of(bd.highest)
		}
		for _, n := range d.divided.outside[i] {
			o.Outside += n
		}
		o.Share = ratio(o.Outside, d.cleaned.looked)
		for class, outcome := range b.Definition.Labels.Outcomes {
			share := none
			if n := d.cleaned.classes[class]; n > 0 {
				share = report.Of(ratio(d.divided.outside[i][class], n))
			}
			o.Classes = append(o.Classes, report.ClassShare{Name: outcome.Name, Share: share})
		}
		list = append(list, o)
	}
	return list
}

func (b *build) privacy(d *decisions, e *exported) report.Privacy {
	def := b.Definition.Privacy
	p := report.Privacy{
		Claim:    claim,
		Sentence: "Ids are keyed hashes that only the holder of the key can make again; the rows are still about persons and are personal data.",
		MinUsers: def.MinUsers,
		Measures: []report.Measure{{Name: "Users", Figure: report.Count(d.divided.users), Unit: report.Users, Doc: "distinct users of both splits"}},
		Limits: []string{
			"Preference vectors and the times of examples can single out a person for someone who knows them from elsewhere.",
		},
	}
	if g := d.groups; g != nil {
		over := strings.Join(def.Groups, ", ")
		p.Measures = append(p.Measures,
			report.Measure{Name: "Smallest group", Figure: report.Count(g.kMin), Unit: report.Users, Doc: "users of the smallest group of equal " + over + " (k)"},
			report.Measure{Name: "Groups", Figure: report.Count(g.count), Unit: report.Values, Doc: "distinct combinations of " + over})
		if !d.suppresses {
			p.Measures = append(p.Measures, report.Measure{
				Name: "Users in small groups", Figure: report.Of(ratio(d.divided.smallUsers, d.divided.users)), Unit: report.Share,
				Doc: fmt.Sprintf("users with a row in a group of fewer than %d users", def.MinUsers),
			})
			p.Limits = append(p.Limits, "Small groups are measured, not suppressed.")
		}
	}
	for i, at := range b.plan.rare {
		m := &b.rare[i]
		var rows tally
		for split := range e.stats.columns[at] {
			rows.merge(&e.stats.columns[at][split].changed)
		}
		entry := report.Rare{Column: b.plan.columns[at].name, Into: m.other, Values: m.whole.merged + m.elements.merged, Rows: report.Count(rows.rows)}
		if b.masked(rows) {
			entry.Rows = report.Figure{Hidden: report.Masked}
		}
		p.Rare = append(p.Rare, entry)
	}
	return p
}

// warnings are what no gate measures.
func (b *build) warnings(d *decisions) []string {
	list := []string{}
	for i := range b.plan.columns {
		c := &b.plan.columns[i]
		if c.isMedian() && !c.Required && !d.numbers.fills[c.numeric].ok {
			list = append(list, fmt.Sprintf("Column %s has no value in the train rows: its gaps stay null.", c.name))
		}
	}
	return list
}
