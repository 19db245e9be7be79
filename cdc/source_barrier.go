package cdc

import (
	"context"
	"fmt"

	"dreamfeed/internal/change"
)

// barrierPrefix is the prefix of our logical messages.
const barrierPrefix = "dreamfeed"

// Barrier writes a transactional logical message into the source's log and
// returns its position: once the position that the store has applied is at or
// above it, everything that had been committed before the call is applied.
//
// The position returned is the end of the message's record. Any transaction
// committed before the call has its commit record before that, so it comes
// earlier in the stream than whatever first reaches the position: our own
// transaction, whose commit record lies after it, another one that committed
// in between, or a tick.
//
// It waits until Run has compared the server with the stream: a position of
// another server, or of one restored from a backup, would say nothing about
// what is applied.
func (s *Source) Barrier(ctx context.Context) (change.LSN, error) {
	select {
	case <-s.status.verified:
	case <-ctx.Done():
		return 0, fmt.Errorf("barrier: %w", ctx.Err())
	}
	conn, err := connect(ctx, s.cfg.DatabaseURL)
	if err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	defer closeConn(conn.PgConn())
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	// After a commit this does nothing.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// The sender reads only what is flushed; a role may have switched waiting for
	// that off.
	if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = local"); err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	var text string
	if err := tx.QueryRow(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, $1, 'barrier'::text)::text", barrierPrefix).Scan(&text); err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	lsn, err := change.ParseLSN(text)
	if err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	return lsn, nil
}
