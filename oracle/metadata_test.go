package oracle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

// at follows keys through nested objects; nil when one is not there.
func (r release) at(keys ...string) any {
	var v any = r.metadata
	for _, key := range keys {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[key]
	}
	return v
}

// funnel returns what each step took, by its key; of candidates, train and test
// the rows.
func (r release) funnel(t *testing.T) map[string]int64 {
	t.Helper()
	steps := map[string]int64{}
	list, _ := r.metadata["funnel"].([]any)
	for _, entry := range list {
		step, _ := entry.(map[string]any)
		key, _ := step["key"].(string)
		figure := "removed"
		if key == "candidates" || key == "train" || key == "test" {
			figure = "count"
		}
		n, ok := step[figure].(float64)
		if _, twice := steps[key]; twice || !ok || key == "" {
			t.Fatalf("metadata: funnel entry %v is not a step of its own", entry)
		}
		steps[key] = int64(n)
	}
	return steps
}

// compareFunnel compares the funnel with the oracle's, whose last step is what
// step 8 kept, and checks that it adds up.
func (r release) compareFunnel(t *testing.T, want map[string]int64, d dataset) {
	t.Helper()
	got := r.funnel(t)
	want["train"], want["test"] = int64(len(d.train)), int64(len(d.test))
	left := got["candidates"] - got["train"] - got["test"]
	for key, n := range got {
		name, _, _ := strings.Cut(key, ":")
		if !slices.Contains(strings.Fields(`candidates deleted no_vector no_reader deletion_pending consent inexact immature
			not_sampled missing_required outlier suppressed embargo train test`), name) {
			t.Errorf("funnel: %q is no step of the contract", key)
		}
		if key != "candidates" && key != "train" && key != "test" {
			left -= n
		}
		if n != want[key] {
			t.Errorf("funnel: %s is %d, want %d", key, n, want[key])
		}
	}
	for key, n := range want {
		if _, ok := got[key]; !ok && n != 0 && key != "kept" {
			t.Errorf("funnel: %s is not there, want %d", key, n)
		}
	}
	if left != 0 {
		t.Errorf("funnel: %d candidates are in no step: %v", left, got)
	}
}

