package snapshot

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/report"
)

// schemaVersion is that of the dataset's files; it changes when a reader of
// metadata or data would have to.
const schemaVersion = "2.0"

// The privacy claim of every dataset.
const claim = "pseudonymised"

// metadata is the file metadata_v<version>.json. The first entries have the
// names that the batch pipeline gave them.
type metadata struct {
	Version   string `json:"version"`
	CreatedAt string `json:"created_at"`
	Dataset   struct {
		TrainRows    int64    `json:"train_rows"`
		TestRows     int64    `json:"test_rows"`
		TotalRows    int64    `json:"total_rows"`
		NumFeatures  int      `json:"num_features"`
		FeatureNames []string `json:"feature_names"`
	} `json:"dataset"`
	Extraction struct {
		DataWindowDays float64  `json:"data_window_days"`
		ExtractionDate string   `json:"extraction_date"`
		SourceTables   []string `json:"source_tables"`
	} `json:"extraction"`
	Labels     map[string]any `json:"labels"`      // of train
	LabelsTest map[string]any `json:"labels_test"` // of test
	provenance
	Settings settings     `json:"settings"`
	Funnel   []FunnelStep `json:"funnel"`

	Columns     []columnEntry       `json:"columns"`
	Fills       map[string]any      `json:"fills"`
	Rare        []rareEntry         `json:"rare"`
	Classes     []report.Class      `json:"classes"`
	Outliers    []report.Outlier    `json:"outliers"`
	Sampling    sampling            `json:"sampling"`
	PointInTime report.PointInTime  `json:"point_in_time"`
	Lateness    []latenessEntry     `json:"lateness"`
	Joined      joined              `json:"joined"`
	Maturity    *report.Maturity    `json:"maturity"`
	LabelWindow *report.LabelWindow `json:"label_window"`
	GoalRecall  *report.GoalRecall  `json:"goal_recall"`
	Faults      []report.Fault      `json:"faults"`
	Privacy     report.Privacy      `json:"privacy"`
	Gates       []Gate              `json:"gates"`
	Verdict     report.Verdict      `json:"verdict"`
	Warnings    []string            `json:"warnings"`

	Files         []fileEntry `json:"files"`
	LogicalDigest string      `json:"logical_digest"`
}

// provenance is what every metadata file tells of its data: their form, and
// where they come from.
type provenance struct {
	SchemaVersion string `json:"schema_version"`
	Format        string `json:"format"`
	Compression   string `json:"compression"`

	Name       string    `json:"name"`
	AsOf       string    `json:"as_of"`
	WindowFrom string    `json:"window_from"`
	WindowTo   string    `json:"window_to"`
	Watermark  watermark `json:"watermark"`
	Definition string    `json:"definition_hash"`
	Program    programID `json:"program"`
}

func (b *build) provenance() provenance {
	info := b.View.Info()
	return provenance{
		SchemaVersion: schemaVersion, Format: "parquet", Compression: "snappy",
		Name: b.Definition.Name, AsOf: moment(micros(b.to)), WindowFrom: moment(micros(b.from)), WindowTo: moment(micros(b.to)),
		Watermark:  watermark{Version: info.AsOf.String(), LSN: info.LSN.String()},
		Definition: b.Definition.Hash, Program: programID{programName, b.Program},
	}
}

type watermark struct {
	Version string `json:"version"`
	LSN     string `json:"lsn"`
}

type programID struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type settings struct {
	WindowDays    float64 `json:"window_days"`
	NegativeRatio string  `json:"negative_ratio"`
	TestSize      string  `json:"test_size"`
	Seed          int64   `json:"seed"`
	AsOf          string  `json:"as_of"`
	Inexact       string  `json:"inexact"`
	Outliers      string  `json:"outliers"`
	Pseudonyms    string  `json:"pseudonyms"`
	Strict        bool    `json:"strict"`
}

// sampling is what step 7 chose.
type sampling struct {
	Outcome string  `json:"outcome"`
	All     int64   `json:"all"`  // m0
	Kept    int64   `json:"kept"` // m
	Weight  float64 `json:"weight"`
}

