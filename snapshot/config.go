package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/labels"
	"dreamfeed/snapshot/pit"
)

// What to do with rows that are not beyond doubt.
const (
	Keep = "keep"
	Drop = "drop"
)

// How long pseudonyms live: PerVersion ones cannot be joined between two
// versions of a dataset, Stable ones can.
const (
	PerVersion = "per-version"
	Stable     = "stable"
)

// What a build makes: a dataset version, or the rows of its step 5, before
// labels, sampling, cleaning and anonymisation of rare values.
const (
	StageDataset  = "dataset"
	StageFeatures = "features"
)

// Config is everything that a build depends on. The dataset's bytes are a
// function of all of it but Output, TempDir, Workers, Now, Logger and Progress.
type Config struct {
	View       pit.View
	Definition *definition.Definition
	Stage      string        // StageDataset (default) or StageFeatures
	Version    string        // digits and dots: 1.0, 2.0.1
	Window     time.Duration // examples are at most so much older than AsOf
	// AsOf is the moment T. It must be the view's; 0 takes it from there.
	AsOf    change.Version
	Inexact string // Keep (default) or Drop
	// These decide steps 7 to 10, and StageFeatures looks at none of them.
	NegativeRatio string // decimal: sampled rows for each positive one
	TestSize      string // decimal, above 0 and below 1
	Seed          int64
	Outliers      string // Drop (default) or Keep
	Strict        bool   // warnings of gates fail
	// Output is the directory that holds the versions; it is made if missing.
	Output string
	// TempDir holds the spill, about 300 bytes for each candidate. "" puts it
	// beside the files being built, in Output.
	TempDir    string
	Key        []byte // the secret, 32 bytes (LoadKey)
	Pseudonyms string // PerVersion (default) or Stable
	Workers    int    // 0: one for each processor
	// Now gives created_at and extraction_date, and nothing else.
	Now func() time.Time
	// Program is the version of the program; part of the files.
	Program string
	Logger  *slog.Logger // nil: silent
	// Progress is told how far a step is, from one goroutine at a time. May be nil.
	Progress func(step string, done, total int64)
}

// Name of the program in the files.
const programName = "dreamfeed"

