package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/snapshot/report"
)

var update = flag.Bool("update", false, "rewrite the golden page")

func render(t *testing.T, d report.Data) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.Render(&b, d); err != nil {
		t.Fatalf("Render: %v", err)
	}
	return b.String()
}

func TestPageIsTheGoldenOne(t *testing.T) {
	golden := filepath.Join("testdata", "report.html")
	got := render(t, sample())
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v (go test ./snapshot/report -update writes it)", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the page changed (-want +got); if it should, run with -update:\n%s", diff)
	}
}

func TestSameDataGivesTheSameBytesConcurrently(t *testing.T) { // I6
	want := render(t, sample())
	old := runtime.GOMAXPROCS(4)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			var b bytes.Buffer
			if err := report.Render(&b, sample()); err != nil {
				t.Errorf("Render: %v", err)
			} else if b.String() != want {
				t.Error("the same data gave another page")
			}
		})
	}
	wait.Wait()
}

func TestDataSurvivesJSON(t *testing.T) {
	want := sample()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got report.Data
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if render(t, got) != render(t, want) {
		t.Error("a page from metadata differs from the first")
	}
}

func TestPageNeedsNothingBesideItself(t *testing.T) {
	got := strings.ToLower(render(t, sample()))
	for _, forbidden := range []string{"<script", "javascript:", "http:", "https:", "<link", "<iframe", "<img", "@import", "url(", "src=", "xlink", "xmlns", "<?xml", "onload="} {
		if i := strings.Index(got, forbidden); i >= 0 {
			t.Errorf("the page holds %q: …%s…", forbidden, got[max(0, i-60):min(len(got), i+60)])
		}
	}
	for _, ref := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(got, -1) {
		if !strings.HasPrefix(ref[1], "#") {
			t.Errorf("the page links to %q", ref[1])
		}
	}
}

// The page is written so that an XML reader takes it too: every element is
// closed, every attribute quoted. That is stricter than HTML asks.
func TestPageIsWellFormedWithUniqueIDs(t *testing.T) {
	for name, d := range map[string]report.Data{"full": sample(), "least": least()} {
		t.Run(name, func(t *testing.T) {
			page := render(t, d)
			decoder := xml.NewDecoder(strings.NewReader(page))
			ids, wanted := map[string]bool{}, map[string]bool{}
			for {
				token, err := decoder.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("the page is not well formed: %v", err)
				}
				start, ok := token.(xml.StartElement)
				if !ok {
					continue
				}
				for _, a := range start.Attr {
					switch a.Name.Local {
					case "id":
						if ids[a.Value] {
							t.Errorf("id %q stands twice", a.Value)
						}
						ids[a.Value] = true
					case "aria-labelledby":
						for _, id := range strings.Fields(a.Value) {
							wanted[id] = true
						}
					case "href":
						wanted[strings.TrimPrefix(a.Value, "#")] = true
					}
				}
				if start.Name.Local == "svg" && !strings.Contains(fmt.Sprint(start.Attr), "aria-labelledby") {
					t.Errorf("a picture has no description: %v", start.Attr)
				}
			}
			for id := range wanted {
				if !ids[id] {
					t.Errorf("something refers to %q, which is not in the page", id)
				}
			}
		})
	}
}

func TestPageLeadsWithTheVerdict(t *testing.T) {
	tests := []struct {
		name     string
		verdicts []report.Verdict
		want     string
	}{
		{"all gates pass", []report.Verdict{report.Pass, report.Pass}, "All 2 gates pass."},
		{"a warning is counted", []report.Verdict{report.Pass, report.Warn}, "1 of 2 gates pass, 1 to look at."},
		{"a failure outranks a warning", []report.Verdict{report.Warn, report.Fail}, "1 of 2 gates failed: this dataset must not be used."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := least()
			d.Gates = nil
			for _, v := range test.verdicts {
				d.Gates = append(d.Gates, report.Gate{Name: "A gate", Verdict: v, Sentence: "It was measured."})
			}
			page := render(t, d)
			verdict, section := strings.Index(page, test.want), strings.Index(page, "<section")
			if verdict < 0 || verdict > section {
				t.Errorf("%q is at %d, the first section at %d", test.want, verdict, section)
			}
		})
	}
}

func TestTextOfTheDataIsEscaped(t *testing.T) {
	d := sample()
	const hostile = `"><script>alert('x')</script><svg style="fill:#040000`
	d.Identity.Doc = hostile
	d.Gates[0].Sentence = hostile
	d.Gates[3].Name = hostile
	d.Funnel[1].Key = hostile
	d.Charts[0].Title = hostile
	d.Charts[0].Cells[0].Label = hostile
	d.Columns[2].Name = hostile
	d.Reproduce.Command = hostile
	page := render(t, d)
	if strings.Contains(page, "<script") || strings.Contains(page, `style="fill:#040000`) {
		t.Error("a text of the data became markup")
	}
}