// joined are the counts of the join, before sampling, by how features were
// known.
type joined struct {
	Live    int64 `json:"live"`
	Trusted int64 `json:"trusted"`
	Inexact int64 `json:"inexact"`
	Older   int64 `json:"older"`
}

type columnEntry struct {
	report.Column
	Required bool   `json:"required"`
	Copies   string `json:"copies,omitempty"` // of an alias
}

// rareEntry is the map of a column's values: those kept, and the one that all
// others became.
type rareEntry struct {
	report.Rare
	// Elements are the elements kept, of a list; its Kept are whole lists.
	Elements []string `json:"elements,omitempty"`
	Kept     []string `json:"kept"`
}

type fileEntry struct {
	report.File
	Split  string `json:"split"`
	Digest string `json:"digest"`
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func micros(us int64) time.Time { return time.UnixMicro(us).UTC() }

func (b *build) windowDays() float64 { return float64(b.Window) / float64(24*time.Hour) }

// metadata fills the file. now is the only moment of the clock.
func (b *build) metadata(d *decisions, e *exported, r *report.Data, now time.Time) *metadata {
	m := &metadata{
		Version: b.Version, CreatedAt: moment(now), provenance: b.provenance(),
		Labels: b.labelFigures(e, inTrain), LabelsTest: b.labelFigures(e, inTest),
		Settings: settings{
			WindowDays: b.windowDays(), NegativeRatio: b.NegativeRatio, TestSize: b.TestSize, Seed: b.Seed,
			AsOf: moment(micros(b.to)), Inexact: b.Inexact, Outliers: b.Outliers, Pseudonyms: b.Pseudonyms, Strict: b.Strict,
		},
		Funnel: d.funnel.steps, Fills: map[string]any{}, Rare: []rareEntry{}, Classes: r.Classes, Outliers: r.Outliers,
		Sampling:    sampling{Outcome: b.Definition.Labels.Sampled, All: b.sampledAll, Kept: b.sampledKept},
		PointInTime: r.PointInTime, Maturity: r.Maturity, LabelWindow: r.LabelWindow, GoalRecall: r.GoalRecall, Faults: r.Faults, Privacy: r.Privacy,
		Gates: r.Gates, Verdict: r.Verdict(), Warnings: r.Warnings, LogicalDigest: r.Identity.LogicalDigest,
	}
	if b.sampledKept > 0 {
		m.Sampling.Weight = float64(b.sampledAll) / float64(b.sampledKept)
	}
	t := d.found.tally.Exactness
	m.Lateness, _ = b.lateness(d)
	m.Joined = joined{t[0], t[1], t[2], t[3]}
	m.Dataset.TrainRows, m.Dataset.TestRows = e.train.rows, e.test.rows
	m.Dataset.TotalRows = e.train.rows + e.test.rows
	m.Dataset.NumFeatures = len(b.plan.columns)
	m.Extraction.DataWindowDays, m.Extraction.ExtractionDate = b.windowDays(), moment(now)
	m.Extraction.SourceTables = []string{}
	for i := range b.Definition.Tables {
		m.Extraction.SourceTables = append(m.Extraction.SourceTables, b.Definition.Tables[i].Name)
	}
	for i := range b.plan.columns {
		c := &b.plan.columns[i]
		m.Dataset.FeatureNames = append(m.Dataset.FeatureNames, c.name)
		entry := columnEntry{Column: r.Columns[i], Required: c.Required}
		if c.origin == alias {
			entry.Copies = b.plan.columns[c.base].name
		}
		m.Columns = append(m.Columns, entry)
		if v, ok := b.fill(d, c); ok {
			m.Fills[c.name] = v
		}
	}
	for i := range b.rare {
		entry := rareEntry{Rare: r.Privacy.Rare[i], Kept: sortedKeys(b.rare[i].whole.keep)}
		if b.rare[i].list {
			entry.Elements = sortedKeys(b.rare[i].elements.keep)
		}
		m.Rare = append(m.Rare, entry)
	}
	for _, o := range []*output{e.train, e.test} {
		m.Files = append(m.Files, fileEntry{
			File:  report.File{Name: o.file, Bytes: o.size, Rows: o.rows, SHA256: o.sha256()},
			Split: o.name, Digest: fmt.Sprintf("%x", o.digest),
		})
	}
	return m
}

// labelFigures are the definition's figures of a split. A figure of too few
// users is the text "masked", one without values null.
func (b *build) labelFigures(e *exported, split int) map[string]any {
	out := map[string]any{}
	for _, st := range b.Definition.Metadata {
		at := b.columnAt(st.Column)
		if at < 0 {
			continue
		}
		if st.Of == "mean" {
			out[st.Name] = b.mean(&e.stats.columns[at][split])
			continue
		}
		cells := map[string]any{}
		if b.plan.columns[at].Derive.Label == definition.LabelScore {
			for _, o := range b.Definition.Labels.Outcomes {
				cells[score(o.Score)] = 0
			}
		}
		show := func(key string, t *[2]tally) {
			figures := [2]report.Figure{}
			figures[inTrain], figures[inTest] = b.pair(t)
			cells[key] = figures[split]
		}
		for v, t := range e.stats.cells[at].numbers {
			show(score(v), t)
		}
		for v, t := range e.stats.cells[at].texts {
			show(v, t)
		}
		out[st.Name] = cells
	}
	return out
}

// columnAt is the place of a column, of an alias its base's, or -1.
func (b *build) columnAt(name string) int {
	for i := range b.plan.columns {
		if b.plan.columns[i].name == name {
			return b.plan.base(i)
		}
	}
	return -1
}

// fill is what the gaps of a column become; ok is false if they stay null.
func (b *build) fill(d *decisions, c *column) (value any, ok bool) {
	if c.Required || c.spill < 0 && c.origin != alias {
		return nil, false
	}
	base := c
	if c.origin == alias {
		base = &b.plan.columns[c.base]
	}
	if base.isMedian() && d.numbers.fills[base.numeric].ok {
		key := d.numbers.fills[base.numeric].key
		if base.Type == definition.Float32 {
			return keyFloat(key), true
		}
		return keyInt(key), true
	}
	return base.gapFill()
}

// gapFill is what pit.Fill makes of the column's gaps; ok is false if they stay.
func (c *column) gapFill() (value any, ok bool) {
	switch {
	case !c.gap.Valid:
		return nil, false
	case c.Type == definition.String:
		return c.gap.Text, true
	case c.Type == definition.Boolean:
		return c.gap.Int == 1, true
	case c.Type == definition.Float32:
		return c.gap.Float, true
	}
	return c.gap.Int, true
}

// encode is a metadata file's text.
func encode(m any) ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return append(text, '\n'), nil
}

