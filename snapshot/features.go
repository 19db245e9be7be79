package snapshot

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/report"
	"dreamfeed/snapshot/spill"
)

// featuresStatement is what whoever finds the file must know of it.
const featuresStatement = "Pseudonymised rows of step 5, one for each candidate, for debugging and for comparison with what was served. " +
	"They are no dataset: no label, no sampling, no cleaning, no gate; gaps that a dataset fills with medians are null; " +
	"rare values are not merged and small groups are not protected."

// features makes the file of the rows of step 5.
func (b *build) features(ctx context.Context, source exampleSource, s *staging) (*Result, error) {
	found, err := b.collect(ctx, source)
	if err != nil {
		return nil, err
	}
	funnel, err := b.openFunnel(found)
	if err != nil {
		return nil, err
	}
	if err := funnel.check("the join", found.kept()); err != nil {
		return nil, err
	}
	o, err := b.newOutput(StageFeatures, found.kept(), b.Workers, s)
	if err != nil {
		return nil, err
	}
	defer o.abort()
	sorters, err := b.sorters()
	if err != nil {
		return nil, err
	}
	workers := make([]*featureRows, len(sorters))
	for i := range workers {
		workers[i] = &featureRows{sorters[i]}
	}
	if err := writePartitions(ctx, b, workers, []*output{o}); err != nil {
		return nil, err
	}
	if err := o.finish(ctx, func(digest string) map[string]string { return b.fileMetadata(o, digest) }); err != nil {
		return nil, err
	}
	if err := funnel.check("the export", o.rows); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("metadata_%s_v%s.json", StageFeatures, b.Version)
	text, err := encode(b.featuresMetadata(found, funnel, o))
	if err != nil {
		return nil, err
	}
	if err := writeFile(s.path(name), text); err != nil {
		return nil, err
	}
	return &Result{
		Version: b.Version, Dir: s.target, Features: filepath.Join(s.target, o.file), Metadata: filepath.Join(s.target, name),
		FeatureRows: o.rows, Funnel: funnel.steps, Digest: hex.EncodeToString(o.digest[:]),
	}, nil
}

// featureRows is one worker of the export of step 5. What it reads has been
// filled already.
type featureRows struct{ sorter }

// partition implements partitioner.
func (x *featureRows) partition(ctx context.Context, p int, s slice) error {
	if err := x.load(ctx, p); err != nil {
		return err
	}
	x.sort(nil)
	rows := s[0]
	for at := range x.p.columns {
		c, to := &x.p.columns[at], &rows.Columns[at]
		switch c.origin {
		case alias: // the file copies its base
		case entityPseudonym, idPseudonym:
			if err := x.pseudonyms(c, func(int) *spill.Column { return to }); err != nil {
				return err
			}
		default:
			to.AppendRows(&x.rows.Columns[c.spill], x.kept)
		}
	}
	rows.Rows = len(x.kept)
	return nil
}

// close implements partitioner.
func (x *featureRows) close() error { return nil }

// featuresMetadata is the file metadata_features_v<version>.json.
type featuresMetadata struct {
	Version   string `json:"version"`
	Stage     string `json:"stage"`
	Statement string `json:"statement"`
	CreatedAt string `json:"created_at"`
	provenance
	Settings struct {
		WindowDays float64 `json:"window_days"`
		AsOf       string  `json:"as_of"`
		Inexact    string  `json:"inexact"`
		Pseudonyms string  `json:"pseudonyms"`
	} `json:"settings"`
	Rows        int64              `json:"rows"`
	Funnel      []FunnelStep       `json:"funnel"`
	Columns     []featureColumn    `json:"columns"`
	PointInTime report.PointInTime `json:"point_in_time"`
	Faults      []report.Fault     `json:"faults"`
	Privacy     string             `json:"privacy"`
	Files       []featureFile      `json:"files"`

	LogicalDigest string `json:"logical_digest"`
}

// featureColumn describes a column of the file.
type featureColumn struct {
	Name   string                `json:"name"`
	Type   definition.OutputType `json:"type"`
	Class  definition.Class      `json:"class"`
	Role   definition.Role       `json:"role"`
	Doc    string                `json:"doc"`
	Fill   any                   `json:"fill,omitempty"`   // of a missing value; without it null
	Copies string                `json:"copies,omitempty"` // of an alias
}

type featureFile struct {
	report.File
	Digest string `json:"digest"`
}

func (b *build) featuresMetadata(found *collected, f *funnel, o *output) *featuresMetadata {
	digest := hex.EncodeToString(o.digest[:])
	m := &featuresMetadata{
		Version: b.Version, Stage: b.Stage, Statement: featuresStatement, CreatedAt: moment(b.Now()), provenance: b.provenance(),
		Rows: o.rows, Funnel: f.steps, PointInTime: pointInTime(found.exact), Faults: faults(found), Privacy: claim,
		Files: []featureFile{{
			File:   report.File{Name: o.file, Bytes: o.size, Rows: o.rows, SHA256: o.sha256()},
			Digest: digest,
		}},
		LogicalDigest: digest,
	}
	m.Settings.WindowDays, m.Settings.AsOf = b.windowDays(), m.AsOf
	m.Settings.Inexact, m.Settings.Pseudonyms = b.Inexact, b.Pseudonyms
	for i := range b.plan.columns {
		c := &b.plan.columns[i]
		entry := featureColumn{Name: c.name, Type: c.Type, Class: c.class, Role: c.role, Doc: c.Doc}
		entry.Fill, _ = c.gapFill()
		if c.origin == alias {
			entry.Copies = b.plan.columns[c.base].name
		}
		m.Columns = append(m.Columns, entry)
	}
	return m
}
