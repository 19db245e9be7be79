package cdc_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
	"dreamfeed/internal/pgtest"
)

// gate is a hook that holds a step back while it is closed.
type gate struct {
	step durable.Step
	open chan chan struct{} // holds what a step waits for, nil while open
}

func newGate(t testing.TB, step durable.Step) *gate {
	g := &gate{step: step, open: make(chan chan struct{}, 1)}
	g.open <- nil
	t.Cleanup(g.release)
	return g
}

func (g *gate) hook(step durable.Step, _ uint64) error {
	if step == g.step {
		wait := <-g.open
		g.open <- wait
		if wait != nil {
			<-wait
		}
	}
	return nil
}

func (g *gate) close() {
	<-g.open
	g.open <- make(chan struct{})
}

func (g *gate) release() {
	if wait := <-g.open; wait != nil {
		close(wait)
	}
	g.open <- nil
}

// stall makes the rig's stream take nothing while the gate is closed, as a
// stalled broker or a disk that does not write.
func (r *rig) stall() *gate {
	r.t.Helper()
	if err := r.cfg.Log.Close(); err != nil {
		r.t.Fatal(err)
	}
	g := newGate(r.t, durable.Publish)
	log, err := cdc.OpenLog(r.t.Context(), cdc.LogConfig{Dir: r.t.TempDir(), Hook: g.hook, Logger: r.cfg.Logger})
	if err != nil {
		r.t.Fatal(err)
	}
	r.cfg.Log = log
	return g
}

// slotLSN reads a position of the slot.
func (r *rig) slotLSN(column string) change.LSN {
	r.t.Helper()
	return r.readLSN("SELECT " + column + "::text FROM pg_replication_slots WHERE slot_name = '" + r.cfg.Slot + "'")
}

