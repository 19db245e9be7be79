package main

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/definition"
)

func measured() *suite {
	s := &suite{began: time.Now(), stdout: io.Discard}
	for _, v := range []float64{0.5, 0.9, 0.7} {
		s.record("stream", "tx10/ratio", "ratio", traits{guard: true, atLeast: 0.5, aim: 0.8}, v)
	}
	s.record("freshness", "1000/s/p99", "ms", traits{lower: true, atLeast: 100, aim: 25}, 20)
	s.record("stream", "tx1/ratio", "ratio", traits{atLeast: 0.4, aim: 0.7}, 0.1)
	s.record("freshness", "asking", "% of a core", traits{lower: true}, 1234.5)
	return s
}

func TestFiguresHoldMedianAndSpread(t *testing.T) {
	f := measured().figures[0]
	if f.Median != 0.7 || f.Min != 0.5 || f.Max != 0.9 || len(f.Values) != 3 {
		t.Errorf("got %+v", f)
	}
}

func TestVerdictsFollowTheTargets(t *testing.T) {
	tests := []struct {
		f    Figure
		want string
	}{
		{Figure{Median: 1}, ""},
		{Figure{Median: 0.8, AtLeast: 0.5, Aim: 0.8}, "aim met"},
		{Figure{Median: 0.5, AtLeast: 0.5, Aim: 0.8}, "met"},
		{Figure{Median: 0.49, AtLeast: 0.5, Aim: 0.8}, "missed"},
		{Figure{Median: 25, AtLeast: 100, Aim: 25, Lower: true}, "aim met"},
		{Figure{Median: 100, AtLeast: 100, Aim: 25, Lower: true}, "met"},
		{Figure{Median: 101, AtLeast: 100, Aim: 25, Lower: true}, "missed"},
	}
	for _, test := range tests {
		if got := test.f.verdict(); got != test.want {
			t.Errorf("%+v: %q, want %q", test.f, got, test.want)
		}
	}
}

func TestTheSmallestSizesStandApart(t *testing.T) {
	s := &suite{settings: settings{smoke: true}, stdout: io.Discard}
	s.record("stream", "tx10/ratio", "ratio", traits{guard: true}, 1)
	if f := s.figures[0]; f.Section != smokeName || f.Name != "stream/tx10/ratio" {
		t.Errorf("got %s %s", f.Section, f.Name)
	}
}

func TestTheTableIsGroupedBySection(t *testing.T) {
	var b strings.Builder
	if err := writeTable(&b, measured().figures); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		if fields := strings.Fields(line); len(fields) > 0 {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	want := []string{
		"STREAM median min … max unit target",
		"tx10/ratio 0.7 0.5 … 0.9 ratio ≥ 0.5, aim 0.8 met",
		"tx1/ratio 0.1 ratio ≥ 0.4, aim 0.7 missed",
		"FRESHNESS median min … max unit target",
		"1000/s/p99 20 ms ≤ 100, aim 25 aim met",
		"asking 1234 % of a core",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestBenchstatGetsALineForEachValue(t *testing.T) {
	text := string(benchstatText(&Record{Figures: measured().figures, Machine: Machine{CPU: "abacus"}}))
	for _, line := range []string{
		"cpu: abacus\n",
		"Unit ratio better=higher\n",
		"Unit ms better=lower\n",
		"BenchmarkStream/tx10/ratio 1 0.9 ratio\n",
		"BenchmarkFreshness/asking 1 1234.5 %-of-a-core\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	if n := strings.Count(text, "BenchmarkStream/tx10/ratio "); n != 3 {
		t.Errorf("%d lines of three values", n)
	}
}

func TestAReportKeepsWhatOthersWrote(t *testing.T) {
	s := measured()
	s.out, s.commit, s.versions = t.TempDir(), "abc", map[string]string{"Go": "1"}
	path := filepath.Join(s.out, markdownFile)
	document := "# Speed\n\nWhat we think.\n\n" + markBegin + "\nold figures\n" + markEnd + "\n\nWhat limits it.\n"
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.report([]string{"-full"}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	if !strings.HasPrefix(got, "# Speed\n\nWhat we think.\n\n"+markBegin) || !strings.HasSuffix(got, markEnd+"\n\nWhat limits it.\n") {
		t.Errorf("the text around is gone:\n%s", got)
	}
	for _, part := range []string{"commit abc", "`bench -full`", "Go 1.", "### stream", "| tx10/ratio | 0.7 | 0.5 … 0.9 | ratio | ≥ 0.5, aim 0.8 | met |"} {
		if strings.Count(got, part) != 1 {
			t.Errorf("%q stands there %d times in\n%s", part, strings.Count(got, part), got)
		}
	}
	if strings.Contains(got, "old figures") {
		t.Error("the old figures are still there")
	}
	r, err := readRecord(filepath.Join(s.out, recordFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.figures, r.Figures); diff != "" {
		t.Errorf("figures of the record (-want +got):\n%s", diff)
	}
}

func TestADocumentWithoutMarksIsNotTouched(t *testing.T) {
	for _, document := range []string{"# Speed\n", markEnd + "\n" + markBegin, markBegin + "\n"} {
		if got, err := renew(document, "figures"); err == nil {
			t.Errorf("%q became %q", document, got)
		}
	}
	if got, err := renew("", "figures"); err != nil || !strings.Contains(got, "figures") {
		t.Errorf("an empty document: %q, %v", got, err)
	}
}

func TestGrowthOfALinearTimeIsOne(t *testing.T) {
	if got := exponent(time.Second, 10*time.Second, 10); math.Abs(got-1) > 1e-9 {
		t.Errorf("linear: %v", got)
	}
	if got := exponent(time.Second, 100*time.Second, 10); math.Abs(got-2) > 1e-9 {
		t.Errorf("square: %v", got)
	}
}

func TestTheDirectoryOfSomebodyElseIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bench")
	if err := prepare(dir); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "left")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what an earlier benchmark left is still there")
	}
	if err := os.Remove(filepath.Join(dir, mark)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir); err == nil || !strings.Contains(err.Error(), "-dir") {
		t.Errorf("a directory of somebody else: %v", err)
	}
	if _, err := os.Stat(left); err != nil {
		t.Errorf("a file of somebody else: %v", err)
	}
}

func TestWhatIsMisspeltIsRefusedBeforeAnythingStarts(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := map[string][]string{
		"there is no such section; there are stream": {"-only", "strem"},
		"is not a flag":             {"stream"},
		"want at least 1":           {"-runs", "0"},
		"exclude each other":        {"-full", "-smoke"},
		"`make bench` builds":       {"-snapshot", filepath.Join(t.TempDir(), "none")},
		"there is no such workload": {"-workloads", "tx7"},
		"`make bench` records them": {"-smoke", "-baseline", filepath.Join(t.TempDir(), "none.json")},
	}
	for want, args := range tests {
		dir := filepath.Join(t.TempDir(), "bench")
		err := run(t.Context(), append([]string{"-dir", dir, "-ingest", program, "-snapshot", program}, args...), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%v: the directory was made", args)
		}
	}
}

func TestTheDefinitionOfTheBenchmarkLoads(t *testing.T) {
	def, err := definition.Load(definitionYAML, "definition.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(def.Tables) != 5 {
		t.Errorf("%d tables", len(def.Tables))
	}
}
