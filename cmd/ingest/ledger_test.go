package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"dreamfeed/featurestore"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

const ledgerFile = "testdata/ledger.yaml"

// ledger is a small application whose whole history is known: what it wrote
// to each row, in order.
type ledger struct {
	t    *testing.T
	url  string
	conn *pgx.Conn
	// broken says that a statement failed, which was reported.
	broken bool
	// versions are, by table and key, the values of column n in the order in
	// which they were committed; "-" is a delete.
	versions map[string][]string
}

// ledgerTx is a transaction of a ledger. What it did counts when it commits.
type ledgerTx struct {
	ledger *ledger
	tx     pgx.Tx
	done   []func()
}

// newLedger makes the tables in an empty database, and fills them: a backfill of
// two stream messages.
func newLedger(t *testing.T, url string) *ledger {
	t.Helper()
	l := &ledger{t: t, url: url, versions: map[string][]string{}}
	l.conn = l.connect()
	execute(t, url, `CREATE TABLE holders (id text PRIMARY KEY, n int NOT NULL, note text);
CREATE TABLE entries (id text PRIMARY KEY, holder text, n int NOT NULL, body text,
  made_at timestamp NOT NULL DEFAULT '2026-01-01', closed_at timestamp);
ALTER TABLE entries ALTER body SET STORAGE EXTERNAL`)
	tx := l.begin(l.conn)
	for i := range 4 {
		tx.insert("holders", "h"+strconv.Itoa(i), "note", "first")
	}
	for i := range 12 {
		body := "small"
		if i < 4 {
			body = strings.Repeat("large and out of line ", 300)
		}
		tx.insert("entries", "e"+strconv.Itoa(i), "body", body)
	}
	tx.many("first", 1500)
	tx.commit()
	return l
}

func (l *ledger) connect() *pgx.Conn {
	l.t.Helper()
	conn, err := pgx.Connect(l.t.Context(), l.url)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// report notes an error; a goroutine may not end the test.
func (l *ledger) report(err error) {
	l.t.Helper()
	if err != nil && !l.broken {
		l.broken = true
		l.t.Error(err)
	}
}

func (l *ledger) begin(conn *pgx.Conn) *ledgerTx {
	l.t.Helper()
	tx, err := conn.Begin(context.Background())
	l.report(err)
	return &ledgerTx{ledger: l, tx: tx}
}

func (x *ledgerTx) exec(want int64, sql string, args ...any) {
	x.ledger.t.Helper()
	if x.ledger.broken {
		return
	}
	tag, err := x.tx.Exec(context.Background(), sql, args...)
	if err == nil && tag.RowsAffected() != want {
		err = fmt.Errorf("%d rows, want %d", tag.RowsAffected(), want)
	}
	if err != nil {
		x.ledger.report(fmt.Errorf("%s: %w", sql, err))
	}
}

// insert makes a row, version 1 of its key. An entry belongs to holder h0.
func (x *ledgerTx) insert(table, id, column, value string) {
	x.ledger.t.Helper()
	if table == "entries" {
		x.exec(1, "INSERT INTO entries (id, holder, n, "+column+") VALUES ($1, 'h0', 1, $2)", id, value)
	} else {
		x.exec(1, "INSERT INTO "+table+" (id, n, "+column+") VALUES ($1, 1, $2)", id, value)
	}
	x.note(table, id, "1")
}

// many makes rows in one statement, about 260 bytes each.
func (x *ledgerTx) many(prefix string, rows int) {
	x.ledger.t.Helper()
	x.exec(int64(rows), `INSERT INTO entries (id, holder, n, body)
SELECT $1 || g, 'h' || g % 4, 1, repeat(md5(g::text), 7) FROM generate_series(1, $2) g`, prefix, rows)
	for g := 1; g <= rows; g++ {
		x.note("entries", prefix+strconv.Itoa(g), "1")
	}
}

// update changes a column of a row and counts its version.
func (x *ledgerTx) update(table, id string, version int, column, value string) {
	x.ledger.t.Helper()
	x.exec(1, "UPDATE "+table+" SET n = n + 1, "+column+" = $2 WHERE id = $1", id, value)
	x.note(table, id, strconv.Itoa(version))
}

func (x *ledgerTx) remove(table, id string) {
	x.ledger.t.Helper()
	x.exec(1, "DELETE FROM "+table+" WHERE id = $1", id)
	x.note(table, id, "-")
}

func (x *ledgerTx) note(table, id, version string) {
	key := table + " " + id
	x.done = append(x.done, func() { x.ledger.versions[key] = append(x.ledger.versions[key], version) })
}

func (x *ledgerTx) commit() {
	x.ledger.t.Helper()
	if x.ledger.broken {
		return
	}
	x.ledger.report(x.tx.Commit(context.Background()))
	for _, f := range x.done {
		f()
	}
}

// small is a transaction of a few rows.
func (l *ledger) small() {
	l.t.Helper()
	tx := l.begin(l.conn)
	tx.update("holders", "h0", 2, "note", "second")
	tx.insert("entries", "small", "body", "made")
	tx.remove("entries", "e11")
	tx.commit()
}

// large is a transaction of several stream messages.
func (l *ledger) large() {
	l.t.Helper()
	tx := l.begin(l.conn)
	tx.many("large", 3000)
	tx.update("entries", "large7", 2, "body", "changed in its own transaction")
	tx.commit()
}

// interleaved are two transactions, each open while the other writes, the first
// to begin the last to commit; one is large. Bodies out of line stay untouched.
func (l *ledger) interleaved() {
	l.t.Helper()
	first, second := l.begin(l.conn), l.begin(l.connect())
	first.update("entries", "e0", 2, "holder", "h1") // moves to another entity
	second.update("entries", "e1", 2, "made_at", "2026-02-02")
	first.many("more", 1500)
	second.insert("entries", "between", "body", "x")
	first.update("entries", "e2", 2, "closed_at", "2026-03-03")
	second.remove("entries", "e9")
	second.commit()
	first.update("entries", "e1", 3, "made_at", "2026-02-03") // after the other's
	first.remove("entries", "e10")
	first.commit()
	tx := l.begin(l.conn)
	tx.update("entries", "e0", 3, "made_at", "2026-04-04")
	tx.insert("entries", "e10", "body", "again")
	tx.commit()
}

// loadEvery is the pace of load: 200 transactions a second at most.
const loadEvery = 5 * time.Millisecond

// load writes random transactions until stop is called: small ones, pairs that
// are open at the same time, and now and then one of several stream messages.
func (l *ledger) load(seed uint64) (stop func()) {
	l.t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	other := l.connect()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		pace := time.NewTicker(loadEvery)
		defer pace.Stop()
		for n := 0; !l.broken; n++ {
			select {
			case <-pace.C:
			case <-done:
				return
			}
			first, second := l.begin(l.conn), l.begin(other)
			if r.IntN(100) == 0 {
				first.many(fmt.Sprintf("many%d_", n), 1500)
			}
			used := map[string]bool{} // by either: neither waits for the other
			for range 1 + r.IntN(4) {
				first.step(r, used)
				second.step(r, used)
			}
			if r.IntN(2) == 0 {
				first, second = second, first
			}
			first.commit()
			second.commit()
		}
	})
	return func() { close(done); wg.Wait() }
}

