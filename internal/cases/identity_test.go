package cases_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
)

const docSchema = `CREATE TABLE doc (id int PRIMARY KEY, n int, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;`

var doc = tables(table("doc", "id:int|n:int,body:text"))

// toasted is a value that PostgreSQL stores apart, and so leaves out of an
// update of another column.
func toasted(word string, size int) (sql, text string) {
	n := size / len(word)
	return fmt.Sprintf("repeat('%s', %d)", word, n), strings.Repeat(word, n)
}

func TestTOASTAndIdentity(t *testing.T) {
	t.Parallel()
	parallel(t, "a value of 1.2 MB stored apart survives an update of another column, without REPLICA IDENTITY FULL", unchangedTOAST)
	parallel(t, "one transaction that inserts, updates, deletes and inserts a row with a large value equals the source", toastInOneTransaction)
	parallel(t, "a large value survives changes of key and of entity that leave it out", toastMoves)
	parallel(t, "a large value rolled back with its savepoint is not what an update leaves unchanged", toastRolledBack)
	parallel(t, "large values of several columns, null and short ones among them, are told apart", toastColumns)
	parallel(t, "under REPLICA IDENTITY FULL an unchanged large value comes from the old row", toastFull)
	parallel(t, "FULL set after a column list was published: the application's writes fail, and the alarm says so", fullAfterList)
	parallel(t, "insert, update and delete of one key in one batch leave it absent, also when it is replayed", oneBatch)
	parallel(t, "DELETE and INSERT of one key in one transaction leave the new row, INSERT and DELETE none", sameKeyAgain)
	parallel(t, "keys rotated in one transaction follow their rows", rotatedKeys)
	parallel(t, "a deferrable key, which can be taken twice for a moment, is refused", deferrableKey)
	parallel(t, "REPLICA IDENTITY NOTHING at the start is refused with the statement that mends it", nothingAtTheStart)
	parallel(t, "REPLICA IDENTITY NOTHING set while running: inserts come, updates and deletes fail in the application, the alarm says so", nothingWhileRunning)
	parallel(t, "REPLICA IDENTITY USING INDEX over the key: every operation comes", usingIndex)
	parallel(t, "REPLICA IDENTITY USING INDEX over other columns is refused at the start", otherIndexAtTheStart)
	parallel(t, "REPLICA IDENTITY USING INDEX over other published columns, set while running, stops before a row is misplaced", otherIndexWhileRunning)
	parallel(t, "the index of the identity dropped while running: inserts come, updates and deletes fail in the application", droppedIndex)
	parallel(t, "identity switched between DEFAULT, FULL and USING INDEX while running: every operation comes", switchedIdentity)
	parallel(t, "primary key switched to another column while running stops before a row is misplaced", switchedKey)
	parallel(t, "a column of the key renamed and renamed back between two changes loses nothing", renamedBack)
}

func unchangedTOAST(t *testing.T) {
	db := newDatabase(t, docSchema)
	one, oneText := toasted("backfilled ", 1_200_000)
	two, twoText := toasted("live ", 1_200_000)
	db.exec("INSERT INTO doc VALUES (1, 1, " + one + ")")
	d := startChild(t, db, options{tables: doc})
	db.exec("INSERT INTO doc VALUES (2, 1, " + two + ")")
	db.exec("UPDATE doc SET n = 2")
	d.catchUp()
	d.crash() // the value comes from the disk, too
	d.startChild()
	db.exec("UPDATE doc SET n = 3")
	requireEqual(t, db, d)
	requireVersions(t, d, "doc", "1", "backfilled id=1 n=1 body="+long(oneText), "id=1 n=2 body="+long(oneText), "id=1 n=3 body="+long(oneText))
	requireVersions(t, d, "doc", "2", "id=2 n=1 body="+long(twoText), "id=2 n=2 body="+long(twoText), "id=2 n=3 body="+long(twoText))
}

