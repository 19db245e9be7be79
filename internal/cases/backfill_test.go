package cases_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
	"dreamfeed/internal/history"
	"dreamfeed/internal/pgtest"
)

// deadly gives every part the hook that kills the process at the step that the
// setup names.
func (s setup) deadly() options {
	if s.KillAt == 0 {
		return options{}
	}
	var count atomic.Int32
	hook := func(step durable.Step, _ uint64) error {
		if step == s.KillStep && count.Add(1) == s.KillAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it has come
		}
		return nil
	}
	return options{
		source: func(c *cdc.Config) { c.Hook = hook },
		log:    func(c *cdc.LogConfig) { c.Hook = hook },
		store:  func(c *featurestore.Options) { c.Hook = hook },
	}
}

// dieAt runs a child that kills itself right before the n-th step of a kind, and
// returns when it is dead.
func (d *daemon) dieAt(step durable.Step, n int32) {
	d.t.Helper()
	d.setup.KillStep, d.setup.KillAt = step, n
	d.launchChild()
	if err := d.child.wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		d.t.Fatalf("the child ended with %v; it wrote:\n%s", err, d.child.errors)
	}
	d.child.input.Close()
	d.child, d.setup.KillAt = nil, 0
}

// writer runs statements made of 1, 2, 3 … on a session of its own until the
// returned function stops it, which returns how many ran.
func writer(db *database, statement func(n int) string) (stop func() int) {
	s := db.session()
	ctx, cancel := context.WithCancel(db.t.Context())
	done := make(chan int, 1)
	go func() {
		n := 0
		for ctx.Err() == nil {
			if err := s.try(statement(n + 1)); err != nil {
				db.t.Errorf("writer: %v", err)
				break
			}
			n++
		}
		done <- n
	}()
	return func() int { cancel(); return <-done }
}

