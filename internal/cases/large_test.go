package cases_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
)

const (
	// memoryBound is what a daemon may take of anonymous memory whatever the size
	// of a transaction (I10): a store with 64 MiB of memtables and caches, the
	// messages under way, and what the garbage collector leaves.
	memoryBound = 320 << 20
	// compactionOf is what the store's compaction takes on top while it rewrites
	// very large values: it builds several tables at once, of blocks as large as a
	// piece of a value. compactionOfHuge is that for hundreds of megabytes, measured
	// at 190 MiB for a value of 256 MiB.
	compactionOf     = 64 << 20
	compactionOfHuge = 256 << 20
	// defaultMaxRow is the largest row unless a case raises it.
	defaultMaxRow = 64 << 20
	// defaultLargeRows is the size of a large transaction unless the flag says otherwise.
	defaultLargeRows = 200_000
)

// spilling makes the server write what it decodes to disk beyond 64 kB.
func spilling(t *testing.T, schema string) *database {
	db := newDatabase(t, schema)
	db.set("logical_decoding_work_mem", "64kB")
	return db
}

// requireSpilled wants the server to have spilled what it sent through a slot:
// without it a case shows nothing of the kind.
func requireSpilled(t *testing.T, db *database, d *daemon) {
	t.Helper()
	eventually(t, "the server says that it spilled", func() bool {
		return db.text("SELECT coalesce(sum(spill_txns), 0)::text FROM pg_stat_replication_slots WHERE slot_name = '"+d.setup.Slot+"'") != "0"
	})
}

func TestLargeTransactions(t *testing.T) {
	t.Parallel()
	parallel(t, "with logical_decoding_work_mem=64kB a savepoint rolled back in the middle leaves exactly the other 2,000 rows", func(t *testing.T) {
		db := spilling(t, pairSchema)
		d := start(t, db, options{tables: pair})
		db.exec(`BEGIN; INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g; SAVEPOINT s;
			INSERT INTO a SELECT g, g FROM generate_series(1001, 1500) g; ROLLBACK TO s;
			INSERT INTO a SELECT g, g FROM generate_series(1501, 2500) g; COMMIT`)
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 2000)
		requireSpilled(t, db, d)
	})
	parallel(t, "savepoints in savepoints, released and rolled back, leave exactly what the source holds", func(t *testing.T) {
		db := spilling(t, pairSchema)
		d := start(t, db, options{tables: pair})
		db.exec(`BEGIN; INSERT INTO a SELECT g, 0 FROM generate_series(1, 1000) g;
			SAVEPOINT x; UPDATE a SET n = 1 WHERE id <= 500;
				SAVEPOINT y; DELETE FROM a WHERE id <= 100; INSERT INTO a SELECT g, 2 FROM generate_series(1001, 1500) g;
					SAVEPOINT z; UPDATE a SET n = 3; ROLLBACK TO z; UPDATE a SET n = 4 WHERE id = 101; RELEASE z;
				RELEASE y; INSERT INTO b SELECT g, 5 FROM generate_series(1, 1000) g;
				SAVEPOINT y; TRUNCATE b; ROLLBACK TO y;
				SAVEPOINT y; INSERT INTO b VALUES (2000, 6); ROLLBACK TO x;
			INSERT INTO a SELECT g, 7 FROM generate_series(2001, 2500) g;
			SAVEPOINT x; DELETE FROM a WHERE id BETWEEN 901 AND 1000; RELEASE x; COMMIT`)
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 1000+500+100)
		requireChanges(t, d, "b", 0)
		requireSpilled(t, db, d)
	})
	parallel(t, "2,000 subtransactions, every third rolled back by an exception, leave exactly the others", func(t *testing.T) {
		db := spilling(t, pairSchema)
		d := start(t, db, options{tables: pair})
		db.exec(`DO $$ BEGIN FOR i IN 1..2000 LOOP BEGIN
			INSERT INTO a VALUES (i, 0); UPDATE a SET n = i WHERE id = i;
			IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
			EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$`)
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 2*(2000-2000/3))
		requireSpilled(t, db, d)
	})
	parallel(t, "large transactions written side by side come whole, in the order of their commits", func(t *testing.T) {
		db := spilling(t, pairSchema)
		d := startChild(t, db, options{tables: pair})
		one, two := db.session(), db.session()
		one.exec("BEGIN")
		two.exec("BEGIN")
		for i := range 5 {
			one.exec(fmt.Sprintf("INSERT INTO a SELECT g, 1 FROM generate_series(%d, %d) g", i*4000+1, (i+1)*4000))
			two.exec(fmt.Sprintf("INSERT INTO b SELECT g, 1 FROM generate_series(%d, %d) g", i*4000+1, (i+1)*4000))
		}
		two.exec("COMMIT")
		one.exec("COMMIT")
		requireEqual(t, db, d)
		all := d.history()
		if len(all) != 40_000 || all[0].table != "b" || all[19_999].table != "b" || all[20_000].table != "a" {
			t.Errorf("%d changes, want 20000 of b and then 20000 of a", len(all))
		}
	})
	parallel(t, "a large transaction that is rolled back leaves nothing", func(t *testing.T) {
		db := spilling(t, pairSchema)
		d := start(t, db, options{tables: pair})
		db.exec(fmt.Sprintf("BEGIN; INSERT INTO a SELECT g, 1 FROM generate_series(1, %d) g; ROLLBACK; INSERT INTO b VALUES (1, 1)", *largeRows/4))
		requireEqual(t, db, d)
		requireOrder(t, d, "b: id=1 n=1")
	})
	parallel(t, "readers see all of a large transaction or nothing of it", atomicForReaders)
	parallel(t, "the rows of a large transaction, COPY among them, pass in bounded memory", boundedMemory)
	parallel(t, "a very large value passes in bounded memory, whole, and survives an update of another column", veryLargeValue)
	parallel(t, "a row above --max-row-bytes stops with its own error, and comes once the limit is raised", rowAboveTheLimit)
}