func toastInOneTransaction(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE doc (lang text, id int, n int, body text, PRIMARY KEY (id, lang)); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;`)
	d := startChild(t, db, options{tables: tables(table("doc", "lang:text,id:int|n:int,body:text"))})
	first, firstText := toasted("first ", 1_200_000)
	second, secondText := toasted("second ", 900_000)
	third, thirdText := toasted("third ", 700_000)
	db.exec(`BEGIN; INSERT INTO doc VALUES ('de', 1, 1, ` + first + `); UPDATE doc SET n = 2;
		UPDATE doc SET body = ` + second + `; UPDATE doc SET n = 3; DELETE FROM doc; INSERT INTO doc VALUES ('de', 1, 4, ` + third + `);
		UPDATE doc SET n = 5; COMMIT`)
	d.catchUp()
	d.crash()
	d.startChild()
	db.exec("UPDATE doc SET n = 6")
	requireEqual(t, db, d)
	requireVersions(t, d, "doc", "de,1",
		"lang=de id=1 n=1 body="+long(firstText), "lang=de id=1 n=2 body="+long(firstText),
		"lang=de id=1 n=2 body="+long(secondText), "lang=de id=1 n=3 body="+long(secondText),
		"deleted",
		"lang=de id=1 n=4 body="+long(thirdText), "lang=de id=1 n=5 body="+long(thirdText), "lang=de id=1 n=6 body="+long(thirdText))
}

func toastMoves(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE doc (id int PRIMARY KEY, user_id int, n int, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;`)
	d := start(t, db, options{tables: tables(table("doc", "id:int|user_id:int,n:int,body:text").of("user", "user_id"))})
	value, text := toasted("moving ", 400_000)
	db.exec("INSERT INTO doc VALUES (1, 10, 1, " + value + ")")
	db.exec("UPDATE doc SET id = 2")
	db.exec("UPDATE doc SET user_id = 20")
	db.exec("BEGIN; UPDATE doc SET user_id = 30, id = 3; UPDATE doc SET n = 2; UPDATE doc SET user_id = NULL; COMMIT")
	requireEqual(t, db, d)
	db.exec("UPDATE doc SET user_id = 10, id = 1")
	requireEqual(t, db, d)
	requireVersions(t, d, "doc", "1", "id=1 user_id=10 n=1 body="+long(text), "moved", "id=1 user_id=10 n=2 body="+long(text))
}

func toastRolledBack(t *testing.T) {
	db := newDatabase(t, docSchema)
	d := start(t, db, options{tables: doc})
	kept, keptText := toasted("kept ", 500_000)
	gone, _ := toasted("gone ", 500_000)
	db.exec("INSERT INTO doc VALUES (1, 1, " + kept + ")")
	db.exec("BEGIN; SAVEPOINT s; UPDATE doc SET body = " + gone + "; UPDATE doc SET n = 2; ROLLBACK TO s; UPDATE doc SET n = 3; COMMIT")
	db.exec("BEGIN; SAVEPOINT s; DELETE FROM doc; INSERT INTO doc VALUES (1, 4, " + gone + "); ROLLBACK TO s; UPDATE doc SET n = 5; COMMIT")
	db.exec("BEGIN; SAVEPOINT s; INSERT INTO doc VALUES (2, 4, " + gone + "); ROLLBACK TO s; INSERT INTO doc VALUES (2, 6, 'short'); UPDATE doc SET n = 7 WHERE id = 2; COMMIT")
	requireEqual(t, db, d)
	requireVersions(t, d, "doc", "1", "id=1 n=1 body="+long(keptText), "id=1 n=3 body="+long(keptText), "id=1 n=5 body="+long(keptText))
}