func TestMetadata(t *testing.T) {
	url := pgtest.New(t).NewDatabase(t)
	conn := connect(t, url)
	populate(t, conn, workload.Config{Seed: 41, Users: 150, Days: 60})
	dataDir, output := t.TempDir(), t.TempDir()
	before := time.Now()
	catchUp(t, url, dataDir)
	b := build{version: "4.2", settings: settings{window: 45 * day, ratio: "0.9", seed: "8"}, testSize: "0.3"}
	b.run(t, dataDir, output)
	made := openRelease(t, output, b.version)
	b.asOf = made.moment(t, "as_of")
	execute(t, conn, functionsSQL)
	backfilled(t, conn, "public", before)
	want, funnel := b.compare(t, conn, made, keyFile(t, dataDir))
	if funnel["not_sampled"] == 0 || funnel["no_vector"] == 0 {
		t.Errorf("funnel %v shows too little", funnel)
	}
	columns := columnsOf(t, dreamscapeColumns)

	t.Run("names everything that the contract asks for", func(t *testing.T) {
		for _, path := range strings.Fields(`version created_at dataset.train_rows dataset.test_rows dataset.total_rows
			dataset.num_features dataset.feature_names extraction.data_window_days extraction.extraction_date
			extraction.source_tables labels.engagement_score_distribution labels.booking_rate labels.avg_user_rating
			labels_test.engagement_score_distribution labels_test.booking_rate labels_test.avg_user_rating schema_version format
			compression as_of watermark.version watermark.lsn definition_hash settings.seed settings.window_days
			settings.negative_ratio settings.test_size settings.inexact settings.outliers settings.pseudonyms funnel fills rare
			columns point_in_time privacy.measures privacy.claim gates files logical_digest program.version`) {
			if v := made.at(strings.Split(path, ".")...); v == nil || v == "" {
				t.Errorf("%s is not there", path)
			}
		}
	})

	t.Run("says what the build was", func(t *testing.T) {
		var names []string
		for _, c := range columns {
			names = append(names, c.name)
		}
		for _, c := range []struct {
			path string
			want any
		}{
			{"version", "4.2"},
			{"dataset.train_rows", float64(len(want.train))},
			{"dataset.test_rows", float64(len(want.test))},
			{"dataset.total_rows", float64(len(want.train) + len(want.test))},
			{"dataset.num_features", float64(len(columns))},
			{"extraction.data_window_days", 45.0},
			{"settings.window_days", 45.0},
			{"settings.seed", 8.0},
			{"settings.negative_ratio", "0.9"},
			{"settings.test_size", "0.3"},
			{"settings.inexact", "keep"},
			{"settings.outliers", "drop"},
		} {
			if diff := cmp.Diff(c.want, made.at(strings.Split(c.path, ".")...)); diff != "" {
				t.Errorf("%s: -want +got\n%s", c.path, diff)
			}
		}
		if got := fmt.Sprint(made.at("dataset", "feature_names")); got != fmt.Sprint(names) {
			t.Errorf("feature names are %v, want %v", got, names)
		}
	})

	t.Run("gives the files' hashes and sizes", func(t *testing.T) { made.checkFiles(t) })
	t.Run("gives the labels' figures", func(t *testing.T) { made.checkLabels(t) })
	t.Run("gives fills and rare values", func(t *testing.T) { made.checkFills(t, columns, want) })
	t.Run("gives each column's figures", func(t *testing.T) { made.checkColumns(t, columns, want) })
	t.Run("gives each column's role and class", func(t *testing.T) { made.checkRoles(t, columns) })
	t.Run("counts rows by how their features were known", func(t *testing.T) {
		exact := 0
		for _, r := range slices.Concat(want.train, want.test) {
			if r.values["features_exact"].(bool) {
				exact++
			}
		}
		figures := map[string]float64{}
		for _, name := range []string{"live", "trusted", "inexact", "older"} {
			figures[name], _ = made.at("point_in_time", name).(float64)
		}
		if got := int(figures["live"] + figures["trusted"]); got != exact || figures["live"] != 0 {
			t.Errorf("point in time %v: want %d exact rows, all of them backfilled", figures, exact)
		}
		if got := int(figures["inexact"] + figures["older"]); got != len(want.train)+len(want.test)-exact {
			t.Errorf("point in time %v: want %d inexact rows", figures, len(want.train)+len(want.test)-exact)
		}
	})
	t.Run("the pseudonym command gives the files' pseudonym", func(t *testing.T) {
		r := want.train[0]
		got := run(t, nil, "snapshot", "pseudonym", "--version", b.version, "--user", r.user, "--data-dir", dataDir)
		if !strings.Contains(got, r.values["user_hash"].(string)) {
			t.Errorf("it prints %q, want %v", got, r.values["user_hash"])
		}
	})
	t.Run("no file holds a user or a secret", func(t *testing.T) {
		ids := map[string]bool{}
		for _, m := range rowsOf(t, conn, "SELECT id FROM users UNION SELECT id FROM recommendations") {
			ids[m["id"].(string)] = true
		}
		made.checkSecrets(t, ids, workload.Secrets())
	})
}

// classes and roles are the contract's; what is not named is a feature.
const classes = `
	direct user_hash interaction_id
	time timestamp
	vector user_climate_pref user_culture_pref user_budget_level user_activity_level user_group_type user_urban_pref
		user_gastronomy_pref user_popularity_pref
	quasi segment_confidence primary_segment user_age_group user_region user_category travel_types accommodation_level
		activity_level_enum budget_flexibility budget_min budget_max travel_with_children user_favorite_count
		item_is_favorite search_origin search_passengers search_cabin_class days_until_departure days_since_last_search
		days_since_last_booking user_search_count user_booking_count user_avg_booking_value recommendation_score
		recommendation_confidence
	sensitive interaction_type engagement_score booking_probability user_rating time_to_interaction
	catalogue item_vector_id item_destination_id item_destination_name item_destination_type item_country item_climate
		item_culture item_budget item_activity item_group item_urban item_gastronomy item_popularity
		item_popularity_score item_booking_count item_search_count
	safe context_type season is_weekend features_exact sample_weight`

const roles = `
	id user_hash interaction_id
	time timestamp
	label interaction_type engagement_score booking_probability user_rating time_to_interaction
	quality features_exact sample_weight`

// byColumn reads such a list: a line that begins with a name that is no column
// begins a new one.
func byColumn(list string, columns []column) map[string]string {
	known := map[string]bool{}
	for _, c := range columns {
		known[c.name] = true
	}
	of, current := map[string]string{}, ""
	for line := range strings.Lines(list) {
		for i, word := range strings.Fields(line) {
			if i == 0 && !known[word] {
				current = word
				continue
			}
			of[word] = current
		}
	}
	return of
}

