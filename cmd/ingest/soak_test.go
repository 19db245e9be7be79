package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/history"
	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/row"
	"dreamfeed/internal/workload"
)

var (
	soakTime = flag.Duration("soak", 10*time.Second, "how long TestSoak kills processes under load")
	soakSeed = flag.Uint64("soak.seed", 0, "seed of the moments and victims of TestSoak; 0 draws one")
)

// soak is a source under load, with a daemon that follows it, of which processes
// are killed.
type soak struct {
	t       *testing.T
	random  *rand.Rand
	server  *pgtest.Server
	url     string
	dataDir string
	nats    *natsProcess // nil for the embedded stream
	args    []string
	daemon  *daemon
	begun   time.Time // of the daemon
	outage  time.Time // the end of the newest one of PostgreSQL or NATS
	kills   map[string]int
}

// I1, I2, I3, I4: ingest, PostgreSQL and an external NATS server are killed with
// SIGKILL at random moments under load. In the end the store holds every row of
// the source, and of every row each change once, in order, as triggers on the
// source recorded them.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again with -soak.seed %d", seed)
	kills := map[string]int{}
	var rows, changes, lost, doubled int
	passed := true
	for i, external := range []bool{false, true} {
		name := "embedded stream"
		if external {
			name = "external stream"
		}
		passed = t.Run(name, func(t *testing.T) {
			s := newSoak(t, rand.New(rand.NewPCG(seed, uint64(i))), external)
			defer func() {
				for victim, n := range s.kills {
					kills[victim] += n
				}
			}()
			s.run(*soakTime / 2)
			r, c, l, d := s.compare()
			rows, changes, lost, doubled = rows+r, changes+c, lost+l, doubled+d
			if l > 0 || d > 0 {
				t.Errorf("%d changes are lost, %d are there twice", l, d)
			}
			requireEqual(t, dreamscape(t), s.dataDir, s.url)
		}) && passed
	}
	var killed []string
	for _, victim := range slices.Sorted(maps.Keys(kills)) {
		killed = append(killed, fmt.Sprintf("%s %d", victim, kills[victim]))
	}
	verdict := "ok"
	if !passed {
		verdict = "FAILED"
	}
	fmt.Printf("soak: %s: kills: %s; rows=%d changes=%d lost=%d doubled=%d seed=%d\n",
		verdict, strings.Join(killed, ", "), rows, changes, lost, doubled, seed)
}

