package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/pgtest"
)

const pairSchema = `CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);`

// restart stops the source and starts a new one on the same stream.
func (r *rig) restart() {
	r.t.Helper()
	r.end()
	r.start()
	r.streaming()
}

func TestTransactionOpenOverARestartIsReadWhole(t *testing.T) {
	for _, when := range []string{"open", "committed"} {
		t.Run("restart while the older one is "+when, func(t *testing.T) {
			url := shared.NewDatabase(t)
			r := newRig(t, url, pairSchema, define(table("a", "id:int|n:int"), table("b", "id:int|n:int")))
			one, two := session(t, url), session(t, url)
			r.start()
			r.streaming()
			execOn(t, one, "BEGIN")
			execOn(t, one, "INSERT INTO a VALUES (1, 1)")
			execOn(t, two, "INSERT INTO b VALUES (1, 1)")
			r.catchUp() // b1 is durable
			if when == "open" {
				r.restart()
			} else {
				r.end()
			}
			execOn(t, one, "INSERT INTO a VALUES (2, 2)")
			execOn(t, one, "COMMIT")
			if when == "committed" {
				r.start()
				r.streaming()
			}
			m := r.same()
			if diff := cmp.Diff([]string{"I b 1", "I a 1", "I a 2"}, m.order); diff != "" {
				t.Errorf("live changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfirmingOneTransactionDoesNotLoseItsNeighbour(t *testing.T) {
	url := shared.NewDatabase(t)
	r := newRig(t, url, pairSchema, define(table("a", "id:int|n:int"), table("b", "id:int|n:int")))
	r.start()
	r.streaming()
	one, two := session(t, url), session(t, url)
	for i := range 20 {
		execOn(t, one, fmt.Sprintf("BEGIN; INSERT INTO a VALUES (%d, 0)", i))
		execOn(t, two, fmt.Sprintf("BEGIN; INSERT INTO b VALUES (%d, 0)", i))
		execOn(t, one, "COMMIT")
		execOn(t, two, "COMMIT")
		if i%5 == 4 {
			r.restart()
		}
	}
	m := r.same()
	if len(m.order) != 40 {
		t.Errorf("%d changes came, want 40", len(m.order))
	}
}

func TestRolledBackSavepointLeavesExactlyTheRest(t *testing.T) {
	url := shared.NewDatabase(t)
	r := newRig(t, url, pairSchema, define(table("a", "id:int|n:int")))
	r.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET logical_decoding_work_mem = ''64kB''', current_database()); END $$`)
	r.start()
	r.streaming()
	r.exec(`BEGIN; INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g; SAVEPOINT s;
		INSERT INTO a SELECT g, g FROM generate_series(1001, 1500) g; ROLLBACK TO s;
		INSERT INTO a SELECT g, g FROM generate_series(1501, 2500) g; COMMIT`)
	if m := r.same(); len(m.order) != 2000 {
		t.Errorf("%d rows came, want 2000", len(m.order))
	}
}

func TestStopsAtRandomPointsLoseAndDoubleNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	url := shared.NewDatabase(t)
	r := newRig(t, url, `CREATE TABLE a (id bigserial PRIMARY KEY, writer int, n int, pad text);`,
		define(table("a", "id:int|writer:int,n:int,pad:text")))
	r.exec("INSERT INTO a (writer, n) SELECT 0, g FROM generate_series(1, 20000) g")
	writing, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 3 {
		conn := session(t, url)
		writers.Add(1)
		go func() {
			defer writers.Done()
			pace := time.NewTicker(4 * time.Millisecond)
			defer pace.Stop()
			for n := 0; writing.Err() == nil && n < 600; n++ {
				<-pace.C
				size := 1
				if n%20 == 19 {
					size = 3000
				}
				_, err := conn.Exec(context.Background(),
					"INSERT INTO a (writer, n, pad) SELECT $1, $2, repeat('x', 200) FROM generate_series(1, $3)", w+1, n, size)
				if err != nil {
					t.Errorf("writer: %v", err)
					return
				}
			}
		}()
	}
	for range 6 {
		r.start()
		timer := time.NewTimer(time.Duration(random.IntN(700)) * time.Millisecond)
		<-timer.C
		r.end()
	}
	stop()
	writers.Wait()
	r.start()
	r.streaming()
	m := r.same()
	t.Logf("%+v", m.counts)
}

func TestUnchangedLargeValueIsNotLost(t *testing.T) {
	url := shared.NewDatabase(t)
	r := newRig(t, url, `CREATE TABLE doc (id int PRIMARY KEY, n int, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;`,
		define(table("doc", "id:int|n:int,body:text")))
	r.exec(`INSERT INTO doc SELECT 1, 1, string_agg(md5(g::text), '') FROM generate_series(1, 40000) g`)
	r.start()
	r.streaming()
	r.exec(`INSERT INTO doc SELECT 2, 1, string_agg(md5(g::text), '') FROM generate_series(1, 300000) g`) // 9.6 MB, above a message
	r.exec(`UPDATE doc SET n = 2`)
	r.exec(`BEGIN; INSERT INTO doc SELECT 3, 1, repeat('abc', 500000); UPDATE doc SET n = 5 WHERE id = 3; UPDATE doc SET body = repeat('z', 400000) WHERE id = 3; DELETE FROM doc WHERE id = 3; INSERT INTO doc VALUES (3, 9, 'short'); COMMIT`)
	if m := r.same(); m.counts.Unchanged != 3 {
		t.Errorf("%d unchanged values came, want 3", m.counts.Unchanged)
	}
}

func TestUnchangedLargeValueUnderFullIdentityComesFromTheOldRow(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TABLE doc (id int PRIMARY KEY, n int, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL; ALTER TABLE doc REPLICA IDENTITY FULL;`,
		define(table("doc", "id:int|n:int,body:text")))
	r.exec(`INSERT INTO doc VALUES (1, 1, repeat('abc', 500000))`)
	r.start()
	r.streaming()
	r.exec(`UPDATE doc SET n = 2; INSERT INTO doc VALUES (2, 2, NULL); DELETE FROM doc WHERE id = 2`)
	r.same()
}

func TestTruncateInATransaction(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int"), table("b", "id:int|n:int")))
	r.exec("INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1)")
	r.start()
	r.streaming()
	r.exec("BEGIN; INSERT INTO a VALUES (2, 2); TRUNCATE a, b CASCADE; INSERT INTO a VALUES (3, 3); COMMIT")
	r.same()
}

func TestPartitionsComeAsTheirRoot(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TABLE p (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE p_eu PARTITION OF p FOR VALUES IN ('eu');
		CREATE TABLE p_us (n int, gone int, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));
		ALTER TABLE p_us DROP COLUMN gone; ALTER TABLE p ATTACH PARTITION p_us FOR VALUES IN ('us');`,
		define(table("p", "id:int,region:text|n:int")))
	r.exec("INSERT INTO p SELECT g, CASE WHEN g % 2 = 0 THEN 'eu' ELSE 'us' END, g FROM generate_series(1, 100) g")
	r.start()
	r.streaming()
	r.exec("INSERT INTO p VALUES (500, 'us', 1); UPDATE p SET region = 'us' WHERE id = 2; UPDATE p SET n = 7 WHERE id = 3; DELETE FROM p WHERE id > 90")
	if m := r.same(); m.counts.Backfilled != 100 {
		t.Errorf("backfilled %d rows, want 100", m.counts.Backfilled)
	}
}

func TestSchemaChangesInsideATransaction(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE a (id int PRIMARY KEY, m mood);`,
		define(table("a", "id:int|m:text")))
	r.start()
	r.streaming()
	r.exec("BEGIN; INSERT INTO a VALUES (1, 'sad'); ALTER TABLE a ADD x int DEFAULT 3; INSERT INTO a VALUES (2, 'sad', 4); ALTER TABLE a DROP x; INSERT INTO a VALUES (3, NULL); COMMIT")
	r.exec("ALTER TYPE mood ADD VALUE 'glad'")
	r.exec("INSERT INTO a VALUES (4, 'glad')")
	r.same()
}

func TestValuesComeAsTheSourceWritesThem(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TABLE v (id int PRIMARY KEY, ts timestamp, tz timestamptz, d date, f8 float8, f4 float4, nu numeric, b bool, j jsonb, i8 int8, arr text[])`,
		define(table("v", "id:int|ts:timestamp,tz:timestamp,d:timestamp,f8:float,f4:float,nu:float,b:bool,j:json,i8:int,arr:list")))
	const rows = `(%d, 'infinity', '-infinity', '4713-01-01 BC', 'NaN', '-Infinity', 'NaN', true, 'null', 9223372036854775807, '{"a,b","\"",NULL}'),
		(%d, '294247-01-01', '0001-01-31 00:00:00+00', 'infinity', 0.1, 0.1, 1e-20, NULL, '{"n": 9007199254740993}', -1, '{}'),
		(%d, '4713-01-01 BC', '2020-01-01 12:00+05', '2020-02-29', 1e308, 3e38, repeat('9', 1000)::numeric, false, '"\u00e9\t"', 0, NULL)`
	r.exec("INSERT INTO v VALUES " + fmt.Sprintf(rows, 1, 2, 3))
	r.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %1$I SET datestyle = ''German''', current_database());
		EXECUTE format('ALTER DATABASE %1$I SET timezone = ''Asia/Tokyo''', current_database());
		EXECUTE format('ALTER DATABASE %1$I SET extra_float_digits = ''-15''', current_database());
		EXECUTE format('ALTER DATABASE %1$I SET statement_timeout = ''50ms''', current_database());
		EXECUTE format('ALTER DATABASE %1$I SET default_transaction_read_only = on', current_database()); END $$`)
	r.start()
	r.streaming()
	r.exec("INSERT INTO v VALUES " + fmt.Sprintf(rows, 4, 5, 6))
	r.same()
}

func TestStalledStreamKeepsTheConnectionAlive(t *testing.T) {
	server := pgtest.New(t, "wal_sender_timeout=2s")
	r := newRig(t, server.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, pad text); ALTER TABLE a ALTER pad SET STORAGE EXTERNAL;`, define(table("a", "id:int|pad:text")))
	r.newStream(4 << 20)
	r.start()
	r.streaming()
	// More than stream, publisher and queue can hold.
	for i := range 100 {
		r.exec(fmt.Sprintf("INSERT INTO a SELECT g, repeat(md5(g::text), 1000) FROM generate_series(%d, %d) g", i*20, i*20+19))
	}
	r.until("the source is parked", func(s cdc.Status) bool { return s.Parked })
	before := r.walsender() // known to the server by now: rows have come over it
	hold := time.NewTimer(5 * time.Second)
	<-hold.C
	if s := r.source.Status(); !s.Parked || s.Reconnects != 0 {
		t.Fatalf("after five seconds: parked %t, %d reconnects, %s", s.Parked, s.Reconnects, s.Fault)
	}
	lsn, err := r.source.Barrier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A store that applies makes room.
	r.model = newModel(t, r.cfg.Log)
	for r.model.header.EndLSN < lsn || r.model.header.Open {
		if err := r.model.next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.cfg.Log.Trim(t.Context(), r.model.sequence); err != nil {
			t.Fatal(err)
		}
	}
	r.compare(r.model)
	if after := r.walsender(); after != before {
		t.Errorf("the connection was lost: process %d, then %d", before, after)
	}
}

// walsender is the process id of the server's sender to our slot.
func (r *rig) walsender() (pid int) {
	r.t.Helper()
	if err := r.conn.QueryRow(r.t.Context(), "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = $1", r.cfg.Slot).Scan(&pid); err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// confirmed is the slot's confirmed position.
func (r *rig) confirmed() change.LSN {
	r.t.Helper()
	var text string
	if err := r.conn.QueryRow(r.t.Context(), "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", r.cfg.Slot).Scan(&text); err != nil {
		r.t.Fatal(err)
	}
	lsn, err := change.ParseLSN(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return lsn
}

func TestIdlePositionMovesWithUnpublishedActivity(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	for range 3 {
		r.exec("INSERT INTO b SELECT max(id) + g, 1 FROM (SELECT coalesce(max(id), 0) AS id FROM b) m, generate_series(1, 1000) g GROUP BY g")
		var text string
		if err := r.conn.QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&text); err != nil {
			t.Fatal(err)
		}
		lsn, err := change.ParseLSN(text)
		if err != nil {
			t.Fatal(err)
		}
		r.until("the server has our confirmation", func(s cdc.Status) bool { return s.DurableLSN >= lsn })
	}
	r.end()
	if h, _, _, err := r.cfg.Log.Last(t.Context()); err != nil || r.confirmed() != h.Resume {
		t.Errorf("confirmed %s, the stream ends at %s (%v)", r.confirmed(), h.Resume, err)
	}
}

func TestServerStopsAndComesBack(t *testing.T) {
	server := pgtest.New(t)
	url := server.NewDatabase(t)
	r := newRig(t, url, pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	downs := []func(){
		func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := server.Stop(ctx); err != nil {
				t.Errorf("the server does not stop with us connected: %v", err)
			}
		},
		server.Kill,
	}
	for i, down := range downs {
		r.exec(fmt.Sprintf("INSERT INTO a SELECT g, g FROM generate_series(%d, %d) g", i*1000, i*1000+499))
		down()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.conn = session(t, url)
		r.exec(fmt.Sprintf("INSERT INTO a SELECT g, g FROM generate_series(%d, %d) g", i*1000+500, i*1000+999))
		r.until("the source streams again", func(s cdc.Status) bool { return s.State == cdc.Streaming && s.Reconnects > uint64(i) })
		r.same()
	}
}

func TestBarrierComesWithoutAnyTable(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	before := r.catchUp().last
	if after := r.catchUp().last; after <= before {
		t.Errorf("a barrier did not move the version: %s, then %s", before, after)
	}
	if r.source.Status().Messages < 2 {
		t.Error("the barriers were not counted")
	}
}

func TestMessageOutsideATransactionIsPassedOver(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	r.exec("SELECT pg_logical_emit_message(false, 'other', 'x')")
	r.restart()
	r.exec("INSERT INTO a VALUES (1, 1)")
	r.same()
}

func TestTableOutsideTheDefinitionStopsTheSource(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.cfg.Publication = "outside"
	r.start()
	r.streaming()
	r.exec("ALTER PUBLICATION outside ADD TABLE b; INSERT INTO b VALUES (1, 1)")
	err := r.failure()
	var foreign *cdc.ForeignTableError
	if !errors.As(err, &foreign) {
		t.Fatalf("run: %v", err)
	}
	if want := `"public"."b"`; foreign.Table != want {
		t.Errorf("table %s, want %s", foreign.Table, want)
	}
}

func TestJumpOfTheSourcesClockStopsUnlessAccepted(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	r.end()
	behind := func() time.Time { return time.Now().Add(-2 * time.Hour) }
	r.cfg.Clock = behind
	r.exec("INSERT INTO a VALUES (1, 1)")
	err := r.fails()
	var clock *cdc.ClockError
	if !errors.As(err, &clock) || !clock.Source {
		t.Fatalf("run: %v", err)
	}
	r.cfg.AcceptClock = true
	r.start()
	r.streaming()
	r.same()
	if s := r.source.Status(); s.Clamps == 0 {
		t.Errorf("no clamp was counted: %+v", s)
	}
}
