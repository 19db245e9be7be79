package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dreamfeed/snapshot/spill"
)

// Result is what a build published.
type Result struct {
	Version string
	// Dir is the published directory; the files in it follow. Of StageFeatures
	// they are Features and Metadata, of a dataset all others.
	Dir, Train, Test, Metadata, Report, Features string
	TrainRows, TestRows, FeatureRows             int64
	Funnel                                       []FunnelStep
	Gates                                        []Gate
	// Warnings are sentences on what no gate measures.
	Warnings []string
	// Digest is the logical digest, in hex.
	Digest  string
	Elapsed time.Duration
}

// build is one run of Build.
type build struct {
	*checked
	plan *plan
	set  *spill.Set

	sampledAll, sampledKept int64 // m0 and m
	rare                    []rareMap
}

// decisions is everything that the passes before the export found.
type decisions struct {
	found      *collected
	cleaned    *cleaned
	bounds     []bound
	sieve      *sieve
	groups     *groups // nil: none are looked at
	divided    *divided
	split      splitter
	numbers    *numbers
	suppresses bool
	funnel     *funnel
}

// Build makes a version of the dataset, or the rows of its step 5. It publishes
// everything or nothing.
//
// Errors: *ConfigError and *WeakKeyError for a wrong setting (several are
// joined), *VersionExistsError if the version was built before, *GateError if
// the dataset must not be published.
func Build(ctx context.Context, c Config) (*Result, error) {
	k, err := c.check()
	if err != nil {
		return nil, err
	}
	source, err := newPitSource(k)
	if err != nil {
		return nil, err
	}
	r, err := buildFrom(ctx, k, source)
	return r, errors.Join(err, source.Close())
}

// buildFrom builds from any source of examples.
func buildFrom(ctx context.Context, k *checked, source exampleSource) (_ *Result, err error) {
	began := time.Now()
	if err := unclassified(k.Definition); err != nil {
		return nil, err
	}
	p, err := newPlan(k.Definition, k.Stage)
	if err != nil {
		return nil, err
	}
	b := &build{checked: k, plan: p}
	s := k.staging()
	if err := s.begin(k.Logger); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.discard()) }()
	if k.TempDir == "" {
		// What a killed build leaves of its spill is swept with its directory.
		k.TempDir = s.dir
	}
	if b.set, err = spill.New(k.TempDir, p.kinds, p.early(), partitions, k.Workers); err != nil {
		return nil, fmt.Errorf("build dataset: %w", err)
	}
	defer func() { err = errors.Join(err, b.set.Close()) }()

	stage := b.dataset
	if k.Stage == StageFeatures {
		stage = b.features
	}
	r, err := stage(ctx, source, s)
	if err != nil {
		return nil, err
	}
	if err := s.publish(); err != nil {
		return nil, err
	}
	r.Elapsed = time.Since(began)
	return r, nil
}

// dataset makes the files of all ten steps.
func (b *build) dataset(ctx context.Context, source exampleSource, s *staging) (*Result, error) {
	d, err := b.decide(ctx, source)
	if err != nil {
		return nil, err
	}
	out, err := b.export(ctx, d, s)
	if err != nil {
		return nil, err
	}
	if err := d.funnel.split(out.train.rows, out.test.rows); err != nil {
		return nil, err
	}
	gates := b.gates(d, out)
	if err := failed(gates, b.Strict); err != nil {
		return nil, err
	}
	return b.describe(ctx, d, out, gates, s)
}

// decide runs the passes that come before the export.
func (b *build) decide(ctx context.Context, source exampleSource) (*decisions, error) {
	d := &decisions{}
	var err error
	if d.found, err = b.collect(ctx, source); err != nil {
		return nil, err
	}
	if d.funnel, err = b.openFunnel(d.found); err != nil {
		return nil, err
	}
	d.funnel.remove("immature", d.found.immature)
	if b.Definition.Labels.DropCensored {
		d.funnel.remove("censored", d.found.censored)
	}
	if err := d.funnel.check("the join", d.found.kept()); err != nil {
		return nil, err
	}
	s := &sieve{p: b.plan, drop: b.Outliers == Drop}
	d.sieve = s
	if s.negatives, err = b.sampling(ctx, d.found); err != nil {
		return nil, err
	}
	if d.cleaned, d.bounds, err = b.extremes(ctx, s); err != nil {
		return nil, err
	}
	s.bounds = d.bounds
	if err := b.rareValues(ctx, s); err != nil {
		return nil, err
	}
	if d.groups, err = b.smallGroups(ctx, s); err != nil {
		return nil, err
	}
	measured := d.groups
	if d.groups != nil && b.Definition.Privacy.GroupMinUsers > 0 {
		s.groups, measured, d.suppresses = d.groups, nil, true
	}
	divided, split, err := b.divide(ctx, s, measured)
	if err != nil {
		return nil, err
	}
	d.divided, d.split = divided, split
	if err := b.closeFunnel(d); err != nil {
		return nil, err
	}
	d.numbers, err = b.splitRows(ctx, &d.split)
	return d, err
}

// openFunnel accounts for steps 1 to 5.
func (b *build) openFunnel(found *collected) (*funnel, error) {
	t := &found.tally
	f := newFunnel(t.Candidates)
	dropped := map[string]int64{}
	for k, n := range t.Dropped {
		dropped[k] = n
	}
	take := func(key string) {
		f.remove(key, dropped[key])
		delete(dropped, key)
	}
	take("deleted")
	for _, need := range b.Definition.Example.Needs {
		if _, ok := dropped[need.Reason]; ok || !f.has(need.Reason) {
			take(need.Reason)
		}
	}
	for key := range dropped {
		return nil, fmt.Errorf("account for the rows: the join dropped examples for the unknown reason %q", key)
	}
	f.remove("deletion_pending", 0)
	f.remove("consent", 0)
	f.remove("inexact", found.inexact)
	return f, nil
}

// closeFunnel accounts for steps 7 to 9.
func (b *build) closeFunnel(d *decisions) error {
	f, c := d.funnel, d.cleaned
	f.remove("not_sampled", c.notSampled)
	for i, at := range b.plan.required {
		f.remove("missing_required:"+b.plan.columns[at].name, c.missing[i])
	}
	if err := f.check("the required values", c.looked); err != nil {
		return err
	}
	for i, o := range b.plan.outliers {
		f.remove("outlier:"+o.name, d.divided.fates[d.sieve.outlier(i)])
	}
	f.remove("suppressed", d.divided.fates[suppressed])
	f.remove("embargo", 0)
	return f.check("cleaning and anonymisation", d.divided.fates[stays])
}

func (f *funnel) has(key string) bool {
	for _, s := range f.steps {
		if s.Key == key {
			return true
		}
	}
	return false
}
