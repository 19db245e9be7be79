package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/featurestore"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

// window is the window of the datasets here: short enough for a test to live
// through it, and for retention to remove what lies before it.
const window = 4 * time.Second

// life is random traffic on a source, whose moments are ahead of their commits
// and behind them, and whose tables are emptied and read again.
type life struct {
	source
	t      *testing.T
	random *rand.Rand
	conn   *pgx.Conn
}

func newLife(t *testing.T, s source) *life {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	l := &life{source: s, t: t, random: rand.New(rand.NewPCG(seed, 7)), conn: pgtest.Session(t, s.url, pgx.QueryExecModeSimpleProtocol)}
	t.Cleanup(func() { l.conn.Close(context.Background()) })
	return l
}

func (l *life) exec(sql string) {
	l.t.Helper()
	if _, err := l.conn.Exec(l.t.Context(), sql); err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
}

// goOn is traffic for so long. Of four transactions one writes moments that are
// up to six seconds ahead of it, and one such that are up to a day late.
func (l *life) goOn(duration time.Duration) {
	l.t.Helper()
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(l.random.Uint64(), 8))
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		switch random.IntN(4) {
		case 0:
			return time.Now().Add(time.Duration(random.Int64N(int64(6 * time.Second))))
		case 1:
			return time.Now().Add(-time.Duration(random.Int64N(int64(24 * time.Hour))))
		}
		return time.Now()
	}
	report, err := workload.Run(l.t.Context(), l.url, workload.Traffic{Seed: l.random.Int64(), Connections: 2, Rate: 600, Duration: duration, Now: clock})
	if err != nil {
		l.t.Fatal(err)
	}
	if report.Committed == 0 {
		l.t.Fatalf("no transaction in %s", duration)
	}
}

// upheaval deletes and changes much at once, empties a table and fills it again,
// and has the daemon read another one again.
func (l *life) upheaval(emptied, again string) {
	l.t.Helper()
	share := l.random.IntN(20)
	l.exec(fmt.Sprintf(`DELETE FROM favorites WHERE get_byte(decode(md5(id), 'hex'), 0) %% 20 = %d`, share))
	l.exec(fmt.Sprintf(`DELETE FROM recommendations WHERE id NOT LIKE 'own-%%' AND get_byte(decode(md5(id), 'hex'), 1) %% 20 = %d`, share))
	l.exec(fmt.Sprintf(`UPDATE user_vectors SET vector = jsonb_set(vector, '{%d}', '0.%02d'), "updatedAt" = now() AT TIME ZONE 'UTC' WHERE CASE jsonb_typeof(vector) WHEN 'array' THEN jsonb_array_length(vector) END = 8`, l.random.IntN(8), l.random.IntN(100)))
	l.exec(`UPDATE item_vectors SET "bookingCount" = "bookingCount" + 1, "updatedAt" = now() AT TIME ZONE 'UTC'`)
	l.exec(`CREATE TEMP TABLE held AS SELECT * FROM ` + emptied)
	l.exec(`TRUNCATE ` + emptied)
	l.exec(`INSERT INTO ` + emptied + ` SELECT * FROM held WHERE get_byte(decode(md5(id), 'hex'), 2) % 2 = 0`)
	l.exec(`DROP TABLE held`)
	l.ingestDone(l.t, "refill", "--data-dir", l.dataDir, "--table", again)
}

// ingestDone runs a command of ingest that is to succeed.
func (s source) ingestDone(t *testing.T, args ...string) {
	t.Helper()
	program, err := ingestProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, program, args...)
	if code := p.wait(t); code != 0 {
		t.Fatalf("ingest %v: exit code %d: %s", args, code, p.stderr.String())
	}
}

// copyDir copies the data directory of a feed that has stopped.
func (s source) copyDir(t *testing.T) source {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(s.dataDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(to, "anonymization.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	return source{url: s.url, dataDir: to, flags: s.flags}
}

// restore makes a data directory of backups, and puts the key back.
func (s source) restore(t *testing.T, files ...string) source {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	args := []string{"restore", "--data-dir", to, "--log-level", "error"}
	for _, file := range files {
		args = append(args, "--from", file)
	}
	s.ingestDone(t, args...)
	key, err := os.ReadFile(filepath.Join(s.dataDir, "anonymization.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "anonymization.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	return source{url: s.url, dataDir: to, flags: s.flags}
}

// rebuild makes a data directory as of a moment of what the daemon's stream
// holds, after backups if there are any.
func (s source) rebuild(t *testing.T, moment string, files ...string) source {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	args := append([]string{"rebuild", "--data-dir", s.dataDir, "--until", moment, "--into", to, "--log-level", "error"}, s.flags...)
	for _, file := range files {
		args = append(args, "--from", file)
	}
	s.ingestDone(t, args...)
	return source{url: s.url, dataDir: to, flags: s.flags}
}

// sweep removes from the store of a feed that has stopped all history that no
// kept version pins.
func (s source) sweep(t *testing.T, definitionFile string) featurestore.Swept {
	t.Helper()
	data, err := os.ReadFile(definitionFile)
	if err != nil {
		t.Fatal(err)
	}
	def, err := definition.Load(data, definitionFile)
	if err != nil {
		t.Fatal(err)
	}
	store, err := featurestore.Open(filepath.Join(s.dataDir, "store"), featurestore.Options{Definition: def})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	swept, err := store.SweepOnce(t.Context(), featurestore.SweepOptions{History: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	if floor := store.Floor(); floor != swept.Floor || floor <= store.Watermark().Birth {
		t.Fatalf("the floor is %s, the sweep says %s; the birth was %s", floor, swept.Floor, store.Watermark().Birth)
	}
	return swept
}
