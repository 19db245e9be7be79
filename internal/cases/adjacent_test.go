package cases_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/pgtest"
)

// quietServer is a server on which nothing but the case writes to the log, so
// that two commit records can be adjacent.
func quietServer(t testing.TB) *pgtest.Server {
	return pgtest.New(t, "autovacuum=off", "checkpoint_timeout=1h", "bgwriter_lru_maxpages=0")
}

func adjacentCommits(t *testing.T) {
	db := newDatabaseOn(t, quietServer(t), pairSchema)
	n := newNetwork(t, db.url)
	d := start(t, db, options{tables: pair, via: n})
	one, two := db.session(), db.session()
	for i := range 6 {
		one.exec(fmt.Sprintf("BEGIN; INSERT INTO a VALUES (%d, 0)", i))
		two.exec(fmt.Sprintf("BEGIN; INSERT INTO b VALUES (%d, 0)", i))
		// The first is received and confirmed; the connection is gone before the
		// second commits, whose record follows directly.
		one.exec("COMMIT")
		end := db.lsn("SELECT pg_current_wal_insert_lsn()::text")
		d.until("the first is confirmed", func(s cdc.Status) bool { return s.DurableLSN >= end })
		if i%2 == 0 {
			n.cut()
			two.exec("COMMIT")
			d.until("the source streams again", func(s cdc.Status) bool { return s.State == cdc.Streaming && s.Reconnects > 0 })
		} else {
			d.stop()
			if confirmed := db.confirmed(d.setup.Slot); confirmed != end {
				t.Errorf("confirmed is %s, the first ends at %s", confirmed, end)
			}
			two.exec("COMMIT")
			d.start()
		}
		requireEqual(t, db, d)
		d.restart()
	}
	requireChanges(t, d, "a", 6)
	requireChanges(t, d, "b", 6)
}

// transaction is what pgoutput says of one.
type transaction struct {
	commit, end change.LSN
}

// oneByteMore shows on a bare slot why the confirmed position is the end of a
// transaction exactly.
func oneByteMore(t *testing.T) {
	db := newDatabaseOn(t, quietServer(t), pairSchema)
	db.exec("CREATE PUBLICATION p FOR TABLE a, b")
	db.exec("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
	one, two := db.session(), db.session()
	for i := 1; ; i++ {
		one.exec(fmt.Sprintf("BEGIN; INSERT INTO a VALUES (%d, 0)", i))
		two.exec(fmt.Sprintf("BEGIN; INSERT INTO b VALUES (%d, 0)", i))
		one.exec("COMMIT")
		two.exec("COMMIT")
		all := stream(t, db.url, "s", 0, 2*i)
		first, second := all[len(all)-2], all[len(all)-1]
		if second.commit != first.end {
			if i == 20 { // records are seldom apart: at the edge of a page
				t.Fatalf("commit records were never adjacent: %+v %+v", first, second)
			}
			continue
		}
		if got := stream(t, db.url, "s", first.end, 1); got[0].commit != second.commit {
			t.Errorf("from the end of the first on, %s, comes %+v, want the second %+v", first.end, got, second)
		}
		// A third one tells that the second would have come before it.
		db.exec("INSERT INTO a VALUES (0, 0)")
		if got := stream(t, db.url, "s", first.end+1, 1); got[0].commit <= second.commit {
			t.Errorf("one byte more did not lose the second: %+v", got)
		}
		return
	}
}

// stream reads so many transactions from a slot, confirming nothing.
func stream(t testing.TB, url, slot string, from change.LSN, count int) (out []transaction) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["replication"] = "database"
	ctx, cancel := context.WithTimeout(t.Context(), patience())
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for {
		err = pglogrepl.StartReplication(ctx, conn, slot, pglogrepl.LSN(from), pglogrepl.StartReplicationOptions{
			PluginArgs: []string{"proto_version '1'", "publication_names 'p'"},
		})
		if err == nil {
			break
		}
		// The reader before may not be gone yet.
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
	for len(out) < count {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			t.Fatalf("read slot %s from %s, after %d transactions: %v", slot, from, len(out), err)
		}
		data, ok := msg.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			t.Fatal(err)
		}
		m, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := m.(*pglogrepl.CommitMessage); ok {
			out = append(out, transaction{commit: change.LSN(c.CommitLSN), end: change.LSN(c.TransactionEndLSN)})
		}
	}
	return out
}

// insertedKeys reads the first column of all inserted rows from a slot, in order.
func insertedKeys(t testing.TB, db *database, slot, publication string) (keys []string) {
	t.Helper()
	rows, err := db.main.conn.Query(t.Context(), "SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)",
		pgx.QueryExecModeExec, slot, publication)
	if err != nil {
		t.Fatal(err)
	}
	data, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range data {
		m, err := pglogrepl.Parse(d)
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := m.(*pglogrepl.InsertMessage); ok {
			key := string(row.Tuple.Columns[0].Data)
			if _, err := strconv.Atoi(key); err != nil {
				t.Fatalf("key %q: %v", key, err)
			}
			keys = append(keys, key)
		}
	}
	return keys
}
