package cases_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/durable"
	"dreamfeed/internal/pgtest"
)

// gate holds back a step while it is closed.
type gate struct {
	step    durable.Step
	mu      sync.RWMutex
	waiting atomic.Int32 // steps that are held back
}

func (g *gate) hook(step durable.Step, _ uint64) error {
	if step == g.step {
		g.waiting.Add(1)
		defer g.waiting.Add(-1)
		g.mu.RLock()
		defer g.mu.RUnlock()
	}
	return nil
}

// broker is a NATS server in a process of its own, built from its module.
type broker struct {
	t       testing.TB
	program string
	config  string
	url     string
	command *exec.Cmd
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	dir := t.TempDir()
	b := &broker{t: t, program: filepath.Join(dir, "nats-server"), config: filepath.Join(dir, "server.conf")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", b.program, "github.com/nats-io/nats-server/v2")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v: %s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	b.url = "nats://" + address
	text := fmt.Sprintf("listen: %s\nmax_payload: 8MB\njetstream {store_dir: %q}\n", address, filepath.Join(dir, "store"))
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(b.kill)
	return b
}

// start returns when the broker takes connections.
func (b *broker) start() {
	b.t.Helper()
	b.command = exec.Command(b.program, "-c", b.config)
	b.command.SysProcAttr = childAttributes()
	if err := b.command.Start(); err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, "the broker answers", func() bool {
		conn, err := net.Dial("tcp", b.url[len("nats://"):])
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// kill ends the broker with SIGKILL.
func (b *broker) kill() {
	_ = b.command.Process.Kill()
	_ = b.command.Wait()
}

func TestOperation(t *testing.T) {
	t.Parallel()
	parallel(t, "with only unpublished activity the slot's position and the store's newest moment move all the same", func(t *testing.T) {
		db := newDatabase(t, pairSchema+"CREATE TABLE other (id serial PRIMARY KEY, pad text)")
		d := start(t, db, options{tables: pair})
		d.catchUp()
		for range 4 { // an hour of it, compressed
			before := d.store.Watermark()
			db.exec("INSERT INTO other (pad) SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
			end := db.lsn("SELECT pg_current_wal_flush_lsn()::text")
			d.await("both have moved", func() bool {
				confirmed := db.lsn("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '" + d.setup.Slot + "'")
				after := d.store.Watermark()
				return confirmed >= end && after.EndLSN >= end && after.Version > before.Version
			})
		}
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 0)
	})
	parallel(t, "a store that is stalled for three times wal_sender_timeout: the connection lives and nothing is lost", func(t *testing.T) {
		db := newDatabaseOn(t, pgtest.New(t, "wal_sender_timeout=1s"), pairSchema)
		g := &gate{step: durable.Commit}
		d := start(t, db, options{tables: pair, store: func(o *featurestore.Options) { o.Hook = g.hook }})
		d.catchUp()
		sender := db.text("SELECT active_pid::text FROM pg_replication_slots WHERE active")
		g.mu.Lock()
		stop := writer(db, func(n int) string {
			return fmt.Sprintf("INSERT INTO a SELECT g, 0 FROM generate_series(%d, %d) g", n*100, n*100+99)
		})
		mark := d.store.Watermark()
		hold := time.NewTimer(4 * time.Second)
		<-hold.C
		if now := d.store.Watermark(); now.Sequence > mark.Sequence+1 {
			t.Error("the store is not stalled")
		}
		g.mu.Unlock()
		stop()
		requireEqual(t, db, d)
		if now := db.text("SELECT active_pid::text FROM pg_replication_slots WHERE active"); now != sender || d.source.Status().Reconnects != 0 {
			t.Errorf("the connection was lost: sender %s, then %s", sender, now)
		}
	})
	parallel(t, "a disk that takes its time for every group and message: slower, and nothing else", func(t *testing.T) {
		db := newDatabase(t, pairSchema)
		slow := func(step durable.Step, _ uint64) error {
			if step == durable.Commit || step == durable.Publish {
				timer := time.NewTimer(50 * time.Millisecond)
				<-timer.C
			}
			return nil
		}
		d := start(t, db, options{
			tables: pair, log: func(c *cdc.LogConfig) { c.Hook = slow },
			store: func(o *featurestore.Options) { o.Hook = slow },
		})
		for i := range 40 {
			db.exec(fmt.Sprintf("INSERT INTO a SELECT g, 0 FROM generate_series(%d, %d) g; UPDATE a SET n = n + 1 WHERE id %% 7 = 0", i*50, i*50+49))
		}
		requireEqual(t, db, d)
	})
	parallel(t, "a commit stamped years ahead stops before it is published, and goes on once it is accepted", func(t *testing.T) {
		db := newDatabase(t, pairSchema)
		d := start(t, db, options{tables: pair})
		d.catchUp()
		d.stop()
		db.exec("INSERT INTO a VALUES (1, 1)")
		behind := func(c *cdc.Config) { c.Clock = func() time.Time { return time.Now().AddDate(-3, 0, 0) } }
		d.options.source = behind
		if err := d.tryLaunch(); err != nil {
			t.Fatal(err)
		}
		if err := requireStop[*cdc.ClockError](t, d); !err.Source {
			t.Errorf("%+v", err)
		}
		d.options.source = func(c *cdc.Config) { behind(c); c.AcceptClock = true }
		d.start()
		db.exec("INSERT INTO a VALUES (2, 2)")
		requireEqual(t, db, d)
		requireVersions(t, d, "a", "1", "id=1 n=1")
		requireVersions(t, d, "a", "2", "id=2 n=2")
	})
	parallel(t, "clocks that step back and stand still, so that commits have equal times: each change once, in commit order", func(t *testing.T) {
		db := newDatabase(t, pairSchema)
		var calls int
		var mu sync.Mutex
		base := time.Now().Add(-time.Minute) // every moment is cut to it, and is equal then
		d := start(t, db, options{tables: pair, source: func(c *cdc.Config) {
			c.Clock = func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				calls++
				return base.Add(-time.Duration(calls/20) * time.Second) // and back
			}
		}})
		var want []string
		for i := range 50 {
			db.exec(fmt.Sprintf("INSERT INTO a VALUES (%d, 0)", i))
			want = append(want, fmt.Sprintf("a: id=%d n=0", i))
		}
		requireEqual(t, db, d)
		requireOrder(t, d, want...)
		if s := d.source.Status(); s.Clamps == 0 || s.StepsBack == 0 {
			t.Errorf("the clocks' faults are not counted: %+v", s)
		}
	})
	parallel(t, "a large transaction of which the stream holds a half, begun again: whole or absent at every moment", func(t *testing.T) {
		db := newDatabase(t, `CREATE TABLE a (id int PRIMARY KEY, n int, pad text)`)
		d := start(t, db, options{tables: tables(table("a", "id:int|n:int,pad:text"))})
		d.catchUp()
		d.stop()
		db.exec("INSERT INTO a SELECT g, 0, repeat('x', 500) FROM generate_series(1, 5000) g")
		for _, n := range []int32{3, 4} { // twice within the transaction
			d.dieAt(durable.Publish, n)
			// A store that was killed is repaired by opening it for writing.
			s, err := featurestore.Open(filepath.Join(d.setup.Dir, "store"), featurestore.Options{Definition: d.setup.definition(), Logger: newLogger(t), Memory: 64 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if rows := digestStore(t, d.setup.definition(), newest(t, s))["a"].rows; rows != 0 {
				t.Errorf("%d rows of the open transaction show", rows)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		d.start()
		db.exec("INSERT INTO a VALUES (9999, 1, 'y')")
		requireEqual(t, db, d)
		requireChanges(t, d, "a", 5001)
		requireWholeAtEveryMoment(t, d, "a", func(rows int) bool { return rows == 0 || rows == 5000 || rows == 5001 })
	})
	parallel(t, "the broker killed with -9 again and again under load: nothing is lost or comes twice", func(t *testing.T) {
		b := newBroker(t)
		db := newDatabase(t, pairSchema)
		d := start(t, db, options{tables: pair, natsURL: b.url, log: func(c *cdc.LogConfig) { c.AckTimeout = time.Second }})
		stop := writer(db, func(n int) string { return fmt.Sprintf("INSERT INTO a VALUES (%d, 0)", n) })
		for range 2 {
			mark := d.store.Watermark().Sequence
			d.await("changes are applied", func() bool { return d.store.Watermark().Sequence > mark+3 })
			b.kill()
			b.start()
		}
		n := stop()
		requireEqual(t, db, d)
		requireChanges(t, d, "a", n)
	})
}
