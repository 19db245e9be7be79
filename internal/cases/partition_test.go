package cases_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/cdc"
	"dreamfeed/internal/definition"
)

// partitioned has a leaf whose columns stand in another order, with one dropped
// between, and a branch that is partitioned again.
const partitioned = `CREATE TABLE p (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	CREATE TABLE p_eu PARTITION OF p FOR VALUES IN ('eu');
	CREATE TABLE p_us (n int, gone int, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));
	ALTER TABLE p_us DROP COLUMN gone; ALTER TABLE p ATTACH PARTITION p_us FOR VALUES IN ('us');
	CREATE TABLE p_as PARTITION OF p FOR VALUES IN ('as') PARTITION BY RANGE (id);
	CREATE TABLE p_as_low PARTITION OF p_as FOR VALUES FROM (0) TO (100);
	CREATE TABLE p_as_high PARTITION OF p_as FOR VALUES FROM (100) TO (100000);`

var leaves = tables(table("p", "id:int,region:text|n:int"))

func TestTRUNCATEAndPartitions(t *testing.T) {
	t.Parallel()
	parallel(t, "TRUNCATE a, b CASCADE in the middle of a transaction, with inserts before and after", truncateInTheMiddle)
	parallel(t, "TRUNCATE and INSERT of the same keys in one transaction leave the new rows", truncateAndInsertAgain)
	parallel(t, "TRUNCATE RESTART IDENTITY, twice, rolled back and in a savepoint", truncateVariants)
	parallel(t, "CASCADE reaches tables of the definition that the statement does not name", truncateCascades)
	parallel(t, "TRUNCATE of a table with entities removes the rows of all of them, and late updates find nothing", truncateEntities)
	parallel(t, "TRUNCATE ONLY of a parent by inheritance leaves its children, which are tables of their own", truncateOnly)
	parallel(t, "TRUNCATE survives a kill in the middle of its transaction", truncateKilled)
	parallel(t, "TRUNCATE of the root of partitions empties all of them", truncateRoot)
	parallel(t, "TRUNCATE of a leaf is not sent by PostgreSQL; a comparison with the source finds it", truncateLeaf)
	parallel(t, "rows moved between partitions, with columns in another order, come once each", movedBetweenPartitions)
	parallel(t, "a large value survives a move to a partition with another order of columns", movedWithTOAST)
	parallel(t, "partitions made, attached and detached while running", partitionsWhileRunning)
	parallel(t, "a partition whose identity differs from its root's is refused with what mends it", partitionIdentity)
	parallel(t, "a partitioned table published without via_root is not dropped silently", withoutRoot)
	parallel(t, "a leaf that becomes the definition's table of its own is followed by its own name", leafAlone)
}