const manySchema = `CREATE TABLE many (id int PRIMARY KEY, user_id int NOT NULL, pad text);`

var many = tables(table("many", "id:int|user_id:int,pad:text").of("user", "user_id"))

// insertMany writes rows of a tenth of the users each time.
func insertMany(rows int) string {
	return fmt.Sprintf("INSERT INTO many SELECT g, g %% 1000, md5(g::text) FROM generate_series(1, %d) g", rows)
}

// atomicForReaders reads two users again and again: in every view each has all
// rows of the transaction or none (I4).
func atomicForReaders(t *testing.T) {
	db := spilling(t, manySchema)
	d := start(t, db, options{tables: many})
	d.catchUp()
	rows := *largeRows / 1000 * 1000
	reading, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	var none, all, parts int
	var sequences map[uint64]bool
	readers.Go(func() {
		sequences = map[uint64]bool{}
		for reading.Err() == nil {
			sequences[d.store.Watermark().Sequence] = true
			seen, err := rowsOf(d.store, "7", "999")
			if err != nil {
				t.Errorf("reader: %v", err)
				return
			}
			switch seen {
			case [2]int{}:
				none++
			case [2]int{rows / 1000, rows / 1000}:
				all++
			default:
				parts++
			}
		}
	})
	db.exec(insertMany(rows))
	d.catchUp()
	if seen, err := rowsOf(d.store, "7", "999"); err != nil || seen != [2]int{rows / 1000, rows / 1000} {
		t.Errorf("after all of it, %v rows (%v)", seen, err)
	}
	stop()
	readers.Wait()
	if parts > 0 || none == 0 {
		t.Errorf("%d readers saw nothing, %d saw all, %d a part", none, all, parts)
	}
	if len(sequences) < 3 {
		t.Errorf("the store was read at %d places of the stream only: the transaction was not applied in parts", len(sequences))
	}
	requireEqual(t, db, d)
	requireSpilled(t, db, d)
}

// rowsOf counts the rows of two users in one view.
func rowsOf(s *featurestore.Store, first, second string) (seen [2]int, err error) {
	view, err := s.View(0)
	if err != nil {
		return seen, err
	}
	defer view.Close()
	for i, id := range []string{first, second} {
		e, err := view.Entity(context.Background(), "user", id)
		if err != nil {
			return seen, err
		}
		if e != nil {
			seen[i] = len(e.Rows)
		}
	}
	return seen, nil
}