func toastColumns(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE doc (id int PRIMARY KEY, n int, x text, y jsonb, z text[]);
		ALTER TABLE doc ALTER x SET STORAGE EXTERNAL; ALTER TABLE doc ALTER y SET STORAGE EXTERNAL; ALTER TABLE doc ALTER z SET STORAGE EXTERNAL;`)
	d := start(t, db, options{tables: tables(table("doc", "id:int|n:int,x:text,y:json,z:list"))})
	x, _ := toasted("x", 100_000)
	y := "jsonb_build_object('y', " + x + ")"
	z := "ARRAY[" + x + ", NULL, '']"
	for i, columns := range []string{x + "," + y + "," + z, "NULL," + y + ",'{}'", "'','{}'," + z, x + ",NULL,NULL"} {
		db.exec(fmt.Sprintf("INSERT INTO doc VALUES (%d, 0, %s)", i, columns))
	}
	for i, set := range []string{"n = 1", "x = 'short'", "y = NULL", "z = NULL, n = 2", "x = NULL, y = " + y, "n = 3"} {
		db.exec("UPDATE doc SET " + set)
		if i%2 == 1 {
			requireEqual(t, db, d)
		}
	}
	requireChanges(t, d, "doc", 4*7)
}

func toastFull(t *testing.T) {
	db := newDatabase(t, docSchema+"ALTER TABLE doc REPLICA IDENTITY FULL;")
	value, text := toasted("full ", 1_200_000)
	db.exec("INSERT INTO doc VALUES (1, 1, " + value + ")")
	d := start(t, db, options{tables: doc})
	db.exec("UPDATE doc SET n = 2")
	db.exec("UPDATE doc SET id = 2, n = 3")
	db.exec("INSERT INTO doc VALUES (3, 1, NULL); DELETE FROM doc WHERE id = 3")
	requireEqual(t, db, d)
	requireVersions(t, d, "doc", "1", "backfilled id=1 n=1 body="+long(text), "id=1 n=2 body="+long(text), "moved")
	requireVersions(t, d, "doc", "2", "id=2 n=3 body="+long(text))
	requireVersions(t, d, "doc", "3", "id=3 n=1 body=NULL", "deleted")
}

// checkOften makes a daemon check its source often.
func checkOften(c *cdc.Config) { c.CheckEvery = 50 * time.Millisecond }

// alarmed waits until what a check of the source finds names all of words.
func (d *daemon) alarmed(words ...string) {
	d.t.Helper()
	d.until(fmt.Sprintf("the alarm says %q", words), func(s cdc.Status) bool {
		return slices.ContainsFunc(s.Faults, func(f cdc.Fault) bool {
			said := f.Object + ": " + f.Problem + ": " + f.Mend
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said, w) })
		})
	})
}

// calm waits until a check finds nothing any more.
func (d *daemon) calm() {
	d.t.Helper()
	d.until("no alarm is left", func(s cdc.Status) bool { return len(s.Faults) == 0 })
}

// requireUnidentified wants PostgreSQL to refuse a statement of the application for
// want of a replica identity.
func requireUnidentified(t *testing.T, db *database, sql string) {
	t.Helper()
	const prerequisite, columnReference = "55000", "42P10"
	var server *pgconn.PgError
	if err := db.main.try(sql); !errors.As(err, &server) || server.Code != prerequisite && server.Code != columnReference {
		t.Errorf("%s: the server said %v, want that the table's identity does not allow it", sql, err)
	}
}

func fullAfterList(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE doc (id int PRIMARY KEY, n int, body text, secret text);`)
	d := start(t, db, options{tables: doc, source: checkOften})
	db.exec("INSERT INTO doc VALUES (1, 1, 'x', 'hidden')")
	db.exec("ALTER TABLE doc REPLICA IDENTITY FULL")
	requireUnidentified(t, db, "UPDATE doc SET n = 2")
	requireUnidentified(t, db, "DELETE FROM doc")
	db.exec("INSERT INTO doc VALUES (2, 1, 'y', 'hidden')")
	d.alarmed("public.doc", "REPLICA IDENTITY FULL", `ALTER TABLE "public"."doc" REPLICA IDENTITY DEFAULT`)
	requireEqual(t, db, d)
	db.exec("ALTER TABLE doc REPLICA IDENTITY DEFAULT; UPDATE doc SET n = 2")
	d.calm()
	requireEqual(t, db, d)
	requireVersions(t, d, "doc", "1", "id=1 n=1 body=x", "id=1 n=2 body=x")
}

