package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"dreamfeed/deploy"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// extras makes a partitioned table with large values.
func extras(t *testing.T, url string, rows int) {
	t.Helper()
	execute(t, url, `CREATE TABLE extras (id int PRIMARY KEY, n int, big text) PARTITION BY RANGE (id)`,
		`CREATE TABLE extras_low PARTITION OF extras FOR VALUES FROM (0) TO (1000)`,
		`CREATE TABLE extras_high PARTITION OF extras FOR VALUES FROM (1000) TO (10000000)`,
		`ALTER TABLE extras_low ALTER big SET STORAGE EXTERNAL`, `ALTER TABLE extras_high ALTER big SET STORAGE EXTERNAL`,
		fmt.Sprintf(`INSERT INTO extras SELECT g, g, repeat(md5(g::text), 70) FROM generate_series(1, %d) g`, rows))
}

// define writes a definition that has something inserted behind a line of
// Dreamscape's.
func define(t *testing.T, replacements ...string) (path string, def *definition.Definition) {
	t.Helper()
	text := string(deploy.Dreamscape)
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(text, replacements[i]) {
			t.Fatalf("the definition does not hold %q", replacements[i])
		}
		text = strings.Replace(text, replacements[i], replacements[i]+replacements[i+1], 1)
	}
	path = filepath.Join(t.TempDir(), "definition.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	def, err := definition.Load([]byte(text), path)
	if err != nil {
		t.Fatal(err)
	}
	return path, def
}

const (
	extrasNarrow = "  extras:\n    key: [id]\n    columns:\n      id: int\n      n: int\n"
	extrasWide   = extrasNarrow + "      big: text\n"
)

// write changes extras until stop is called.
func write(t *testing.T, url string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("the writer of extras has seed %d", seed)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer conn.Close(context.Background())
		random := rand.New(rand.NewPCG(seed, 1))
		for ctx.Err() == nil {
			id := 1 + random.IntN(3000)
			sql := fmt.Sprintf(`UPDATE extras SET n = n + 1 WHERE id BETWEEN %d AND %d`, id, id+10)
			switch random.IntN(8) {
			case 0:
				sql = fmt.Sprintf(`DELETE FROM extras WHERE id = %d`, id)
			case 1:
				sql = fmt.Sprintf(`INSERT INTO extras VALUES (%d, 0, repeat('new', 900)) ON CONFLICT (id) DO UPDATE SET n = 0`, id)
			case 2:
				sql = fmt.Sprintf(`UPDATE extras SET big = repeat('x%d', 700) WHERE id = %d`, random.IntN(9), id)
			}
			if _, err := conn.Exec(ctx, sql); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", sql, err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// asked returns the status of a daemon, nothing while it does not answer.
func (d *daemon) asked() (status statusReport) {
	if code, body := d.get("/v1/status"); code == 200 {
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			d.t.Fatal(err)
		}
	}
	return status
}

// until polls the status until ok says yes.
func (d *daemon) until(what string, ok func(statusReport) bool) {
	d.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); ; <-tick.C {
		status := d.asked()
		if ok(status) {
			return
		}
		select {
		case err := <-d.done:
			d.done <- err
			d.t.Fatalf("ingest ended while waiting until %s: %v", what, err)
		default:
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("not so after 60 s: %s; %+v", what, status)
		}
	}
}

// asOf reads what the store of a stopped daemon held at a moment; 0 is the newest.
func asOf(t *testing.T, def *definition.Definition, dataDir string, moment change.Version) (change.Version, map[string]map[string]string) {
	t.Helper()
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	view, err := store.View(moment)
	if err != nil {
		t.Fatal(err)
	}
	held := readStore(t, def, view)
	for table, rows := range held {
		if len(rows) == 0 {
			delete(held, table)
		}
	}
	return view.Info().AsOf, held
}

