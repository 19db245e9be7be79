package cases_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/durable"
	"dreamfeed/internal/pgtest"
)

const pairSchema = `CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);`

var pair = tables(table("a", "id:int|n:int"), table("b", "id:int|n:int"))

func TestResumeOrderAcknowledgement(t *testing.T) {
	t.Parallel()
	// Row positions of the older transaction are below those of what is durable:
	// resuming by row position would lose them (I3).
	for _, end := range []string{"stopped", "killed"} {
		parallel(t, "a transaction older than what is durable is read whole after the daemon was "+end, func(t *testing.T) {
			db := newDatabase(t, pairSchema)
			d := startChild(t, db, options{tables: pair})
			one, two := db.session(), db.session()
			one.exec("BEGIN; INSERT INTO a VALUES (1, 1)")
			two.exec("BEGIN; INSERT INTO b VALUES (1, 1); COMMIT")
			d.catchUp() // b1 is durable
			if end == "killed" {
				d.crash()
			} else {
				d.stop()
			}
			one.exec("INSERT INTO a VALUES (2, 2); COMMIT")
			d.start()
			requireEqual(t, db, d)
			requireOrder(t, d, "b: id=1 n=1", "a: id=1 n=1", "a: id=2 n=2")
		})
	}
	parallel(t, "a transaction still open at the restart comes whole after the one that committed first", func(t *testing.T) {
		db := newDatabase(t, pairSchema)
		d := start(t, db, options{tables: pair})
		one, two := db.session(), db.session()
		one.exec("BEGIN; INSERT INTO a VALUES (1, 1)")
		two.exec("BEGIN; INSERT INTO b VALUES (1, 1); COMMIT")
		d.catchUp()
		d.restart()
		two.exec("INSERT INTO b VALUES (2, 2)")
		one.exec("INSERT INTO a VALUES (2, 2); COMMIT")
		requireEqual(t, db, d)
		requireOrder(t, d, "b: id=1 n=1", "b: id=2 n=2", "a: id=1 n=1", "a: id=2 n=2")
	})
	parallel(t, "a transaction open over several restarts comes whole", openOverRestarts)
	parallel(t, "a prepared transaction comes when it is committed, over restarts, and not when it is rolled back", preparedTransactions)
	parallel(t, "of two transactions with adjacent commit records the second follows when the first is confirmed", adjacentCommits)
	parallel(t, "a position one byte above the end of the first would lose the second, its end does not", oneByteMore)
	parallel(t, "killed in the middle of a transaction of 5,000 rows, nothing is lost or doubled", killedInTheMiddle)
	parallel(t, "killed after the store's commit and before the confirmation, nothing is lost or doubled", killedBeforeConfirmation)
	parallel(t, "killed while only keepalives flow, nothing is lost", killedWhileIdle)
	parallel(t, "what is confirmed is not sent again to a new connection or a restarted daemon", nothingAgain)
	parallel(t, "stored progress whose status updates were suppressed is not replayed into the store", suppressedUpdates)
	parallel(t, "a connection dropped while the store writes loses and doubles nothing", droppedConnection)
	parallel(t, "after a last event outside any transaction and a restart an INSERT arrives", lastEventOutside)
	parallel(t, "SIGTERM with progress pending confirms all that is in the stream before the exit", pendingAtTheEnd)
	parallel(t, "pg_ctl stop -m fast does not hang on our connection", fastStop)
	parallel(t, "transactions interleaved at random are applied in the order of their commits", interleaved)
	parallel(t, "concurrent writers are applied in the order of the log", concurrentWriters)
	parallel(t, "transactions that publish nothing or roll back leave no change and do not hold progress up", nothingPublished)
}

func openOverRestarts(t *testing.T) {
	db := newDatabase(t, pairSchema)
	d := startChild(t, db, options{tables: pair})
	one := db.session()
	one.exec("BEGIN; INSERT INTO a VALUES (0, 0)")
	var want []string
	for i := 1; i <= 3; i++ {
		db.exec(fmt.Sprintf("INSERT INTO b VALUES (%d, 0)", i))
		want = append(want, fmt.Sprintf("b: id=%d n=0", i))
		one.exec(fmt.Sprintf("SAVEPOINT s; INSERT INTO a VALUES (%d, 1)", i))
		d.catchUp()
		if i%2 == 0 {
			d.stop()
		} else {
			d.crash()
		}
		d.startChild()
	}
	one.exec("COMMIT")
	requireEqual(t, db, d)
	requireOrder(t, d, append(want, "a: id=0 n=0", "a: id=1 n=1", "a: id=2 n=1", "a: id=3 n=1")...)
}

