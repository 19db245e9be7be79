package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// leastRole makes a role with exactly the rights that docs/OPERATIONS.md gives it,
// on a database where nobody else has any, and returns the address for it.
func leastRole(t *testing.T, url string) (asLeast string) {
	t.Helper()
	const role = "least"
	database := pgx.Identifier{url[strings.LastIndexByte(url, '/')+1:]}
	database[0], _, _ = strings.Cut(database[0], "?")
	execute(t, url, "DROP ROLE IF EXISTS "+role, "CREATE ROLE "+role+" LOGIN REPLICATION",
		"REVOKE ALL ON DATABASE "+database.Sanitize()+" FROM PUBLIC", "REVOKE ALL ON SCHEMA public FROM PUBLIC",
		"REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC",
		"GRANT CONNECT ON DATABASE "+database.Sanitize()+" TO "+role, "GRANT USAGE ON SCHEMA public TO "+role,
		"GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO "+role)
	for _, table := range dreamscape(t).Tables {
		var columns []string
		for _, c := range table.Columns {
			columns = append(columns, pgx.Identifier{c.Name}.Sanitize())
		}
		execute(t, url, fmt.Sprintf("GRANT SELECT (%s) ON %s TO %s", strings.Join(columns, ", "), pgx.Identifier{table.Name}.Sanitize(), role))
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), url)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	return strings.Replace(url, "postgres@", role+"@", 1)
}

// Every command does its work with the least privileges: check, the daemon,
// verify, refill and reset.
func TestEveryCommandWorksWithTheLeastPrivileges(t *testing.T) {
	url, dataDir := populated(t, 60), filepath.Join(t.TempDir(), "data")
	asLeast := leastRole(t, url)
	_, stdout, _ := command(t, "check", "--database-url", asLeast)
	_, statement, found := strings.Cut(stdout, "CREATE PUBLICATION")
	if !found || strings.Contains(stdout, "GRANT") {
		t.Fatalf("check asks for more than the publication: %s", stdout)
	}
	statement, _, _ = strings.Cut(statement, "\n")
	execute(t, url, "CREATE PUBLICATION"+statement)
	if code, stdout, stderr := command(t, "check", "--database-url", asLeast); code != 0 {
		t.Fatalf("check: exit code %d: %s%s", code, stdout, stderr)
	}

	follow := func() {
		t.Helper()
		d := start(t, dataDir, asLeast)
		d.waitReady()
		if code, stdout, stderr := verifyOn(t, dataDir, asLeast); code != 0 || len(lines(stdout, "ok:")) != 1 {
			t.Errorf("verify: exit code %d: %s%s", code, stdout, stderr)
		}
		if code, said := refill(t, dataDir, "--table", "users", "--table", "favorites"); code != 0 {
			t.Errorf("refill: exit code %d: %s", code, said)
		}
		execute(t, url, missWhileStopped)
		if code, stdout, stderr := verifyOn(t, dataDir, asLeast, "--table", "users", "--table", "favorites"); code != 0 || len(lines(stdout, "ok:")) != 1 {
			t.Errorf("verify of one table: exit code %d: %s%s", code, stdout, stderr)
		}
		noTemporarySlot(t, url)
		d.signal(syscall.SIGTERM)
		if code := d.wait(); code != 0 {
			t.Fatalf("SIGTERM: exit code %d", code)
		}
	}
	stop := traffic(t, url, 200)
	follow()
	stop()
	confirmReset(t, dataDir, asLeast)
	follow()
	catchUp(t, dataDir, asLeast)
	requireEqual(t, dreamscape(t), dataDir, url)
}
