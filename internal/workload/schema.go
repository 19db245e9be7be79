package workload

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed schema.sql
var schemaSQL string

//go:embed audit.sql
var auditSQL string

// Schema returns the statements that make the application's tables in an empty
// database.
func Schema() string { return schemaSQL }

// Tables returns the names of the application's tables, parents first.
func Tables() []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}

// Audit returns the statements that record every change of the application's
// tables in audit.history. TRUNCATE is not recorded.
func Audit() string {
	var b strings.Builder
	b.WriteString(auditSQL)
	for _, t := range tables {
		fmt.Fprintf(&b, "\nCREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON %s\n    FOR EACH ROW EXECUTE FUNCTION audit.record();\n", t.name)
	}
	return b.String()
}

// CreateSchema makes the application's tables.
func CreateSchema(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, schemaSQL); err != nil {
		return fmt.Errorf("create the application's schema: %w", err)
	}
	return nil
}

// InstallAudit adds the triggers of Audit. The server must keep commit times
// (track_commit_timestamp = on), or the history cannot be dated; if it does not,
// nothing is installed.
func InstallAudit(ctx context.Context, conn *pgx.Conn) error {
	var tracked bool
	if err := conn.QueryRow(ctx, "SELECT current_setting('track_commit_timestamp')::bool").Scan(&tracked); err != nil {
		return fmt.Errorf("install audit triggers: %w", err)
	}
	if !tracked {
		return errors.New("install audit triggers: the server does not keep commit times: " +
			"ALTER SYSTEM SET track_commit_timestamp = on, and restart it")
	}
	if _, err := conn.Exec(ctx, Audit()); err != nil {
		return fmt.Errorf("install audit triggers: %w", err)
	}
	return nil
}