// step changes an entry that is not used yet, if it is there, else makes it.
func (x *ledgerTx) step(r *rand.Rand, used map[string]bool) {
	x.ledger.t.Helper()
	id := "r" + strconv.Itoa(r.IntN(500))
	if used[id] {
		return
	}
	used[id] = true
	was := "-"
	if versions := x.ledger.versions["entries "+id]; len(versions) > 0 {
		was = versions[len(versions)-1]
	}
	version, err := strconv.Atoi(was)
	switch {
	case err != nil:
		x.insert("entries", id, "body", strings.Repeat("body", r.IntN(800)))
	case r.IntN(5) == 0:
		x.remove("entries", id)
	case r.IntN(2) == 0:
		x.update("entries", id, version+1, "holder", "h"+strconv.Itoa(r.IntN(4)))
	default:
		x.update("entries", id, version+1, "body", strings.Repeat("other", r.IntN(800)))
	}
}

// require compares a stopped daemon's store with the source, row by row, and
// its history with all that was written: each change once, in order.
func (l *ledger) require(dataDir string) {
	l.t.Helper()
	def := loadLedger(l.t)
	requireEqual(l.t, def, dataDir, l.url)
	stored := storedVersions(l.t, def, dataDir, func(table *history.Table, cells []row.Cell) string {
		return cells[table.Slot("n")].String()
	})
	if diff := gocmp.Diff(l.versions, stored); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000] + "…"
		}
		l.t.Fatalf("the history in the store is not what was written (-written +stored):\n%s", diff)
	}
}

func loadLedger(t *testing.T) *definition.Definition {
	t.Helper()
	text, err := os.ReadFile(ledgerFile)
	if err != nil {
		t.Fatal(err)
	}
	def, err := definition.Load(text, ledgerFile)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// storedVersions reads every version of every row, oldest first, by table and
// id: what show makes of a row, "-" for a delete. What a move to another entity
// leaves behind is left out.
func storedVersions(t *testing.T, def *definition.Definition, dataDir string, show func(*history.Table, []row.Cell) string) map[string][]string {
	t.Helper()
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	view, err := store.View(0)
	if err != nil {
		t.Fatal(err)
	}
	info := view.Info()
	type change struct {
		history.Version
		shown string
	}
	changes, names := map[string][]change{}, map[string]string{}
	collect := func(e *history.Entity) error {
		for _, r := range e.Rows {
			table := &info.Tables[r.Table-1]
			key := table.Name + string(r.Key) // the same under every entity
			for _, v := range r.Versions {
				shown := "-"
				switch {
				case v.Moved:
					continue
				case !v.Deleted:
					cells, err := row.Decode(v.Data, nil)
					if err != nil {
						return err
					}
					shown, names[key] = show(table, cells), table.Name+" "+cells[table.Slot("id")].String()
				}
				v.Data = nil // it is borrowed
				changes[key] = append(changes[key], change{v, shown})
			}
		}
		return nil
	}
	scanAll(t, def, view, 1, collect)
	out := map[string][]string{}
	for key, list := range changes {
		slices.SortFunc(list, func(a, b change) int {
			return cmp.Or(cmp.Compare(a.Version.Version, b.Version.Version), cmp.Compare(a.Ordinal, b.Ordinal))
		})
		for _, c := range list {
			out[names[key]] = append(out[names[key]], c.shown)
		}
	}
	return out
}
