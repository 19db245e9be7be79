package cases_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/pgtest"
)

// table makes a definition's table; a column is "name:type", and the key
// columns are those before the bar: "id:int,region:text|n:int".
func table(name, columns string) tableOf {
	t := definition.Table{Name: name}
	key, rest, _ := strings.Cut(columns, "|")
	for i, list := range []string{key, rest} {
		for _, c := range strings.Split(list, ",") {
			n, typ, ok := strings.Cut(c, ":")
			if !ok {
				continue
			}
			if i == 0 {
				t.Key = append(t.Key, n)
			}
			t.Columns = append(t.Columns, definition.SourceColumn{Name: n, Type: definition.Type(typ)})
		}
	}
	return tableOf{t}
}

type tableOf struct{ definition.Table }

// of gives the table an entity, whose id stands in a column.
func (t tableOf) of(entity, by string) tableOf {
	t.Entity, t.By = entity, by
	return t
}

func tables(list ...tableOf) []definition.Table {
	var out []definition.Table
	for _, t := range list {
		out = append(out, t.Table)
	}
	return out
}

// database is a source of one case.
type database struct {
	t    testing.TB
	url  string
	main *session
}

// newDatabase makes a database on the shared server and runs the schema there.
func newDatabase(t testing.TB, schema string) *database {
	t.Helper()
	return newDatabaseOn(t, shared.Server(t), schema)
}

// newDatabaseOn makes a database on a server of the case's own.
func newDatabaseOn(t testing.TB, server *pgtest.Server, schema string) *database {
	t.Helper()
	db := &database{t: t, url: server.NewDatabase(t)}
	db.reconnect()
	if schema != "" {
		db.exec(schema)
	}
	return db
}

// reconnect gives the database's own session a new connection, after the
// server was restarted.
func (db *database) reconnect() {
	db.t.Helper()
	db.main = db.session()
}

// exec runs statements in one implicit transaction, unless they say BEGIN.
func (db *database) exec(sql string) {
	db.t.Helper()
	db.main.exec(sql)
}

// text returns the only value of a query as text.
func (db *database) text(sql string) string {
	db.t.Helper()
	return db.main.text(sql)
}

// lsn returns a position that a query tells.
func (db *database) lsn(sql string) change.LSN {
	db.t.Helper()
	lsn, err := change.ParseLSN(db.text(sql))
	if err != nil {
		db.t.Fatal(err)
	}
	return lsn
}

// confirmed is the position up to which the server may forget its log for a slot.
func (db *database) confirmed(slot string) change.LSN {
	db.t.Helper()
	return db.lsn("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '" + slot + "'")
}

// set changes a setting for sessions of this database that begin later, the
// daemon's among them.
func (db *database) set(name, value string) {
	db.t.Helper()
	db.exec("DO $do$ BEGIN EXECUTE format('ALTER DATABASE %I SET " + name + " = ''" + value + "''', current_database()); END $do$")
}

// session is a connection that writes what the stream would write.
type session struct {
	t    testing.TB
	conn *pgx.Conn
}

// session opens another connection; it is closed when the test ends.
func (db *database) session() *session {
	db.t.Helper()
	return &session{t: db.t, conn: pgtest.Session(db.t, db.url, pgx.QueryExecModeSimpleProtocol)}
}

// try runs statements and returns the server's error.
func (s *session) try(sql string) error {
	_, err := s.conn.PgConn().Exec(s.t.Context(), sql).ReadAll()
	return err
}

func (s *session) exec(sql string) {
	s.t.Helper()
	if err := s.try(sql); err != nil {
		s.t.Fatalf("%s: %v", abbreviate(sql), err)
	}
}

func (s *session) text(sql string) string {
	s.t.Helper()
	results, err := s.conn.PgConn().Exec(s.t.Context(), sql).ReadAll()
	if err != nil {
		s.t.Fatalf("%s: %v", abbreviate(sql), err)
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 || len(last.Rows[0]) != 1 {
		s.t.Fatalf("%s: want one value, got %d rows", abbreviate(sql), len(last.Rows))
	}
	return string(last.Rows[0][0])
}

// copyIn feeds COPY … FROM STDIN.
func (s *session) copyIn(sql string, lines string) pgconn.CommandTag {
	s.t.Helper()
	tag, err := s.conn.PgConn().CopyFrom(s.t.Context(), strings.NewReader(lines), sql)
	if err != nil {
		s.t.Fatalf("%s: %v", abbreviate(sql), err)
	}
	return tag
}

// abbreviate keeps messages readable.
func abbreviate(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
