// Package cases holds no code, only tests: the cases that break systems for
// change data capture, each on the real parts, wired as ingest wires them. A
// real PostgreSQL, the embedded JetStream stream (or an external server), and
// the store on disk run in the test's process, or in a child that can be killed.
// The outcome of each case is that the store equals the source with each change
// once, or a typed stop that names what is wrong (I1, I2, I3, I4, I9).
//
// # How to write a case
//
//	func TestGroup(t *testing.T) {
//		t.Parallel()
//		t.Run("what is claimed", func(t *testing.T) {
//			db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int)`)
//			d := start(t, db, options{tables: tables(table("a", "id:int|n:int"))})
//			one, two := db.session(), db.session() // held open, interleaved
//			one.exec("BEGIN; INSERT INTO a VALUES (1, 1)")
//			two.exec("INSERT INTO a VALUES (2, 2)")
//			d.catchUp() // what is committed by now is applied and on disk
//			d.restart()
//			one.exec("COMMIT")
//			requireEqual(t, db, d)                            // the newest rows are the source's
//			requireVersions(t, d, "a", "1", "id=1 n=1")       // each change once, oldest first
//			requireChanges(t, d, "a", 2)                      // over all rows of the table
//		})
//	}
//
// table("a", "id:int|n:int") lists the key columns before the bar;
// .of("user", "user_id") gives the table an entity. options has hooks to change
// the configuration of each part. start waits until the source streams; launch
// does not, for what happens during the backfill; failure waits for the typed
// stop. db.session() is a connection of its own, pinned to the text format of the
// stream.
//
// An honest crash needs another process: startChild runs the same wiring in a
// child, crash kills it with SIGKILL, and start (or startChild) goes on with the
// same directory. A child's store is read once it has ended: requireEqual,
// requireVersions and requireChanges end it in order first.
//
// newNetwork stands between the daemon and PostgreSQL: it cuts connections,
// swallows the status updates that confirm progress, or holds back bytes.
//
// A logical slot is made only when every transaction that was open before it,
// on the whole server, has ended. A case that holds a transaction open while it
// waits for a daemon's first start wants a server of its own: newDatabaseOn.
//
// Large cases take their sizes from -large.rows and -large.value.
package cases
