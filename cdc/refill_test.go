package cdc_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/pgtest"
)

const stockSchema = `
CREATE TABLE items (id int PRIMARY KEY, n int, big text, extra text);
ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
INSERT INTO items SELECT g, g, repeat('b', 2100), 'x' || g FROM generate_series(1, 2000) g;
CREATE TABLE others (id int PRIMARY KEY, v text);
INSERT INTO others SELECT g, 'v' || g FROM generate_series(1, 500) g`

// I3: whatever is written meanwhile, a refill leaves the store equal to the
// source.
func TestRefillUnderWritesKeepsTheStoreEqual(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	r := newRig(t, url, stockSchema, define(table("items", "id:int|n:int,big:text"), table("others", "id:int|v:text")))
	f := r.follow()
	r.start()
	r.streaming()
	stop := writers(t, url, 3)
	last := change.Version(0)
	for i := range 6 {
		tables := [][]string{{"items"}, {"others", "items"}, {"others"}}[i%3]
		result := f.refill(tables...)
		if result.Version <= last || result.Low >= result.Version || len(result.Tables) != len(tables) {
			t.Errorf("refill %d: %+v behind %s", i, result, last)
		}
		last = result.Version
	}
	stop()
	f.same()
	if status := r.source.Status(); status.Refills != 6 || status.RefillTables != nil {
		t.Errorf("status: %+v", status)
	}
	r.end()
	r.clean()
}

// What happened behind the stream's back is mended: the publication does not
// carry the TRUNCATE of a partition.
func TestRefillDeletesWhatTheSourceHasLost(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	r := newRig(t, url, `
CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (1000);
INSERT INTO parts SELECT g, 'v' || g FROM generate_series(1, 300) g`, define(table("parts", "id:int|v:text")))
	f := r.follow()
	r.start()
	r.streaming()
	r.exec(`TRUNCATE parts_low`)
	if _, err := f.versionBefore(t.Context(), r.barrier()); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	held := len(r.model.tables["public.parts"])
	f.mu.Unlock()
	if held != 300 {
		t.Fatalf("the stream has told of the TRUNCATE: %d rows are left, so that the test shows nothing", held)
	}
	if result := f.refill("parts"); result.Rows != 201 {
		t.Errorf("%d rows were read, want 201", result.Rows)
	}
	f.same()
	r.exec(`TRUNCATE parts_high`)
	if result := f.refill("parts"); result.Rows != 0 {
		t.Errorf("%d rows were read of an empty table", result.Rows)
	}
	f.same()
	r.exec(`INSERT INTO parts VALUES (1, 'a'), (100, 'b')`)
	f.same()
}

// A definition that has gained columns and tables is filled while changes go on,
// large values that updates do not send included. Changes from before that are
// still to come lack the column.
func TestGainedColumnsAndTablesAreFilled(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	narrow := define(table("items", "id:int|n:int"))
	r := newRig(t, url, stockSchema, narrow)
	f := r.follow()
	r.start()
	r.streaming()
	stop := writers(t, url, 3)
	f.refill("items")
	r.end()
	// What is written now comes after the publication was altered.
	r.exec(`UPDATE items SET n = -1 WHERE id % 7 = 0; UPDATE items SET big = repeat('c', 2100) WHERE id % 11 = 0`)
	f.gain(define(table("items", "id:int|n:int,big:text,extra:text"), table("others", "id:int|v:text")), "items", "others")
	r.start()
	f.filled()
	stop()
	f.same()
	r.exec(`UPDATE items SET n = 7 WHERE id % 2 = 0; DELETE FROM others WHERE id % 3 = 0`)
	f.same()
	// A row that gets another key while it is read may ask for another refill.
	if n := r.source.Status().Refills; n < 2 || n > 4 {
		t.Errorf("%d refills, want 2", n)
	}
	r.end()
	r.clean()
}