func truncateInTheMiddle(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a);
		INSERT INTO a VALUES (1, 1), (2, 1); INSERT INTO b VALUES (1, 1), (2, 2);`)
	d := startChild(t, db, options{tables: tables(table("a", "id:int|n:int"), table("b", "id:int|a_id:int"))})
	db.exec("BEGIN; INSERT INTO a VALUES (3, 2); INSERT INTO b VALUES (3, 3); TRUNCATE a, b CASCADE; INSERT INTO a VALUES (2, 3), (4, 3); INSERT INTO b VALUES (2, 2); COMMIT")
	d.catchUp()
	d.crash()
	d.startChild()
	db.exec("UPDATE a SET n = 4; DELETE FROM b")
	requireEqual(t, db, d)
	requireVersions(t, d, "a", "1", "backfilled id=1 n=1", "deleted")
	requireVersions(t, d, "a", "2", "backfilled id=2 n=1", "deleted", "id=2 n=3", "id=2 n=4")
	requireVersions(t, d, "a", "3", "id=3 n=2", "deleted")
	requireVersions(t, d, "a", "4", "id=4 n=3", "id=4 n=4")
	requireVersions(t, d, "b", "2", "backfilled id=2 a_id=2", "deleted", "id=2 a_id=2", "deleted")
}

func truncateAndInsertAgain(t *testing.T) {
	db := newDatabase(t, pairSchema+"INSERT INTO a SELECT g, 0 FROM generate_series(1, 3000) g;")
	d := start(t, db, options{tables: pair})
	db.exec("BEGIN; TRUNCATE a; INSERT INTO a SELECT g, 1 FROM generate_series(1, 2000) g; COMMIT")
	requireEqual(t, db, d)
	db.exec("BEGIN; UPDATE a SET n = 2; TRUNCATE a; INSERT INTO a SELECT g, 3 FROM generate_series(1, 10) g; DELETE FROM a WHERE id = 1; TRUNCATE a; INSERT INTO a VALUES (1, 4); COMMIT")
	requireEqual(t, db, d)
	requireVersions(t, d, "a", "1", "backfilled id=1 n=0", "deleted", "id=1 n=1", "id=1 n=2", "deleted", "id=1 n=3", "deleted", "id=1 n=4")
	requireVersions(t, d, "a", "2", "backfilled id=2 n=0", "deleted", "id=2 n=1", "id=2 n=2", "deleted", "id=2 n=3", "deleted")
	requireVersions(t, d, "a", "3000", "backfilled id=3000 n=0", "deleted")
}

func truncateVariants(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id serial PRIMARY KEY, n int);`)
	d := start(t, db, options{tables: tables(table("a", "id:int|n:int"))})
	insert := "INSERT INTO a (n) SELECT g FROM generate_series(1, 3) g;"
	db.exec("TRUNCATE a") // of an empty table
	db.exec(insert)
	db.exec("BEGIN; TRUNCATE a; ROLLBACK")
	requireEqual(t, db, d)
	db.exec("TRUNCATE a RESTART IDENTITY; " + insert)
	requireEqual(t, db, d)
	db.exec("BEGIN; " + insert + "SAVEPOINT s; TRUNCATE a; " + insert + "ROLLBACK TO s; INSERT INTO a (n) VALUES (9); COMMIT")
	requireEqual(t, db, d)
	db.exec("BEGIN; TRUNCATE a; TRUNCATE a RESTART IDENTITY; COMMIT")
	db.exec("TRUNCATE a")
	requireEqual(t, db, d)
	db.exec(insert)
	requireEqual(t, db, d)
}

func truncateCascades(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE between_them (id int PRIMARY KEY, a_id int REFERENCES a);
		CREATE TABLE b (id int PRIMARY KEY, n int REFERENCES between_them); INSERT INTO a VALUES (1, 1); INSERT INTO between_them VALUES (1, 1); INSERT INTO b VALUES (1, 1), (2, NULL);`)
	d := start(t, db, options{tables: pair})
	db.exec("INSERT INTO b VALUES (3, 1)")
	db.exec("TRUNCATE a CASCADE")
	requireEqual(t, db, d)
	requireVersions(t, d, "b", "2", "backfilled id=2 n=NULL", "deleted")
	requireVersions(t, d, "b", "3", "id=3 n=1", "deleted")
}

func truncateEntities(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, user_id int, n int); INSERT INTO a SELECT g, g % 3, 0 FROM generate_series(1, 9) g;`)
	d := start(t, db, options{tables: tables(table("a", "id:int|user_id:int,n:int").of("user", "user_id"))})
	db.exec("UPDATE a SET user_id = 7 WHERE id = 1")
	db.exec("BEGIN; INSERT INTO a VALUES (10, 0, 0); TRUNCATE a; INSERT INTO a VALUES (1, 2, 1), (2, 2, 1); UPDATE a SET user_id = 0 WHERE id = 2; COMMIT")
	requireEqual(t, db, d)
	db.exec("UPDATE a SET n = 2; DELETE FROM a WHERE id = 1; INSERT INTO a VALUES (1, 7, 3)")
	requireEqual(t, db, d)
}