// requireWholeAtEveryMoment looks at a table as of every moment at which
// something changed, and right before it: no half transaction shows.
func requireWholeAtEveryMoment(t *testing.T, d *daemon, tab string, ok func(rows int) bool) {
	t.Helper()
	d.catchUp()
	moments := map[change.Version]bool{}
	for _, v := range d.history() {
		moments[v.Version.Version] = true
		moments[v.Version.Version-1] = true
	}
	d.read(func(s *featurestore.Store) {
		birth := s.Watermark().Birth
		for at := range moments {
			if at < birth || at > s.Watermark().Version {
				continue
			}
			view, err := s.View(at)
			if err != nil {
				t.Fatal(err)
			}
			rows := 0
			eachRow(t, d.setup.definition(), view, func(held *history.Table, r *history.Row) error {
				if held.Name == tab && !r.Versions[0].Deleted {
					rows++
				}
				return nil
			})
			if !ok(rows) {
				t.Errorf("as of %s the table has %d rows", at, rows)
			}
		}
	})
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	parallel(t, "a writer inserts 1..N without pause through the backfill and the start of the stream: no gap, no double", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a SELECT -g, g FROM generate_series(1, 30000) g`)
		stop := writer(db, func(n int) string { return fmt.Sprintf("INSERT INTO a VALUES (%d, %d)", n, n) })
		d := start(t, db, options{tables: tables(table("a", "id:int|n:int"))})
		d.catchUp()
		d.catchUp()
		n := stop()
		if n == 0 {
			t.Fatal("the writer wrote nothing")
		}
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 30000+n)
	})
	parallel(t, "a transaction that is open before the slot exists and commits while the slot is being made", func(t *testing.T) {
		db := newDatabaseOn(t, pgtest.New(t), pairSchema+"INSERT INTO a SELECT g, g FROM generate_series(1, 100) g")
		old, older := db.session(), db.session()
		older.exec("BEGIN; INSERT INTO a VALUES (1001, 1)")
		old.exec("BEGIN; INSERT INTO a VALUES (1002, 1); UPDATE a SET n = 0 WHERE id = 1; DELETE FROM a WHERE id = 2")
		d := newDaemon(t, db, options{tables: pair})
		d.launch()
		d.await("the slot waits for what is open", func() bool {
			return db.text("SELECT count(*)::text FROM pg_replication_slots") == "1"
		})
		db.exec("INSERT INTO a VALUES (1003, 1)")
		old.exec("COMMIT")
		db.exec("INSERT INTO a VALUES (1004, 1)")
		older.exec("INSERT INTO a VALUES (1005, 1); COMMIT")
		d.streaming()
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 100-1+5)
	})
	steps := map[string]struct {
		step durable.Step
		n    int32
	}{
		"the publication is made":            {durable.CreatePublication, 1},
		"the first tick is published":        {durable.Publish, 1},
		"the slot is made":                   {durable.CreateSlot, 1},
		"the first rows are published":       {durable.Publish, 2},
		"more rows are published":            {durable.Publish, 5},
		"the first rows are acknowledged":    {durable.Acknowledge, 2},
		"the store writes the first group":   {durable.Commit, 1},
		"the store writes a later group":     {durable.Commit, 3},
		"the store shows what it wrote":      {durable.Show, 2},
		"the first position is confirmed":    {durable.Confirm, 1},
		"the end of the backfill is on disk": {durable.Acknowledge, 8},
	}
	for what, at := range steps {
		parallel(t, "killed right before "+what+": the next start ends equal to the source", func(t *testing.T) {
			db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int, pad text); INSERT INTO a SELECT g, g, repeat('x', 300) FROM generate_series(1, 5000) g`)
			d := newDaemon(t, db, options{tables: tables(table("a", "id:int|n:int,pad:text"))})
			d.dieAt(at.step, at.n)
			// Ghosts, if anything of the first attempt stayed.
			db.exec("DELETE FROM a WHERE id % 3 = 0; UPDATE a SET id = id + 100000 WHERE id % 7 = 0; INSERT INTO a VALUES (-1, 1)")
			d.start()
			requireEqual(t, db, d)
			db.exec("UPDATE a SET n = 5 WHERE id < 100")
			requireEqual(t, db, d)
		})
	}
	parallel(t, "killed at random moments of the backfill, with a writer: equal to the source in the end", func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		db := newDatabase(t, `CREATE TABLE a (id bigserial PRIMARY KEY, n int, pad text); INSERT INTO a (n, pad) SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g`)
		d := newDaemon(t, db, options{tables: tables(table("a", "id:int|n:int,pad:text"))})
		for range 3 {
			d.launchChild()
			timer := time.NewTimer(time.Duration(100+random.IntN(900)) * time.Millisecond)
			<-timer.C
			d.crash()
			db.exec("DELETE FROM a WHERE id IN (SELECT id FROM a ORDER BY random() LIMIT 500); UPDATE a SET n = n + 1 WHERE id % 10 = 0; INSERT INTO a (n) VALUES (0)")
		}
		d.start()
		requireEqual(t, db, d)
	})
	parallel(t, "rows deleted, updated and moved while their range is read", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int, region text, n int, pad text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
			CREATE TABLE eu PARTITION OF a FOR VALUES IN ('eu'); CREATE TABLE us PARTITION OF a FOR VALUES IN ('us');
			INSERT INTO a SELECT g, CASE WHEN g % 2 = 0 THEN 'eu' ELSE 'us' END, g, repeat('x', 200) FROM generate_series(1, 20000) g`)
		stop := writer(db, func(n int) string {
			switch n % 4 {
			case 0:
				return fmt.Sprintf("DELETE FROM a WHERE id = %d", n*5)
			case 1:
				return fmt.Sprintf("UPDATE a SET n = -1 WHERE id BETWEEN %d AND %d", n*5, n*5+20)
			case 2:
				return fmt.Sprintf("UPDATE a SET region = CASE region WHEN 'eu' THEN 'us' ELSE 'eu' END WHERE id BETWEEN %d AND %d", n*5, n*5+3)
			default:
				return fmt.Sprintf("UPDATE a SET id = id + 1000000 WHERE id = %d", n*5)
			}
		})
		d := start(t, db, options{tables: tables(table("a", "id:int,region:text|n:int,pad:text"))})
		d.catchUp()
		stop()
		requireEqual(t, db, d)
	})
	parallel(t, "ninety per cent dead pages, a table with no rows, one with dropped columns only beside its key", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE dead (id int PRIMARY KEY, pad text); INSERT INTO dead SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g;
			DELETE FROM dead WHERE id % 10 <> 0; CREATE TABLE none (id int PRIMARY KEY, n int);
			CREATE TABLE dropped (a int, b text, id int PRIMARY KEY, c int); INSERT INTO dropped VALUES (1, 'x', 1, 1), (2, 'y', 2, 2);
			ALTER TABLE dropped DROP a, DROP b, DROP c; INSERT INTO dropped VALUES (3);
			CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE UNLOGGED TABLE beside (id int);`)
		d := start(t, db, options{tables: tables(table("dead", "id:int|pad:text"), table("none", "id:int|n:int"), table("dropped", "id:int|"), table("parted", "id:int|")), source: often})
		requireEqual(t, db, d)
		db.exec("DELETE FROM dead WHERE id < 1000; INSERT INTO none VALUES (1, 1); INSERT INTO dropped VALUES (4); DELETE FROM dropped WHERE id = 1; UPDATE dropped SET id = 20 WHERE id = 2; CREATE TABLE parted1 PARTITION OF parted DEFAULT; INSERT INTO parted VALUES (7)")
		requireEqual(t, db, d)
	})
	parallel(t, "a backfill given up half-way leaves no ghost row, also as of moments in between", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int, pad text); INSERT INTO a SELECT g, g, repeat('x', 300) FROM generate_series(1, 5000) g`)
		d := newDaemon(t, db, options{tables: tables(table("a", "id:int|n:int,pad:text"))})
		d.dieAt(durable.Publish, 4)
		db.exec("DELETE FROM a WHERE id <= 4000")
		d.start()
		db.exec("DELETE FROM a WHERE id <= 4500")
		requireEqual(t, db, d)
		requireWholeAtEveryMoment(t, d, "a", func(rows int) bool { return rows == 1000 || rows == 500 })
		for _, v := range d.history() {
			if v.key == "1" {
				t.Errorf("row 1, which was gone before the second attempt, has a version: %s", v.text)
			}
		}
	})
	parallel(t, "several daemons, each with a slot of its own, follow one database", func(t *testing.T) {
		db := newDatabase(t, pairSchema+"INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g")
		daemons := make([]*daemon, 2)
		for i := range daemons {
			daemons[i] = newDaemon(t, db, options{tables: pair, source: func(c *cdc.Config) { c.Publication = fmt.Sprintf("feed_%d", i); c.Slot += fmt.Sprint(i) }})
			daemons[i].launch()
		}
		for _, d := range daemons {
			d.streaming()
		}
		db.exec("UPDATE a SET n = 0; INSERT INTO b VALUES (1, 1)")
		for _, d := range daemons {
			requireEqual(t, db, d)
		}
	})
}