func oneBatch(t *testing.T) {
	db := newDatabase(t, pairSchema)
	n := newNetwork(t, db.url)
	d := startChild(t, db, options{tables: pair, via: n})
	for i := range 3 {
		// Held back, so that all of them come at once and share a message.
		n.hold(true)
		db.exec(fmt.Sprintf("INSERT INTO a VALUES (%d, 1)", i))
		db.exec(fmt.Sprintf("UPDATE a SET n = 2 WHERE id = %d", i))
		db.exec(fmt.Sprintf("DELETE FROM a WHERE id = %d", i))
		db.exec(fmt.Sprintf("BEGIN; INSERT INTO b VALUES (%[1]d, 1); UPDATE b SET n = 2 WHERE id = %[1]d; DELETE FROM b WHERE id = %[1]d; COMMIT", i))
		n.hold(false)
		if i == 1 {
			d.crash()
			d.startChild()
		}
		d.catchUp()
	}
	requireEqual(t, db, d)
	for i := range 3 {
		requireVersions(t, d, "a", fmt.Sprint(i), fmt.Sprintf("id=%d n=1", i), fmt.Sprintf("id=%d n=2", i), "deleted")
		requireVersions(t, d, "b", fmt.Sprint(i), fmt.Sprintf("id=%d n=1", i), fmt.Sprintf("id=%d n=2", i), "deleted")
	}
}

func sameKeyAgain(t *testing.T) {
	db := newDatabase(t, pairSchema+"INSERT INTO a VALUES (1, 1), (2, 1); ALTER TABLE b ADD user_id int;")
	d := start(t, db, options{tables: tables(table("a", "id:int|n:int"), table("b", "id:int|n:int,user_id:int").of("user", "user_id"))})
	db.exec("INSERT INTO b VALUES (1, 1, 10)")
	db.exec("BEGIN; DELETE FROM a WHERE id = 1; INSERT INTO a VALUES (1, 2); DELETE FROM b; INSERT INTO b VALUES (1, 2, 20); COMMIT")
	db.exec("BEGIN; DELETE FROM a WHERE id = 2; INSERT INTO a VALUES (2, 2); DELETE FROM a WHERE id = 2; DELETE FROM b; INSERT INTO b VALUES (1, 3, 10); COMMIT")
	requireEqual(t, db, d)
	requireVersions(t, d, "a", "1", "backfilled id=1 n=1", "deleted", "id=1 n=2")
	requireVersions(t, d, "a", "2", "backfilled id=2 n=1", "deleted", "id=2 n=2", "deleted")
	requireVersions(t, d, "b", "1", "id=1 n=1 user_id=10", "deleted", "id=1 n=2 user_id=20", "deleted", "id=1 n=3 user_id=10")
}

func rotatedKeys(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int, user_id int); INSERT INTO a SELECT g, g, g % 2 FROM generate_series(1, 6) g;`)
	d := start(t, db, options{tables: tables(table("a", "id:int|n:int,user_id:int").of("user", "user_id"))})
	db.exec("BEGIN; UPDATE a SET id = 0 WHERE n = 1; UPDATE a SET id = 1 WHERE n = 2; UPDATE a SET id = 2 WHERE n = 1; COMMIT")
	requireEqual(t, db, d)
	db.exec("BEGIN; UPDATE a SET id = -id; UPDATE a SET id = 7 + id; UPDATE a SET user_id = 1 - user_id; COMMIT")
	requireEqual(t, db, d)
	db.exec("ALTER TABLE a REPLICA IDENTITY FULL")
	db.exec("BEGIN; ALTER TABLE a REPLICA IDENTITY DEFAULT; UPDATE a SET id = id + 100 WHERE id % 2 = 0; UPDATE a SET id = id - 99; COMMIT")
	requireEqual(t, db, d)
}

// deferrableKey: under a deferred constraint two rows may hold one key until the
// commit, and the log does not say which of them a later change is of.
func deferrableKey(t *testing.T) {
	for identity, problem := range map[string]string{"DEFAULT": "no replica identity", "FULL": "unique"} {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, n int); INSERT INTO a VALUES (1, 1), (2, 2);
			ALTER TABLE a REPLICA IDENTITY `+identity)
		refusedAtTheStart(t, db, options{tables: tables(table("a", "id:int|n:int"))}, problem)
	}
}

// refusedAtTheStart wants a daemon to refuse its source and to say what mends it,
// runs that, and wants the daemon to follow.
func refusedAtTheStart(t *testing.T, db *database, o options, problem string) {
	t.Helper()
	d := newDaemon(t, db, o)
	d.launch()
	err := d.failure()
	var faults *cdc.FaultsError
	if !errors.As(err, &faults) || !slices.ContainsFunc(faults.Faults, func(f cdc.Fault) bool { return strings.Contains(f.Problem, problem) }) {
		t.Fatalf("the daemon ended with %v, want faults that say %q", err, problem)
	}
	for _, f := range faults.Faults {
		db.exec(f.Mend)
	}
	d.start()
	db.exec("UPDATE a SET n = n + 10; DELETE FROM a WHERE id = 2; INSERT INTO a (id, n) VALUES (3, 3)")
	requireEqual(t, db, d)
}

