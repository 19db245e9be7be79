package pgtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Session opens a session whose text of values is that of the stream
// (DESIGN §3). Only the simple protocol hands out that text for every type; the
// others take arguments. It ends with the test.
func Session(t testing.TB, url string, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"datestyle": "ISO", "intervalstyle": "postgres", "timezone": "UTC",
		"extra_float_digits": "3", "bytea_output": "hex", "client_encoding": "UTF8",
	} {
		cfg.RuntimeParams[name] = value
	}
	cfg.DefaultQueryExecMode = mode
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be gone
	return conn
}

// SlotName makes a name for a test's replication slot: slots are the server's,
// which tests share, and not a database's.
func SlotName(t testing.TB) string {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, strings.ToLower(t.Name()))
	return fmt.Sprintf("%.40s_%x", name, time.Now().UnixNano()&0xffffffff)
}
