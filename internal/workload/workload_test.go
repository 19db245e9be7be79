package workload_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

var shared pgtest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// newSource makes a database with the application's tables.
func newSource(t *testing.T) (string, *pgx.Conn) {
	t.Helper()
	url := shared.NewDatabase(t)
	conn := connect(t, url)
	if err := workload.CreateSchema(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return url, conn
}

func populate(t *testing.T, conn *pgx.Conn, cfg workload.Config) workload.Summary {
	t.Helper()
	summary, err := workload.Populate(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

func number(t *testing.T, conn *pgx.Conn, sql string) float64 {
	t.Helper()
	var v float64
	if err := conn.QueryRow(t.Context(), "SELECT ("+sql+")::float8").Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// dump returns each table's content in the order of the keys.
func dump(t *testing.T, conn *pgx.Conn, table string) []byte {
	t.Helper()
	var b bytes.Buffer
	sql := `COPY (SELECT * FROM ` + table + ` ORDER BY id COLLATE "C") TO STDOUT`
	if _, err := conn.PgConn().CopyTo(t.Context(), &b, sql); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func hashes(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, table := range workload.Tables() {
		sum := sha256.Sum256(dump(t, conn, table))
		out[table] = hex.EncodeToString(sum[:8])
	}
	return out
}

func TestTablesAreThoseOfTheSchema(t *testing.T) {
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`).FindAllStringSubmatch(workload.Schema(), -1) {
		want = append(want, m[1])
	}
	seen := map[string]bool{}
	for _, name := range workload.Tables() {
		seen[name] = true
	}
	for _, name := range want {
		if !seen[name] {
			t.Errorf("table %s is never written", name)
		}
	}
	if len(want) != len(seen) {
		t.Errorf("schema has %d tables, %d are written", len(want), len(seen))
	}
}

func TestEqualConfigsMakeEqualHistories(t *testing.T) {
	cfg := workload.Config{Seed: 7, Users: 60, Days: 30}
	_, first := newSource(t)
	_, second := newSource(t)
	_, other := newSource(t)
	summary := populate(t, first, cfg)
	if diff := cmp.Diff(summary, populate(t, second, cfg)); diff != "" {
		t.Errorf("summaries differ:\n%s", diff)
	}
	cfg.Seed++
	populate(t, other, cfg)
	want := hashes(t, first)
	if diff := cmp.Diff(want, hashes(t, second)); diff != "" {
		t.Errorf("contents differ:\n%s", diff)
	}
	for table, hash := range hashes(t, other) {
		if hash == want[table] {
			t.Errorf("%s does not depend on the seed", table)
		}
	}
	for table, n := range summary.Rows {
		if got := number(t, first, "SELECT count(*) FROM "+table); int64(got) != n || n == 0 {
			t.Errorf("%s holds %v rows, summary says %d", table, got, n)
		}
	}
}

// TestHistoryLooksLikeARecommenders holds the shares of a large history to
// what the dataset's gates expect of a healthy one.
func TestHistoryLooksLikeARecommenders(t *testing.T) {
	now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	_, conn := newSource(t)
	began := time.Now()
	summary := populate(t, conn, workload.Config{Seed: 1, Users: 2_000, Items: 300, Days: 60, Now: now})
	t.Logf("%v rows in %s", summary.Rows, time.Since(began))

	const recs = "SELECT count(*) FROM recommendations"
	all := number(t, conn, recs)
	share := func(where string) float64 { return number(t, conn, recs+" WHERE "+where) / all }
	const (
		old      = `"createdAt" < '2025-05-20'`
		positive = `("viewedAt" IS NOT NULL AND "rejectedAt" IS NULL)`
	)
	oldRecs := share(old)
	for _, tt := range []struct {
		name      string
		got       float64
		low, high float64
	}{
		{"recommendations", all, 80_000, 200_000},
		{"never looked at", share(`"viewedAt" IS NULL AND "clickedAt" IS NULL AND "bookedAt" IS NULL AND "rejectedAt" IS NULL`), 0.55, 0.65},
		{"never looked at, when old", share(old+` AND "viewedAt" IS NULL`) / oldRecs, 0.55, 0.65},
		{"clicked or more, when old", share(old+` AND "clickedAt" IS NOT NULL`) / oldRecs, 0.12, 0.22},
		{"booked", share(`"bookedAt" IS NOT NULL`), 0.03, 0.08},
		{"rejected", share(`"rejectedAt" IS NOT NULL`), 0.02, 0.06},
		{"rated", share(`"userRating" IS NOT NULL`), 0.02, 0.12},
		{"expired", share(`status = 'EXPIRED'`), 0.5, 0.9},
		{"expired and booked", share(`status = 'EXPIRED' AND "bookedAt" IS NOT NULL`), 0.02, 0.08},
		{"after the end", share(`greatest("createdAt", "viewedAt", "clickedAt", "bookedAt", "rejectedAt", "updatedAt") >= '2025-06-01 12:00'`), 0, 0},
		{"booking rate after sampling", number(t, conn, `SELECT count(*) FILTER (WHERE "bookedAt" IS NOT NULL) /
			(count(*) FILTER (WHERE "viewedAt" IS NOT NULL) + least(count(*) FILTER (WHERE "viewedAt" IS NULL),
			2.0 * count(*) FILTER (WHERE `+positive+`))) FROM recommendations`), 0.05, 0.15},
		{"share of the most popular tenth of items", number(t, conn, `SELECT sum(n) FILTER (WHERE place <= 30) / sum(n)
			FROM (SELECT count(*) AS n, row_number() OVER (ORDER BY count(*) DESC) AS place
			FROM recommendations GROUP BY "destinationId", "destinationType") x`), 0.2, 0.6},
		{"searches of nobody", number(t, conn, `SELECT avg(("userId" IS NULL)::int) FROM search_history`), 0.05, 0.12},
		{"bookings confirmed or completed", number(t, conn, `SELECT avg((status IN ('CONFIRMED', 'COMPLETED'))::int) FROM booking_data`), 0.5, 0.8},
	} {
		if tt.got < tt.low || tt.got > tt.high {
			t.Errorf("%s: %.3f, want %.3f to %.3f", tt.name, tt.got, tt.low, tt.high)
		}
	}
	perWeek := all / number(t, conn, `SELECT sum(extract(epoch FROM timestamp '2025-06-01 12:00' -
		greatest(created_at, timestamp '2025-04-02 12:00')) / 604800) FROM users`)
	if perWeek < 9 || perWeek > 11 {
		t.Errorf("%.2f recommendations a user and week, want about 10", perWeek)
	}
}

func TestEveryKindOfDirtIsThere(t *testing.T) {
	_, dirty := newSource(t)
	populate(t, dirty, workload.Config{Seed: 3, Users: 400, Items: 300, Days: 21, Dirt: 0.3})
	_, clean := newSource(t)
	populate(t, clean, workload.Config{Seed: 3, Users: 400, Items: 300, Days: 21, Dirt: -1})
	// These are facts of life rather than faults.
	always := map[string]bool{"unusual but valid nationality": true, "passengers as digits": true, "no budget": true}
	for _, kind := range workload.DirtKinds() {
		if n := number(t, dirty, kind.Count); n == 0 {
			t.Errorf("%s: there is none", kind.Name)
		}
		if n := number(t, clean, kind.Count); n != 0 && !always[kind.Name] {
			t.Errorf("%s: %v without dirt", kind.Name, n)
		}
	}
}

func TestSecretsStandInTheirColumnsOnly(t *testing.T) {
	url, conn := newSource(t)
	populate(t, conn, workload.Config{Seed: 4, Users: 300, Days: 7})
	if _, err := workload.Run(t.Context(), url, workload.Traffic{Seed: 4, Connections: 1, Transactions: 400}); err != nil {
		t.Fatal(err)
	}
	secret := map[string]bool{}
	for _, column := range strings.Fields(`users.email users.password users.username users.firstName users.lastName
		users.phoneNumber travel_onboarding_profiles.emergencyContact travel_onboarding_profiles.notes
		user_consents.ipAddress gdpr_requests.reason gdpr_requests.adminNotes booking_data.paymentIntentId`) {
		secret[column] = true
	}
	rows, err := conn.Query(t.Context(), `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Column string }])
	if err != nil {
		t.Fatal(err)
	}
	var like []string
	for _, s := range workload.Secrets() {
		like = append(like, "'%"+s+"%'")
	}
	for _, c := range columns {
		matching := fmt.Sprintf(`SELECT count(*) FROM %s WHERE %s::text LIKE ANY (ARRAY[%s])`, c.Table,
			pgx.Identifier{c.Column}.Sanitize(), strings.Join(like, ", "))
		filled := fmt.Sprintf(`SELECT count(%s) FROM %s`, pgx.Identifier{c.Column}.Sanitize(), c.Table)
		got, all := number(t, conn, matching), number(t, conn, filled)
		switch want := secret[c.Table+"."+c.Column]; {
		case want && (got != all || all == 0):
			t.Errorf("%s.%s: %v of %v values hold a secret", c.Table, c.Column, got, all)
		case !want && got != 0:
			t.Errorf("%s.%s: %v values hold a secret", c.Table, c.Column, got)
		}
	}
}

func TestPopulateRefusesWhatItCannotMake(t *testing.T) {
	_, conn := newSource(t)
	for name, cfg := range map[string]workload.Config{
		"negative users": {Users: -1}, "negative days": {Days: -1}, "negative items": {Items: -2},
		"too much dirt": {Dirt: 1.5}, "negative rate": {RecsPerUserWeek: -1},
	} {
		if _, err := workload.Populate(t.Context(), conn, cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	populate(t, conn, workload.Config{Users: 3, Days: 7})
	before := hashes(t, conn)
	if _, err := workload.Populate(t.Context(), conn, workload.Config{Users: 3, Days: 7}); err == nil {
		t.Error("populated twice without an error")
	}
	if diff := cmp.Diff(before, hashes(t, conn)); diff != "" {
		t.Errorf("a refused history left something behind:\n%s", diff)
	}
}

func ExamplePopulate() {
	ctx := context.Background()
	server, err := pgtest.Start(ctx, pgtest.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close(ctx)
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(ctx)
	if err := workload.CreateSchema(ctx, conn); err != nil {
		fmt.Println(err)
		return
	}
	summary, err := workload.Populate(ctx, conn, workload.Config{Seed: 42, Users: 20, Days: 30})
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := workload.Run(ctx, server.URL("postgres"), workload.Traffic{Seed: 42, Transactions: 50})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(summary.Rows["users"], report.Committed+report.RolledBack)
	// Output: 20 50
}