func truncateOnly(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (PRIMARY KEY (id)) INHERITS (a);
		INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (2, 2);`)
	d := newDaemon(t, db, options{tables: pair})
	d.start()
	db.exec("INSERT INTO b VALUES (3, 3); INSERT INTO a VALUES (4, 4)")
	only := func() {
		t.Helper()
		d.catchUp()
		got := map[string][]string{}
		eachNewest(t, d.setup.definition(), newest(t, d.store), func(tab *definition.Table, value func(string) ([]byte, bool)) {
			id, _ := value("id")
			got[tab.Name] = append(got[tab.Name], string(id))
		})
		for name := range got {
			slices.Sort(got[name])
		}
		want := map[string][]string{}
		for _, name := range []string{"a", "b"} {
			for id := 1; id <= 9; id++ {
				if db.text(fmt.Sprintf("SELECT count(*) FROM ONLY %s WHERE id = %d", name, id)) == "1" {
					want[name] = append(want[name], fmt.Sprint(id))
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("rows of each table alone (-source +store):\n%s", diff)
		}
	}
	only()
	db.exec("TRUNCATE ONLY a")
	only()
	db.exec("INSERT INTO a VALUES (5, 5)")
	db.exec("TRUNCATE a") // with its children
	only()
	db.exec("INSERT INTO b VALUES (6, 6)")
	only()
}

func truncateKilled(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, pad text); INSERT INTO a SELECT g, 'old' FROM generate_series(1, 500) g;`)
	n := newNetwork(t, db.url)
	d := startChild(t, db, options{tables: tables(table("a", "id:int|pad:text")), via: n})
	const rows = 3000
	for _, passes := range []int{600 << 10, 3 << 20} { // of about 4 MB
		d.catchUp()
		n.holdAfter(passes)
		db.exec(fmt.Sprintf(`BEGIN; INSERT INTO a SELECT g + 10000, repeat(md5(g::text), 20) FROM generate_series(1, %[1]d) g; TRUNCATE a;
			INSERT INTO a SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, %[1]d) g; COMMIT`, rows))
		eventually(t, "the transaction is held back", n.holding)
		eventually(t, "the stream ends with a part of it", func() bool { return d.child.openPart() > 0 })
		d.crash()
		n.hold(false)
		n.cut()
		d.startChild()
	}
	requireEqual(t, db, d)
}

func truncateRoot(t *testing.T) {
	db := newDatabase(t, partitioned+"INSERT INTO p SELECT g, (ARRAY['eu', 'us', 'as'])[1 + g % 3], g FROM generate_series(1, 300) g;")
	d := start(t, db, options{tables: leaves})
	db.exec("BEGIN; INSERT INTO p VALUES (1000, 'us', 1); TRUNCATE p; INSERT INTO p VALUES (1000, 'us', 2), (1, 'as', 3), (200, 'as', 4); COMMIT")
	requireEqual(t, db, d)
	requireVersions(t, d, "p", "1000,us", "id=1000 region=us n=1", "deleted", "id=1000 region=us n=2")
}

// truncateLeaf documents what PostgreSQL does not tell: under
// publish_via_partition_root the truncation of a leaf is no truncation of its root.
func truncateLeaf(t *testing.T) {
	db := newDatabase(t, partitioned+"INSERT INTO p SELECT g, (ARRAY['eu', 'us', 'as'])[1 + g % 3], g FROM generate_series(1, 30) g;")
	d := start(t, db, options{tables: leaves})
	requireEqual(t, db, d)
	for _, leaf := range []string{"p_us", "p_as"} {
		db.exec("TRUNCATE " + leaf)
		source, store := d.digests(db, "p")
		if source == store || store.rows != 30 {
			t.Errorf("after TRUNCATE %s the source holds %d rows and the store %d: PostgreSQL has begun to tell, so say so in the documentation", leaf, source.rows, store.rows)
		}
	}
	// Rows that come later have their place all the same.
	db.exec("INSERT INTO p VALUES (1, 'us', 7), (1, 'as', 7); UPDATE p SET n = 8")
	d.catchUp()
	requireVersions(t, d, "p", "1,us", append(backfilledOf(d, "1,us"), "id=1 region=us n=7", "id=1 region=us n=8")...)
}

// backfilledOf is the backfilled version of a row, if there is one.
func backfilledOf(d *daemon, key string) []string {
	for _, v := range d.versionsOf("p", key) {
		if v.Backfilled {
			return []string{v.text}
		}
	}
	return nil
}

func movedBetweenPartitions(t *testing.T) {
	db := newDatabase(t, partitioned+"INSERT INTO p SELECT g, (ARRAY['eu', 'us', 'as'])[1 + g % 3], g FROM generate_series(1, 300) g;")
	d := startChild(t, db, options{tables: leaves})
	db.exec("INSERT INTO p VALUES (1000, 'eu', 1)")
	db.exec("UPDATE p SET region = 'us' WHERE id = 1000")
	db.exec("BEGIN; UPDATE p SET region = 'as', n = 2 WHERE id = 1000; UPDATE p SET id = 51 WHERE id = 1000; UPDATE p SET id = 2000 WHERE id = 51 AND region = 'as'; COMMIT")
	requireEqual(t, db, d)
	requireVersions(t, d, "p", "1000,eu", "id=1000 region=eu n=1", "deleted")
	requireVersions(t, d, "p", "1000,us", "id=1000 region=us n=1", "deleted")
	d.startChild()
	db.exec("UPDATE p SET region = CASE region WHEN 'eu' THEN 'us' WHEN 'us' THEN 'as' ELSE 'eu' END, n = n + 1")
	db.exec("UPDATE p SET n = n + 1; DELETE FROM p WHERE id % 7 = 0")
	requireEqual(t, db, d)
}

