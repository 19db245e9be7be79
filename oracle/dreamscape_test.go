package oracle_test

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed sql/functions.sql
var functionsSQL string

//go:embed sql/known.sql
var knownSQL string

//go:embed sql/features.sql
var featuresSQL string

//go:embed sql/cleaning.sql
var cleaningSQL string

// dreamscapeColumns is the contract's table of columns. Missing counts become 0,
// strings UNKNOWN, booleans false; null stays; the rest takes the median.
const dreamscapeColumns = `
	user_hash string required pseudonym=user_hash
	interaction_id string required pseudonym=interaction_id digits=32
	timestamp timestamp required
	user_climate_pref float required
	user_culture_pref float required
	user_budget_level float required
	user_activity_level float required
	user_group_type float
	user_urban_pref float
	user_gastronomy_pref float
	user_popularity_pref float
	primary_segment string quasi
	segment_confidence float
	user_age_group string quasi
	user_region string quasi
	user_category string quasi
	travel_types string quasi list
	accommodation_level string quasi
	activity_level_enum string quasi
	budget_flexibility string quasi
	budget_min float
	budget_max float
	travel_with_children bool
	user_favorite_count int zero
	item_vector_id string null
	item_destination_id string required
	item_destination_name string
	item_destination_type string
	item_country string
	item_climate float
	item_culture float
	item_budget float
	item_activity float
	item_group float
	item_urban float
	item_gastronomy float
	item_popularity float
	item_popularity_score float
	item_booking_count int zero
	item_search_count int zero
	item_is_favorite bool
	context_type string
	search_origin string quasi
	search_passengers int null
	search_cabin_class string quasi
	days_until_departure int null
	season string
	is_weekend bool
	recommendation_score float required
	recommendation_confidence float
	user_search_count int zero
	user_booking_count int zero
	user_avg_booking_value float null computed
	days_since_last_search int null
	days_since_last_booking int null
	interaction_type string
	engagement_score float required
	booking_probability int required
	user_rating int null
	time_to_interaction int null
	features_exact bool
	sample_weight float computed
	itemVectorId string null alias=item_vector_id
	item_climate_pref float alias=item_climate
	item_culture_pref float alias=item_culture
	item_budget_level float alias=item_budget
	item_activity_level float alias=item_activity
	item_group_type float alias=item_group
	item_urban_pref float alias=item_urban
	item_gastronomy_pref float alias=item_gastronomy
	item_popularity_pref float alias=item_popularity
	primarySegment string alias=primary_segment
`

// sourceTable says where a table's row keeps its entity and its two moments;
// empty: it has none.
type sourceTable struct{ name, owner, updated, created string }

var sourceTables = []sourceTable{
	{"users", "id", "updated_at", "created_at"},
	{"user_vectors", "userId", "updatedAt", "createdAt"},
	{"travel_onboarding_profiles", "userId", "updatedAt", "createdAt"},
	{"user_preferences", "userId", "", ""},
	{"item_vectors", "id", "updatedAt", "createdAt"},
	{"recommendations", "userId", "updatedAt", "createdAt"},
	{"search_history", "userId", "", "searchedAt"},
	{"booking_data", "userId", "updatedAt", "createdAt"},
	{"favorites", "userId", "updated_at", "created_at"},
}

// backfilled enters all rows of the tables in schema as the backfill at birth
// holds them: k is the smaller of birth and the updated column, else the
// creation column, else birth.
func backfilled(t *testing.T, conn *pgx.Conn, schema string, birth time.Time) {
	t.Helper()
	for _, table := range sourceTables {
		execute(t, conn, fmt.Sprintf(`INSERT INTO oracle.version
			SELECT '%s', r ->> 'id', r ->> '%s', birth, row_number() OVER (), true, false,
				least(birth, coalesce((r ->> '%s')::timestamp, (r ->> '%s')::timestamp, birth)), (r ->> '%[4]s')::timestamp, r
			FROM (SELECT to_jsonb(x) AS r FROM %s.%[1]s x) y, (SELECT $1::timestamp AS birth) b`,
			table.name, table.owner, table.updated, table.created, schema), birth.UTC())
	}
}