func preparedTransactions(t *testing.T) {
	db := newDatabase(t, pairSchema)
	d := startChild(t, db, options{tables: pair})
	name := strings.ReplaceAll(d.setup.Slot, "'", "")
	db.exec("BEGIN; INSERT INTO a VALUES (1, 1); PREPARE TRANSACTION '" + name + "_kept'")
	db.exec("BEGIN; INSERT INTO a VALUES (2, 2); PREPARE TRANSACTION '" + name + "_gone'")
	db.exec("INSERT INTO b VALUES (1, 1)")
	d.catchUp()
	d.crash()
	d.startChild()
	d.catchUp()
	db.exec("COMMIT PREPARED '" + name + "_kept'")
	db.exec("ROLLBACK PREPARED '" + name + "_gone'")
	d.catchUp()
	d.crash()
	d.startChild()
	requireEqual(t, db, d)
	requireOrder(t, d, "b: id=1 n=1", "a: id=1 n=1")
}

// killedInTheMiddle holds the transaction back on its way, at several places, so
// that the stream ends with one of its parts when the daemon is killed.
func killedInTheMiddle(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, pad text)`)
	n := newNetwork(t, db.url)
	d := startChild(t, db, options{tables: tables(table("a", "id:int|pad:text")), via: n})
	const rows = 5000
	for i, passes := range []int{600 << 10, 2 << 20, 4 << 20} { // of about 5 MB
		d.catchUp()
		n.holdAfter(passes)
		db.exec(fmt.Sprintf("INSERT INTO a SELECT g, repeat(md5(g::text), 30) FROM generate_series(%d, %d) g", i*rows+1, (i+1)*rows))
		eventually(t, "the transaction is held back", n.holding)
		eventually(t, "the stream ends with a part of it", func() bool { return d.child.openPart() > 0 })
		d.crash()
		n.hold(false)
		n.cut()
		d.startChild()
	}
	requireEqual(t, db, d)
	requireChanges(t, d, "a", 3*rows)
}

// killedBeforeConfirmation lets no confirmation through: the server is told of
// nothing that stream and store hold.
func killedBeforeConfirmation(t *testing.T) {
	db := newDatabase(t, pairSchema)
	n := newNetwork(t, db.url)
	d := startChild(t, db, options{tables: pair, via: n})
	n.swallow(true)
	for i := range 3 {
		confirmed := db.confirmed(d.setup.Slot)
		db.exec(fmt.Sprintf("INSERT INTO a SELECT g, 1 FROM generate_series(%d, %d) g; UPDATE a SET n = 2 WHERE id = %d", i*100+1, i*100+100, i*100+1))
		d.catchUp()
		d.crash()
		if now := db.confirmed(d.setup.Slot); now != confirmed {
			t.Errorf("the confirmation went from %s to %s although none came through", confirmed, now)
		}
		d.startChild()
	}
	requireEqual(t, db, d)
	requireChanges(t, d, "a", 3*101)
	if n.swallowed() == 0 {
		t.Error("no status update was sent: the case shows nothing")
	}
}

func killedWhileIdle(t *testing.T) {
	db := newDatabase(t, pairSchema)
	d := startChild(t, db, options{tables: pair})
	for i := 1; i <= 2; i++ {
		db.exec(fmt.Sprintf("INSERT INTO a VALUES (%d, 1)", i))
		db.exec("SELECT pg_logical_emit_message(false, 'other', 'nothing of ours')")
		end := db.lsn("SELECT pg_current_wal_insert_lsn()::text")
		eventually(t, "an idle position is confirmed", func() bool { return db.confirmed(d.setup.Slot) >= end })
		d.crash()
		d.startChild()
	}
	db.exec("INSERT INTO b VALUES (1, 1)")
	requireEqual(t, db, d)
	requireOrder(t, d, "a: id=1 n=1", "a: id=2 n=1", "b: id=1 n=1")
}

func nothingAgain(t *testing.T) {
	db := newDatabase(t, pairSchema)
	n := newNetwork(t, db.url)
	d := start(t, db, options{tables: pair, via: n})
	db.exec("INSERT INTO a SELECT g, 1 FROM generate_series(1, 100) g")
	d.catchUp()
	end := db.lsn("SELECT pg_current_wal_insert_lsn()::text")
	d.until("everything is confirmed", func(s cdc.Status) bool { return s.DurableLSN >= end })
	before := d.source.Status().Rows
	n.cut()
	d.until("the source streams again", func(s cdc.Status) bool { return s.State == cdc.Streaming && s.Reconnects > 0 })
	d.catchUp()
	if s := d.source.Status(); s.Rows != before || before != 100 {
		t.Errorf("%d rows were received before the reconnect, %d after, want 100 of each", before, s.Rows)
	}
	d.restart()
	requireEqual(t, db, d)
	if s := d.source.Status(); s.Rows != 0 {
		t.Errorf("%d rows were received after a restart, want 0", s.Rows)
	}
	requireChanges(t, d, "a", 100)
}

func suppressedUpdates(t *testing.T) {
	db := newDatabase(t, pairSchema)
	n := newNetwork(t, db.url)
	d := start(t, db, options{tables: pair, via: n})
	n.swallow(true)
	confirmed := db.confirmed(d.setup.Slot)
	db.exec("INSERT INTO a SELECT g, 1 FROM generate_series(1, 100) g")
	d.catchUp()
	applied := d.store.Status().Counters.Changes
	d.stop() // the farewell is swallowed too
	if now := db.confirmed(d.setup.Slot); now != confirmed {
		t.Fatalf("the confirmation went from %s to %s although none came through", confirmed, now)
	}
	n.swallow(false)
	d.start()
	requireEqual(t, db, d)
	if s := d.source.Status(); s.Rows != 0 {
		t.Errorf("%d rows were sent again", s.Rows)
	}
	if now := d.store.Status().Counters.Changes; now != applied {
		t.Errorf("the store applied %d changes, then %d", applied, now)
	}
	requireChanges(t, d, "a", 100)
}

func droppedConnection(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id bigserial PRIMARY KEY, pad text)`)
	n := newNetwork(t, db.url)
	g := &gate{step: durable.Commit}
	d := start(t, db, options{tables: tables(table("a", "id:int|pad:text")), via: n, store: func(o *featurestore.Options) { o.Hook = g.hook }})
	writing, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	rows := 0
	conn := db.session()
	writer.Go(func() {
		for writing.Err() == nil {
			if err := conn.try("INSERT INTO a (pad) SELECT repeat('x', 500) FROM generate_series(1, 200)"); err != nil {
				t.Errorf("writer: %v", err)
				return
			}
			rows += 200
		}
	})
	for i := range 2 {
		mark := d.store.Watermark().Sequence
		d.await("the store writes", func() bool { return d.store.Watermark().Sequence > mark+2 })
		g.mu.Lock() // a write of the store begins before the connection goes, and ends after
		d.await("a write is under way", func() bool { return g.waiting.Load() > 0 })
		n.cut()
		d.until("the connection is lost", func(s cdc.Status) bool { return s.Reconnects > uint64(i) })
		g.mu.Unlock()
		d.until("the source streams again", func(s cdc.Status) bool { return s.State == cdc.Streaming })
	}
	stop()
	writer.Wait()
	requireEqual(t, db, d)
	requireChanges(t, d, "a", rows)
}

