package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"dreamfeed/featurestore"
	"dreamfeed/internal/history"
	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

// refused runs ingest until it ends by itself and requires an error that names
// all of words.
func refused(t *testing.T, dataDir, url string, args []string, words ...string) {
	t.Helper()
	d := start(t, dataDir, url, args...)
	if code := d.wait(); code != 1 {
		t.Errorf("exit code %d, want 1: %s", code, d.output)
	}
	for _, w := range words {
		if !strings.Contains(d.output.String(), w) {
			t.Errorf("the error does not say %q: %s", w, d.output)
		}
	}
}

// traffic runs writers on the source until stop is called.
func traffic(t *testing.T, url string, rate float64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := workload.Run(ctx, url, workload.Traffic{Seed: n, Transactions: 2000, Connections: 4, Rate: rate}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// count reads one number from the source.
func count(t *testing.T, url, sql string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var n int
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// anonymous is a process's anonymous memory in KiB, as /proc tells it.
func anonymous(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// A position of another server is lower than what the store has applied, but
// that does not make the store caught up with that server.
func TestAnotherServerIsNeverCaughtUpWith(t *testing.T) {
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	execute(t, url, "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)) FROM generate_series(1, 64)")
	catchUp(t, dataDir, url)
	other := pgtest.New(t).NewDatabase(t)
	populate(t, other, 5)
	for range 3 {
		refused(t, dataDir, other, []string{"--until-caught-up"}, "system identifier")
	}
	catchUp(t, dataDir, url)
	requireEqual(t, dreamscape(t), dataDir, url)
}

// A stream and a store that do not belong together stop before anything is
// changed on the source, also when ingest is started again and again; a store
// that is gone is built again from a whole stream.
func TestStreamAndStoreThatDoNotBelongTogetherAreRefused(t *testing.T) {
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	stream, store, aside := filepath.Join(dataDir, "stream"), filepath.Join(dataDir, "store"), filepath.Join(dataDir, "aside")
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	catchUp(t, dataDir, url)
	execute(t, url, `DELETE FROM favorites WHERE id IN (SELECT id FROM favorites ORDER BY id LIMIT 3)`)
	catchUp(t, dataDir, url)

	rename(store, aside)
	catchUp(t, dataDir, url)
	requireEqual(t, dreamscape(t), dataDir, url)

	rename(stream, stream+"-whole")
	for range 3 {
		refused(t, dataDir, url, nil, "made anew", "ingest reset --confirm")
	}
	if err := os.RemoveAll(stream); err != nil {
		t.Fatal(err)
	}
	execute(t, url, "SELECT pg_drop_replication_slot('dreamfeed')")
	for range 3 {
		refused(t, dataDir, url, nil, "made anew")
	}
	if n := count(t, url, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"); n != 0 {
		t.Errorf("the refused runs left %d slots behind", n)
	}
}

// A limit that was raised holds all the way.
func TestRowUpToTheRaisedLimitComesThrough(t *testing.T) {
	url, dataDir := populated(t, 5), filepath.Join(t.TempDir(), "data")
	catchUp(t, dataDir, url)
	execute(t, url, `UPDATE search_history SET origin = repeat('Zürich ', 10 << 20) WHERE id = (SELECT min(id) FROM search_history)`)
	refused(t, dataDir, url, []string{"--until-caught-up"}, "--max-row-bytes")
	catchUp(t, dataDir, url, "--max-row-bytes", "134217728")
	// An update of another column leaves the large value out.
	execute(t, url, `UPDATE search_history SET passengers = '3' WHERE id = (SELECT min(id) FROM search_history)`)
	catchUp(t, dataDir, url, "--max-row-bytes", "134217728")
	requireEqual(t, dreamscape(t), dataDir, url)
}

// I3, I4, I10: a large transaction survives kills between its parts, and nobody
// sees a part of it.
func TestLargeTransactionSurvivesKillsBetweenItsParts(t *testing.T) {
	server := pgtest.New(t, "logical_decoding_work_mem=64kB")
	url, dataDir := server.NewDatabase(t), filepath.Join(t.TempDir(), "data")
	populate(t, url, 20)
	catchUp(t, dataDir, url)
	execute(t, url, `WITH u AS (SELECT id FROM users ORDER BY id LIMIT 1)
INSERT INTO search_history (id, "userId", "sessionId", origin, destination, "departureDate", passengers, "cabinClass")
SELECT 'large' || g, u.id, 's', repeat('o', 200), 'd', now(), '1', 'economy' FROM generate_series(1, 200000) g, u`)
	var resident int
	for i := range 5 {
		d := start(t, dataDir, url)
		timer := time.NewTimer(time.Duration(700+300*i) * time.Millisecond)
		select {
		case <-timer.C:
		case err := <-d.done:
			t.Fatalf("ingest ended by itself: %v", err)
		}
		resident = max(resident, anonymous(t, d.command.Process.Pid))
		d.kill()
	}
	catchUp(t, dataDir, url)
	requireEqual(t, dreamscape(t), dataDir, url)
	t.Logf("largest anonymous memory seen: %d MiB", resident>>10)
	if resident > 1<<20 {
		t.Errorf("%d KiB of memory for a transaction of 200,000 rows", resident)
	}
}

// No row of an abandoned backfill shows at any moment.
func TestAbandonedBackfillsLeaveNoRowAtAnyMoment(t *testing.T) {
	url, dataDir := populated(t, 300), filepath.Join(t.TempDir(), "data")
	stop := traffic(t, url, 300)
	for i := range 12 {
		d := start(t, dataDir, url)
		timer := time.NewTimer(time.Duration(100+40*i) * time.Millisecond)
		<-timer.C
		d.kill()
	}
	d := start(t, dataDir, url)
	d.waitReady()
	d.kill()
	stop()
	catchUp(t, dataDir, url)
	requireEqual(t, dreamscape(t), dataDir, url)
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	view, err := store.View(0)
	if err != nil {
		t.Fatal(err)
	}
	born := view.Info().Birth
	if store.Status().Counters.Abandoned == 0 {
		t.Log("no backfill was abandoned this time")
	}
	for _, kind := range []string{"", "user", "item"} {
		ranges, err := view.Ranges(t.Context(), kind, 1)
		if err != nil {
			t.Fatal(err)
		}
		err = view.Scan(t.Context(), kind, ranges[0], func(e *history.Entity) error {
			for _, r := range e.Rows {
				for i, v := range r.Versions {
					if v.Version < born || v.Backfilled && v.Version != born || i > 0 && v.Version > r.Versions[i-1].Version {
						t.Fatalf("table %d holds a version of %s, the backfill is of %s", r.Table, v.Version, born)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A stream that is full of applied messages makes room, whatever the replay
// window, but not of what a killed store would lack.
func TestStreamFullOfAppliedMessagesMakesRoom(t *testing.T) {
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	const limit = "67108864"
	d := start(t, dataDir, url, "--stream-max-bytes", limit)
	d.waitReady()
	for range 4 {
		execute(t, url, `INSERT INTO search_history (id, "userId", "sessionId", origin, destination, "departureDate", passengers)
SELECT gen_random_uuid()::text, NULL, 's', repeat('o', 3000), 'd', now(), '1' FROM generate_series(1, 10000)`)
	}
	d.waitReady()
	d.kill()
	catchUp(t, dataDir, url, "--stream-max-bytes", limit)
	requireEqual(t, dreamscape(t), dataDir, url)
}

// A copy of the data directory that has gone on makes the original out of date:
// it stops instead of losing what the copy confirmed.
func TestCopyOfTheDataDirectoryThatWentOnStopsTheOriginal(t *testing.T) {
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	catchUp(t, dataDir, url)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dataDir)); err != nil {
		t.Fatal(err)
	}
	execute(t, url, `DELETE FROM favorites`)
	catchUp(t, copied, url)
	requireEqual(t, dreamscape(t), copied, url)
	refused(t, dataDir, url, []string{"--until-caught-up"}, "confirmed up to")
	catchUp(t, copied, url)
}

// A stopped process, be it ingest or PostgreSQL, goes on where it was.
func TestStoppedProcessesGoOn(t *testing.T) {
	server := pgtest.New(t, "wal_sender_timeout=3s")
	url, dataDir := server.NewDatabase(t), filepath.Join(t.TempDir(), "data")
	populate(t, url, 50)
	stop := traffic(t, url, 200)
	d := start(t, dataDir, url)
	d.waitReady()
	for _, pause := range []time.Duration{100 * time.Millisecond, 7 * time.Second, time.Second} {
		d.signal(syscall.SIGSTOP)
		timer := time.NewTimer(pause)
		<-timer.C
		d.signal(syscall.SIGCONT)
		d.waitReady()
	}
	sender := 0
	for tick := time.NewTicker(50 * time.Millisecond); sender == 0; <-tick.C { // it may be connecting again
		sender = count(t, url, "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = 'dreamfeed'")
	}
	if err := syscall.Kill(sender, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(5 * time.Second)
	<-timer.C
	if err := syscall.Kill(sender, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	stop()
	d.waitReady()
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d", code)
	}
	catchUp(t, dataDir, url)
	requireEqual(t, dreamscape(t), dataDir, url)
}

// SIGTERM is orderly at any moment, be it in the backfill.
func TestEndIsOrderlyAtAnyMoment(t *testing.T) {
	url, dataDir := populated(t, 200), filepath.Join(t.TempDir(), "data")
	stop := traffic(t, url, 200)
	for i := range 8 {
		d := start(t, dataDir, url)
		timer := time.NewTimer(time.Duration(60+90*i) * time.Millisecond)
		<-timer.C
		d.signal(syscall.SIGTERM)
		if code := d.wait(); code > 0 { // a signal before its handler is there ends the process itself
			t.Errorf("after %d ms: exit code %d: %s", 60+90*i, code, d.output)
		}
	}
	stop()
	catchUp(t, dataDir, url)
	requireEqual(t, dreamscape(t), dataDir, url)
}

// I3: a first start that is killed at any moment leaves nothing that the next
// one could not go on from.
func TestFirstStartKilledAtAnyMomentIsFollowedByAnother(t *testing.T) {
	url := populated(t, 50)
	for wait := 5 * time.Millisecond; wait < 160*time.Millisecond; wait += 8 * time.Millisecond {
		dataDir, slot := filepath.Join(t.TempDir(), "data"), fmt.Sprintf("kill_%d", wait.Milliseconds())
		d := start(t, dataDir, url, "--slot", slot)
		timer := time.NewTimer(wait)
		<-timer.C
		d.kill()
		catchUp(t, dataDir, url, "--slot", slot)
		requireEqual(t, dreamscape(t), dataDir, url)
		execute(t, url, "SELECT pg_drop_replication_slot('"+slot+"')")
	}
}

// An external server may restart and be killed with the daemon.
func TestExternalStreamSurvivesRestarts(t *testing.T) {
	dir := t.TempDir()
	nats := func(port int) *natsserver.Server {
		t.Helper()
		s, err := natsserver.NewServer(&natsserver.Options{
			Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, MaxPayload: 8 << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("the NATS server does not start")
		}
		return s
	}
	external := nats(-1)
	address := external.ClientURL()
	port := external.Addr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port()
	url, dataDir := populated(t, 100), filepath.Join(t.TempDir(), "data")
	stop := traffic(t, url, 200)
	d := start(t, dataDir, url, "--nats-url", address)
	for i := range 4 {
		timer := time.NewTimer(time.Duration(300+400*i) * time.Millisecond)
		<-timer.C
		external.Shutdown()
		external.WaitForShutdown()
		if i == 2 {
			d.kill()
		}
		external = nats(int(port))
		if i == 2 {
			d = start(t, dataDir, url, "--nats-url", address)
		}
	}
	d.waitReady()
	stop()
	d.kill()
	catchUp(t, dataDir, url, "--nats-url", address)
	requireEqual(t, dreamscape(t), dataDir, url)
	external.Shutdown()
	external.WaitForShutdown()
}