func (r *rig) readLSN(sql string) change.LSN {
	r.t.Helper()
	var text string
	if err := r.conn.QueryRow(r.t.Context(), sql).Scan(&text); err != nil {
		r.t.Fatal(err)
	}
	lsn, err := change.ParseLSN(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return lsn
}

func TestKeptLogIsSeenAndWarnedOf(t *testing.T) {
	server := pgtest.New(t, "max_slot_wal_keep_size=96MB", "max_wal_size=64MB", "min_wal_size=32MB")
	r := newRig(t, server.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, pad text); CREATE TABLE other (pad text);
		ALTER TABLE other ALTER pad SET STORAGE EXTERNAL;`, define(table("a", "id:int|pad:text")))
	g := r.stall()
	r.cfg.CheckEvery = 100 * time.Millisecond
	registry := prometheus.NewPedanticRegistry()
	r.cfg.Registerer = registry
	r.start()
	r.streaming()
	r.same()
	r.until("the kept log was measured", func(s cdc.Status) bool {
		return s.Pressure.Limited && s.Pressure.LimitBytes == 96<<20 && s.Pressure.WALStatus == "reserved" && s.Pressure.Warning == ""
	})
	g.close()
	for range 60 {
		r.exec("INSERT INTO other SELECT repeat('x', 8000) FROM generate_series(1, 125)")
	}
	s := r.until("it is warned of", func(s cdc.Status) bool { return s.Pressure.KeptBytes > 50<<20 && s.Pressure.Warning != "" })
	if p := s.Pressure; p.SafeBytes == 0 || p.SafeBytes > 80<<20 || p.Held || !strings.Contains(p.Warning, "max_slot_wal_keep_size is 96 MiB") {
		t.Errorf("%+v", p)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if m := f.GetMetric()[0]; m.GetGauge() != nil {
			values[f.GetName()] = m.GetGauge().GetValue()
		}
	}
	if values["dreamfeed_source_wal_kept_bytes"] < 50<<20 || values["dreamfeed_source_wal_limit_bytes"] != 96<<20 ||
		values["dreamfeed_source_wal_safe_bytes"] < 1 || values["dreamfeed_source_wal_warning"] != 1 {
		t.Errorf("metrics: %v", values)
	}
	g.release()
	r.same()
	// Two checkpoints behind the position that is confirmed.
	r.until("the log is let go", func(s cdc.Status) bool {
		r.exec("CHECKPOINT")
		return s.Pressure.Warning == "" && s.Pressure.KeptBytes < 30<<20
	})
}

// The keepalives that we ask for once a second move the confirmed position of
// a database in which nothing is published, and with it the log that the slot
// keeps: no logical message is needed. What the server writes of itself at a
// checkpoint, or the 15 s after something was written, lets restart_lsn follow.
func TestPositionsOfAnIdleDatabaseMove(t *testing.T) {
	for _, timeout := range []string{"60s", "0"} {
		t.Run("wal_sender_timeout "+timeout, func(t *testing.T) {
			t.Parallel()
			server := pgtest.New(t, "wal_sender_timeout="+timeout)
			r := newRig(t, server.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
			elsewhere := session(t, server.NewDatabase(t))
			execOn(t, elsewhere, "CREATE TABLE b (id int, n int)")
			r.start()
			r.streaming()
			for name, write := range map[string]func(){
				"only tables that are not published": func() { r.exec("INSERT INTO b SELECT g, 1 FROM generate_series(1, 1000) g ON CONFLICT DO NOTHING") },
				"only another database":              func() { execOn(t, elsewhere, "INSERT INTO b SELECT g, 1 FROM generate_series(1, 1000) g") },
				"only checkpoints":                   func() {},
				"only rolled back transactions":      func() { r.exec("BEGIN; INSERT INTO a SELECT g, 1 FROM generate_series(1, 1000) g; ROLLBACK") },
			} {
				t.Run(name, func(t *testing.T) {
					restart, confirmed := r.slotLSN("restart_lsn"), r.slotLSN("confirmed_flush_lsn")
					write()
					end := r.readLSN("SELECT pg_current_wal_flush_lsn()::text")
					r.until("both positions have passed what was written", func(cdc.Status) bool {
						// A checkpoint logs which transactions run, which is where a slot may restart.
						r.exec("CHECKPOINT")
						c, s := r.slotLSN("confirmed_flush_lsn"), r.slotLSN("restart_lsn")
						return c >= end && s >= end && c > confirmed && s > restart
					})
				})
			}
		})
	}
}

// signalAll signals every process of a server: all are stopped before any
// goes on.
func signalAll(t testing.TB, server *pgtest.Server, signal syscall.Signal) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(server.Dir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	master, _, _ := strings.Cut(string(data), "\n")
	pids := []string{master}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])); len(fields) > 1 && fields[1] == master {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil && text == master {
			t.Fatal(err)
		}
	}
}

// hold waits, while the source must not end.
func (r *rig) hold(d time.Duration) {
	r.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case err := <-r.ended:
		r.stop = nil
		r.t.Fatalf("run returned %v", err)
	}
}

// A server that stands still is waited for; one that does so for longer than
// we take a connection for alive is connected to again.
func TestServerThatStandsStillIsGoneOnWith(t *testing.T) {
	for name, c := range map[string]struct {
		silence time.Duration
		again   bool
	}{
		"for less than the silence that is borne": {time.Minute, false},
		"for more": {2 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.New(t, "wal_sender_timeout=1s")
			r := newRig(t, server.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
			r.cfg.CheckEvery = time.Second
			r.silence = c.silence
			r.start()
			r.streaming()
			r.exec("INSERT INTO a SELECT g, 1 FROM generate_series(1, 1000) g")
			signalAll(t, server, syscall.SIGSTOP)
			t.Cleanup(func() {
				if server.Running() {
					signalAll(t, server, syscall.SIGCONT)
				}
			})
			if c.again {
				r.until("it is given up", func(s cdc.Status) bool { return s.Reconnects > 0 && strings.Contains(s.Fault, "said nothing") })
			} else {
				r.hold(4 * time.Second)
			}
			signalAll(t, server, syscall.SIGCONT)
			r.exec("INSERT INTO a SELECT g, 1 FROM generate_series(1001, 2000) g")
			if m := r.same(); len(m.order) != 2000 {
				t.Errorf("%d changes came, want 2000", len(m.order))
			}
		})
	}
}

// With the stream stalled for three times the server's patience the connection
// lives, memory stays bounded, and nothing is lost.
func TestStalledStreamForLongerThanTheServersPatience(t *testing.T) {
	server := pgtest.New(t, "wal_sender_timeout=1s")
	r := newRig(t, server.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, pad text); ALTER TABLE a ALTER pad SET STORAGE EXTERNAL;`, define(table("a", "id:int|pad:text")))
	g := r.stall()
	r.start()
	r.streaming()
	r.same()
	sender := r.walsender()
	before := heapInUse()
	g.close()
	// 80 MB, far more than stream, publisher and queue hold.
	for i := range 20 {
		r.exec(fmt.Sprintf("INSERT INTO a SELECT g, repeat('abcdefgh', 1000) FROM generate_series(%d, %d) g", i*500, i*500+499))
	}
	r.until("the source is parked", func(s cdc.Status) bool { return s.Parked })
	r.hold(4 * time.Second)
	s := r.source.Status()
	if !s.Parked || s.Reconnects != 0 || r.walsender() != sender {
		t.Errorf("after four seconds: parked %t, %d reconnects, sender %d, before %d", s.Parked, s.Reconnects, r.walsender(), sender)
	}
	if grown := heapInUse() - before; grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	g.release()
	if m := r.same(); len(m.order) != 10_000 {
		t.Errorf("%d changes came, want 10000", len(m.order))
	}
	if r.walsender() != sender {
		t.Error("the connection was lost")
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// A fast shutdown ends ordinary sessions at once, but waits for its senders
// until all is confirmed.
func TestServerStopsFastWhileTheStreamIsStalled(t *testing.T) {
	server := pgtest.New(t)
	r := newRig(t, server.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	g := r.stall()
	r.start() // CheckEvery is a minute
	r.streaming()
	r.same()
	g.close()
	r.exec("INSERT INTO a SELECT g, 1 FROM generate_series(1, 10000) g")
	r.until("the rows have come", func(s cdc.Status) bool { return s.Rows >= 10000 })
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Errorf("the server does not stop while we hold what we cannot store: %v", err)
	}
	t.Logf("the server stopped within %s", time.Since(began))
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.conn = session(t, r.cfg.DatabaseURL)
	g.release()
	if m := r.same(); len(m.order) != 10000 {
		t.Errorf("%d changes came, want 10000", len(m.order))
	}
}

// natsServer is an external broker in a process of its own.
func natsServer(t testing.TB) (url string, process *os.Process) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "nats-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/nats-io/nats-server/v2")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v: %s", err, out)
	}
	config := filepath.Join(dir, "server.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:-1\nports_file_dir: %q\nmax_payload: 8MB\njetstream {store_dir: %q}\n", dir, filepath.Join(dir, "store"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "-c", config)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		<-tick.C
		found, err := filepath.Glob(filepath.Join(dir, "*.ports"))
		if err != nil || len(found) == 0 {
			continue
		}
		data, err := os.ReadFile(found[0])
		if _, rest, ok := strings.Cut(string(data), "nats://"); err == nil && ok {
			address, _, _ := strings.Cut(rest, `"`)
			return "nats://" + address, command.Process
		}
	}
	t.Fatal("the NATS server does not start")
	return "", nil
}