func lastEventOutside(t *testing.T) {
	db := newDatabase(t, pairSchema)
	d := startChild(t, db, options{tables: pair})
	for i, end := range []func(){d.stop, d.crash} {
		db.exec("SELECT pg_logical_emit_message(false, 'other', 'the last event')")
		end()
		d.startChild()
		db.exec(fmt.Sprintf("INSERT INTO a VALUES (%d, 1)", i))
		d.catchUp()
	}
	requireEqual(t, db, d)
	requireOrder(t, d, "a: id=0 n=1", "a: id=1 n=1")
}

func pendingAtTheEnd(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id bigserial PRIMARY KEY, pad text)`)
	d := startChild(t, db, options{tables: tables(table("a", "id:int|pad:text"))})
	conn := db.session()
	rows := 0
	for range 3 {
		for range 50 {
			conn.exec("INSERT INTO a (pad) SELECT repeat('x', 500) FROM generate_series(1, 20)")
			rows += 20
		}
		d.child.terminate()
		d.child = nil
		// What the stream holds is confirmed, no more and no less (I1).
		log, err := cdc.OpenLog(t.Context(), cdc.LogConfig{Dir: d.setup.Dir + "/stream", Logger: childLogger()})
		if err != nil {
			t.Fatal(err)
		}
		header, _, _, err := log.Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if confirmed := db.confirmed(d.setup.Slot); confirmed != header.Resume {
			t.Errorf("confirmed is %s, the stream holds all up to %s", confirmed, header.Resume)
		}
		d.startChild()
	}
	requireEqual(t, db, d)
	requireChanges(t, d, "a", rows)
}

func fastStop(t *testing.T) {
	server := pgtest.New(t)
	db := newDatabaseOn(t, server, pairSchema)
	d := start(t, db, options{tables: pair})
	for i := range 2 {
		db.exec(fmt.Sprintf("INSERT INTO a SELECT g, 1 FROM generate_series(%d, %d) g", i*20000, i*20000+19999))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if err := server.Stop(ctx); err != nil { // Stop is fast: SIGINT
			t.Fatalf("the server does not stop with us connected: %v", err)
		}
		cancel()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.until("the source streams again", func(s cdc.Status) bool { return s.State == cdc.Streaming && s.Reconnects > uint64(i) })
		db.reconnect()
	}
	requireEqual(t, db, d)
	requireChanges(t, d, "a", 40000)
}

// interleaved runs the statements of several sessions in an order drawn at
// random, so that the order of the commits is known.
func interleaved(t *testing.T) {
	random := newRandom(t)
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int)`)
	d := startChild(t, db, options{tables: tables(table("a", "id:int|n:int"))})
	type writer struct {
		*session
		left []string // the rows of its open transaction
	}
	var writers []*writer
	for range 6 {
		writers = append(writers, &writer{session: db.session()})
	}
	next := 0
	var want []string
	commit := func(w *writer) {
		w.exec("COMMIT")
		want = append(want, w.left...)
		w.left = nil
	}
	for i := range 400 {
		w := writers[random.IntN(len(writers))]
		switch {
		case len(w.left) == 0:
			w.exec("BEGIN")
			fallthrough
		case random.IntN(3) > 0:
			next++
			w.exec(fmt.Sprintf("INSERT INTO a VALUES (%d, %d)", next, i))
			w.left = append(w.left, fmt.Sprintf("a: id=%d n=%d", next, i))
		default:
			commit(w)
		}
		if i%130 == 129 {
			d.crash()
			d.startChild()
		}
	}
	for _, w := range writers {
		if len(w.left) > 0 {
			commit(w)
		}
	}
	requireEqual(t, db, d)
	requireOrder(t, d, want...)
}