// I3, I9: a definition that names more than the store holds is taken in while
// changes go on, whatever is killed meanwhile; what was known before stays as it
// was. A store that is built again from the stream gets there too.
func TestDefinitionThatNamesMoreIsTakenIn(t *testing.T) {
	url, dataDir := populated(t, 50), filepath.Join(t.TempDir(), "data")
	extras(t, url, 30000)
	narrow, _ := define(t, "tables:\n", extrasNarrow)
	wide, def := define(t, "tables:\n", extrasWide, "      nationality: text\n", "      isVerified: bool\n")
	execute(t, url, `CREATE TABLE late (id int PRIMARY KEY, n int)`, `INSERT INTO late SELECT g, g FROM generate_series(1, 5000) g`)
	later, whole := define(t, "tables:\n", extrasWide+"  late:\n    key: [id]\n    columns:\n      id: int\n      n: int\n", "      nationality: text\n", "      isVerified: bool\n")

	stop := traffic(t, url, 200)
	stopExtras := write(t, url)
	d := start(t, dataDir, url, "--definition", narrow)
	d.waitReady()
	d.kill()
	catchUp(t, dataDir, url, "--definition", narrow)
	moment, before := asOf(t, def, dataDir, 0)

	for i, phase := range []string{"waiting", "reading", "publishing", "following", "reading", "publishing", "publishing"} {
		d := start(t, dataDir, url, "--definition", wide)
		d.until(phase, func(s statusReport) bool {
			return s.Refill != nil && string(s.Refill.Phase) == phase || s.Refills > uint64(i) || s.State != "" && len(s.Unfilled) == 0
		})
		d.kill()
	}
	d = start(t, dataDir, url, "--definition", wide)
	d.until("all is filled", func(s statusReport) bool { return s.State == "streaming" && len(s.Unfilled) == 0 })
	d.kill()
	d = start(t, dataDir, url, "--definition", later)
	d.until("the table is filled", func(s statusReport) bool { return s.State == "streaming" && len(s.Unfilled) == 0 })
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d", code)
	}
	stop()
	stopExtras()
	catchUp(t, dataDir, url, "--definition", later)
	requireEqual(t, whole, dataDir, url)
	if _, now := asOf(t, def, dataDir, moment); !cmp.Equal(before, now) {
		t.Errorf("what was known at %s has changed (-before +now):\n%.4000s", moment, cmp.Diff(before, now))
	}
	if left, err := filepath.Glob(filepath.Join(dataDir, "refill", "*")); err != nil || len(left) != 0 {
		t.Errorf("refills have left %v, %v", left, err)
	}
}

// refill runs the command and returns its exit code and what it said.
func refill(t *testing.T, dataDir string, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), append([]string{"refill", "--data-dir", dataDir}, args...), &out, &out)
	return code, out.String()
}

// A refill by hand mends what happened behind the store's back, and says what it
// did.
func TestRefillByHandMendsTheStore(t *testing.T) {
	url, dataDir := populated(t, 50), filepath.Join(t.TempDir(), "data")
	extras(t, url, 5000)
	wide, def := define(t, "tables:\n", extrasWide)
	stop := traffic(t, url, 300)
	stopExtras := write(t, url)
	d := start(t, dataDir, url, "--definition", wide)
	d.waitReady()

	said := regexp.MustCompile(`^refilled ([a-z_, ]+): ([0-9]+) rows as of [0-9A-F]+/[0-9A-F]+, applied as version 20[0-9-]+T[0-9:.]+Z\n$`)
	var wg sync.WaitGroup
	for _, tables := range [][]string{{"--table", "extras"}, {"--table", "users", "--table", "search_history"}, {"--table", "extras"}} {
		wg.Go(func() {
			if code, out := refill(t, dataDir, tables...); code != 0 || !said.MatchString(out) {
				t.Errorf("refill %v: exit code %d: %s", tables, code, out)
			}
		})
	}
	wg.Wait()
	if code, out := refill(t, dataDir, "--table", "nosuch"); code != 1 || !strings.Contains(out, "nosuch") || !strings.Contains(out, "extras") {
		t.Errorf("an unknown table: exit code %d: %s", code, out)
	}
	if code, out := refill(t, dataDir); code != 2 {
		t.Errorf("no table: exit code %d: %s", code, out)
	}
	if code, out := refill(t, dataDir, "--table", "users", "--wait", "-1s"); code != 2 {
		t.Errorf("a negative wait: exit code %d: %s", code, out)
	}
	stop()
	stopExtras()
	execute(t, url, `TRUNCATE extras_low`) // the publication tells of the whole table only
	if code, out := refill(t, dataDir, "--table", "extras"); code != 0 || !said.MatchString(out) {
		t.Errorf("refill: exit code %d: %s", code, out)
	}
	older, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer older.Close(context.Background())
	if _, err := older.PgConn().Exec(t.Context(), "BEGIN; INSERT INTO extras VALUES (9000000, 1, 'open')").ReadAll(); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprintf("pg_terminate_backend(%d)", older.PgConn().PID())
	if code, out := refill(t, dataDir, "--table", "extras", "--wait", "300ms"); code != 1 || !strings.Contains(out, pid) {
		t.Errorf("a transaction is open: exit code %d: %s", code, out)
	}
	if _, err := older.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if status := d.asked(); status.Refills != 4 || status.Refill != nil || status.Unfilled != nil {
		t.Errorf("status: %+v", status)
	}
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d", code)
	}
	if code, out := refill(t, dataDir, "--table", "users"); code != 1 || !strings.Contains(out, "start ingest") {
		t.Errorf("without a daemon: exit code %d: %s", code, out)
	}
	catchUp(t, dataDir, url, "--definition", wide)
	requireEqual(t, def, dataDir, url)
}