// checkRoles compares roles and classes, in the metadata and in the data files.
func (r release) checkRoles(t *testing.T, columns []column) {
	t.Helper()
	class, role := byColumn(classes, columns), byColumn(roles, columns)
	for _, c := range columns {
		switch {
		case c.alias != "":
			class[c.name], role[c.name] = class[c.alias], "alias"
		case role[c.name] == "":
			role[c.name] = "feature"
		}
	}
	entries, _ := r.metadata["columns"].([]any)
	for i, c := range columns {
		entry, _ := entries[i].(map[string]any)
		if entry["role"] != role[c.name] || entry["class"] != class[c.name] {
			t.Errorf("%s has role %v and class %v, want %s and %s", c.name, entry["role"], entry["class"], role[c.name], class[c.name])
		}
	}
	db := openDuck(t)
	for _, split := range []string{"train", "test"} {
		_, pairs := readRows(t, db, "SELECT decode(key), decode(value) FROM parquet_kv_metadata("+quoted(r.path(split, "parquet"))+")")
		found := false
		for _, pair := range pairs {
			got := map[string]string{}
			if json.Unmarshal([]byte(pair[1].(string)), &got) == nil && cmp.Equal(got, role) {
				found = true
			}
		}
		if !found {
			t.Errorf("the roles do not stand in the %s file", split)
		}
	}
}

