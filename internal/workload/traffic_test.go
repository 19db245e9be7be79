package workload_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func run(t *testing.T, url string, traffic workload.Traffic) workload.Report {
	t.Helper()
	report, err := workload.Run(t.Context(), url, traffic)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestTrafficTouchesEveryTableInEveryWay(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(*testing.T, *pgx.Conn)
	}{
		{"on an empty database", func(*testing.T, *pgx.Conn) {}},
		{"on a populated one", func(t *testing.T, conn *pgx.Conn) {
			populate(t, conn, workload.Config{Seed: 5, Users: 80, Days: 21, Now: time.Now()})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, conn := newSource(t)
			tt.prepare(t, conn)
			if err := workload.InstallAudit(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			report := run(t, url, workload.Traffic{Seed: 5, Connections: 3, Transactions: 500})
			if report.Committed+report.RolledBack != 500 || report.RolledBack == 0 {
				t.Errorf("%d committed and %d rolled back, want 500, some of them rolled back", report.Committed, report.RolledBack)
			}
			for _, table := range workload.Tables() {
				if n := number(t, conn, "SELECT count(*) FROM audit.history WHERE table_name = '"+table+"'"); n == 0 {
					t.Errorf("%s was not touched", table)
				}
			}
			report = run(t, url, workload.Traffic{Seed: 6, Connections: 2, Transactions: 1500})
			for _, step := range workload.Steps() {
				if report.Steps[step] == 0 {
					t.Errorf("step %q never ran", step)
				}
			}
			for name, sql := range map[string]string{
				"a deleted user":                 `table_name = 'users' AND op = 'DELETE'`,
				"a search that lost its user":    `table_name = 'search_history' AND op = 'UPDATE' AND row_new->>'userId' IS NULL AND row_old->>'userId' IS NOT NULL`,
				"a search that found its user":   `table_name = 'search_history' AND op = 'UPDATE' AND row_old->>'userId' IS NULL AND row_new->>'userId' IS NOT NULL`,
				"a changed key":                  `table_name = 'favorites' AND op = 'UPDATE' AND row_old->>'id' <> id`,
				"a row that came back":           `op = 'INSERT' AND EXISTS (SELECT FROM audit.history b WHERE b.table_name = history.table_name AND b.id = history.id AND b.op = 'DELETE' AND b.seq < history.seq)`,
				"an item lost":                   `table_name = 'recommendations' AND op = 'UPDATE' AND row_new->>'itemVectorId' IS NULL AND row_old->>'itemVectorId' IS NOT NULL`,
				"an expired row":                 `table_name = 'recommendations' AND op = 'UPDATE' AND row_new->>'status' = 'EXPIRED'`,
				"a booking cancelled":            `table_name = 'booking_data' AND row_new->>'status' = 'CANCELLED'`,
				"a counted booking":              `table_name = 'item_vectors' AND op = 'UPDATE' AND (row_new->>'bookingCount')::int = (row_old->>'bookingCount')::int + 1`,
				"an update that changes nothing": `op = 'UPDATE' AND row_new = row_old`,
				"a request completed with its user": `table_name = 'gdpr_requests' AND op = 'UPDATE' AND row_new->>'status' = 'COMPLETED'
					AND EXISTS (SELECT FROM audit.history b WHERE b.xid = history.xid AND b.table_name = 'users' AND b.op = 'DELETE')`,
			} {
				if number(t, conn, "SELECT count(*) FROM audit.history WHERE "+sql) == 0 {
					t.Errorf("traffic never made %s", name)
				}
			}
		})
	}
}

// TestTrafficRepeatsItself runs the same steps on two equal databases with a
// clock that counts its calls, so that even the moments are equal.
func TestTrafficRepeatsItself(t *testing.T) {
	start := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
	once := func() (workload.Report, map[string]string) {
		url, conn := newSource(t)
		populate(t, conn, workload.Config{Seed: 8, Users: 30, Days: 14, Now: start})
		var calls atomic.Int64
		clock := func() time.Time { return start.Add(time.Duration(calls.Add(1)) * time.Second) }
		report := run(t, url, workload.Traffic{Seed: 8, Connections: 1, Transactions: 400, Now: clock})
		return report, hashes(t, conn)
	}
	report, content := once()
	reportAgain, contentAgain := once()
	if diff := cmp.Diff(report, reportAgain); diff != "" {
		t.Errorf("steps differ:\n%s", diff)
	}
	if diff := cmp.Diff(content, contentAgain); diff != "" {
		t.Errorf("contents differ:\n%s", diff)
	}
}

// TestConnectionsDoNotDependOnOneAnother compares two concurrent runs: each
// connection takes the same steps, whatever the others do in between.
func TestConnectionsDoNotDependOnOneAnother(t *testing.T) {
	once := func() workload.Report {
		url, conn := newSource(t)
		populate(t, conn, workload.Config{Seed: 9, Users: 40, Days: 14, Now: time.Now()})
		return run(t, url, workload.Traffic{Seed: 9, Connections: 4, Transactions: 300})
	}
	if diff := cmp.Diff(once(), once()); diff != "" {
		t.Errorf("steps differ:\n%s", diff)
	}
}

func TestTrafficMomentsAreNow(t *testing.T) {
	url, conn := newSource(t)
	before := time.Now()
	run(t, url, workload.Traffic{Seed: 10, Transactions: 200, Dirt: -1})
	var first, last time.Time
	if err := conn.QueryRow(t.Context(), `SELECT min("createdAt"), max("updatedAt") FROM recommendations`).Scan(&first, &last); err != nil {
		t.Fatal(err)
	}
	if first.Before(before.UTC().Truncate(time.Millisecond)) || last.After(time.Now().UTC()) {
		t.Errorf("moments from %s to %s, run from %s to %s", first, last, before.UTC(), time.Now().UTC())
	}
}

func TestTrafficEndsWhenItShould(t *testing.T) {
	url, _ := newSource(t)
	t.Run("after its duration, at its rate", func(t *testing.T) {
		report := run(t, url, workload.Traffic{Seed: 11, Rate: 100, Duration: 500 * time.Millisecond})
		if n := report.Committed + report.RolledBack; n < 5 || n > 60 {
			t.Errorf("%d transactions in half a second at 100 a second", n)
		}
	})
	t.Run("with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		clock := func() time.Time {
			if calls++; calls == 20 {
				cancel()
			}
			return time.Now()
		}
		report, err := workload.Run(ctx, url, workload.Traffic{Seed: 12, Connections: 1, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if n := report.Committed + report.RolledBack; n < 19 || n > 20 {
			t.Errorf("%d transactions, want 19 or 20", n)
		}
	})
	t.Run("with an error when the tables are missing", func(t *testing.T) {
		if _, err := workload.Run(t.Context(), shared.NewDatabase(t), workload.Traffic{Transactions: 1}); err == nil {
			t.Error("no error")
		}
	})
}

// TestAuditReplaysToThePresent replays audit.history over the rows that were
// there before it, and compares the outcome with the tables.
func TestAuditReplaysToThePresent(t *testing.T) {
	url, conn := newSource(t)
	populate(t, conn, workload.Config{Seed: 13, Users: 40, Days: 14, Now: time.Now()})
	present := func() map[string]map[string]any {
		out := map[string]map[string]any{}
		for _, table := range workload.Tables() {
			out[table] = map[string]any{}
			rows, err := conn.Query(t.Context(), "SELECT id, to_jsonb(x) FROM "+table+" x")
			if err != nil {
				t.Fatal(err)
			}
			var id string
			var content []byte
			if _, err := pgx.ForEachRow(rows, []any{&id, &content}, func() error {
				out[table][id] = string(content)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	state := present()
	if err := workload.InstallAudit(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	run(t, url, workload.Traffic{Seed: 13, Connections: 3, Transactions: 600})
	rows, err := conn.Query(t.Context(), `SELECT table_name, op, id, coalesce(row_old->>'id', ''), row_new, committed_at
		FROM audit.changes ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	var table, op, id, oldID string
	var content json.RawMessage
	var committed time.Time
	changes := 0
	if _, err := pgx.ForEachRow(rows, []any{&table, &op, &id, &oldID, &content, &committed}, func() error {
		changes++
		if op != "INSERT" {
			delete(state[table], oldID)
		}
		if op != "DELETE" {
			state[table][id] = string(content)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if changes < 600 {
		t.Errorf("only %d changes", changes)
	}
	// The order of seq is that of the locks taken, hence right for each row.
	if diff := cmp.Diff(present(), state); diff != "" {
		t.Errorf("present and replay differ:\n%s", diff)
	}
}

func TestAuditWantsCommitTimes(t *testing.T) {
	conn := connect(t, pgtest.New(t, "track_commit_timestamp=off").URL("postgres"))
	if err := workload.CreateSchema(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	err := workload.InstallAudit(t.Context(), conn)
	if err == nil || !strings.Contains(err.Error(), "track_commit_timestamp = on") {
		t.Errorf("InstallAudit = %v, want the setting that mends it", err)
	}
	if n := number(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'audit'"); n != 0 {
		t.Error("something was installed all the same")
	}
}
