package cdc_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/pgtest"
)

var shared pgtest.Shared

// TestMain fails the run if a test has left a goroutine behind.
func TestMain(m *testing.M) {
	code := shared.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience bounds every wait of these tests.
const (
	patience     = 60 * time.Second
	pollInterval = 50 * time.Millisecond
)

// table makes a definition's table; a column is "name:type", and the key
// columns are those before the bar: "id:text|name:text".
func table(name, columns string) definition.Table {
	t := definition.Table{Name: name}
	key, rest, _ := strings.Cut(columns, "|")
	for _, c := range strings.Split(key, ",") {
		n, typ, _ := strings.Cut(c, ":")
		t.Key = append(t.Key, n)
		t.Columns = append(t.Columns, definition.SourceColumn{Name: n, Type: definition.Type(typ)})
	}
	for _, c := range strings.Split(rest, ",") {
		if n, typ, ok := strings.Cut(c, ":"); ok {
			t.Columns = append(t.Columns, definition.SourceColumn{Name: n, Type: definition.Type(typ)})
		}
	}
	return t
}

func define(tables ...definition.Table) *definition.Definition {
	return &definition.Definition{Name: "test", Zone: time.UTC, Tables: tables}
}

// testLog is where log lines of the code under test go.
type testLog struct{ t testing.TB }

func (w testLog) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// rig is a source, its stream and a store that is a map.
type rig struct {
	t   testing.TB
	cfg cdc.Config
	dir string // of the stream
	// silence is how long the server may say nothing; 0 is the usual time.
	silence time.Duration
	conn    *pgx.Conn
	source  *cdc.Source
	stop    context.CancelFunc
	ended   chan error
	model   *model
}

// newRig runs the schema on the database and opens a stream.
func newRig(t testing.TB, url, schema string, def *definition.Definition) *rig {
	t.Helper()
	r := &rig{t: t}
	r.conn = session(t, url)
	if schema != "" {
		r.exec(schema)
	}
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	r.cfg = cdc.Config{
		DatabaseURL: url, Definition: def, Slot: pgtest.SlotName(t),
		Logger: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: level})),
	}
	r.dir = t.TempDir()
	r.openLog(0)
	t.Cleanup(func() {
		r.end()
		r.closeLog()
	})
	return r
}

// openLog opens the stream, with a limit of its size if that is not 0.
func (r *rig) openLog(limit int64) {
	r.t.Helper()
	log, err := cdc.OpenLog(r.t.Context(), cdc.LogConfig{Dir: r.dir, MaxBytes: limit, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.cfg.Log = log
}

func (r *rig) closeLog() {
	r.t.Helper()
	if r.model != nil {
		r.model.close()
		r.model = nil
	}
	if err := r.cfg.Log.Close(); err != nil {
		r.t.Error(err)
	}
}

// newStream replaces the stream by an empty one.
func (r *rig) newStream(limit int64) {
	r.t.Helper()
	r.closeLog()
	r.dir = r.t.TempDir()
	r.openLog(limit)
}

func session(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	return pgtest.Session(t, url, pgx.QueryExecModeCacheStatement)
}

// exec runs statements in one implicit transaction, unless they say BEGIN.
func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	execOn(r.t, r.conn, sql, args...)
}

func execOn(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	var err error
	if len(args) > 0 {
		_, err = conn.Exec(t.Context(), sql, args...)
	} else {
		_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// execOnLate runs a statement when the test has ended.
func execOnLate(t testing.TB, url, sql string) {
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	_ = conn.Close(context.Background())
}

// start runs the source.
func (r *rig) start() {
	r.t.Helper()
	source, err := cdc.NewSource(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.silence != 0 {
		source.BearSilence(r.silence)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	r.source, r.stop, r.ended = source, cancel, ended
	go func() { ended <- source.Run(ctx) }()
}

// end stops the source; Run must return nil.
func (r *rig) end() {
	r.t.Helper()
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		r.t.Error("run did not return")
	}
}

// fails runs the source and waits until Run returns an error.
func (r *rig) fails() error {
	r.t.Helper()
	r.start()
	return r.failure()
}

func (r *rig) failure() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		r.stop()
		r.stop = nil
		if err == nil {
			r.t.Fatal("run returned no error")
		}
		return err
	case <-time.After(patience):
		r.t.Fatal("run did not return an error")
	}
	return nil
}

// until waits until the status is as wanted.
func (r *rig) until(what string, ok func(cdc.Status) bool) cdc.Status {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		status := r.source.Status()
		if ok(status) {
			return status
		}
		select {
		case err := <-r.ended:
			r.stop()
			r.stop = nil
			r.t.Fatalf("run returned %v while waiting until %s", err, what)
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not so after %s: %s; %+v", patience, what, status)
		}
	}
}

func (r *rig) streaming() {
	r.t.Helper()
	r.until("the source streams", func(s cdc.Status) bool { return s.State == cdc.Streaming })
}

// catchUp applies the stream up to everything committed so far.
func (r *rig) catchUp() *model {
	r.t.Helper()
	lsn, err := r.source.Barrier(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return r.applyTo(lsn)
}

func (r *rig) applyTo(lsn change.LSN) *model {
	r.t.Helper()
	if r.model == nil {
		r.model = newModel(r.t, r.cfg.Log)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for r.model.header.EndLSN < lsn || r.model.header.Open {
		if err := r.model.next(ctx); err != nil {
			select {
			case ended := <-r.ended:
				r.stop = nil
				r.t.Fatalf("run returned %v", ended)
			default:
			}
			r.t.Fatalf("apply to %s: %v", lsn, err)
		}
	}
	return r.model
}

// same compares what the map holds with what the source holds.
func (r *rig) same() *model {
	r.t.Helper()
	m := r.catchUp()
	r.compare(m)
	return m
}

func (r *rig) compare(m *model) {
	r.t.Helper()
	for i := range r.cfg.Definition.Tables {
		tab := &r.cfg.Definition.Tables[i]
		name := tab.Name
		if !strings.Contains(name, ".") {
			name = "public." + name
		}
		if diff := cmp.Diff(sourceRows(r.t, r.conn, name, tab), m.rows(name, tab)); diff != "" {
			if len(diff) > 4000 {
				diff = diff[:4000] + "…"
			}
			r.t.Errorf("table %s, source and store differ (-source +store):\n%s", name, diff)
		}
	}
}

// sourceRows reads a table as text, one sorted line a row.
func sourceRows(t testing.TB, conn *pgx.Conn, name string, tab *definition.Table) []string {
	t.Helper()
	var columns []string
	for _, c := range tab.Columns {
		columns = append(columns, pgx.Identifier{c.Name}.Sanitize())
	}
	schema, rel, _ := strings.Cut(name, ".")
	results, err := conn.PgConn().Exec(t.Context(), "SELECT "+strings.Join(columns, ", ")+" FROM "+pgx.Identifier{schema, rel}.Sanitize()).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, row := range results[0].Rows {
		var b strings.Builder
		for _, v := range row {
			if v == nil {
				b.WriteString("∅|")
				continue
			}
			b.Write(v)
			b.WriteByte('|')
		}
		rows = append(rows, b.String())
	}
	slices.Sort(rows)
	return rows
}