// A transaction that is open since before the publication was altered is waited
// for, and named when it takes too long.
func TestRefillWaitsForOlderTransactions(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	r := newRig(t, url, stockSchema, define(table("items", "id:int|n:int")))
	f := r.follow()
	r.start()
	r.streaming()
	older := session(t, url)
	execOn(t, older, `BEGIN; UPDATE items SET n = -2, big = repeat('d', 4000) WHERE id <= 10`)
	var open *cdc.OpenTransactionsError
	_, err := r.source.RefillWithin(t.Context(), []string{"items"}, 300*time.Millisecond)
	if !errors.As(err, &open) || len(open.Open) != 1 || open.Open[0].PID != int32(older.PgConn().PID()) {
		t.Errorf("got %v, want an *OpenTransactionsError with pid %d", err, older.PgConn().PID())
	}
	r.end()
	f.gain(define(table("items", "id:int|n:int,big:text")), "items")
	r.start()
	r.until("the refill has begun", func(s cdc.Status) bool { return s.RefillTables != nil })
	execOn(t, older, `UPDATE items SET n = -3 WHERE id <= 5`)
	r.exec(`UPDATE items SET n = -4 WHERE id BETWEEN 20 AND 30`)
	if got := r.source.Status(); got.Refills != 0 {
		t.Errorf("the refill did not wait: %+v", got)
	}
	execOn(t, older, `COMMIT`)
	f.same()
}

// Refills wait for each other, and each is whole.
func TestRefillsAtOnceFollowEachOther(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	r := newRig(t, url, stockSchema, define(table("items", "id:int|n:int"), table("others", "id:int|v:text")))
	f := r.follow()
	r.start()
	r.streaming()
	var wg sync.WaitGroup
	versions := make([]change.Version, 4)
	for i := range versions {
		wg.Go(func() {
			result, err := r.source.Refill(t.Context(), []string{[]string{"items", "others"}[i%2]})
			if err != nil {
				t.Error(err)
			}
			versions[i] = result.Version
		})
	}
	wg.Wait()
	slices.Sort(versions)
	if len(slices.Compact(versions)) != 4 {
		t.Errorf("versions %v, want four different ones", versions)
	}
	f.same()
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.model.counts.Refills != 4 {
		t.Errorf("the stream holds %d refills, want 4", r.model.counts.Refills)
	}
}