// concurrentWriters compares the order with that of another slot, read by the
// server's own function.
func concurrentWriters(t *testing.T) {
	random := newRandom(t)
	db := newDatabase(t, `CREATE TABLE a (id bigserial PRIMARY KEY, w int, n int)`)
	d := start(t, db, options{tables: tables(table("a", "id:int|w:int,n:int"))})
	other := d.setup.Slot + "_other"
	db.exec("SELECT pg_create_logical_replication_slot('" + other + "', 'pgoutput')")
	var writers sync.WaitGroup
	for w := range 8 {
		conn := db.session()
		sizes := make([]int, 60)
		for i := range sizes {
			sizes[i] = 1 + random.IntN(4)
		}
		writers.Go(func() {
			for n, size := range sizes {
				sql := "BEGIN"
				for range size {
					sql += fmt.Sprintf("; INSERT INTO a (w, n) VALUES (%d, %d)", w, n)
				}
				if err := conn.try(sql + "; COMMIT"); err != nil {
					t.Errorf("writer: %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	requireEqual(t, db, d)
	var got []string
	for _, v := range d.history() {
		got = append(got, v.key)
	}
	want := insertedKeys(t, db, other, d.setup.Publication)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows in the order of the log and of the store (-log +store):\n%s", diff)
	}
	if slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) | strings.Compare(a, b) }) {
		t.Log("no transaction overtook another this time")
	}
}

func nothingPublished(t *testing.T) {
	db := newDatabase(t, pairSchema+"CREATE TABLE unpublished (id int);")
	d := start(t, db, options{tables: pair})
	db.exec("BEGIN; INSERT INTO a SELECT g, 1 FROM generate_series(1, 3000) g; ROLLBACK")
	db.exec("BEGIN; SAVEPOINT s; INSERT INTO a VALUES (1, 1); ROLLBACK TO s; COMMIT")
	db.exec("INSERT INTO unpublished SELECT g FROM generate_series(1, 3000) g")
	db.exec("BEGIN; CREATE TABLE fleeting (id int); DROP TABLE fleeting; COMMIT")
	db.exec("BEGIN; SELECT txid_current(); COMMIT")
	end := db.lsn("SELECT pg_current_wal_insert_lsn()::text")
	d.until("the position is confirmed", func(s cdc.Status) bool { return s.DurableLSN >= end })
	requireEqual(t, db, d)
	requireChanges(t, d, "a", 0)
	if s := d.source.Status(); s.Rows != 0 {
		t.Errorf("%d rows came", s.Rows)
	}
}

// newRandom logs its seed.
func newRandom(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