func TestMaskedFiguresAreNotInThePage(t *testing.T) {
	d := sample()
	secret := report.Figure{Value: 7432.1, Hidden: report.Masked}
	for i := range d.Charts {
		d.Charts[i].Cells[0].Train, d.Charts[i].Cells[0].Test = secret, secret
	}
	for i := range d.Columns {
		d.Columns[i].Train, d.Columns[i].Shift = report.Summary{secret, secret, secret, secret, secret, secret, secret, secret}, secret
		d.Columns[i].Train.Min, d.Columns[i].Train.Max = none, none
	}
	d.Classes[0].Train = secret
	page := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(render(t, d), " ") // coordinates of drawings are no figures
	for _, leak := range []string{"7432", "7,432"} {
		if strings.Contains(page, leak) {
			t.Errorf("the page holds %q, which is masked", leak)
		}
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("7432")) {
		t.Error("the metadata holds a masked figure")
	}
}

func TestAHundredColumnsStayUnderTwoMegabytes(t *testing.T) {
	d := sample()
	column, chart := d.Columns[5], d.Charts[1]
	d.Columns, d.Charts = nil, nil
	for i := range 100 {
		column.Name = fmt.Sprintf("feature_%03d", i)
		d.Columns = append(d.Columns, column)
		chart.Column = column.Name
		d.Charts = append(d.Charts, chart)
	}
	if n := len(render(t, d)); n > 2_000_000 {
		t.Errorf("the page takes %d bytes", n)
	}
}

func TestDataThatContradictsItselfIsRefused(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*report.Data)
		want  string
	}{
		{"a funnel that loses rows", func(d *report.Data) { d.Funnel[2].Removed++ }, `funnel step "no_profile": 411021 rows less 12282 are not 398740`},
		{"splits that hold other rows", func(d *report.Data) { d.Funnel[8].Count-- }, "the splits hold 159999 rows"},
		{"an identity with other rows", func(d *report.Data) { d.Identity.TestRows++ }, "160001 rows in train and test"},
		{"no split", func(d *report.Data) { d.Funnel = d.Funnel[:7] }, "ends without a split"},
		{"no funnel", func(d *report.Data) { d.Funnel = nil }, "funnel: it is empty"},
		{"no gate", func(d *report.Data) { d.Gates = nil }, "a report without a verdict"},
		{"an unknown verdict", func(d *report.Data) { d.Gates[0].Verdict = "good" }, `unknown verdict "good"`},
		{"an unknown chart", func(d *report.Data) { d.Charts[0].Kind = "pie" }, `unknown kind "pie"`},
		{"bins with a gap", func(d *report.Data) { d.Charts[1].Cells[3].From = 13 }, "does not begin where"},
		{"an exact minimum of a quasi column", func(d *report.Data) { d.Columns[7].Train.Min = report.Of(3) }, `column "days_since_last_order": the exact minimum`},
		{"a figure that is no number", func(d *report.Data) { d.Columns[5].Test.Mean.Value /= 0 }, "no finite number"},
		{"a recall that falls", func(d *report.Data) { d.GoalRecall.Within[3].Share = report.Of(0.7) }, "goal recall within 30 d: the share 0.7 is below the one before"},
		{"a recall of more than all", func(d *report.Data) { d.GoalRecall.Within[3].Share = report.Of(1.01) }, "goal recall within 30 d: the share 1.01 is below the one before or above 1"},
		{"a recall of one length twice", func(d *report.Data) { d.GoalRecall.Within[1].Seconds = 86400 }, "goal recall within 1 d: the lengths of time do not rise"},
		{"a recall that is no number", func(d *report.Data) { d.GoalRecall.Examples.Value = math.Inf(1) }, "goal recall: +Inf is no finite number"},
		{"no version", func(d *report.Data) { d.Identity.Version = "" }, "name and version"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := sample()
			test.spoil(&d)
			var b bytes.Buffer
			err := report.Render(&b, d)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
			if b.Len() > 0 {
				t.Errorf("%d bytes were written all the same", b.Len())
			}
		})
	}
}

// least is the smallest data that makes a report.
func least() report.Data {
	return report.Data{
		Identity: report.Identity{Dataset: "empty", Version: "0.1", TrainRows: 1, TestRows: 1},
		Gates:    []report.Gate{{Name: "Size", Verdict: report.Pass, Figure: none}},
		Funnel: []report.Step{
			{Key: "candidates", Count: 2, Share: 1},
			{Key: "train", Count: 1, Share: 0.5, Split: true},
			{Key: "test", Count: 1, Share: 0.5, Split: true},
		},
		Charts: []report.Chart{{Title: "Nothing", Kind: report.Bars}, {Title: "No bins", Kind: report.Histogram}},
	}
}

func ExampleRender() {
	var page bytes.Buffer
	err := report.Render(&page, report.Data{
		Identity: report.Identity{Dataset: "bookshop", Version: "1.0", TrainRows: 8, TestRows: 2},
		Gates: []report.Gate{{
			Name: "Duplicates", Unit: report.Rows, Figure: report.Count(0), Threshold: report.AtMost(0),
			Verdict: report.Pass, Sentence: "Every id occurs once.",
		}},
		Funnel: []report.Step{
			{Key: "candidates", Count: 10, Share: 1},
			{Key: "train", Count: 8, Share: 0.8, Split: true},
			{Key: "test", Count: 2, Share: 0.2, Split: true},
		},
	})
	fmt.Println(err, bytes.Contains(page.Bytes(), []byte("All 1 gate pass.")))
	// Output: <nil> true
}
