package oracle_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

const day = 24 * time.Hour

// populate makes and fills the application's tables.
func populate(t *testing.T, conn *pgx.Conn, cfg workload.Config) {
	t.Helper()
	cfg.Now = time.Now()
	if err := workload.CreateSchema(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.Populate(t.Context(), conn, cfg); err != nil {
		t.Fatal(err)
	}
}

// TestBackfilledDatasetEqualsSQL builds datasets of a database that was only
// backfilled: one with all settings as they are by default, one with others, and
// one of so few users that most values are rare.
func TestBackfilledDatasetEqualsSQL(t *testing.T) {
	server := pgtest.New(t)
	for _, c := range []struct {
		name   string
		cfg    workload.Config
		builds []build
	}{
		{"220 users", workload.Config{Seed: 11, Users: 220, Days: 95}, []build{
			{version: "1.0", settings: settings{window: 90 * day, ratio: "2.0", seed: "42"}, testSize: "0.2"},
			{version: "1.1", settings: settings{window: 40 * day, ratio: "0.85", seed: "7"}, testSize: "0.33"},
		}},
		{"45 users, much dirt", workload.Config{Seed: 12, Users: 45, Items: 30, Dirt: 0.1}, []build{
			{version: "0.9", settings: settings{window: 90 * day, ratio: "1.05", seed: "42"}, testSize: "0.2"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := server.NewDatabase(t)
			conn := connect(t, url)
			populate(t, conn, c.cfg)
			dataDir, output := t.TempDir(), t.TempDir()
			before := time.Now()
			catchUp(t, url, dataDir)
			execute(t, conn, functionsSQL)
			// All examples are older than the backfill: that it came after them
			// is all that its moment matters for.
			backfilled(t, conn, "public", before)
			for _, b := range c.builds {
				t.Run("v"+b.version, func(t *testing.T) {
					b.run(t, dataDir, output)
					made := openRelease(t, output, b.version)
					b.asOf = made.moment(t, "as_of")
					b.compare(t, conn, made, keyFile(t, dataDir))
				})
			}
		})
	}
}

// build is one call of snapshot.
type build struct {
	version  string
	testSize string
	settings
	stable bool // pseudonyms
	more   []string
}

func (b build) run(t *testing.T, dataDir, output string) {
	t.Helper()
	args := []string{"--version", b.version, "--data-dir", dataDir, "--output", output, "--log-level", "warn"}
	if b.version != "1.0" { // which takes what the flags are by default
		args = append(args, "--window-days", fmt.Sprint(int(b.window/day)), "--negative-ratio", b.ratio,
			"--test-size", b.testSize, "--seed="+b.seed)
	}
	if b.dropInexact {
		args = append(args, "--inexact", "drop")
	}
	if b.keepOutliers {
		args = append(args, "--outliers", "keep")
	}
	if b.stable {
		args = append(args, "--pseudonyms", "stable")
	}
	if !b.asOf.IsZero() {
		args = append(args, "--as-of", b.asOf.UTC().Format(time.RFC3339Nano))
	}
	run(t, nil, "snapshot", append(args, b.more...)...)
}

// compare recomputes the build and compares everything.
func (b build) compare(t *testing.T, conn *pgx.Conn, made release, key []byte) (dataset, map[string]int64) {
	t.Helper()
	rows, funnel := recompute(t, conn, b.settings)
	f := dreamscape(t, b.version, key)
	f.stable = b.stable
	var ok bool
	if f.testSize, ok = new(big.Rat).SetString(b.testSize); !ok {
		t.Fatalf("test size %q is no number", b.testSize)
	}
	want := f.do(t, rows)
	if len(want.train) < 200 || len(want.test) < 25 {
		t.Fatalf("%d train and %d test rows: too few to show anything", len(want.train), len(want.test))
	}
	made.compare(t, f, want)
	made.compareFunnel(t, funnel, want)
	return want, funnel
}

// TestRecordedHistoryEqualsReplay follows live traffic, and recomputes datasets
// as of the end and as of a moment in the middle from the rows before the
// traffic and from what the application's own triggers recorded.
func TestRecordedHistoryEqualsReplay(t *testing.T) {
	server := pgtest.New(t, "track_commit_timestamp=on", "max_replication_slots=10")
	url := server.NewDatabase(t)
	conn := connect(t, url)
	populate(t, conn, workload.Config{Seed: 21, Users: 120})
	execute(t, conn, "CREATE SCHEMA base")
	for _, table := range sourceTables {
		execute(t, conn, fmt.Sprintf("CREATE TABLE base.%[1]s AS TABLE public.%[1]s", table.name))
	}
	dataDir, output := t.TempDir(), t.TempDir()
	before := time.Now()
	ingest := startIngest(t, url, dataDir)
	after := time.Now()
	if err := workload.InstallAudit(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	// A slot of the test's own tells the order of the commits.
	execute(t, conn, "CREATE PUBLICATION oracle FOR TABLE audit.history")
	execute(t, conn, "SELECT pg_create_logical_replication_slot('oracle', 'pgoutput')")
	ownTransactions(t, conn)
	report, err := workload.Run(t.Context(), url, workload.Traffic{Seed: 22, Connections: 4, Transactions: 3000, Now: wrongClock(before, after)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d transactions committed, %d rolled back", report.Committed, report.RolledBack)
	ingest.awaitApplied(t, conn)

	execute(t, conn, functionsSQL)
	backfilled(t, conn, "base", before)
	versions := replayed(t, conn)
	checkReplay(t, conn)
	builds := []build{
		{version: "1.0", settings: settings{window: 90 * day, ratio: "2.0", seed: "42"}, testSize: "0.2"},
		// As of a version exactly: that version is part of the view.
		{version: "2.0", settings: settings{window: 30 * day, ratio: "0.7", seed: "3", asOf: versions[len(versions)*6/10]}, testSize: "0.5"},
		{version: "2.0.1", settings: settings{window: 90 * day, ratio: "1", seed: "-7", dropInexact: true, keepOutliers: true}, testSize: "0.125", stable: true},
	}
	for _, b := range builds {
		t.Run("v"+b.version, func(t *testing.T) {
			b.run(t, dataDir, output)
			made := openRelease(t, output, b.version)
			if asOf := made.moment(t, "as_of"); b.asOf.IsZero() {
				b.asOf = asOf
			} else if !b.asOf.Equal(asOf) {
				t.Errorf("metadata says as of %v, asked was %v", asOf, b.asOf)
			}
			want, funnel := b.compare(t, conn, made, keyFile(t, dataDir))
			live, exact, early, own := 0, 0, 0, 0
			for _, part := range [][]row{want.train, want.test} {
				for _, r := range part {
					if r.values["filled"].(bool) {
						continue
					}
					live++
					if r.values["context_type"] == ownTransaction {
						own++
					}
					if r.values["features_exact"].(bool) {
						exact++
					}
					if r.values["timestamp"].(time.Time).Before(before) {
						early++
					}
				}
			}
			t.Logf("%d live examples, %d of them exact, %d dated before the backfill; funnel %v", live, exact, early, funnel)
			if live < 100 || exact == 0 || early == 0 && !b.dropInexact || own == 0 || funnel["deleted"] == 0 {
				t.Errorf("the traffic was too thin to show anything")
			}
		})
	}
}

// ownTransaction is the context of the recommendations that ownTransactions makes.
const ownTransaction = "with its features"

// ownTransactions runs transactions that each make a recommendation, dated half a
// second ahead, and change all that is known of its user and item: none of which
// is known at its cut-off, though all of it is older than its moment.
func ownTransactions(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for n := range 40 {
		execute(t, conn, fmt.Sprintf(`BEGIN;
			CREATE TEMP TABLE chosen ON COMMIT DROP AS
			SELECT u."userId" AS person, i.id AS item, i."destinationId", i."destinationType", i.name, now() AT TIME ZONE 'UTC' AS now
			FROM (SELECT * FROM user_vectors ORDER BY id OFFSET %[1]d LIMIT 1) u, (SELECT * FROM item_vectors ORDER BY id OFFSET %[1]d LIMIT 1) i;
			UPDATE user_vectors SET vector = '[0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]', "updatedAt" = now FROM chosen WHERE "userId" = person;
			UPDATE users SET nationality = 'PE', updated_at = now FROM chosen WHERE id = person;
			UPDATE user_preferences SET "budgetRange" = '{"min": 1, "max": 2}' FROM chosen WHERE "userId" = person;
			UPDATE booking_data SET status = 'FAILED', "updatedAt" = now FROM chosen WHERE "userId" = person;
			UPDATE item_vectors SET "searchCount" = "searchCount" + 1, "updatedAt" = now FROM chosen WHERE id = item;
			INSERT INTO favorites (id, "userId", "entityType", "entityId", created_at, updated_at)
				SELECT gen_random_uuid(), person, 'DESTINATION', "destinationId", now, now FROM chosen ON CONFLICT DO NOTHING;
			INSERT INTO search_history (id, "userId", "sessionId", origin, destination, "departureDate", passengers, "searchedAt")
				SELECT gen_random_uuid(), person, 's', 'OWN', 'OWN', now, '9', now - interval '1 hour' FROM chosen;
			INSERT INTO recommendations (id, "userId", "itemVectorId", "destinationId", "destinationName", "destinationType",
					score, "contextType", "expiresAt", "createdAt", "updatedAt")
				SELECT gen_random_uuid(), person, item, "destinationId", name, "destinationType", 0.5, '%[2]s',
					now + interval '1 day', now + interval '500 ms', now FROM chosen;
			COMMIT`, n, ownTransaction))
	}
}

// wrongClock is an application's clock that is up to five seconds slow and up to
// one fast, so that examples say to be older than the backfill, or younger than
// what their own transaction and later ones did. It is never right in the
// interval, in which the backfill's moment lies: no other program can know that.
func wrongClock(from, to time.Time) func() time.Time {
	return func() time.Time {
		now := time.Now()
		at := now.Add(time.Second - time.Duration(uint32(now.UnixMicro())*2654435761%6000)*time.Millisecond)
		if at.After(from.Add(-time.Millisecond)) && at.Before(to.Add(time.Millisecond)) {
			at = to.Add(2 * time.Millisecond)
		}
		return at
	}
}

// replayed enters the changes that the triggers recorded, and returns the
// versions of the transactions in their order. A version is the commit time, but
// at least one microsecond after the version before.
func replayed(t *testing.T, conn *pgx.Conn) []time.Time {
	t.Helper()
	var versions []time.Time
	var commits [][]any
	for _, m := range rowsOf(t, conn, `SELECT data FROM pg_logical_slot_peek_binary_changes('oracle', NULL, NULL,
			'proto_version', '1', 'publication_names', 'oracle') WHERE get_byte(data, 0) = ascii('B')`) {
		data := m["data"].([]byte)
		micros := int64(binary.BigEndian.Uint64(data[9:])) // of the years since 2000
		v := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(micros) * time.Microsecond)
		if n := len(versions); n > 0 && !v.After(versions[n-1]) {
			v = versions[n-1].Add(time.Microsecond)
		}
		versions = append(versions, v)
		commits = append(commits, []any{int64(binary.BigEndian.Uint32(data[17:])), v})
	}
	execute(t, conn, "CREATE TABLE oracle.commit (xid bigint PRIMARY KEY, v timestamp NOT NULL)")
	if _, err := conn.CopyFrom(t.Context(), pgx.Identifier{"oracle", "commit"}, []string{"xid", "v"}, pgx.CopyFromRows(commits)); err != nil {
		t.Fatal(err)
	}
	var unknown int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM audit.history WHERE xid::text::bigint NOT IN
		(SELECT xid FROM oracle.commit)`).Scan(&unknown); err != nil || unknown > 0 {
		t.Fatalf("%d recorded changes are of unknown transactions (%v)", unknown, err)
	}
	for _, table := range sourceTables {
		// A change of the key ends the old row.
		execute(t, conn, fmt.Sprintf(`INSERT INTO oracle.version
			SELECT table_name, row_old ->> 'id', row_old ->> '%[2]s', v, seq, false, true, v, NULL, NULL
			FROM audit.history JOIN oracle.commit ON commit.xid = history.xid::text::bigint
			WHERE table_name = '%[1]s' AND (op = 'DELETE' OR op = 'UPDATE' AND row_old ->> 'id' <> row_new ->> 'id')`,
			table.name, table.owner))
		execute(t, conn, fmt.Sprintf(`INSERT INTO oracle.version
			SELECT table_name, row_new ->> 'id', row_new ->> '%[2]s', v, seq, false, false, v, NULL, row_new
			FROM audit.history JOIN oracle.commit ON commit.xid = history.xid::text::bigint
			WHERE table_name = '%[1]s' AND op <> 'DELETE'`, table.name, table.owner))
	}
	return versions
}

// checkReplay compares the rows at the end of the replay with the source's.
func checkReplay(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for _, table := range sourceTables {
		var lost, extra int
		err := conn.QueryRow(t.Context(), fmt.Sprintf(`WITH was AS (
				SELECT r FROM (SELECT DISTINCT ON (id) r, gone FROM oracle.version WHERE tbl = '%[1]s' ORDER BY id, v DESC, pos DESC) x
				WHERE NOT gone),
			now AS (SELECT to_jsonb(x) AS r FROM public.%[1]s x)
			SELECT (SELECT count(*) FROM (SELECT r FROM now EXCEPT SELECT r FROM was) x),
				(SELECT count(*) FROM (SELECT r FROM was EXCEPT SELECT r FROM now) x)`, table.name)).Scan(&lost, &extra)
		if err != nil {
			t.Fatal(err)
		}
		if lost+extra > 0 {
			t.Fatalf("the replay of %s lacks %d rows of the source and has %d others", table.name, lost, extra)
		}
	}
}

// awaitApplied waits until all that is committed now is in the store.
func (d *daemon) awaitApplied(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var want string
	if err := conn.QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&want); err != nil {
		t.Fatal(err)
	}
	d.await(t, "past "+want, func() bool {
		var status struct {
			Applied struct {
				LSN string `json:"lsn"`
			} `json:"applied"`
		}
		resp, err := http.Get("http://" + d.address + "/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
			t.Fatal(err)
		}
		return lsn(t, status.Applied.LSN) >= lsn(t, want)
	})
}

func lsn(t *testing.T, text string) uint64 {
	t.Helper()
	var high, low uint64
	if _, err := fmt.Sscanf(text, "%X/%X", &high, &low); err != nil {
		t.Fatalf("%q is no LSN: %v", text, err)
	}
	return high<<32 | low
}

// TestSameBytes builds one dataset with one worker and with four.
func TestSameBytes(t *testing.T) {
	url := pgtest.New(t).NewDatabase(t)
	populate(t, connect(t, url), workload.Config{Seed: 31, Users: 100})
	dataDir := t.TempDir()
	catchUp(t, url, dataDir)
	var asOf time.Time
	sums := map[string]string{}
	for _, workers := range []string{"1", "4"} {
		output := t.TempDir()
		b := build{version: "1.0", more: []string{"--workers", workers}}
		b.asOf = asOf
		b.run(t, dataDir, output)
		made := openRelease(t, output, "1.0")
		asOf = made.moment(t, "as_of")
		for _, part := range []string{"train", "test"} {
			data, err := os.ReadFile(made.path(part, "parquet"))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(data)
			if before, ok := sums[part]; ok && before != hex.EncodeToString(sum[:]) {
				t.Errorf("%s with %s workers has other bytes", part, workers)
			}
			sums[part] = hex.EncodeToString(sum[:])
		}
	}
}