func nothingAtTheStart(t *testing.T) {
	db := newDatabase(t, pairSchema+"INSERT INTO a VALUES (1, 1), (2, 2); ALTER TABLE a REPLICA IDENTITY NOTHING;")
	refusedAtTheStart(t, db, options{tables: pair}, "REPLICA IDENTITY NOTHING")
}

func otherIndexAtTheStart(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int NOT NULL UNIQUE); INSERT INTO a VALUES (1, 1), (2, 2);
		ALTER TABLE a REPLICA IDENTITY USING INDEX a_n_key;`)
	refusedAtTheStart(t, db, options{tables: tables(table("a", "id:int|n:int"))}, "is not the definition's key")
}

func nothingWhileRunning(t *testing.T) {
	db := newDatabase(t, pairSchema)
	d := start(t, db, options{tables: pair, source: checkOften})
	db.exec("INSERT INTO a VALUES (1, 1), (2, 2)")
	db.exec("ALTER TABLE a REPLICA IDENTITY NOTHING")
	requireUnidentified(t, db, "UPDATE a SET n = 2 WHERE id = 1")
	requireUnidentified(t, db, "DELETE FROM a WHERE id = 2")
	db.exec("INSERT INTO a VALUES (3, 3)")
	d.alarmed("public.a", "REPLICA IDENTITY NOTHING", `ALTER TABLE "public"."a" REPLICA IDENTITY DEFAULT`)
	requireEqual(t, db, d)
	db.exec("TRUNCATE a; INSERT INTO a VALUES (4, 4)")
	requireEqual(t, db, d)
	db.exec("ALTER TABLE a REPLICA IDENTITY DEFAULT; UPDATE a SET n = 5")
	d.calm()
	requireEqual(t, db, d)
	requireVersions(t, d, "a", "4", "id=4 n=4", "id=4 n=5")
}

func usingIndex(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (pk int PRIMARY KEY, id text NOT NULL, n int, body text); CREATE UNIQUE INDEX a_id ON a (id);
		ALTER TABLE a ALTER body SET STORAGE EXTERNAL; ALTER TABLE a REPLICA IDENTITY USING INDEX a_id;`)
	value, _ := toasted("indexed ", 300_000)
	db.exec("INSERT INTO a VALUES (1, 'one', 1, " + value + "), (2, 'two', 2, 'short')")
	d := start(t, db, options{tables: tables(table("a", "id:text|n:int,body:text"))})
	db.exec("INSERT INTO a VALUES (3, 'three', 3, " + value + ")")
	db.exec("UPDATE a SET n = n + 10")
	db.exec("UPDATE a SET pk = pk + 10") // a key that nobody reads
	db.exec("UPDATE a SET id = 'eins' WHERE id = 'one'")
	db.exec("DELETE FROM a WHERE id = 'two'")
	requireEqual(t, db, d)
}

// otherIndexWhileRunning: the old key of a row that changes it is not sent then.
func otherIndexWhileRunning(t *testing.T) {
	for _, sql := range []string{"UPDATE a SET id = 11 WHERE id = 1", "DELETE FROM a WHERE id = 1"} {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int NOT NULL UNIQUE, m int); INSERT INTO a VALUES (1, 1, 1), (2, 2, 2);`)
		d := start(t, db, options{tables: tables(table("a", "id:int|n:int,m:int")), source: checkOften})
		db.exec("ALTER TABLE a REPLICA IDENTITY USING INDEX a_n_key")
		db.exec("INSERT INTO a VALUES (3, 3, 3)")
		d.alarmed("public.a", "is not the definition's key", `ALTER TABLE "public"."a" REPLICA IDENTITY DEFAULT`)
		requireEqual(t, db, d)
		db.exec(sql)
		err := d.failure()
		var relation *featurestore.RelationError
		if !errors.As(err, &relation) || relation.Table != "a" || relation.Column != "id" {
			t.Errorf("%s: the daemon ended with %v, want one that names table a and column id", sql, err)
		}
	}
}

func droppedIndex(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int NOT NULL, n int); CREATE UNIQUE INDEX a_id ON a (id); ALTER TABLE a REPLICA IDENTITY USING INDEX a_id;`)
	d := start(t, db, options{tables: tables(table("a", "id:int|n:int")), source: checkOften})
	db.exec("INSERT INTO a VALUES (1, 1); UPDATE a SET n = 2")
	db.exec("DROP INDEX a_id")
	requireUnidentified(t, db, "UPDATE a SET n = 3")
	requireUnidentified(t, db, "DELETE FROM a")
	db.exec("INSERT INTO a VALUES (2, 2)")
	d.alarmed("public.a", "no replica identity")
	requireEqual(t, db, d)
	db.exec("CREATE UNIQUE INDEX a_id ON a (id); ALTER TABLE a REPLICA IDENTITY USING INDEX a_id; UPDATE a SET n = 3")
	d.calm()
	requireEqual(t, db, d)
}