func boundedMemory(t *testing.T) {
	db := spilling(t, manySchema)
	// The collector is told to stay below the bound, so that the peak shows what is
	// live. Tens of millions of changes may take what the program is configured to:
	// the store's compaction builds larger tables the more it holds (374 MiB at 3
	// million rows, 543 at 10 million).
	bound, collect := int64(memoryBound), int64(memoryBound*4/5)
	if *largeRows > defaultLargeRows {
		bound, collect = childMemoryLimit, childMemoryLimit*4/5
	}
	d := startChild(t, db, options{tables: many, memoryLimit: collect})
	rows := *largeRows / 2
	var lines strings.Builder
	for i := range rows {
		fmt.Fprintf(&lines, "%d\t%d\tcopied\n", i+1, i%1000)
	}
	s := db.session()
	s.exec("BEGIN")
	s.copyIn("COPY many FROM STDIN", lines.String())
	s.exec(fmt.Sprintf("INSERT INTO many SELECT %d + g, g %% 1000, md5(g::text) FROM generate_series(1, %d) g", rows, rows))
	s.exec(fmt.Sprintf("UPDATE many SET user_id = user_id + 1 WHERE id <= %d", rows/2))
	s.exec(fmt.Sprintf("DELETE FROM many WHERE id > %d", rows+rows/2))
	s.exec("COMMIT")
	d.catchUp()
	peak := d.child.memory()
	t.Logf("%d rows: peak of anonymous memory %d MiB", 2*rows, peak>>20)
	if peak == 0 || peak > bound {
		t.Errorf("the peak of anonymous memory was %d bytes, want up to %d", peak, bound)
	}
	requireEqual(t, db, d)
	requireSpilled(t, db, d)
}

func veryLargeValue(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE doc (id int PRIMARY KEY, n int, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;`)
	limit := max(defaultMaxRow, *largeValue+*largeValue/4)
	// One row costs at most three of them (I10). The garbage collector is told to
	// stay below that, so that the peak shows what is live.
	bound, collect := int64(memoryBound+compactionOf+3*limit), int64(400<<20)
	if limit > defaultMaxRow {
		bound += compactionOfHuge - compactionOf
		collect = bound * 4 / 5
	}
	d := startChild(t, db, options{tables: tables(table("doc", "id:int|n:int,body:text")), maxRowBytes: limit, memoryLimit: collect})
	// Digits that a store's compression makes little of.
	db.exec(fmt.Sprintf("INSERT INTO doc SELECT 1, 1, string_agg(md5(g::text), '') FROM generate_series(1, %d) g", *largeValue/32))
	d.catchUp()
	db.exec("UPDATE doc SET n = 2") // the value stays where it is: TOAST
	db.exec("BEGIN; UPDATE doc SET n = 3; UPDATE doc SET id = 2; COMMIT")
	d.catchUp()
	peak := d.child.memory()
	t.Logf("a value of %d MiB: peak of anonymous memory %d MiB", *largeValue>>20, peak>>20)
	if peak == 0 || peak > bound {
		t.Errorf("the peak of anonymous memory was %d bytes, want up to %d", peak, bound)
	}
	requireEqual(t, db, d)
	requireChanges(t, d, "doc", 5) // inserted, updated twice, moved: a tombstone and a row
	// The stream carries it in messages below the broker's limit.
	log, err := cdc.OpenLog(t.Context(), cdc.LogConfig{Dir: d.setup.Dir + "/stream", Logger: childLogger(), MaxRowBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	reader, err := log.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	_, last, _, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, err := reader.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.Bytes > log.MaxMessage() {
			t.Errorf("message %d takes %d bytes, the largest may take %d", b.Sequence, b.Bytes, log.MaxMessage())
		}
		if b.Sequence == last {
			return
		}
	}
}

func rowAboveTheLimit(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE doc (id int PRIMARY KEY, n int, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;`)
	d := start(t, db, options{tables: tables(table("doc", "id:int|n:int,body:text")), maxRowBytes: 1 << 20})
	db.exec("INSERT INTO doc VALUES (1, 1, repeat(md5('fits'), 30000))")
	d.catchUp()
	before := d.store.Watermark().Version
	db.exec("BEGIN; INSERT INTO doc VALUES (2, 1, 'small'); INSERT INTO doc VALUES (3, 1, repeat(md5('large'), 60000)); COMMIT")
	for range 2 { // it does not go on at the second start either
		err := d.failure()
		var source *cdc.RowTooLargeError
		var store *featurestore.RowSizeError
		if !errors.As(err, &source) && !errors.As(err, &store) {
			t.Fatalf("the daemon ended with %v", err)
		}
		d.launch()
	}
	_ = d.failure()
	d.setup.MaxRowBytes = 4 << 20
	d.start()
	requireEqual(t, db, d)
	requireVersions(t, d, "doc", "2", "id=2 n=1 body=small")
	for _, v := range d.versionsOf("doc", "2") {
		if v.Version.Version <= before {
			t.Errorf("the row came at %s, before its transaction", v.Version.Version)
		}
	}
}
