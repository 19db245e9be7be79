package cdc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// applicationName is what pg_stat_activity shows of our sessions.
const applicationName = "dreamfeed"

// connectTimeout bounds one attempt to connect, unless the URL says otherwise.
const connectTimeout = 15 * time.Second

// pinned are the settings that decide the text of values (DESIGN §3). They go
// with the startup packet, where they win over what ALTER ROLE, ALTER DATABASE
// and postgresql.conf say, and are verified after connecting.
func pinned() map[string]string {
	return map[string]string{
		"datestyle":             "ISO, YMD",
		"intervalstyle":         "postgres",
		"extra_float_digits":    "3",
		"timezone":              "UTC",
		"bytea_output":          "hex",
		"client_encoding":       "UTF8",
		"lc_monetary":           "C",          // of money
		"search_path":           "pg_catalog", // of regclass and its like
		"quote_all_identifiers": "off",
	}
}

// guarded are settings of a role that could break our work but not the values:
// time-outs that end a long backfill, row security that hides rows from it
// instead of refusing, a read-only default.
func guarded() map[string]string {
	return map[string]string{
		"application_name":                    applicationName,
		"standard_conforming_strings":         "on",
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"row_security":                        "off",
		"default_transaction_read_only":       "off",
	}
}

// connect opens an ordinary session with pinned settings.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	to, err := parseURL(url, false)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, to.ConnConfig)
	if err != nil {
		return nil, connectError(ctx, err, to, false)
	}
	if err := verifySession(ctx, conn.PgConn()); err != nil {
		closeConn(conn.PgConn())
		return nil, err
	}
	return conn, nil
}

// connectReplication opens a session that takes replication commands, with the
// same settings.
func connectReplication(ctx context.Context, url string) (*pgconn.PgConn, error) {
	to, err := parseURL(url, true)
	if err != nil {
		return nil, err
	}
	conn, err := pgconn.ConnectConfig(ctx, &to.Config)
	if err != nil {
		return nil, connectError(ctx, err, to, true)
	}
	if err := verifySession(ctx, conn); err != nil {
		closeConn(conn)
		return nil, err
	}
	return conn, nil
}

// SessionError says that a setting which decides the text of values is not
// what was asked for, so that nothing read in the session could be trusted.
type SessionError struct {
	Setting, Got, Want string
}

func (e *SessionError) Error() string {
	return fmt.Sprintf("session setting %s is %q instead of %q: connect to PostgreSQL itself, not through a pooler that drops startup settings",
		e.Setting, e.Got, e.Want)
}

// verifySession asks the server for the pinned settings. A pooler between us
// and the server is what can lose them.
func verifySession(ctx context.Context, conn *pgconn.PgConn) error {
	want := pinned()
	names := slices.Sorted(maps.Keys(want))
	columns := make([]string, len(names))
	for i, name := range names {
		columns[i] = "current_setting('" + name + "')"
	}
	// A simple query: extended ones are not allowed in a replication session.
	row, err := simpleRow(ctx, conn, "SELECT "+strings.Join(columns, ", "))
	if err != nil {
		return fmt.Errorf("verify the session's settings: %w", err)
	}
	for i, name := range names {
		if !strings.EqualFold(row[i], want[name]) {
			return &SessionError{Setting: name, Got: row[i], Want: want[name]}
		}
	}
	return nil
}

// simpleRow runs a simple query that gives one row and returns it as text,
// NULL as "".
func simpleRow(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("%s: want one row", sql)
	}
	row := make([]string, len(results[0].Rows[0]))
	for i, v := range results[0].Rows[0] {
		row[i] = string(v)
	}
	return row, nil
}

// closeTimeout bounds the farewell to a server that may be gone.
const closeTimeout = 2 * time.Second

// closeConn ends a session; nil is one that could not be opened.
func closeConn(conn *pgconn.PgConn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	// The session ends either way; an error here changes nothing.
	_ = conn.Close(ctx)
}

// readClock reads the server's clock.
func readClock(ctx context.Context, conn queryer) (now time.Time, err error) {
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.clock_timestamp()").Scan(&now); err != nil {
		return now, fmt.Errorf("read the source's clock: %w", err)
	}
	return now, nil
}

// quoteIdent quotes an SQL identifier.
func quoteIdent(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoteTable quotes a qualified table name.
func quoteTable(schema, name string) string { return pgx.Identifier{schema, name}.Sanitize() }

// quoteColumns quotes and joins column names.
func quoteColumns(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quoteIdent(n)
	}
	return strings.Join(quoted, ", ")
}

// quoteLiteral quotes a string constant, with standard_conforming_strings on.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