func movedWithTOAST(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE p (id int, region text, n int, body text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE p_eu PARTITION OF p FOR VALUES IN ('eu');
		CREATE TABLE p_us (body text, gone int, region text NOT NULL, n int, id int NOT NULL, PRIMARY KEY (id, region));
		ALTER TABLE p_us DROP COLUMN gone; ALTER TABLE p ATTACH PARTITION p_us FOR VALUES IN ('us');
		ALTER TABLE p ALTER body SET STORAGE EXTERNAL; ALTER TABLE p_eu ALTER body SET STORAGE EXTERNAL; ALTER TABLE p_us ALTER body SET STORAGE EXTERNAL;`)
	d := start(t, db, options{tables: tables(table("p", "id:int,region:text|n:int,body:text"))})
	value, text := toasted("moved ", 400_000)
	db.exec("INSERT INTO p VALUES (1, 'eu', 1, " + value + ")")
	db.exec("UPDATE p SET region = 'us'")
	db.exec("UPDATE p SET n = 2")
	db.exec("BEGIN; UPDATE p SET region = 'eu'; UPDATE p SET n = 3; UPDATE p SET region = 'us', n = 4; UPDATE p SET n = 5; COMMIT")
	requireEqual(t, db, d)
	requireVersions(t, d, "p", "1,us", "id=1 region=us n=1 body="+long(text), "id=1 region=us n=2 body="+long(text), "deleted",
		"id=1 region=us n=4 body="+long(text), "id=1 region=us n=5 body="+long(text))
}

// partitionsWhileRunning: rows that stand in a partition when it is attached, and
// those of one that is detached, are no changes of the root to PostgreSQL.
func partitionsWhileRunning(t *testing.T) {
	db := newDatabase(t, partitioned+"INSERT INTO p VALUES (1, 'eu', 1), (2, 'us', 2);")
	d := startChild(t, db, options{tables: leaves})
	db.exec("CREATE TABLE p_af PARTITION OF p FOR VALUES IN ('af'); INSERT INTO p VALUES (3, 'af', 3)")
	db.exec("CREATE TABLE p_oc (n int, id int NOT NULL, region text NOT NULL, PRIMARY KEY (id, region)); ALTER TABLE p ATTACH PARTITION p_oc FOR VALUES IN ('oc')")
	db.exec("INSERT INTO p VALUES (4, 'oc', 4); UPDATE p SET n = n + 1; UPDATE p SET region = 'oc' WHERE id = 3")
	d.catchUp()
	d.crash()
	d.startChild()
	db.exec("INSERT INTO p VALUES (5, 'oc', 5), (6, 'af', 6)")
	requireEqual(t, db, d)
	d.start()
	// What happens to a detached table is nothing of the root's; emptied before,
	// it takes nothing along.
	db.exec("DELETE FROM p WHERE region = 'af'")
	db.exec("ALTER TABLE p DETACH PARTITION p_af")
	db.exec("INSERT INTO p_af VALUES (7, 'af', 7)")
	db.exec("INSERT INTO p VALUES (8, 'oc', 8)")
	requireEqual(t, db, d)
	// A row that is attached with its table comes unannounced: a comparison with
	// the source finds it, and the next change of the row brings it. Until then
	// and after, the store's count of rows, which is not a comparison, is off by it.
	db.exec("ALTER TABLE p ATTACH PARTITION p_af FOR VALUES IN ('af')")
	db.exec("INSERT INTO p VALUES (9, 'oc', 9)")
	if source, store := d.digests(db, "p"); source.rows != store.rows+1 {
		t.Errorf("the source holds %d rows, the store %d, want one less", source.rows, store.rows)
	}
	db.exec("UPDATE p SET n = n + 1")
	if source, store := d.digests(db, "p"); source != store {
		t.Errorf("the source holds %d rows, the store %d, or they differ", source.rows, store.rows)
	}
}

func partitionIdentity(t *testing.T) {
	db := newDatabase(t, partitioned+"ALTER TABLE p_us REPLICA IDENTITY NOTHING; ALTER TABLE p_as_low REPLICA IDENTITY FULL; INSERT INTO p VALUES (1, 'eu', 1), (2, 'us', 2);")
	d := newDaemon(t, db, options{tables: leaves})
	d.launch()
	err := d.failure()
	var faults *cdc.FaultsError
	if !errors.As(err, &faults) || len(faults.Faults) != 2 {
		t.Fatalf("the daemon ended with %v, want two faults", err)
	}
	for _, f := range faults.Faults {
		db.exec(f.Mend)
	}
	d.start()
	db.exec("UPDATE p SET n = n + 1; DELETE FROM p WHERE id = 2; INSERT INTO p VALUES (3, 'as', 3); UPDATE p SET region = 'us'")
	requireEqual(t, db, d)
}

// leavesPublished makes the publication send leaves under their own names.
// PostgreSQL allows it only without a column list.
const leavesPublished = "ALTER PUBLICATION dreamfeed SET TABLE p; ALTER PUBLICATION dreamfeed SET (publish_via_partition_root = false)"

// withoutRoot takes publish_via_partition_root from the publication: changes
// would come under the names of the leaves, which the definition does not name.
func withoutRoot(t *testing.T) {
	t.Run("when the daemon starts", func(t *testing.T) {
		db := newDatabase(t, partitioned+"INSERT INTO p VALUES (1, 'eu', 1)")
		d := start(t, db, options{tables: leaves})
		d.catchUp()
		d.stop()
		db.exec(leavesPublished)
		db.exec("INSERT INTO p VALUES (2, 'us', 2)")
		d.launch()
		narrow(t, d.failure())
		d.launch()
		narrow(t, d.failure())
	})
	t.Run("while it runs", func(t *testing.T) {
		db := newDatabase(t, partitioned+"INSERT INTO p VALUES (1, 'eu', 1)")
		d := start(t, db, options{tables: leaves})
		db.exec(leavesPublished)
		db.exec("INSERT INTO p VALUES (2, 'us', 2)")
		// At once, not when the source is checked again.
		var foreign *cdc.ForeignTableError
		if err := d.failure(); !errors.As(err, &foreign) || foreign.Table != `"public"."p_us"` {
			t.Errorf("the daemon ended with %v, want one that names the partition", err)
		}
	})
	t.Run("and set back before the next start, when nothing else came", func(t *testing.T) {
		db := newDatabase(t, partitioned)
		d := start(t, db, options{tables: leaves})
		d.stop()
		db.exec(leavesPublished)
		db.exec("ALTER PUBLICATION dreamfeed SET (publish_via_partition_root = true); ALTER PUBLICATION dreamfeed SET TABLE ONLY p (id, region, n)")
		d.launch()
		narrow(t, d.failure())
	})
	t.Run("when the publication was made beforehand", func(t *testing.T) {
		db := newDatabase(t, partitioned+"INSERT INTO p VALUES (1, 'eu', 1); CREATE PUBLICATION dreamfeed FOR TABLE p")
		d := start(t, db, options{tables: leaves})
		db.exec("INSERT INTO p VALUES (2, 'us', 2); UPDATE p SET region = 'as'")
		requireEqual(t, db, d)
	})
}

// narrow wants the error that says that changes are, or may be, left out or
// misnamed.
func narrow(t *testing.T, err error) {
	t.Helper()
	var narrow *cdc.PublicationNarrowError
	var foreign *cdc.ForeignTableError
	var changed *cdc.PublicationChangedError
	if !errors.As(err, &narrow) && !errors.As(err, &foreign) && !errors.As(err, &changed) {
		t.Errorf("the daemon ended with %v", err)
	}
}

func leafAlone(t *testing.T) {
	db := newDatabase(t, partitioned+"INSERT INTO p VALUES (1, 'eu', 1), (2, 'us', 2)")
	d := start(t, db, options{tables: tables(table("p_us", "id:int,region:text|n:int"))})
	db.exec("INSERT INTO p VALUES (3, 'us', 3), (4, 'eu', 4); UPDATE p SET n = n + 1")
	db.exec("UPDATE p SET region = 'us' WHERE id = 1; UPDATE p SET region = 'eu' WHERE id = 2")
	requireEqual(t, db, d)
	db.exec("TRUNCATE p_us; INSERT INTO p VALUES (5, 'us', 5)")
	requireEqual(t, db, d)
	db.exec("TRUNCATE p") // of a root that is not published, with its leaves
	requireEqual(t, db, d)
	db.exec("INSERT INTO p VALUES (6, 'us', 6)")
	requireEqual(t, db, d)
	if unknown := d.store.Status().Counters.UnknownDeletes; unknown != 0 {
		t.Errorf("%d deletes were of rows that the store does not hold", unknown)
	}
}
