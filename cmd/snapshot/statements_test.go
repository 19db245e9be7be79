package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/pgtest"
)

// observer counts what is asked of a source's tables: by the server's log, into
// which it writes every statement, and by its own counters of scans.
type observer struct {
	t      *testing.T
	conn   *pgx.Conn
	log    string
	tables *regexp.Regexp
	offset int64
	scans  int64
	daemon []int32 // its sessions, which go on
}

func observe(t *testing.T, server *pgtest.Server, url string) *observer {
	t.Helper()
	def, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range def.Tables {
		parts := strings.Split(def.Tables[i].Name, ".")
		names = append(names, regexp.QuoteMeta(parts[len(parts)-1]))
	}
	o := &observer{
		t: t, conn: pgtest.Session(t, url, pgx.QueryExecModeSimpleProtocol), log: filepath.Join(server.Dir, "server.log"),
		tables: regexp.MustCompile(`(?i)\b(from|join|copy|into|update|table|only)\s+("?public"?\.)?"?(` + strings.Join(names, "|") + `)\b`),
	}
	t.Cleanup(func() { o.conn.Close(context.Background()) })
	o.look()
	return o
}

// look returns what was logged and how many scans were counted since the last look.
func (o *observer) look() (logged string, scans int64) {
	o.t.Helper()
	// Sessions report what they scanned when they end, at the latest. One that is
	// there for long is the daemon's, which goes on.
	await(o.t, "the sessions that were begun to end", func() bool {
		var others []int32
		err := o.conn.QueryRow(o.t.Context(), `SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
			AND ($1 OR backend_start > clock_timestamp() - interval '5 seconds')`, o.daemon == nil).Scan(&others)
		if err != nil {
			o.t.Fatal(err)
		}
		if o.daemon == nil {
			o.daemon = others
		}
		return !slices.ContainsFunc(others, func(pid int32) bool { return !slices.Contains(o.daemon, pid) })
	})
	var total int64
	err := o.conn.QueryRow(o.t.Context(), `SELECT sum(seq_scan + coalesce(idx_scan, 0))::bigint FROM pg_stat_user_tables`).Scan(&total)
	if err != nil {
		o.t.Fatal(err)
	}
	file, err := os.Open(o.log)
	if err != nil {
		o.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Seek(o.offset, io.SeekStart); err != nil {
		o.t.Fatal(err)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		o.t.Fatal(err)
	}
	o.offset += int64(len(text))
	scans, o.scans = total-o.scans, total
	return string(text), scans
}

// asked are the statements of a log that name a table of the definition.
func (o *observer) asked(logged string) (list []string) {
	for line := range strings.Lines(logged) {
		if o.tables.MatchString(line) {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

// Building a dataset asks nothing of the source's tables, in whatever way
// snapshot is called: what is needed of them was read once, by ingest.
func TestNothingIsReadAgain(t *testing.T) {
	server := pgtest.New(t, "log_statement=all", "autovacuum=off")
	s, output := followAt(t, server.NewDatabase(t), 60), t.TempDir()
	daemon, moment := s.daemon(t)
	o := observe(t, server, s.url)
	call := func(want int, args ...string) string {
		t.Helper()
		code, _, stderr := command(t, "", append(args, "--data-dir", s.dataDir, "--log-level", "error")...)
		if code != want {
			t.Fatalf("snapshot %s: exit code %d, want %d: %s", strings.Join(args, " "), code, want, stderr)
		}
		logged, scans := o.look()
		if asked := o.asked(logged); len(asked) > 0 || scans != 0 {
			t.Errorf("snapshot %s: %d scans of the source's tables, and the statements %q", strings.Join(args, " "), scans, asked)
		}
		return logged
	}
	call(0, "--output", output, "--version", "1.0")
	call(0, "--output", output, "--version", "1.1", "--as-of", moment, "--workers", "4")
	if logged := call(0, "--output", output, "--version", "1.2", "--as-of", "now", "--keep"); !strings.Contains(logged, "pg_logical_emit_message") {
		t.Errorf("the log of a server that logs every statement does not show the barrier:\n%s", logged)
	}
	call(0, "kept")
	call(0, "kept", "--release", "1.2")
	call(0, "pseudonym", "--version", "1.0", "--user", "x")
	call(1, "--output", output, "--version", "1.3", "--as-of", "2020-01-01T00:00:00Z")
	daemon.stop(t)
	o.look() // a daemon that ends says goodbye
	call(0, "--output", output, "--version", "1.4", "--as-of", moment)
	call(0, "kept")

	// A query that somebody adds is seen by both.
	other := pgtest.Session(t, s.url, pgx.QueryExecModeSimpleProtocol)
	if _, err := other.Exec(t.Context(), `SELECT max(score) FROM recommendations`); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if logged, scans := o.look(); len(o.asked(logged)) != 1 || scans == 0 {
		t.Errorf("an added query is seen in %d statements and %d scans, so that nothing seen says nothing", len(o.asked(logged)), scans)
	}
}
