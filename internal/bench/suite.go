package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dreamfeed/internal/pgtest"
)

// suite is one run of the benchmark: its settings, its places, and what was
// measured so far.
type suite struct {
	settings
	pg      *pgtest.Server // for all sections, each with databases of its own
	began   time.Time
	stdout  io.Writer
	figures []*Figure
	// versions are those of what is measured and of what it is measured with, by
	// name; a section may add to them.
	versions map[string]string
}

// say reports progress to the person who waits.
func (s *suite) say(format string, a ...any) {
	fmt.Fprintf(s.stdout, "[%6.1fs] %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, a...))
}

// settings are what the command line says.
type settings struct {
	dir    string // everything that the run makes lies in it
	ingest string // path of the program ingest
	snap   string // path of the program snapshot
	duck   string // path of the DuckDB side, oracle/bench
	only   string // comma-separated sections, empty for all
	full   bool   // the largest sizes too
	smoke  bool   // the smallest sizes, one run each, for CI
	runs   int    // of a short measurement
	long   int    // of a long one

	workloads string // comma-separated workloads of the stream, empty for all
	out       string // directory of the results, empty for none
	commit    string // of the programs, as the record names it
	baseline  string // record that the smoke compares with
}

// check looks for what would end the benchmark later, and makes the paths of the
// programs absolute.
func (c *settings) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("argument %q is not a flag: try -help", rest[0])
	}
	if c.runs < 1 || c.long < 1 {
		return fmt.Errorf("-runs %d, -long %d: want at least 1", c.runs, c.long)
	}
	if c.full && c.smoke {
		return errors.New("-full and -smoke exclude each other")
	}
	for _, program := range []*string{&c.ingest, &c.snap, &c.duck} {
		if *program == "" {
			continue
		}
		path, err := filepath.Abs(*program)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("the program %s is not there: `make bench` builds what it needs", path)
		}
		*program = path
	}
	var names []string
	for _, part := range sections() {
		names = append(names, part.name)
	}
	for _, name := range strings.Split(c.only, ",") {
		if name != "" && !slices.Contains(names, name) {
			return fmt.Errorf("-only %s: there is no such section; there are %s", name, strings.Join(names, ", "))
		}
	}
	names = nil
	for _, l := range loads() {
		names = append(names, l.name)
	}
	for _, name := range strings.Split(c.workloads, ",") {
		if name != "" && !slices.Contains(names, name) {
			return fmt.Errorf("-workloads %s: there is no such workload; there are %s", name, strings.Join(names, ", "))
		}
	}
	if c.smoke {
		if _, err := readRecord(c.baseline); err != nil {
			return err
		}
	}
	dir, err := filepath.Abs(c.dir)
	c.dir = dir
	return err
}

// section is a part of the benchmark. It starts what it measures, and ends it.
type section struct {
	name string
	doc  string
	run  func(ctx context.Context, s *suite) error
	// smoke says that the section has a smallest size, which it runs while
	// suite.smoke is set.
	smoke bool
}

// Figure is one measured quantity, with a value for each run.
type Figure struct {
	// Section and Name identify the figure: "stream", "tx10/400B/ratio".
	Section string `json:"section"`
	Name    string `json:"name"`
	// Unit is that of the values: "rows/s", "ratio", "ms", "MiB", …
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	// Lower says that less is better.
	Lower bool `json:"lower_is_better,omitempty"`
	// Guard says that CI compares the figure with the recorded one: it is a ratio
	// of two things measured in one run.
	Guard bool `json:"guard,omitempty"`
	// AtLeast and Aim are what the project wants to reach, 0 for none.
	AtLeast float64 `json:"at_least,omitempty"`
	Aim     float64 `json:"aim,omitempty"`
}

// traits are what distinguishes figures beyond their name.
type traits struct {
	lower, guard bool
	atLeast, aim float64
}

// record adds a run's value to the figure of that name, which the first call
// makes. What is measured with the smallest sizes stands in a section of its own.
func (s *suite) record(section, name, unit string, t traits, value float64) {
	if s.smoke {
		section, name = smokeName, section+"/"+name
		t.atLeast, t.aim = 0, 0 // what is to be reached is so by the real sizes
	}
	i := slices.IndexFunc(s.figures, func(f *Figure) bool { return f.Section == section && f.Name == name })
	if i < 0 {
		s.figures = append(s.figures, &Figure{
			Section: section, Name: name, Unit: unit, Lower: t.lower, Guard: t.guard, AtLeast: t.atLeast, Aim: t.aim,
		})
		i = len(s.figures) - 1
	}
	f := s.figures[i]
	f.Values = append(f.Values, value)
	sorted := slices.Sorted(slices.Values(f.Values))
	f.Min, f.Max = sorted[0], sorted[len(sorted)-1]
	f.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
	s.say("%s %s: %s", section, name, f.format(value))
}

func (f *Figure) format(v float64) string { return fmt.Sprintf("%.4g %s", v, f.Unit) }

// wanted says whether a section was asked for.
func (s *suite) wanted(name string) bool {
	return s.only == "" || slices.Contains(strings.Split(s.only, ","), name)
}

// runAll runs the sections that are wanted, and reports.
func (s *suite) runAll(ctx context.Context, args []string) error {
	for _, part := range sections() {
		if !s.wanted(part.name) {
			continue
		}
		first, _, _ := strings.Cut(part.doc, ". ")
		s.say("%s: %s", part.name, first)
		began := time.Now()
		if err := part.run(ctx, s); err != nil {
			return fmt.Errorf("section %s: %w", part.name, err)
		}
		s.say("%s took %s", part.name, time.Since(began).Round(time.Second))
	}
	return s.report(args)
}

// timed is how long fn took.
func timed(fn func() error) (time.Duration, error) {
	began := time.Now()
	err := fn()
	return time.Since(began), err
}