// A connection that is lost in the middle begins the refill again; a part in
// the stream is abandoned.
func TestRefillSurvivesLostConnections(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	url := server.NewDatabase(t)
	r := newRig(t, url, stockSchema+`; INSERT INTO items SELECT g, g, repeat('b', 2500), 'x' FROM generate_series(3001, 12000) g`,
		define(table("items", "id:int|n:int,big:text")))
	f := r.follow()
	r.start()
	r.streaming()
	for i := range 4 {
		done := make(chan error, 1)
		go func() {
			_, err := r.source.Refill(t.Context(), []string{"items"})
			done <- err
		}()
		r.until("rows are read", func(s cdc.Status) bool { return s.RefillRows > uint64(3000*i) })
		r.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'dreamfeed'`)
		r.exec(`UPDATE items SET n = n + 1 WHERE id % 5 = 0`)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("the refill did not end")
		}
	}
	f.same()
	r.end()
	r.clean()
}

// The stop of a source ends a refill, at any moment of it.
func TestStopEndsARefill(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	r := newRig(t, url, stockSchema+`; INSERT INTO items SELECT g, g, repeat('b', 2500), 'x' FROM generate_series(3001, 12000) g`,
		define(table("items", "id:int|n:int,big:text")))
	f := r.follow()
	for i := range 6 {
		r.start()
		r.streaming()
		done := make(chan error, 1)
		source := r.source
		go func() {
			_, err := source.Refill(t.Context(), []string{"items"})
			done <- err
		}()
		r.until("rows are read", func(s cdc.Status) bool { return s.RefillRows > uint64(2200*i) || s.Refills > 0 })
		r.end()
		var stopped *cdc.NotStreamingError
		if err := <-done; err != nil && !errors.As(err, &stopped) {
			t.Errorf("got %v, want a *NotStreamingError or success", err)
		}
		r.clean()
	}
	r.start()
	f.refill("items")
	f.same()
}

func TestRefillRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	r := newRig(t, url, stockSchema, define(table("items", "id:int|n:int")))
	f := r.follow()
	r.cfg.DiskReserve = func() uint64 { return 1 << 62 }
	r.start()
	r.streaming()
	var unknown *cdc.RefillTableError
	for _, tables := range [][]string{{"others"}, {"items", "others"}, {}} {
		if _, err := r.source.Refill(t.Context(), tables); !errors.As(err, &unknown) || cmp.Diff([]string{"items"}, unknown.Known) != "" {
			t.Errorf("refill %v: got %v, want a *RefillTableError", tables, err)
		}
	}
	var room *cdc.SpillRoomError
	if _, err := r.source.Refill(t.Context(), []string{"items"}); !errors.As(err, &room) || room.Reserve != 1<<62 {
		t.Errorf("got %v, want a *SpillRoomError", err)
	}
	r.clean()
	f.same()
	source := r.source
	r.end()
	var stopped *cdc.NotStreamingError
	if _, err := source.Refill(t.Context(), []string{"items"}); !errors.As(err, &stopped) || stopped.State != cdc.Stopped {
		t.Errorf("got %v, want a *NotStreamingError", err)
	}
	r.cfg.DiskReserve = nil
	idle, err := cdc.NewSource(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := idle.Refill(ctx, []string{"items"}); !errors.As(err, &stopped) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before Run: got %v, want a *NotStreamingError", err)
	}
}

// Changes of a table that the definition has dropped, and that were made while it
// was still published, are of use to nobody; a table that is published is an
// error.
func TestDroppedTablesChangesAreSkipped(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).NewDatabase(t)
	both := define(table("items", "id:int|n:int"), table("others", "id:int|v:text"))
	r := newRig(t, url, stockSchema, both)
	f := r.follow()
	r.start()
	r.streaming()
	f.same()
	r.end()
	r.exec(`INSERT INTO others VALUES (1000, 'late'); UPDATE items SET n = 1 WHERE id = 1`)
	r.exec(`TRUNCATE others, items; INSERT INTO items (id, n) VALUES (1, 2)`)
	f.gain(define(table("items", "id:int|n:int")))
	r.start()
	r.streaming()
	f.same()
	if n := r.source.Status().Skipped; n != 2 {
		t.Errorf("%d changes were skipped, want 2", n)
	}
	r.exec(`ALTER PUBLICATION dreamfeed ADD TABLE others (id, v)`)
	r.exec(`INSERT INTO others VALUES (1001, 'later')`)
	var foreign *cdc.ForeignTableError
	if err := r.failure(); !errors.As(err, &foreign) || !strings.Contains(foreign.Table, "others") {
		t.Errorf("got %v, want a *ForeignTableError", err)
	}
}

// A stream that takes nothing more while a refill is published, for longer than
// the server waits for a sign of life, costs no connection: the receiver keeps
// the server patient.
func TestRefillIntoAFullStreamKeepsTheConnection(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, "wal_sender_timeout=1500ms")
	url := server.NewDatabase(t)
	r := newRig(t, url, strings.ReplaceAll(stockSchema, "2000)", "6000)"), define(table("items", "id:int|n:int,big:text"), table("others", "id:int|v:text")))
	r.newStream(10 << 20)
	f := r.follow()
	var trimming sync.Mutex // held while nothing is trimmed
	ctx, cancel := context.WithCancel(t.Context())
	var trimmed sync.WaitGroup
	trimmed.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			trimming.Lock()
			f.mu.Lock()
			applied := r.model.sequence
			f.mu.Unlock()
			if err := r.cfg.Log.Trim(ctx, applied); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			trimming.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); trimmed.Wait() })
	r.start()
	r.streaming()
	f.same()

	trimming.Lock()
	stop := writers(t, url, 1)
	done := make(chan error, 1)
	go func() {
		_, err := r.source.Refill(t.Context(), []string{"items"})
		done <- err
	}()
	r.until("the refill is published", func(s cdc.Status) bool { return s.RefillPhase == cdc.RefillPublishing })
	// Changes fill the receiver's queue too.
	r.exec(`UPDATE items SET big = repeat('u', 2000)`)
	r.until("the receiver has stopped", func(s cdc.Status) bool { return s.Parked })
	patience := time.NewTimer(5 * time.Second)
	select {
	case <-patience.C:
	case err := <-done:
		t.Errorf("the refill went through: %v", err)
	}
	if status := r.source.Status(); status.RefillPhase != cdc.RefillPublishing || !status.Parked {
		t.Errorf("the refill does not wait for the stream: %+v", status)
	}
	trimming.Unlock()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.same()
	if status := r.source.Status(); status.Reconnects != 0 {
		t.Errorf("the connection was lost %d times: %s", status.Reconnects, status.Fault)
	}
}
