package cdc_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/cdc"
	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/workload"
)

func TestUnnamedColumnsNeverLeaveTheDatabase(t *testing.T) {
	url := shared.NewDatabase(t)
	r := newRig(t, url, "", define(table("users", "id:text|nationality:text,created_at:timestamp")))
	if err := workload.CreateSchema(t.Context(), r.conn); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.Populate(t.Context(), r.conn, workload.Config{Seed: 1, Users: 50}); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.streaming()
	r.exec(`UPDATE users SET nationality = 'MARKED'; DELETE FROM users WHERE id = (SELECT min(id) FROM users)`)
	r.same()
	r.end()
	var found bool
	err := filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range workload.Secrets() {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
		found = found || bytes.Contains(data, []byte("MARKED"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Error("the stream does not hold what it should: the search proves nothing")
	}
}

func TestTravelApplicationUnderTrafficEqualsTheSource(t *testing.T) {
	def, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	url := shared.NewDatabase(t)
	r := newRig(t, url, "", def)
	if err := workload.CreateSchema(t.Context(), r.conn); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.Populate(t.Context(), r.conn, workload.Config{Seed: 2, Users: 300}); err != nil {
		t.Fatal(err)
	}
	type result struct {
		report workload.Report
		err    error
	}
	traffic := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	go func() {
		report, err := workload.Run(ctx, url, workload.Traffic{Seed: 3, Connections: 2})
		traffic <- result{report, err}
	}()
	r.cfg.BackfillWorkers = 3
	r.start()
	r.streaming()
	r.restart()
	if got := <-traffic; got.err != nil {
		t.Fatalf("traffic: %v", got.err)
	}
	m := r.same()
	t.Logf("%+v", m.counts)
}

func TestUnfinishedBackfillIsAbandonedAndAnotherMade(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, pad text); CREATE TABLE b (id int PRIMARY KEY);`,
		define(table("a", "id:int|pad:text"), table("b", "id:int|")))
	// A stream too small for the tables stalls in the middle of the backfill.
	r.newStream(3 << 20)
	r.exec("INSERT INTO a SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 80000) g")
	r.start()
	r.until("the stream is full", func(s cdc.Status) bool {
		state, err := r.cfg.Log.State(t.Context())
		return err == nil && s.State == cdc.Backfilling && state.Bytes > 2<<20
	})
	r.end()
	r.closeLog()
	r.openLog(1 << 30)
	r.exec("DELETE FROM a WHERE id % 2 = 0; INSERT INTO b VALUES (1)")
	r.start()
	r.streaming()
	r.exec("INSERT INTO b VALUES (2)")
	m := r.same()
	if m.counts.Abandoned != 1 || m.counts.Backfilled != 40001 {
		t.Errorf("%d abandoned, %d rows backfilled; want 1 and 40001", m.counts.Abandoned, m.counts.Backfilled)
	}
}

// onceSlotIsMade makes the source's clock do something when it is first read
// after the slot has been made: before the backfill has locked any table.
func (r *rig) onceSlotIsMade(do func(conn *pgx.Conn)) {
	conn := session(r.t, r.cfg.DatabaseURL)
	done := false
	r.cfg.Clock = func() time.Time {
		if done {
			return time.Now()
		}
		var made bool
		if err := conn.QueryRow(context.Background(), "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", r.cfg.Slot).Scan(&made); err != nil {
			r.t.Error(err)
		}
		if made {
			done = true
			do(conn)
		}
		return time.Now()
	}
}

func TestStopBetweenSlotAndFirstRowIsRecovered(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.exec("INSERT INTO a VALUES (1, 1)")
	r.onceSlotIsMade(func(*pgx.Conn) { r.stop() })
	r.start()
	if err := <-r.ended; err != nil {
		t.Fatalf("run: %v", err)
	}
	r.cfg.Clock = nil
	var slots int
	if err := r.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", r.cfg.Slot).Scan(&slots); err != nil || slots != 1 {
		t.Fatalf("%d slots (%v): the test stopped the source elsewhere", slots, err)
	}
	r.exec("INSERT INTO a VALUES (2, 2)")
	r.start()
	r.streaming()
	r.same()
}

func TestTableRewrittenBehindTheSnapshotIsReadAgain(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.exec("INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g")
	r.onceSlotIsMade(func(conn *pgx.Conn) {
		if _, err := conn.Exec(context.Background(), "ALTER TABLE a ADD late float8 DEFAULT random()"); err != nil {
			t.Error(err)
		}
	})
	r.start()
	r.until("the source streams", func(s cdc.Status) bool { return s.State == cdc.Streaming })
	m := r.same()
	if m.counts.Backfilled != 1000 || r.source.Status().Reconnects == 0 {
		t.Errorf("backfilled %d rows in %d further attempts, want 1000 in 1", m.counts.Backfilled, r.source.Status().Reconnects)
	}
}

func TestLargeSparseTableIsReadInRanges(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, pad text) WITH (autovacuum_enabled = off);`, define(table("a", "id:int|pad:text")))
	r.exec("INSERT INTO a SELECT g, repeat(md5(g::text), 60) FROM generate_series(1, 30000) g")
	r.exec("DELETE FROM a WHERE id % 10 <> 0")
	r.exec("INSERT INTO a SELECT g, 'late' FROM generate_series(40001, 40100) g")
	r.cfg.BackfillWorkers = 3
	r.start()
	r.streaming()
	if m := r.same(); m.counts.Backfilled != 3100 {
		t.Errorf("backfilled %d rows, want 3100", m.counts.Backfilled)
	}
}