// fileMetadata are the key-value pairs of a data file. None is of the clock or
// the machine.
func (b *build) fileMetadata(o *output, digest string) map[string]string {
	roles, classes := map[string]string{}, map[string]string{}
	for i := range b.plan.columns {
		c := &b.plan.columns[i]
		roles[c.name], classes[c.name] = string(c.role), string(c.class)
	}
	pairs := map[string]string{
		"dreamfeed.dataset":         b.Definition.Name,
		"dreamfeed.version":         b.Version,
		"dreamfeed.schema_version":  schemaVersion,
		"dreamfeed.definition_hash": b.Definition.Hash,
		"dreamfeed.as_of":           moment(micros(b.to)),
		"dreamfeed.privacy":         claim,
		"dreamfeed.roles":           object(roles),
		"dreamfeed.privacy_classes": object(classes),
		"dreamfeed.rows":            strconv.FormatInt(o.rows, 10),
		"dreamfeed.logical_digest":  digest,
	}
	if b.Stage == StageFeatures {
		pairs["dreamfeed.stage"], pairs["dreamfeed.statement"] = b.Stage, featuresStatement
	} else {
		pairs["dreamfeed.split"], pairs["dreamfeed.seed"] = o.name, strconv.FormatInt(b.Seed, 10)
	}
	return pairs
}

// object is a JSON object; of strings it cannot fail.
func object(m map[string]string) string {
	text, _ := json.Marshal(m)
	return string(text)
}