// A broker that stands still for longer than acknowledgements are waited for,
// and longer than three times the server's patience, is waited for.
func TestStalledBrokerIsWaitedFor(t *testing.T) {
	url, broker := natsServer(t)
	server := pgtest.New(t, "wal_sender_timeout=1s")
	r := newRig(t, server.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, pad text); ALTER TABLE a ALTER pad SET STORAGE EXTERNAL;`, define(table("a", "id:int|pad:text")))
	if err := r.cfg.Log.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := cdc.OpenLog(t.Context(), cdc.LogConfig{URL: url, AckTimeout: time.Second, Logger: r.cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.Log = log
	r.cfg.Durable = func() change.LSN { return 1 << 62 }
	r.start()
	r.streaming()
	r.same()
	sender := r.walsender()
	before := heapInUse()
	if err := broker.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		r.exec(fmt.Sprintf("INSERT INTO a SELECT g, repeat('abcdefgh', 1000) FROM generate_series(%d, %d) g", i*500, i*500+499))
	}
	r.until("the source is parked", func(s cdc.Status) bool { return s.Parked })
	r.hold(4 * time.Second)
	if s := r.source.Status(); s.Reconnects != 0 || r.walsender() != sender {
		t.Errorf("after four seconds: %d reconnects, sender %d, before %d", s.Reconnects, r.walsender(), sender)
	}
	if grown := heapInUse() - before; grown > 96<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	if err := broker.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if m := r.same(); len(m.order) != 10_000 {
		t.Errorf("%d changes came, want 10000", len(m.order))
	}
}