// settings of a build, as flags give them.
type settings struct {
	asOf   time.Time
	window time.Duration
	ratio  string
	seed   string

	dropInexact, keepOutliers bool
}

// recompute takes the oracle's versions through steps 1 to 8.
func recompute(t *testing.T, conn *pgx.Conn, s settings) (rows []row, funnel map[string]int64) {
	t.Helper()
	set(t, conn, s)
	for _, part := range []string{knownSQL, featuresSQL, cleaningSQL} {
		execute(t, conn, part)
	}
	for _, m := range rowsOf(t, conn, "SELECT * FROM clean") {
		rows = append(rows, row{
			id: m["id"].(string), user: m["user_id"].(string),
			class: m["engagement_score"].(float64), split: m["split"].([]byte), values: m,
		})
	}
	return rows, funnelOf(t, conn)
}

// set begins a computation: the session holds its settings and nothing else.
func set(t *testing.T, conn *pgx.Conn, s settings) {
	t.Helper()
	execute(t, conn, "DISCARD TEMP")
	execute(t, conn, "CREATE TEMP TABLE setting (as_of timestamp, since timestamp, ratio numeric, seed text, drop_inexact bool, keep_outliers bool)")
	execute(t, conn, "INSERT INTO setting VALUES ($1, $2, $3::text::numeric, $4, $5, $6)",
		s.asOf.UTC(), s.asOf.Add(-s.window).UTC(), s.ratio, s.seed, s.dropInexact, s.keepOutliers)
}

func funnelOf(t *testing.T, conn *pgx.Conn) map[string]int64 {
	t.Helper()
	funnel := map[string]int64{}
	for _, m := range rowsOf(t, conn, "SELECT step, rows FROM funnel") {
		funnel[m["step"].(string)] = m["rows"].(int64)
	}
	return funnel
}

func dreamscape(t *testing.T, version string, key []byte) finish {
	return finish{
		columns: columnsOf(t, dreamscapeColumns), version: version, key: key,
		user: "user_hash", id: "interaction_id", time: "timestamp", minUsers: 10, other: "OTHER", testSize: big.NewRat(1, 5),
	}
}

// release is a published dataset.
type release struct {
	dir, version string
	metadata     map[string]any
}

func openRelease(t *testing.T, output, version string) release {
	t.Helper()
	r := release{dir: filepath.Join(output, "v"+version), version: version}
	data, err := os.ReadFile(r.path("metadata", "json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r.metadata); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r release) path(name, suffix string) string {
	return filepath.Join(r.dir, name+"_v"+r.version+"."+suffix)
}

// moment reads a moment of the metadata.
func (r release) moment(t *testing.T, key string) time.Time {
	t.Helper()
	text, _ := r.metadata[key].(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatalf("metadata: %s: %v", key, err)
	}
	return at
}

// compare compares both files of a release with the oracle's dataset.
func (r release) compare(t *testing.T, f finish, want dataset) {
	t.Helper()
	db := openDuck(t)
	t.Run("train", func(t *testing.T) { compareFile(t, db, r.path("train", "parquet"), f, want.train) })
	t.Run("test", func(t *testing.T) { compareFile(t, db, r.path("test", "parquet"), f, want.test) })
}

// keyFile reads the key that the program made: 32 bytes, in hex.
func keyFile(t *testing.T, dataDir string) []byte {
	t.Helper()
	path := filepath.Join(dataDir, "anonymization.key")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v (%v), want 0600", path, info.Mode(), err)
	}
	return key(t, string(bytes.TrimSpace(data)))
}

func key(t *testing.T, text string) []byte {
	t.Helper()
	k, err := hex.DecodeString(text)
	if err != nil || len(k) != 32 {
		t.Fatalf("a key of %d bytes (%v), want 32 in hex", len(k), err)
	}
	return k
}
