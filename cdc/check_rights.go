package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// checkRights checks what the role needs beside reading tables and replicating:
// the barrier is written with a function that everybody may call unless somebody
// took that right away.
func (in *inspection) checkRights(ctx context.Context, conn *pgx.Conn) error {
	var emit bool
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.has_function_privilege('pg_catalog.pg_logical_emit_message(boolean, text, text)', 'EXECUTE')`).Scan(&emit); err != nil {
		return fmt.Errorf("check the role: %w", err)
	}
	if !emit {
		in.fault("role "+in.Role, "it may not write logical messages, which mark how far everything is known",
			"GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text) TO "+quoteIdent(in.Role))
	}
	return nil
}
