package definition_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
)

var update = flag.Bool("update", false, "write the golden files")

// load loads a definition that must be valid.
func load(t testing.TB, data []byte, file string) *definition.Definition {
	t.Helper()
	d, err := definition.Load(data, file)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func bookshop(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "bookshop.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// contract is the column table of the dataset contract: name, type, class,
// role, and whether it is required.
const contract = `
user_hash string direct id required
interaction_id string direct id required
timestamp timestamp time time required
user_climate_pref float32 vector feature required
user_culture_pref float32 vector feature required
user_budget_level float32 vector feature required
user_activity_level float32 vector feature required
user_group_type float32 vector feature median
user_urban_pref float32 vector feature median
user_gastronomy_pref float32 vector feature median
user_popularity_pref float32 vector feature median
primary_segment string quasi feature UNKNOWN
segment_confidence float32 quasi feature median
user_age_group string quasi feature UNKNOWN
user_region string quasi feature UNKNOWN
user_category string quasi feature UNKNOWN
travel_types string quasi feature UNKNOWN
accommodation_level string quasi feature UNKNOWN
activity_level_enum string quasi feature UNKNOWN
budget_flexibility string quasi feature UNKNOWN
budget_min float32 quasi feature median
budget_max float32 quasi feature median
travel_with_children bool quasi feature false
user_favorite_count int32 quasi feature zero
item_vector_id string catalogue feature null
item_destination_id string catalogue feature required
item_destination_name string catalogue feature UNKNOWN
item_destination_type string catalogue feature UNKNOWN
item_country string catalogue feature UNKNOWN
item_climate float32 catalogue feature median
item_culture float32 catalogue feature median
item_budget float32 catalogue feature median
item_activity float32 catalogue feature median
item_group float32 catalogue feature median
item_urban float32 catalogue feature median
item_gastronomy float32 catalogue feature median
item_popularity float32 catalogue feature median
item_popularity_score float32 catalogue feature median
item_booking_count int32 catalogue feature zero
item_search_count int32 catalogue feature zero
item_is_favorite bool quasi feature false
context_type string safe feature UNKNOWN
search_origin string quasi feature UNKNOWN
search_passengers int32 quasi feature null
search_cabin_class string quasi feature UNKNOWN
days_until_departure int32 quasi feature null
season string safe feature UNKNOWN
is_weekend bool safe feature false
recommendation_score float32 quasi feature required
recommendation_confidence float32 quasi feature median
user_search_count int32 quasi feature zero
user_booking_count int32 quasi feature zero
user_avg_booking_value float32 quasi feature null
days_since_last_search int32 quasi feature null
days_since_last_booking int32 quasi feature null
interaction_type string sensitive label UNKNOWN
engagement_score float32 sensitive label required
booking_probability int32 sensitive label required
user_rating int32 sensitive label null
time_to_interaction int32 sensitive label null
features_exact bool safe quality false
sample_weight float32 safe quality median
itemVectorId string catalogue alias null
item_climate_pref float32 catalogue alias median
item_culture_pref float32 catalogue alias median
item_budget_level float32 catalogue alias median
item_activity_level float32 catalogue alias median
item_group_type float32 catalogue alias median
item_urban_pref float32 catalogue alias median
item_gastronomy_pref float32 catalogue alias median
item_popularity_pref float32 catalogue alias median
primarySegment string quasi alias UNKNOWN
`

func TestDreamscapeHasTheColumnsOfTheContract(t *testing.T) {
	d := load(t, deploy.Dreamscape, "dreamscape.yaml")
	var got []string
	for _, c := range d.Columns {
		last := string(c.Missing)
		if c.Required {
			last = "required"
		}
		got = append(got, strings.Join([]string{c.Name, string(c.Type), string(c.Class), string(c.Role), last}, " "))
		if c.Doc == "" {
			t.Errorf("column %s has no doc", c.Name)
		}
		if c.Derive.Alias == "" && !strings.HasSuffix(c.Doc, ".") {
			t.Errorf("doc of column %s is no sentence: %q", c.Name, c.Doc)
		}
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(contract), "\n"), got); diff != "" {
		t.Errorf("columns differ from the contract (-want +got):\n%s", diff)
	}
	if d.Zone != time.UTC || d.Defaults.Window != 90*24*time.Hour || d.Example.Maturity != 7*24*time.Hour {
		t.Errorf("zone %v, window %v, maturity %v", d.Zone, d.Defaults.Window, d.Example.Maturity)
	}
	if d.Gates.TrainBytes != 10<<20 || d.Gates.TestBytes != 2<<20 {
		t.Errorf("gates are %d and %d bytes", d.Gates.TrainBytes, d.Gates.TestBytes)
	}
}

// TestDreamscapePlacesCountriesByM49 spells out the doubtful ones.
func TestDreamscapePlacesCountriesByM49(t *testing.T) {
	d := load(t, deploy.Dreamscape, "dreamscape.yaml")
	want := map[string]string{
		"NO": "Europe", "UK": "Europe", "GB": "Europe", "XK": "Europe", "RU": "Europe", "SJ": "Europe", "GI": "Europe",
		"TR": "Middle East", "CY": "Middle East", "AM": "Middle East", "AZ": "Middle East", "GE": "Middle East", "IL": "Middle East", "PS": "Middle East",
		"IR": "Asia", "KZ": "Asia", "TW": "Asia", "AF": "Asia", "TL": "Asia",
		"EG": "Africa", "IO": "Africa", "RE": "Africa", "TF": "Africa", "SH": "Africa", "YT": "Africa",
		"GF": "South America", "BV": "South America", "FK": "South America", "GS": "South America",
		"HM": "Oceania", "UM": "Oceania", "CX": "Oceania", "GU": "Oceania", "PN": "Oceania",
		"GL": "North America", "MX": "North America", "PR": "North America", "BQ": "North America", "BM": "North America",
		"AQ": "", "EU": "",
	}
	for _, m := range d.Maps {
		if m.Name != "region" {
			continue
		}
		// 249 codes of ISO 3166-1 without Antarctica, with Kosovo's XK and UK.
		if len(m.Labels) != 250 || m.Else != "Other" {
			t.Errorf("region has %d codes and else %q", len(m.Labels), m.Else)
		}
		for code, label := range want {
			if m.Labels[code] != label {
				t.Errorf("%s lies in %q, want %q", code, m.Labels[code], label)
			}
		}
		return
	}
	t.Error("there is no map region")
}

func TestBookshopLoads(t *testing.T) {
	d := load(t, bookshop(t), "bookshop.yaml")
	if d.Zone != time.UTC || len(d.Columns) != 25 || len(d.Values) != 2 {
		t.Errorf("zone %v, %d columns, %d values", d.Zone, len(d.Columns), len(d.Values))
	}
	if got := d.Column("generation").Derive.Bins.Bins; got[0].From != nil || *got[0].To != 29 || got[2].To != nil {
		t.Errorf("bins are %+v", got)
	}
	if a := d.Column("rating"); a.Type != definition.Float32 || a.Class != definition.ClassSensitive || !a.Required || a.Role != definition.RoleAlias {
		t.Errorf("alias is %+v", a)
	}
	if c := d.Column("hours_to_reaction"); c.Missing != definition.MissingNull {
		t.Errorf("a numeric label is imputed: %s", c.Missing)
	}
	if d.Gates.ClassShare != 1 || d.Deviations != 2.5 || d.Privacy.MinUsers != 5 || d.Privacy.Other != "REST" {
		t.Errorf("gates %+v, deviations %v, privacy %+v", d.Gates, d.Deviations, d.Privacy)
	}
}

func TestHashIgnoresCommentsLayoutAndOrderOfKeys(t *testing.T) {
	source := string(bookshop(t))
	base := load(t, []byte(source), "a.yaml").Hash
	same := map[string]string{
		"comments":           "# another comment\n" + strings.ReplaceAll(source, "example:\n", "example: # here\n"),
		"layout":             strings.Replace(source, "{id: int, born: timestamp, city: text}", "{\n id: int,\n born: timestamp,\n city: text}", 1),
		"quotes":             strings.Replace(source, "else: elsewhere", `else: "elsewhere"`, 1),
		"order of fields":    strings.Replace(source, "  table: offers\n  id: id\n", "  id: id\n  table: offers\n", 1),
		"order of columns":   strings.Replace(source, "{id: int, born: timestamp, city: text}", "{city: text, id: int, born: timestamp}", 1),
		"list of one":        strings.Replace(source, "{table: public.visits, last: at}", "{table: public.visits, last: [at]}", 1),
		"order of texts":     strings.Replace(source, "[CRIME, NOVEL]", "[NOVEL, CRIME]", 1),
		"a default, spelt":   strings.Replace(source, "{alias: worth}", "{alias: worth, doc: Equal copy of worth.}", 1),
		"unit of a maturity": strings.Replace(source, "maturity: 48h", "maturity: 2d", 1),
	}
	for name, text := range same {
		if text == source {
			t.Fatalf("%s: the file was not changed", name)
		}
		if got := load(t, []byte(text), "b.yaml").Hash; got != base {
			t.Errorf("another %s changes the hash", name)
		}
	}
	other := map[string]string{
		"window":           strings.Replace(source, "window: 7d", "window: 8d", 1),
		"filter":           strings.Replace(source, "relevance >= 0.5", "relevance > 0.5", 1),
		"map":              strings.Replace(source, "[CRIME, NOVEL]", "[CRIME]", 1),
		"zone":             source + "timezone: Europe/Berlin\n",
		"order of outputs": strings.Replace(source, "columns:\n  reader_hash:", "columns:\n  first: {type: int32, constant: 1, class: safe, doc: One.}\n  reader_hash:", 1),
	}
	for name, text := range other {
		if got := load(t, []byte(text), "b.yaml").Hash; got == base {
			t.Errorf("another %s leaves the hash", name)
		}
	}
}

// golden compares with a file, or writes it under -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs, go test -update writes it anew (-want +got):\n%s", path, diff)
	}
}

func TestDictionaryIsTheCommittedDocument(t *testing.T) {
	var b strings.Builder
	if err := definition.Dictionary(&b, load(t, deploy.Dreamscape, "dreamscape.yaml")); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("..", "..", "docs", "DATASET.md"), b.String())
}

func TestDictionaryOfAnotherDefinition(t *testing.T) {
	var b strings.Builder
	if err := definition.Dictionary(&b, load(t, bookshop(t), "bookshop.yaml")); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "bookshop.md"), b.String())
}

func TestPrintLoadsAgain(t *testing.T) {
	d := load(t, bookshop(t), "bookshop.yaml")
	var b strings.Builder
	if err := definition.Print(&b, d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "# definition bookshop, hash "+d.Hash+"\n") {
		t.Errorf("printed text begins %.80q", b.String())
	}
	if again := load(t, []byte(b.String()), "printed.yaml"); again.Hash != d.Hash {
		t.Error("the printed definition has another hash")
	}
}
