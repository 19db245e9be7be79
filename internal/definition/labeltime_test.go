package definition_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
)

func library(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "library.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLibrarySaysWhenAnOutcomeCounts(t *testing.T) {
	d := load(t, []byte(library(t)), "library.yaml")
	const hour = time.Hour
	l := d.Labels
	if l.Window != 336*hour || !l.DropCensored || !l.Latest || !d.Example.DropImmature || d.Example.Maturity != 48*hour {
		t.Errorf("labels %+v, example %+v", l, d.Example)
	}
	if diff := cmp.Diff([]time.Duration{12 * hour, 48 * hour, 480 * hour}, l.Recall); diff != "" {
		t.Errorf("recall (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"CANCELLED", "LOST"}, l.Outcomes[0].Unless); diff != "" {
		t.Errorf("unless (-want +got):\n%s", diff)
	}
	if c := d.Column("censored"); c.Derive.Quality != definition.QualityCensored || c.Type != definition.Boolean {
		t.Errorf("column censored %+v", c)
	}
}

func TestWithoutTheKeysTheDefaultRuleHolds(t *testing.T) {
	for name, text := range map[string][]byte{"dreamscape": deploy.Dreamscape, "bookshop": bookshop(t)} {
		d := load(t, text, name)
		l := d.Labels
		if l.Window != 0 || l.DropCensored || l.Latest || d.Example.DropImmature || !cmp.Equal(l.Recall, definition.DefaultRecall()) {
			t.Errorf("%s: labels %+v, example %+v", name, l, d.Example)
		}
		for _, o := range l.Outcomes {
			if o.Unless != nil {
				t.Errorf("%s: outcome %s has unless", name, o.Name)
			}
		}
	}
	without := strings.Replace(library(t), "  maturity: 2d\n", "", 1)
	if d := load(t, []byte(without), "library.yaml"); d.Example.Maturity != 7*24*time.Hour {
		t.Errorf("maturity %s without the key", d.Example.Maturity)
	}
}

// TestTheHashOfADefinitionWithoutLabelKeysStays pins a hash that was there before
// the keys were: datasets of old and new programs are told apart by it.
func TestTheHashOfADefinitionWithoutLabelKeysStays(t *testing.T) {
	const want = "937ad8e297ac775e9c5af0e7b8d63d0c98824f7b0d2df9346e7c993471320c72"
	if got := load(t, bookshop(t), "bookshop.yaml").Hash; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestHashTellsLabelRulesApart(t *testing.T) {
	source := library(t)
	base := load(t, []byte(source), "a.yaml").Hash
	replace := func(old, with string) string {
		if strings.Count(source, old) != 1 {
			t.Fatalf("%q stands %d times in the file", old, strings.Count(source, old))
		}
		return strings.Replace(source, old, with, 1)
	}
	for name, text := range map[string]string{
		"order of lengths":  replace("[2d, 12h, 20d]", "[12h, 20d, 2d]"),
		"unit of a window":  replace("window: 14d", "window: 336h"),
		"unit of a length":  replace("[2d, 12h, 20d]", "[48h, 12h, 20d]"),
		"order of the keys": replace("  censored: drop\n  decide: latest\n", "  decide: latest\n  censored: drop\n"),
	} {
		if load(t, []byte(text), "b.yaml").Hash != base {
			t.Errorf("another %s changes the hash", name)
		}
	}
	for name, text := range map[string]string{
		"window":   replace("window: 14d", "window: 15d"),
		"censored": replace("censored: drop", "censored: keep"),
		"decide":   replace("decide: latest", "decide: rank"),
		"recall":   replace("[2d, 12h, 20d]", "[2d, 12h]"),
		"immature": replace("immature: drop", "immature: keep"),
		"unless":   replace("[CANCELLED, LOST]", "[CANCELLED]"),
		"quality":  replace("quality: censored", "quality: exact"),
	} {
		if load(t, []byte(text), "b.yaml").Hash == base {
			t.Errorf("another %s leaves the hash", name)
		}
	}
	// A default that is spelt is no other definition.
	plain := replace("  immature: drop\n", "")
	plain = strings.Replace(plain, "  window: 14d\n  censored: drop\n  decide: latest\n  recall: [2d, 12h, 20d]\n", "", 1)
	plain = strings.Replace(plain, "quality: censored", "quality: exact", 1)
	spelt := strings.Replace(plain, "  maturity: 2d\n", "  maturity: 2d\n  immature: keep\n", 1)
	spelt = strings.Replace(spelt, "  status: state\n", "  status: state\n  decide: rank\n  recall: [30d, 14d, 7d, 1d]\n", 1)
	if load(t, []byte(plain), "a.yaml").Hash != load(t, []byte(spelt), "b.yaml").Hash {
		t.Error("spelling a default changes the hash")
	}
}

func TestLabelRulesThatCannotHoldAreRefusedWithTheirLine(t *testing.T) {
	source := library(t)
	for _, c := range []malformed{
		{"a window without unit", "window: 14d", "§window: 14", `window of labels must be a length of time above zero, such as 90d, 12h, 30m or 10s`},
		{"a window of nothing", "window: 14d", "§window: 0d", `window of labels must be a length of time above zero, such as 90d, 12h, 30m or 10s`},
		{"censored without a window", "  window: 14d\n  censored: drop", "  §censored: drop", `censored of labels is about examples whose window passes the as-of moment, but labels have no window: give labels.window, such as 14d`},
		{"censored kept without a window", "  window: 14d\n  censored: drop", "  §censored: keep", `censored of labels is about examples whose window passes the as-of moment, but labels have no window`},
		{"a censored column without a window", "  window: 14d\n  censored: drop\n", "", `quality of column censored marks examples whose label window passes the as-of moment, but labels have no window: give labels.window, such as 14d`},
		{"a censored column that is no truth value", "{type: bool, quality: censored", "{type: float32, §quality: censored", `quality of column censored gives bool, the column's type is float32`},
		{"a censored column that is a feature", "quality: censored, class: safe, role: quality", "quality: censored, class: safe, §role: feature", `column censored is a quality of the row: its role must be quality, not feature`},
		{"an unknown quality", "quality: censored", "§quality: censord", `unknown quality "censord", did you mean "censored"?`},
		{"an unknown word for censored", "censored: drop", "§censored: dorp", `unknown word for censored of labels "dorp", did you mean "drop"?`},
		{"an unknown word for immature", "immature: drop", "§immature: dropp", `unknown word for immature of example "dropp", did you mean "drop"?`},
		{"an unknown way to decide", "decide: latest", "§decide: last", `unknown way to decide "last", known are rank, latest`},
		{"a misspelt key of labels", "decide: latest", "§decides: latest", `unknown key "decides", did you mean "decide"? in labels`},
		{"a misspelt key of an outcome", "unless: [EXPIRED]", "§unles: [EXPIRED]", `unknown key "unles", did you mean "unless"? in an outcome`},
		{"a misspelt key of the example", "immature: drop", "§imature: drop", `unknown key "imature", did you mean "immature"? in example`},
		{"the latest of nothing", "moment: borrowed_at, unless", "unless", `decide: latest compares the moments of outcomes, but no outcome has one`},
		{"a recall of nothing", "[2d, 12h, 20d]", "§[]", `recall of labels must be 1 to 8 lengths of time, such as [1d, 7d, 14d, 30d]`},
		{"a recall of too much", "[2d, 12h, 20d]", "§[1d, 2d, 3d, 4d, 5d, 6d, 7d, 8d, 9d]", `recall of labels must be 1 to 8 lengths of time, such as [1d, 7d, 14d, 30d]`},
		{"a recall twice", "[2d, 12h, 20d]", "[2d,\n    §48h]", `48h stands twice in recall of labels`},
		{"a recall without unit", "[2d, 12h, 20d]", "[2d,\n    §12]", `each of recall of labels must be a length of time above zero`},
		{"an unless that is a status of the outcome", "unless: [EXPIRED]", "unless: §[OPENED]", `status "OPENED" of outcome OPENED stands in its statuses and in its unless: it would never count by it`},
		{"an unless of the last outcome", "{name: IGNORED, score: 0}", "{name: IGNORED, score: 0, unless: §[LOST]}", `outcome IGNORED has unless but neither statuses nor moment: an outcome that holds when no other does cannot be taken back`},
		{"an unless of nothing", "unless: [EXPIRED]", "unless: §[]", `unless of outcome OPENED names no status`},
		{"an unless twice", "unless: [EXPIRED]", "unless: [EXPIRED,\n      §EXPIRED]", `"EXPIRED" stands twice in unless of outcome OPENED`},
		{"a need with the name of the new step", "{no_reader: reader}", "§{censored: reader}", `reason "censored" is a step of the funnel already: give it another name`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n := strings.Count(source, c.old); n != 1 {
				t.Fatalf("%q stands %d times in the file", c.old, n)
			}
			text := strings.Replace(source, c.old, c.new, 1)
			if c.name == "the latest of nothing" {
				text = strings.NewReplacer(", moment: refused_at", "", ", moment: opened_at", "").Replace(text)
			}
			line := 0
			if before, after, ok := strings.Cut(text, "§"); ok {
				text, line = before+after, 1+strings.Count(before, "\n")
			}
			check(t, text, line, c.want)
		})
	}
	t.Run("an unless without status", func(t *testing.T) {
		text := strings.Replace(string(bookshop(t)), "moment: opened_at}", "moment: opened_at, unless: [X]}", 1)
		check(t, text, 0, `outcome OPENED has unless, but labels name no status column`)
	})
}

func TestDictionaryOfTheLibrary(t *testing.T) {
	var b strings.Builder
	if err := definition.Dictionary(&b, load(t, []byte(library(t)), "library.yaml")); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "library.md"), b.String())
}