var versionName = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9}){1,3}$`)

// ConfigError says which setting is wrong and how to mend it.
type ConfigError struct {
	Setting string // by its flag's name
	Reason  string
}

func (e *ConfigError) Error() string { return "--" + e.Setting + ": " + e.Reason }

// checked is a Config whose defaults are filled and whose numbers are parsed.
type checked struct {
	Config
	ratio, testSize labels.Decimal
	from, to        int64 // the window, µs: from ≤ t < to
	stable          bool
}

// Validate checks what needs no key: every setting, that the version does not
// exist yet, and, once there is a view, that it holds the history that is needed.
// Build does so too; a caller that asks before it opens the view, and again before
// it makes the key, spares the wait and makes nothing in vain. All faults are
// reported at once.
//
// Errors: those of Build for a wrong setting and an existing version.
func (c Config) Validate() error {
	if c.Definition == nil {
		return errors.New("build dataset: a definition is needed")
	}
	k := &checked{Config: c}
	if err := k.settings(); err != nil {
		return err
	}
	if k.View != nil {
		if err := k.moments(); err != nil {
			return err
		}
	}
	return k.staging().refuse()
}

// settings checks and completes what needs neither view nor key.
func (k *checked) settings() error {
	var errs []error
	bad := func(setting, format string, args ...any) {
		errs = append(errs, &ConfigError{Setting: setting, Reason: fmt.Sprintf(format, args...)})
	}
	if !versionName.MatchString(k.Version) {
		bad("version", "%q is no version name: use numbers with dots between, such as 1.0 or 2.0.1", k.Version)
	}
	if k.Window == 0 {
		k.Window = k.Definition.Defaults.Window
	}
	if k.Window <= 0 {
		bad("window-days", "the window must be longer than nothing")
	} else if k.Stage != StageFeatures {
		k.leavesNothing(bad)
	}
	choose := func(value *string, setting string, choices ...string) {
		if *value == "" {
			*value = choices[0]
		}
		if !slices.Contains(choices, *value) {
			bad(setting, "%q is neither %s nor %s", *value, choices[0], choices[1])
		}
	}
	choose(&k.Stage, "stage", StageDataset, StageFeatures)
	choose(&k.Inexact, "inexact", Keep, Drop)
	if k.Stage != StageFeatures {
		var err error
		if k.ratio, err = labels.ParseRatio(k.NegativeRatio); err != nil {
			bad("negative-ratio", "%v", err)
		}
		if k.testSize, err = labels.ParseTestSize(k.TestSize); err != nil {
			bad("test-size", "%v", err)
		}
		choose(&k.Outliers, "outliers", Drop, Keep)
	}
	choose(&k.Pseudonyms, "pseudonyms", PerVersion, Stable)
	k.stable = k.Pseudonyms == Stable
	if k.Output == "" {
		bad("output", "name the directory for the datasets")
	} else {
		k.Output = filepath.Clean(k.Output)
	}
	return errors.Join(errs...)
}

// check validates everything before any work is done; all faults are reported
// at once.
func (c Config) check() (*checked, error) {
	if c.View == nil || c.Definition == nil {
		return nil, errors.New("build dataset: a view and a definition are needed")
	}
	k := &checked{Config: c}
	errs := []error{k.settings(), k.moments()}
	if reason := weakness(c.Key); reason != "" {
		errs = append(errs, &WeakKeyError{Source: KeyVariable + " or the key file", Reason: reason})
	}
	if k.Workers <= 0 {
		k.Workers = runtime.GOMAXPROCS(0)
	}
	if k.Now == nil {
		k.Now = time.Now
	}
	if k.Logger == nil {
		k.Logger = slog.New(slog.DiscardHandler)
	}
	if k.Program == "" {
		k.Program = "unknown"
	}
	return k, errors.Join(errs...)
}

// moments checks that the view holds what a dataset of its moment needs.
func (k *checked) moments() error {
	info := k.View.Info()
	if k.AsOf == 0 {
		k.AsOf = info.AsOf
	}
	k.to = int64(k.AsOf)
	k.from = k.to - k.Window.Microseconds()
	bad := func(setting, format string, args ...any) error {
		return &ConfigError{Setting: setting, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case k.AsOf != info.AsOf:
		return bad("as-of", "the view was taken as of %s, not of %s", info.AsOf, k.AsOf)
	case info.Applied < info.AsOf:
		return bad("as-of", "the store has applied changes up to %s only: choose that moment or an earlier one, or wait", info.Applied)
	case info.AsOf < info.Birth || info.Birth == 0:
		return bad("as-of", "nothing is known before the first backfill at %s: choose that moment or a later one", info.Birth)
	case info.Floor > info.Birth && k.from < int64(info.Floor):
		return bad("as-of", "the history needed was removed: with this window the earliest moment is %s", info.Floor+change.Version(k.Window.Microseconds()))
	}
	return nil
}

// leavesNothing refuses a window in which every example is too young for the
// definition: an empty dataset tells nobody why.
func (k *checked) leavesNothing(bad func(setting, format string, args ...any)) {
	const day = float64(24 * time.Hour)
	for _, rule := range []struct {
		drop  bool
		least time.Duration
		why   string
	}{
		{k.Definition.Labels.DropCensored, k.Definition.Labels.Window, "whose label window passes the as-of moment"},
		{k.Definition.Example.DropImmature, k.Definition.Example.Maturity, "that is immature"},
	} {
		if rule.drop && k.Window <= rule.least {
			bad("window-days", "the definition drops every example %s, which is all of the last %g days: choose more than that", rule.why, float64(rule.least)/day)
		}
	}
}
