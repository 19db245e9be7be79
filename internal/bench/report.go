package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/durable"
)

// Names of what -o leaves.
const (
	recordFile    = "benchmarks.json"
	markdownFile  = "BENCHMARKS.md"
	benchstatFile = "benchmarks.txt"
)

// Record is one run of the benchmark, as it is kept.
type Record struct {
	Date     string            `json:"date"` // RFC 3339, UTC
	Commit   string            `json:"commit"`
	Command  string            `json:"command"`
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Figures  []*Figure         `json:"figures"`
}

// report prints the table, and with -o leaves the run's record, the document and
// the text for benchstat.
func (s *suite) report(args []string) error {
	if err := writeTable(s.stdout, s.figures); err != nil || s.out == "" {
		return err
	}
	r := &Record{
		Date: s.began.UTC().Format(time.RFC3339), Commit: s.commit, Command: "bench " + strings.Join(args, " "),
		Machine: thisMachine(), Versions: s.versions, Figures: s.figures,
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := durable.ReplaceFile(filepath.Join(s.out, recordFile), append(data, '\n'), 0o644, nil); err != nil {
		return err
	}
	if err := durable.ReplaceFile(filepath.Join(s.out, benchstatFile), benchstatText(r), 0o644, nil); err != nil {
		return err
	}
	path := filepath.Join(s.out, markdownFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	document, err := renew(string(old), markdown(r))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := durable.ReplaceFile(path, []byte(document), 0o644, nil); err != nil {
		return err
	}
	s.say("written: %s, %s and %s in %s", recordFile, markdownFile, benchstatFile, s.out)
	return nil
}

// readRecord reads what an earlier run left.
func readRecord(path string) (*Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the recorded figures: %w; `make bench` records them", err)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read the recorded figures in %s: %w", path, err)
	}
	return &r, nil
}

// noteVersions notes what is measured, and with what.
func (s *suite) noteVersions(ctx context.Context) error {
	s.versions = moduleVersions(s.snap, s.ingest)
	conn, err := pgx.Connect(ctx, s.pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version string
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return err
	}
	s.versions["PostgreSQL"] = version
	return nil
}

// verdict says how a figure stands to what it should reach.
func (f *Figure) verdict() string {
	reaches := func(limit float64) bool {
		return limit != 0 && (f.Lower && f.Median <= limit || !f.Lower && f.Median >= limit)
	}
	switch {
	case f.AtLeast == 0 && f.Aim == 0:
		return ""
	case reaches(f.Aim):
		return "aim met"
	case reaches(f.AtLeast):
		return "met"
	default:
		return "missed"
	}
}

// target is what a figure should reach, as text.
func (f *Figure) target() string {
	if f.AtLeast == 0 && f.Aim == 0 {
		return ""
	}
	sign := "≥"
	if f.Lower {
		sign = "≤"
	}
	return fmt.Sprintf("%s %s, aim %s", sign, short(f.AtLeast), short(f.Aim))
}

// short is a number as people read it: whole above 100, else three digits.
func short(v float64) string {
	if v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// spread is the least and the greatest value, where there are several.
func (f *Figure) spread() string {
	if len(f.Values) < 2 {
		return ""
	}
	return short(f.Min) + " … " + short(f.Max)
}

// bySection calls fn with the figures of each section, in order.
func bySection(figures []*Figure, fn func(section string, of []*Figure)) {
	var names []string
	of := map[string][]*Figure{}
	for _, f := range figures {
		if of[f.Section] == nil {
			names = append(names, f.Section)
		}
		of[f.Section] = append(of[f.Section], f)
	}
	for _, name := range names {
		fn(name, of[name])
	}
}

func writeTable(out io.Writer, figures []*Figure) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	bySection(figures, func(section string, of []*Figure) {
		fmt.Fprintf(w, "\n%s\tmedian\tmin … max\tunit\ttarget\t\n", strings.ToUpper(section))
		for _, f := range of {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, short(f.Median), f.spread(), f.Unit, f.target(), f.verdict())
		}
	})
	return w.Flush()
}
