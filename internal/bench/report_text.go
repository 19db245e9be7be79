package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// Machine is what the figures were measured on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_bytes"`
	System string `json:"system"` // operating system, architecture, kernel
}

// thisMachine describes the machine as far as it tells.
func thisMachine() Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = cpuModel(string(text))
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = number(text, "MemTotal:") * 1024
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + strings.TrimSpace(string(text))
	}
	return m
}

// cpuModel is the name of the first processor in /proc/cpuinfo.
func cpuModel(text string) string {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// moduleVersions are those of the modules that programs are made of, as far as the
// programs tell: this one, and those at the paths.
func moduleVersions(paths ...string) map[string]string {
	versions := map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")}
	shown := map[string]string{
		"github.com/dgraph-io/badger/v4":    "Badger",
		"github.com/nats-io/nats-server/v2": "NATS server",
		"github.com/parquet-go/parquet-go":  "parquet-go",
		"github.com/jackc/pgx/v5":           "pgx",
	}
	note := func(info *debug.BuildInfo) {
		for _, module := range info.Deps {
			if name := shown[module.Path]; name != "" {
				versions[name] = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		note(info)
	}
	for _, path := range paths {
		if info, err := buildinfo.ReadFile(path); err == nil {
			note(info)
			versions["Go"] = strings.TrimPrefix(info.GoVersion, "go")
		}
	}
	return versions
}

// Marks between which the document is the program's; all else in it is its
// readers'.
const (
	markBegin = "<!-- bench: what follows is written by `make bench` -->"
	markEnd   = "<!-- bench: end -->"
)

// renew puts text between the marks of a document, which it begins if it is empty.
func renew(document, text string) (string, error) {
	if strings.TrimSpace(document) == "" {
		document = "# Benchmarks\n\n" + markBegin + "\n" + markEnd + "\n"
	}
	before, rest, found := strings.Cut(document, markBegin)
	_, after, closed := strings.Cut(rest, markEnd)
	if !found || !closed {
		return "", errors.New("the lines between which the figures belong are not there: " + markBegin + " and " + markEnd)
	}
	return before + markBegin + "\n\n" + text + "\n" + markEnd + after, nil
}

// markdown is the record as tables.
func markdown(r *Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s at commit %s, with `%s`.\n\n", r.Date, r.Commit, r.Command)
	fmt.Fprintf(&b, "Machine: %s, %d cores, %.1f GiB, %s. ", r.Machine.CPU, r.Machine.Cores, float64(r.Machine.Memory)/(1<<30), r.Machine.System)
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		versions = append(versions, name+" "+r.Versions[name])
	}
	fmt.Fprintf(&b, "Versions: %s.\n", strings.Join(versions, ", "))
	docs := map[string]string{}
	for _, part := range sections() {
		docs[part.name] = part.doc
	}
	bySection(r.Figures, func(section string, of []*Figure) {
		fmt.Fprintf(&b, "\n### %s\n\n", section)
		if docs[section] != "" {
			fmt.Fprintf(&b, "%s.\n\n", sentence(docs[section]))
		}
		b.WriteString("| figure | median | min … max | unit | target | |\n|---|---:|---|---|---|---|\n")
		for _, f := range of {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", f.Name, short(f.Median), f.spread(), f.Unit, f.target(), f.verdict())
		}
	})
	return b.String()
}

// sentence begins a text with a capital.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// benchstatText is the record in the format of Go benchmarks, a line for each
// value, so that benchstat compares two runs.
func benchstatText(r *Record) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\npkg: dreamfeed/internal/bench\ncpu: %s\n", runtime.GOOS, runtime.GOARCH, r.Machine.CPU)
	better := map[string]string{}
	var units []string
	for _, f := range r.Figures {
		unit := unitName(f)
		if _, ok := better[unit]; !ok {
			units = append(units, unit)
			better[unit] = "higher"
			if f.Lower {
				better[unit] = "lower"
			}
		}
	}
	for _, unit := range units {
		fmt.Fprintf(&b, "Unit %s better=%s\n", unit, better[unit])
	}
	for _, f := range r.Figures {
		for _, v := range f.Values {
			fmt.Fprintf(&b, "Benchmark%s/%s 1 %g %s\n", sentence(f.Section), strings.ReplaceAll(f.Name, " ", "-"), v, unitName(f))
		}
	}
	return b.Bytes()
}

// unitName is a unit as benchstat takes it: one word, of which either more or less
// is better.
func unitName(f *Figure) string {
	unit := strings.ReplaceAll(f.Unit, " ", "-")
	if f.Unit == "ratio" && f.Lower {
		return "time-ratio"
	}
	return unit
}