func (r release) checkFiles(t *testing.T) {
	t.Helper()
	files, _ := r.metadata["files"].([]any)
	var names []string
	for _, entry := range files {
		file, _ := entry.(map[string]any)
		name, _ := file["name"].(string)
		names = append(names, name)
		data, err := os.ReadFile(r.dir + "/" + name)
		if err != nil {
			t.Error(err)
			continue
		}
		sum := sha256.Sum256(data)
		if file["sha256"] != hex.EncodeToString(sum[:]) || file["bytes"] != float64(len(data)) {
			t.Errorf("%s: metadata says %v and %v bytes, it has %x and %d", name, file["sha256"], file["bytes"], sum, len(data))
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"test_v" + r.version + ".parquet", "train_v" + r.version + ".parquet"}, names); diff != "" {
		t.Errorf("files: -want +got\n%s", diff)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 {
		t.Errorf("the version has %d files, want 4: %v", len(entries), entries)
	}
}

// checkLabels compares the figures of both splits with DuckDB's.
func (r release) checkLabels(t *testing.T) {
	t.Helper()
	db := openDuck(t)
	for split, key := range map[string]string{"train": "labels", "test": "labels_test"} {
		from := " FROM read_parquet(" + quoted(r.path(split, "parquet")) + ")"
		want := map[string]any{"-1.0": 0.0, "0.0": 0.0, "1.0": 0.0, "3.0": 0.0, "5.0": 0.0}
		_, rows := readRows(t, db, "SELECT engagement_score::DOUBLE, count(*)::DOUBLE"+from+" GROUP BY 1")
		for _, row := range rows {
			want[fmt.Sprintf("%.1f", row[0])] = row[1]
		}
		if diff := cmp.Diff(any(want), r.at(key, "engagement_score_distribution")); diff != "" {
			t.Errorf("%s: -want +got\n%s", key, diff)
		}
		_, rows = readRows(t, db, "SELECT avg(booking_probability), avg(user_rating)"+from)
		for i, name := range []string{"booking_rate", "avg_user_rating"} {
			if got, ok := r.at(key, name).(float64); !ok || !near(got, rows[0][i].(float64)) {
				t.Errorf("%s: %s is %v, want %v", key, name, r.at(key, name), rows[0][i])
			}
		}
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(math.Abs(a), math.Abs(b)) }

func (r release) checkFills(t *testing.T, columns []column, want dataset) {
	t.Helper()
	fills, _ := r.at("fills").(map[string]any)
	for _, c := range columns {
		needed := false
		for _, row := range slices.Concat(want.train, want.test) {
			needed = needed || row.gaps[c.name]
		}
		if !needed || c.missing != "median" {
			continue
		}
		if got, ok := fills[c.name].(float64); !ok || float32(got) != float32(number(want.fills[c.name])) {
			t.Errorf("fill of %s is %v, want %v", c.name, fills[c.name], want.fills[c.name])
		}
	}
	rare, _ := r.at("rare").([]any)
	got := map[string]int{}
	for _, entry := range rare {
		m, _ := entry.(map[string]any)
		n, _ := m["values"].(float64)
		got[fmt.Sprint(m["column"])] = int(n)
		// What is kept may be told; what was folded may not.
		kept, _ := m["kept"].([]any)
		for _, v := range kept {
			if want.rare[fmt.Sprint(m["column"])][fmt.Sprint(v)] {
				t.Errorf("%v: the rare value %v is told", m["column"], v)
			}
		}
	}
	for _, c := range columns {
		if c.quasi && got[c.name] != len(want.rare[c.name]) {
			t.Errorf("%s: %d values became OTHER, want %d", c.name, got[c.name], len(want.rare[c.name]))
		}
	}
}

// checkColumns compares the figures of each column, which are of the values
// before gaps were filled: with DuckDB's own where there were none.
func (r release) checkColumns(t *testing.T, columns []column, want dataset) {
	t.Helper()
	db := openDuck(t)
	entries, _ := r.metadata["columns"].([]any)
	if len(entries) != len(columns) {
		t.Fatalf("figures of %d columns, want %d", len(entries), len(columns))
	}
	for split, rows := range map[string][]row{"train": want.train, "test": want.test} {
		for i, c := range columns {
			entry, _ := entries[i].(map[string]any)
			if entry["name"] != c.name {
				t.Fatalf("column %d is %v, want %s", i+1, entry["name"], c.name)
			}
			base := c.name
			if c.alias != "" {
				base = c.alias
			}
			gaps, lackers, holders := 0, map[string]bool{}, map[string]bool{}
			for _, row := range rows {
				if row.gaps[base] {
					gaps++
					lackers[row.user] = true
				} else {
					holders[row.user] = true
				}
			}
			figures, _ := entry[split].(map[string]any)
			compare := func(name string, want any) {
				t.Helper()
				// A cell of fewer than 10 users is masked, and what tells it.
				if figures[name] == "masked" && (len(lackers) > 0 && len(lackers) < 10 || len(holders) > 0 && len(holders) < 10) {
					return
				}
				got, ok := figures[name].(float64)
				if w, isFloat := want.(float64); !isFloat && figures[name] == nil || isFloat && ok && near(got, w) {
					return
				}
				t.Errorf("%s of %s in %s is %v, want %v", name, c.name, split, figures[name], want)
			}
			compare("missing", float64(gaps))
			compare("count", float64(len(rows)-gaps))
			if c.kind != "FLOAT" && c.kind != "INTEGER" {
				continue
			}
			if gaps == 0 || c.missing == "null" {
				_, aggregates := readRows(t, db, fmt.Sprintf(`SELECT avg("%[1]s"::DOUBLE), stddev_samp("%[1]s"::DOUBLE) FROM read_parquet(%s)`,
					c.name, quoted(r.path(split, "parquet"))))
				compare("mean", aggregates[0][0])
				compare("sd", aggregates[0][1])
				continue
			}
			sum := 0.0
			for _, row := range rows {
				if !row.gaps[base] {
					sum += float64(float32(number(row.values[base])))
				}
			}
			compare("mean", sum/float64(len(rows)-gaps))
		}
	}
}

// uuids finds what has the form of the application's ids.
var uuids = regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`)

// checkSecrets searches all four files for ids and other words, and also every
// text in the data files, which are compressed.
func (r release) checkSecrets(t *testing.T, ids map[string]bool, words []string) {
	t.Helper()
	db := openDuck(t)
	contents := map[string][]byte{}
	for _, path := range []string{r.path("train", "parquet"), r.path("test", "parquet"), r.path("metadata", "json"), r.path("quality_report", "html")} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		contents[path] = data
		if strings.HasSuffix(path, ".parquet") {
			_, rows := readRows(t, db, "SELECT COLUMNS(*)::VARCHAR FROM read_parquet("+quoted(path)+")")
			_, pairs := readRows(t, db, "SELECT key::VARCHAR, value::VARCHAR FROM parquet_kv_metadata("+quoted(path)+")")
			contents[path+", decompressed"] = fmt.Append(nil, rows, pairs)
		}
	}
	for id := range ids {
		if !uuids.MatchString(id) {
			t.Fatalf("the id %s would not be found", id)
		}
	}
	for path, data := range contents {
		for _, id := range uuids.FindAll(data, -1) {
			if ids[strings.ToLower(string(id))] {
				t.Errorf("%s holds the id %s", path, id)
				break
			}
		}
		for _, word := range words {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("%s holds %q", path, word)
			}
		}
	}
}
