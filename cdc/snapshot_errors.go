package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// OtherDatabaseError says that the slot with our name follows another database of
// the server, so that positions are the same but tables are not.
type OtherDatabaseError struct {
	Slot            string
	Followed, Asked string // databases
}

func (e *OtherDatabaseError) Error() string {
	return fmt.Sprintf("replication slot %s follows database %s, not %s: give the database URL and the --slot that ingest runs with", e.Slot, e.Followed, e.Asked)
}

// OpenTransaction is a transaction of the source that has written and not ended.
type OpenTransaction struct {
	// PID is the server process, 0 for a prepared transaction.
	PID int32
	// Prepared is the global id of a prepared transaction.
	Prepared string
	// Age is since when it is open, 0 if the role may not see it.
	Age time.Duration
}

func (t OpenTransaction) String() string {
	age := ""
	if t.Age > 0 {
		age = " (open for " + t.Age.Round(time.Second).String() + ")"
	}
	if t.PID == 0 {
		return "prepared transaction " + quoteLiteral(t.Prepared) + age
	}
	return fmt.Sprintf("server process %d%s", t.PID, age)
}

// maxOpenNamed is how many open transactions an error names.
const maxOpenNamed = 8

// OpenTransactionsError says that open transactions kept a snapshot from being
// taken: the server takes one only when all that were open before have ended.
type OpenTransactionsError struct {
	Waited time.Duration
	Open   []OpenTransaction // oldest first, at most 8
}

func (e *OpenTransactionsError) Error() string {
	if len(e.Open) == 0 {
		return fmt.Sprintf("no snapshot of the source could be taken within %s: transactions were open for so long, and have just ended: try again", e.Waited)
	}
	names, mends := make([]string, len(e.Open)), make([]string, len(e.Open))
	for i, t := range e.Open {
		names[i] = t.String()
		if t.PID == 0 {
			mends[i] = "ROLLBACK PREPARED " + quoteLiteral(t.Prepared)
		} else {
			mends[i] = fmt.Sprintf("SELECT pg_terminate_backend(%d)", t.PID)
		}
	}
	return fmt.Sprintf("no snapshot of the source can be taken while older transactions are open; waited %s for %s: wait until they end, or end them: %s",
		e.Waited, strings.Join(names, ", "), strings.Join(mends, "; "))
}

// openTransactions lists transactions that have an id, the oldest first. Locks
// on transaction ids are shown to every role, unlike pg_stat_activity.
func openTransactions(ctx context.Context, admin queryer) ([]OpenTransaction, error) {
	const sql = `
SELECT o.pid, o.gid, coalesce(extract(epoch FROM clock_timestamp() - o.began), 0)::float8
FROM (
  SELECT l.pid, ''::text AS gid, a.xact_start AS began,
    row_number() OVER (PARTITION BY l.pid ORDER BY pg_catalog.age(l.transactionid) DESC) AS nth,
    pg_catalog.age(l.transactionid) AS age
  FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid IS NOT NULL
  UNION ALL
  SELECT 0, p.gid, p.prepared, 1, pg_catalog.age(p.transaction) FROM pg_catalog.pg_prepared_xacts p
) o WHERE o.nth = 1 ORDER BY o.age DESC LIMIT $1::int`
	rows, err := admin.Query(ctx, sql, maxOpenNamed)
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", err)
	}
	open, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t OpenTransaction, err error) {
		var seconds float64
		err = row.Scan(&t.PID, &t.Prepared, &seconds)
		t.Age = time.Duration(seconds * float64(time.Second))
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", err)
	}
	return open, nil
}

// NoFreeSlotError says that the server has no replication slot left, not even
// for the moment that a snapshot needs one.
type NoFreeSlotError struct{ Err error }

func (e *NoFreeSlotError) Error() string {
	cause := ""
	var server *pgconn.PgError
	if errors.As(e.Err, &server) {
		cause = " (" + server.Message + ")"
	}
	return "the source has no free replication slot, of which a snapshot needs one for a moment" + cause +
		": drop one that nobody uses (SELECT slot_name FROM pg_replication_slots WHERE NOT active), or raise max_replication_slots and restart PostgreSQL"
}

// Unwrap returns what the server said.
func (e *NoFreeSlotError) Unwrap() error { return e.Err }
