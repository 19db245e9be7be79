package cases_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/internal/durable"
)

// often makes the daemon check the source again every 100 ms.
func often(c *cdc.Config) { c.CheckEvery = 100 * time.Millisecond }

// requireStop wants the daemon to end of itself with an error of type E.
func requireStop[E error](t *testing.T, d *daemon) E {
	t.Helper()
	var want E
	if err := d.failure(); !errors.As(err, &want) {
		t.Fatalf("the daemon ended with %T: %v; want a %T", err, err, want)
	}
	return want
}

// requireTold wants the daemon to end of itself with an error that names what of
// the source is not what it was or should be.
func requireTold(t *testing.T, d *daemon) {
	t.Helper()
	err := d.failure()
	var faults *cdc.FaultsError
	var narrow *cdc.PublicationNarrowError
	var foreign *cdc.ForeignTableError
	var replaced *cdc.PublicationChangedError
	if !errors.As(err, &faults) && !errors.As(err, &narrow) && !errors.As(err, &foreign) && !errors.As(err, &replaced) {
		t.Fatalf("it ended with %T: %v", err, err)
	}
	t.Log(err)
}

// requireRefused wants the daemon not to start, for a fault that is named.
func requireRefused(t *testing.T, d *daemon, words ...string) {
	t.Helper()
	d.launch()
	text := requireStop[*cdc.FaultsError](t, d).Error()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}

