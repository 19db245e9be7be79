package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/pgtest"
)

// readSnapshot reads a table whole, one sorted line a row.
func readSnapshot(t *testing.T, s *cdc.Snapshot, table string, workers int) []string {
	t.Helper()
	var mu sync.Mutex
	var rows []string
	err := s.Read(t.Context(), table, workers, func(worker int, values []change.Value) error {
		if worker < 0 || worker >= workers {
			return fmt.Errorf("worker %d of %d", worker, workers)
		}
		var b strings.Builder
		for _, v := range values {
			if v.Kind == change.Null {
				b.WriteString("∅|")
				continue
			}
			b.Write(v.Text)
			b.WriteByte('|')
		}
		mu.Lock()
		defer mu.Unlock()
		rows = append(rows, b.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(rows)
	return rows
}

const snapshotSchema = `
CREATE TABLE many (id bigint PRIMARY KEY, name text);
CREATE TABLE parts (id bigint PRIMARY KEY, name text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_high (name text, id bigint PRIMARY KEY);
ALTER TABLE parts ATTACH PARTITION parts_high FOR VALUES FROM (10) TO (20);
INSERT INTO many SELECT n, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN E'a\tb\n\\' ELSE repeat('x', 300) END FROM generate_series(1, 60000) n;
INSERT INTO parts SELECT n, 'n' || n FROM generate_series(0, 19) n`

func TestSnapshotShowsOnePositionHoweverMuchIsWrittenMeanwhile(t *testing.T) {
	url := shared.NewDatabase(t)
	def := define(table("many", "id:int|name:text"), table("parts", "id:int|name:text"))
	conn := session(t, url)
	execOn(t, conn, snapshotSchema)
	cfg := cdc.Config{DatabaseURL: url, Definition: def, Slot: pgtest.SlotName(t)}
	s, err := cdc.OpenSnapshot(t.Context(), cfg, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if slots := one[int](t, conn, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"); slots != 0 {
		t.Errorf("%d slots are left, want none once the snapshot is taken", slots)
	}
	want := map[string][]string{}
	for i, name := range s.Tables() {
		want[name] = sourceRows(t, conn, "public."+name, &def.Tables[i])
	}
	execOn(t, conn, `DELETE FROM many WHERE id % 2 = 0; UPDATE many SET name = 'later' WHERE id < 100; DELETE FROM parts WHERE id <> 12; UPDATE parts SET name = 'later'`)
	for _, name := range s.Tables() {
		if diff := cmp.Diff(want[name], readSnapshot(t, s, name, 3)); diff != "" {
			t.Errorf("table %s (-source +snapshot):\n%s", name, diff[:min(len(diff), 2000)])
		}
		if rel := s.Relation(name); rel == nil || rel.Columns[0].Name != "id" || rel.Columns[1].Name != "name" {
			t.Errorf("table %s is described as %+v", name, rel)
		}
	}
	if now := one[string](t, conn, "SELECT pg_current_wal_insert_lsn()::text"); s.LSN() == 0 || s.Origin().System == 0 {
		t.Errorf("position %s of %+v, the server is at %s", s.LSN(), s.Origin(), now)
	}
	if s.Relation("nothing") != nil {
		t.Error("a table that is not there is described")
	}
	if _, err := cdc.OpenSnapshot(t.Context(), cfg, patience, "nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a table that is not there: %v", err)
	}
}

func TestSnapshotWaitsForOpenTransactionsAndThenNamesThem(t *testing.T) {
	server := pgtest.New(t, "max_prepared_transactions = 2")
	url := server.NewDatabase(t)
	conn, other := session(t, url), session(t, url)
	execOn(t, conn, `CREATE TABLE t (id bigint PRIMARY KEY)`)
	execOn(t, other, `BEGIN; INSERT INTO t VALUES (1)`)
	pid := one[int](t, other, "SELECT pg_backend_pid()")
	cfg := cdc.Config{DatabaseURL: url, Definition: define(table("t", "id:int")), Slot: pgtest.SlotName(t)}

	var open *cdc.OpenTransactionsError
	_, err := cdc.OpenSnapshot(t.Context(), cfg, 300*time.Millisecond)
	if !errors.As(err, &open) || len(open.Open) != 1 || open.Open[0].PID != int32(pid) {
		t.Fatalf("an open transaction of process %d: %v", pid, err)
	}
	if text := err.Error(); !strings.Contains(text, fmt.Sprintf("pg_terminate_backend(%d)", pid)) {
		t.Errorf("the error does not say what mends it: %s", text)
	}
	noSlots := func() {
		t.Helper()
		await(t, "the temporary slot is gone", func() bool {
			return one[int](t, conn, "SELECT count(*) FROM pg_replication_slots") == 0
		})
	}
	noSlots()

	// Who asks may give up, too.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := cdc.OpenSnapshot(ctx, cfg, patience)
		ended <- err
	}()
	await(t, "a slot is being made", func() bool {
		return one[int](t, conn, "SELECT count(*) FROM pg_replication_slots") == 1
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	noSlots()

	execOn(t, other, `PREPARE TRANSACTION 'it''s held'`)
	_, err = cdc.OpenSnapshot(t.Context(), cfg, 300*time.Millisecond)
	if !errors.As(err, &open) || len(open.Open) != 1 || open.Open[0].Prepared != "it's held" {
		t.Fatalf("a prepared transaction: %v", err)
	}
	if text := err.Error(); !strings.Contains(text, `ROLLBACK PREPARED 'it''s held'`) {
		t.Errorf("the error does not say what mends it: %s", text)
	}
	noSlots()

	// A transaction that ends in time is waited for, and is in the snapshot.
	go func() {
		_, err := cdc.OpenSnapshot(t.Context(), cfg, patience)
		ended <- err
	}()
	await(t, "a slot is being made", func() bool {
		return one[int](t, conn, "SELECT count(*) FROM pg_replication_slots") == 1
	})
	execOn(t, conn, `COMMIT PREPARED 'it''s held'`)
	if err := <-ended; err != nil {
		t.Errorf("after the transaction's end: %v", err)
	}
}

func TestSnapshotWithoutAFreeSlotIsRefusedWithARemedy(t *testing.T) {
	server := pgtest.New(t, "max_replication_slots = 1")
	url := server.NewDatabase(t)
	conn := session(t, url)
	execOn(t, conn, `CREATE TABLE t (id bigint PRIMARY KEY)`)
	cfg := cdc.Config{DatabaseURL: url, Definition: define(table("t", "id:int")), Slot: pgtest.SlotName(t)}
	execOn(t, conn, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot)
	defer execOn(t, conn, "SELECT pg_drop_replication_slot($1)", cfg.Slot)
	_, err := cdc.OpenSnapshot(t.Context(), cfg, patience)
	var none *cdc.NoFreeSlotError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "max_replication_slots") {
		t.Errorf("no free slot: %v", err)
	}
}

func ExampleOpenSnapshot() {
	ctx, cfg := context.Background(), cdc.Config{DatabaseURL: "postgres://reader@db.internal/app", Definition: define(table("users", "id:text|name:text"))}
	s, err := cdc.OpenSnapshot(ctx, cfg, 30*time.Second, "users")
	if err != nil {
		return
	}
	defer s.Close()
	var rows atomic.Int64
	err = s.Read(ctx, "users", 2, func(int, []change.Value) error {
		rows.Add(1)
		return nil
	})
	fmt.Println(rows.Load(), "users at", s.LSN(), err)
}

// await waits until something is so.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s", patience, what)
		}
		<-tick.C
	}
}

// one asks for one value.
func one[T any](t *testing.T, conn *pgx.Conn, sql string) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