func switchedIdentity(t *testing.T) {
	// Every column is named, and the table published without a list: FULL works.
	db := newDatabase(t, docSchema+"CREATE UNIQUE INDEX doc_id ON doc (id); ALTER TABLE doc REPLICA IDENTITY FULL;")
	value, _ := toasted("switched ", 300_000)
	db.exec("INSERT INTO doc SELECT g, g, " + value + " FROM generate_series(1, 4) g")
	d := startChild(t, db, options{tables: doc})
	key := 100
	for _, identity := range []string{"DEFAULT", "USING INDEX doc_id", "FULL", "USING INDEX doc_id", "DEFAULT", "FULL"} {
		key++
		db.exec("ALTER TABLE doc REPLICA IDENTITY " + identity)
		db.exec(fmt.Sprintf("INSERT INTO doc VALUES (%d, 0, %s)", key, value))
		db.exec("UPDATE doc SET n = n + 1")
		db.exec(fmt.Sprintf("UPDATE doc SET id = id + 1000 WHERE id = %d", key))
		db.exec(fmt.Sprintf("DELETE FROM doc WHERE id = %d", key-1+1000))
		db.exec("BEGIN; UPDATE doc SET n = 0 WHERE id = 1; ALTER TABLE doc REPLICA IDENTITY DEFAULT; UPDATE doc SET n = 1 WHERE id = 1; ALTER TABLE doc REPLICA IDENTITY " + identity + "; UPDATE doc SET n = 2 WHERE id = 1; COMMIT")
		d.catchUp()
		// Started under another identity, the daemon would publish a list.
		if identity == "FULL" {
			d.crash()
			d.startChild()
		}
	}
	requireEqual(t, db, d)
}

func switchedKey(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int NOT NULL, m int); INSERT INTO a VALUES (1, 10, 1), (2, 20, 2);`)
	d := start(t, db, options{tables: tables(table("a", "id:int|n:int,m:int")), source: checkOften})
	db.exec("ALTER TABLE a DROP CONSTRAINT a_pkey; ALTER TABLE a ADD PRIMARY KEY (n)")
	db.exec("INSERT INTO a VALUES (3, 30, 3)")
	d.alarmed("public.a", "is not the definition's key")
	requireEqual(t, db, d)
	db.exec("UPDATE a SET id = 1000 + id WHERE id = 1")
	err := d.failure()
	var relation *featurestore.RelationError
	if !errors.As(err, &relation) || relation.Column != "id" {
		t.Fatalf("the daemon ended with %v, want one that names column id", err)
	}
}

func renamedBack(t *testing.T) {
	db := newDatabase(t, pairSchema)
	d := start(t, db, options{tables: pair})
	db.exec("INSERT INTO a VALUES (1, 1)")
	db.exec("ALTER TABLE a RENAME id TO other; ALTER TABLE a RENAME other TO id")
	db.exec("UPDATE a SET n = 2")
	db.exec("BEGIN; ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b; ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b; COMMIT")
	db.exec("UPDATE a SET n = 3; INSERT INTO b VALUES (1, 1)")
	requireEqual(t, db, d)
	requireVersions(t, d, "a", "1", "id=1 n=1", "id=1 n=2", "id=1 n=3")
}