func TestSchemaChange(t *testing.T) {
	t.Parallel()
	parallel(t, "a transaction that adds and drops a column between its inserts", func(t *testing.T) {
		db := newDatabase(t, pairSchema)
		d := start(t, db, options{tables: pair})
		db.exec(`BEGIN; INSERT INTO a VALUES (1, 1); ALTER TABLE a ADD x int DEFAULT 7; INSERT INTO a VALUES (2, 2, 3);
			ALTER TABLE a DROP x; INSERT INTO a VALUES (3, NULL); COMMIT`)
		db.exec(`BEGIN; UPDATE a SET n = 9 WHERE id = 1; ALTER TABLE a ADD y text DEFAULT repeat('x', 9000); UPDATE a SET n = 8 WHERE id = 2;
			ALTER TABLE a DROP y; DELETE FROM a WHERE id = 3; COMMIT`)
		requireEqual(t, db, d)
		requireVersions(t, d, "a", "1", "id=1 n=1", "id=1 n=9")
		requireVersions(t, d, "a", "3", "id=3 n=NULL", "deleted")
		requireChanges(t, d, "a", 6)
	})
	parallel(t, "a schema change that is rolled back, with rows before and after", func(t *testing.T) {
		db := newDatabase(t, pairSchema)
		d := start(t, db, options{tables: pair})
		db.exec(`BEGIN; INSERT INTO a VALUES (1, 1); SAVEPOINT s; ALTER TABLE a ADD x int; INSERT INTO a VALUES (2, 2, 2); ROLLBACK TO s;
			INSERT INTO a VALUES (3, 3); COMMIT; BEGIN; ALTER TABLE a DROP n CASCADE; ROLLBACK; INSERT INTO a VALUES (4, 4)`)
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 3)
	})
	parallel(t, "a new label of an enum, and an insert of it", func(t *testing.T) {
		db := newDatabase(t, `CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE a (id mood PRIMARY KEY, m mood, l mood[])`)
		d := start(t, db, options{tables: tables(table("a", "id:text|m:text,l:list"))})
		db.exec("INSERT INTO a VALUES ('sad', 'sad', '{sad}')")
		db.exec("ALTER TYPE mood ADD VALUE 'so, \"so\"' BEFORE 'sad'")
		db.exec("INSERT INTO a VALUES ('so, \"so\"', 'so, \"so\"', ARRAY['sad', 'so, \"so\"', NULL]::mood[])")
		db.exec("ALTER TYPE mood ADD VALUE 'glad'; ALTER TABLE a ADD z int")
		db.exec("UPDATE a SET m = 'glad'")
		requireEqual(t, db, d)
	})
	parallel(t, "a table without a published column, or of generated columns only, is refused by name", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE g (id int GENERATED ALWAYS AS (1) STORED PRIMARY KEY, n int GENERATED ALWAYS AS (2) STORED);
			CREATE TABLE bare ();`)
		requireRefused(t, newDaemon(t, db, options{tables: tables(table("g", "id:int|n:int"))}), "public.g.id", "generated column", "take it out of the definition")
		requireRefused(t, newDaemon(t, db, options{tables: tables(table("bare", "id:int|"))}), "public.bare.id", "does not exist")
	})
	parallel(t, "a row of a table without columns, published by somebody else's hand, is a stop", func(t *testing.T) {
		db := newDatabase(t, pairSchema+"CREATE TABLE bare ();")
		d := start(t, db, options{tables: pair})
		db.exec("ALTER PUBLICATION dreamfeed ADD TABLE bare; INSERT INTO bare DEFAULT VALUES; INSERT INTO a VALUES (1, 1)")
		if err := requireStop[*cdc.ForeignTableError](t, d); err.Table != `"public"."bare"` {
			t.Errorf("table %s", err.Table)
		}
	})
	parallel(t, "stored generated columns beside the published ones", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (n * 2) STORED, n int)`)
		db.exec("INSERT INTO a VALUES (1, DEFAULT, 1)")
		d := start(t, db, options{tables: tables(table("a", "id:int|n:int"))})
		db.exec("INSERT INTO a VALUES (2, DEFAULT, 2); UPDATE a SET n = 5 WHERE id = 1")
		requireEqual(t, db, d)
	})
	for what, sql := range map[string]string{
		"a table is taken out":            "ALTER PUBLICATION dreamfeed DROP TABLE b",
		"a column is taken out":           "ALTER PUBLICATION dreamfeed SET TABLE a (id), b (id, n)",
		"a key column is taken out":       "ALTER PUBLICATION dreamfeed SET TABLE a (n), b (id, n)",
		"deletes are not published":       "ALTER PUBLICATION dreamfeed SET (publish = 'insert, update, truncate')",
		"a row filter is added":           "ALTER PUBLICATION dreamfeed SET TABLE a WHERE (id > 5), b",
		"the table is dropped":            "DROP TABLE b",
		"a column is dropped":             "ALTER TABLE a DROP n CASCADE",
		"a column is dropped and readded": "ALTER TABLE a DROP n CASCADE; ALTER TABLE a ADD n int",
	} {
		parallel(t, "ALTER PUBLICATION or a migration while running is a stop that says what is lacking: "+what, func(t *testing.T) {
			db := newDatabase(t, pairSchema)
			d := start(t, db, options{tables: pair, source: often})
			db.exec("INSERT INTO a VALUES (1, 1)")
			d.catchUp()
			db.exec(sql)
			requireTold(t, d)
		})
	}
	parallel(t, "columns and tables that are published beside ours do no harm until rows come", func(t *testing.T) {
		db := newDatabase(t, pairSchema+"ALTER TABLE a ADD secret text; CREATE TABLE c (id int PRIMARY KEY)")
		d := start(t, db, options{tables: pair, source: often})
		db.exec("INSERT INTO a VALUES (1, 1, 'x')")
		db.exec("ALTER PUBLICATION dreamfeed SET TABLE a, b, c")
		db.exec("INSERT INTO a VALUES (2, 2, 'y')")
		requireEqual(t, db, d)
		db.exec("INSERT INTO c VALUES (1)")
		requireStop[*cdc.ForeignTableError](t, d)
	})
	parallel(t, "a column list without a key column makes the application's writes fail, and us stop", func(t *testing.T) {
		db := newDatabase(t, pairSchema+"INSERT INTO a VALUES (1, 1)")
		d := start(t, db, options{tables: pair, source: often})
		db.exec("ALTER PUBLICATION dreamfeed SET TABLE a (n), b")
		if err := db.session().try("UPDATE a SET n = 2"); err == nil {
			t.Error("the application's update is accepted")
		}
		requireStop[*cdc.PublicationNarrowError](t, d)
	})
	for what, c := range map[string]struct {
		sql    string
		equals bool
	}{
		"a column added":                    {"ALTER TABLE a ADD x int DEFAULT 5; INSERT INTO a VALUES (100, 1, 1)", true},
		"the table rewritten":               {"CREATE INDEX ai ON a (n); CLUSTER a USING ai; INSERT INTO a VALUES (100, 1)", true},
		"a column before the key":           {"CREATE TABLE new (z int, id int PRIMARY KEY, n int); INSERT INTO new SELECT 1, id, n FROM a; DROP TABLE a; ALTER TABLE new RENAME TO a", false},
		"the column dropped":                {"ALTER TABLE a DROP n CASCADE", false},
		"the column renamed":                {"ALTER TABLE a RENAME n TO m", false},
		"the table renamed":                 {"ALTER TABLE a RENAME TO z", false},
		"the column dropped and made again": {"ALTER TABLE a DROP n CASCADE; ALTER TABLE a ADD n int DEFAULT 3", false},
	} {
		parallel(t, "a migration between reading the schema and reading the data: "+what, func(t *testing.T) {
			db := newDatabase(t, pairSchema+"INSERT INTO a SELECT g, g FROM generate_series(1, 50) g")
			migrating := db.session()
			var done atomic.Bool
			d := newDaemon(t, db, options{tables: pair, source: func(cfg *cdc.Config) {
				cfg.Hook = func(s durable.Step, _ uint64) error {
					if s == durable.CreateSlot && !done.Swap(true) {
						return migrating.try(c.sql)
					}
					return nil
				}
			}})
			d.launch()
			if !d.streamsOrEnds() {
				// A stop: nothing is told to be whole.
				if c.equals {
					t.Fatalf("it stopped: %v", d.failure())
				}
				requireTold(t, d)
				return
			}
			if !c.equals && what != "a column before the key" && what != "the column dropped and made again" {
				requireTold(t, d)
				return
			}
			db.exec("INSERT INTO a (id, n) VALUES (200, 2); UPDATE a SET n = 3 WHERE id = 1")
			requireEqual(t, db, d)
		})
	}
	for what, sql := range map[string]string{
		"the table renamed":      "ALTER TABLE a RENAME TO z; INSERT INTO z VALUES (2, 2)",
		"the schema renamed":     "ALTER SCHEMA public RENAME TO elsewhere; INSERT INTO elsewhere.a VALUES (2, 2)",
		"moved to other schema":  "CREATE SCHEMA other; ALTER TABLE a SET SCHEMA other; INSERT INTO other.a VALUES (2, 2)",
		"a column renamed":       "ALTER TABLE a RENAME n TO m; INSERT INTO a VALUES (2, 2)",
		"two tables swap names":  "ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b; INSERT INTO a VALUES (2, 2)",
		"two columns swap names": "ALTER TABLE a ADD o int; ALTER TABLE a RENAME n TO x; ALTER TABLE a RENAME o TO n; INSERT INTO a (id, x, n) VALUES (2, 2, 3)",
	} {
		parallel(t, "a name that the definition gives means another thing: "+what, func(t *testing.T) {
			db := newDatabase(t, pairSchema+"INSERT INTO a VALUES (1, 1)")
			d := start(t, db, options{tables: pair, source: often})
			d.catchUp()
			db.exec(sql)
			requireTold(t, d)
		})
	}
	parallel(t, "a default that stands in no row of the heap", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int); ALTER TABLE a REPLICA IDENTITY FULL; INSERT INTO a SELECT g, g FROM generate_series(1, 20) g;
			ALTER TABLE a ADD x text DEFAULT 'fast' NOT NULL, ADD big text DEFAULT repeat('d', 5000);
			CREATE TABLE k (id int PRIMARY KEY, n int); INSERT INTO k SELECT g, g FROM generate_series(1, 20) g;
			ALTER TABLE k ADD x text DEFAULT 'fast' NOT NULL, ADD big text DEFAULT repeat('d', 5000), ADD late timestamp DEFAULT 'infinity'`)
		d := start(t, db, options{tables: tables(table("a", "id:int|n:int,x:text,big:text"), table("k", "id:int|n:int,x:text,big:text,late:timestamp"))})
		requireEqual(t, db, d)
		for _, name := range []string{"a", "k"} {
			db.exec(fmt.Sprintf("UPDATE %[1]s SET n = 0 WHERE id <= 5; UPDATE %[1]s SET x = 'slow' WHERE id BETWEEN 4 AND 8; UPDATE %[1]s SET id = 100 WHERE id = 9; DELETE FROM %[1]s WHERE id = 10", name))
		}
		requireEqual(t, db, d)
	})
	parallel(t, "PostgreSQL does not retype a column that the publication lists; a transaction that lifts the list for it is a stop, since old rows may read otherwise now", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a SELECT g, g FROM generate_series(1, 100) g`)
		d := start(t, db, options{tables: tables(table("a", "id:int|n:float")), source: often})
		const alter = "ALTER TABLE a ALTER n TYPE numeric(10,2);"
		if err := db.session().try(alter); err == nil {
			t.Error("the column is retyped")
		}
		d.catchUp()
		db.exec("BEGIN; ALTER PUBLICATION dreamfeed SET TABLE a;" + alter + "ALTER PUBLICATION dreamfeed SET TABLE a (id, n); COMMIT")
		requireStop[*cdc.PublicationChangedError](t, d)
	})
	parallel(t, "a column beside the published ones retyped, with every row written anew", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int, t varchar(10), o int); INSERT INTO a SELECT g, g, 'x' || g, g FROM generate_series(1, 100) g`)
		d := start(t, db, options{tables: tables(table("a", "id:int|n:int,t:text")), source: often})
		db.exec("BEGIN; INSERT INTO a VALUES (101, 1, 'y', 1); ALTER TABLE a ALTER o TYPE text; UPDATE a SET n = 0 WHERE id = 101; COMMIT")
		db.exec("VACUUM FULL a")
		db.exec("UPDATE a SET n = 5 WHERE id = 7")
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 103)
	})
	parallel(t, "a replica identity that makes the application's writes fail is an alarm with what mends it", func(t *testing.T) {
		db := newDatabase(t, pairSchema)
		d := start(t, db, options{tables: pair, source: often})
		db.exec("ALTER TABLE a REPLICA IDENTITY NOTHING")
		d.until("it is alarmed", func(s cdc.Status) bool {
			return len(s.Faults) > 0 && strings.Contains(s.Faults[0].Mend, "REPLICA IDENTITY DEFAULT")
		})
		db.exec("ALTER TABLE a REPLICA IDENTITY DEFAULT; INSERT INTO a VALUES (1, 1); UPDATE a SET n = 2")
		d.until("the alarm is over", func(s cdc.Status) bool { return len(s.Faults) == 0 })
		requireEqual(t, db, d)
	})
	parallel(t, "a partition attached that has its columns in another order, and a table changed by its partitions", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE p (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
			CREATE TABLE eu PARTITION OF p FOR VALUES IN ('eu'); INSERT INTO p VALUES (1, 'eu', 1)`)
		d := start(t, db, options{tables: tables(table("p", "id:int,region:text|n:int")), source: often})
		db.exec(`CREATE TABLE us (n int, gone text, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region)); ALTER TABLE us DROP gone;
			ALTER TABLE p ATTACH PARTITION us FOR VALUES IN ('us'); CREATE TABLE rest PARTITION OF p DEFAULT`)
		db.exec("INSERT INTO p VALUES (2, 'us', 2), (3, 'asia', 3); UPDATE p SET region = 'us' WHERE id = 1; UPDATE p SET n = 9 WHERE id = 2; UPDATE p SET region = 'africa' WHERE id = 2; DELETE FROM p WHERE id = 3")
		requireEqual(t, db, d)
	})
	parallel(t, "a table dropped and made again is another table", func(t *testing.T) {
		db := newDatabase(t, pairSchema+"INSERT INTO a VALUES (1, 1)")
		d := start(t, db, options{tables: pair, source: often})
		db.exec("DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (2, 2)")
		requireStop[*cdc.PublicationNarrowError](t, d)
	})
}

// streamsOrEnds returns whether the daemon streams, or has ended of itself.
func (d *daemon) streamsOrEnds() bool {
	d.t.Helper()
	ended := false
	eventually(d.t, "it streams or ends", func() bool {
		select {
		case <-d.ended:
			ended = true
			return true
		default:
			return d.source.Status().State == cdc.Streaming
		}
	})
	return !ended
}