func newSoak(t *testing.T, random *rand.Rand, external bool) *soak {
	t.Helper()
	s := &soak{t: t, random: random, server: pgtest.New(t), dataDir: filepath.Join(t.TempDir(), "data"), kills: map[string]int{}}
	s.url = s.server.NewDatabase(t)
	populate(t, s.url, 100)
	conn, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if external {
		s.nats = newNATSProcess(t, t.TempDir())
		s.args = []string{"--nats-url", s.nats.url()}
	}
	catchUp(t, s.dataDir, s.url, s.args...)
	// What the backfill holds is the first version of its rows.
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA soak"); err != nil {
		t.Fatal(err)
	}
	for _, table := range dreamscape(t).Tables {
		name := pgx.Identifier{table.Name}.Sanitize()
		if _, err := conn.Exec(t.Context(), "CREATE TABLE soak."+name+" AS SELECT id FROM public."+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := workload.InstallAudit(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return s
}

// run kills for as long as it is told, and then lets the daemon catch up and
// stop.
func (s *soak) run(long time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var load sync.WaitGroup
	seed := int64(s.random.Uint64() >> 1)
	load.Go(func() { s.traffic(ctx, seed) })
	load.Go(func() { s.largeTransactions(ctx) })
	defer func() { cancel(); load.Wait() }()
	victims := []func(){s.killIngest, s.killIngest, s.killPostgreSQL}
	if s.nats != nil {
		victims = append(victims, s.killNATS)
	}
	s.startIngest()
	for end := time.Now().Add(long); time.Now().Before(end); {
		select {
		case err := <-s.daemon.done:
			s.daemon.done <- err
			// A start while something is away ends, and is repeated, as by systemd.
			if s.begun.After(s.outage) {
				s.t.Fatalf("ingest ended by itself, though nothing was away: %v", err)
			}
			s.startIngest()
		case <-time.After(200*time.Millisecond + time.Duration(s.random.Int64N(int64(1500*time.Millisecond)))):
			victims[s.random.IntN(len(victims))]()
		}
	}
	cancel()
	load.Wait()
	s.killIngest()
	s.daemon.kill()
	catchUp(s.t, s.dataDir, s.url, s.args...)
}

func (s *soak) startIngest() {
	s.begun = time.Now()
	s.daemon = start(s.t, s.dataDir, s.url, append([]string{"--log-level", "error"}, s.args...)...)
}

func (s *soak) killIngest() {
	s.t.Helper()
	s.daemon.kill()
	s.kills["ingest"]++
	s.startIngest()
}

func (s *soak) killPostgreSQL() {
	s.t.Helper()
	s.server.Kill()
	s.kills["postgresql"]++
	s.away()
	if err := s.server.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.outage = time.Now()
}

func (s *soak) killNATS() {
	s.t.Helper()
	s.nats.kill()
	s.kills["nats"]++
	s.away()
	s.nats.start()
	s.outage = time.Now()
}

// away is the time that something is away after it was killed.
func (s *soak) away() { <-time.After(time.Duration(s.random.Int64N(int64(600 * time.Millisecond)))) }

// retry repeats what a killed server ends, until ctx ends.
func retry(ctx context.Context, work func() error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for ctx.Err() == nil {
		// An error is that of a killed server; what became of the transaction is
		// in the audit.
		_ = work()
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

func (s *soak) traffic(ctx context.Context, seed int64) {
	retry(ctx, func() error {
		seed++
		_, err := workload.Run(ctx, s.url, workload.Traffic{Seed: seed, Transactions: 1000, Connections: 3, Rate: 300})
		return err
	})
}

// largeTransactions makes one of 5,000 rows again and again, and removes it in
// another: each is of several stream messages.
func (s *soak) largeTransactions(ctx context.Context) {
	n := 0
	retry(ctx, func() error {
		conn, err := pgx.Connect(ctx, s.url)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		for ; ; n++ {
			if _, err := conn.Exec(ctx, `INSERT INTO search_history (id, "userId", "sessionId", origin, destination, "departureDate", passengers, "cabinClass")
SELECT 'soak' || $1::int || '_' || g, NULL, 's', repeat('o', 200), 'd', now(), '1', 'economy' FROM generate_series(1, 5000) g`, n); err != nil {
				n++ // it may have been committed: the next one has other keys
				return err
			}
			if _, err := conn.Exec(ctx, `DELETE FROM search_history WHERE id LIKE 'soak' || $1::int || '\_%'`, n); err != nil {
				return err
			}
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// compare holds the versions of every row in the store against the audit of the
// source: "+" for a row that was made or changed, "-" for one that went.
func (s *soak) compare() (rows, changes, lost, doubled int) {
	t := s.t
	t.Helper()
	def := dreamscape(t)
	stored := storedVersions(t, def, s.dataDir, func(*history.Table, []row.Cell) string { return "+" })
	conn, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	want := map[string]string{}
	read := func(sql string, args ...any) {
		t.Helper()
		result, err := conn.Query(t.Context(), sql, args...)
		if err != nil {
			t.Fatal(err)
		}
		var id, versions string
		if _, err := pgx.ForEachRow(result, []any{&id, &versions}, func() error {
			want[id] += versions
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range def.Tables {
		read("SELECT $1 || ' ' || id, '+' FROM soak."+pgx.Identifier{table.Name}.Sanitize(), table.Name)
		// Who waits for a row's lock writes its audit after the one before: seq
		// orders the changes of a row.
		read(`SELECT table_name || ' ' || id, string_agg(CASE op WHEN 'DELETE' THEN '-' ELSE '+' END, '' ORDER BY seq)
FROM audit.history WHERE table_name = $1 GROUP BY 1`, table.Name)
	}
	reported := 0
	for key, versions := range want {
		rows, changes = rows+1, changes+len(versions)
		got := strings.Join(stored[key], "")
		lost += max(0, len(versions)-len(got))
		doubled += max(0, len(got)-len(versions))
		if got != versions && reported < 10 {
			reported++
			t.Errorf("%s: the source made %s, the store holds %s", key, versions, got)
		}
	}
	for key, versions := range stored {
		if _, known := want[key]; !known {
			doubled += len(versions)
			t.Errorf("%s: the store holds what the source never had", key)
		}
	}
	return rows, changes, lost, doubled
}

// natsProcess is a NATS server, built from the module that this one requires, as
// a process of its own.
type natsProcess struct {
	t       *testing.T
	program string
	config  string
	address string
	command *exec.Cmd
}

// newNATSProcess builds and starts a server that keeps its streams below storeDir.
func newNATSProcess(t *testing.T, storeDir string) *natsProcess {
	t.Helper()
	dir := t.TempDir()
	n := &natsProcess{t: t, program: filepath.Join(dir, "nats-server"), config: filepath.Join(dir, "nats.conf"), address: freeAddress(t)}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", n.program, "github.com/nats-io/nats-server/v2")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the NATS server: %v: %s", err, out)
	}
	config := fmt.Sprintf("listen: %q\nmax_payload: 8MB\njetstream { store_dir: %q }\n", n.address, storeDir)
	if err := os.WriteFile(n.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(n.kill)
	return n
}

func (n *natsProcess) url() string { return "nats://" + n.address }

// start starts the server and waits until it listens.
func (n *natsProcess) start() {
	n.t.Helper()
	n.command = exec.Command(n.program, "-c", n.config)
	n.command.SysProcAttr = childAttributes()
	if err := n.command.Start(); err != nil {
		n.t.Fatal(err)
	}
	await(n.t, "the NATS server to listen", func() bool {
		conn, err := net.Dial("tcp", n.address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

func (n *natsProcess) kill() {
	if err := n.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.t.Error(err)
	}
	_ = n.command.Wait() // it was killed
}
