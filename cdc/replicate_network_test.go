package cdc_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dreamfeed/internal/pgtest"
)

// network stands between the source and its server.
type network struct {
	t      testing.TB
	url    string // of the server through the network
	server string // host and port
	slow   atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func newNetwork(t testing.TB, serverURL string) *network {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, server: u.Host}
	u.Host = listener.Addr().String()
	n.url = u.String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", n.server)
			if err != nil {
				client.Close()
				continue
			}
			n.mu.Lock()
			n.conns = append(n.conns, client, server)
			n.mu.Unlock()
			wg.Go(func() { n.forward(client, server) })
			wg.Go(func() {
				_, _ = io.Copy(server, client) // until either is gone
				server.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		n.mu.Lock()
		for _, c := range n.conns {
			c.Close()
		}
		n.mu.Unlock()
		wg.Wait()
	})
	return n
}

// forward carries what the server says, 64 KiB in 20 ms while it is slow.
func (n *network) forward(client, server net.Conn) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 64<<10)
	for {
		size, err := server.Read(buf)
		if err != nil {
			client.Close()
			return
		}
		if n.slow.Load() {
			<-tick.C
		}
		if _, err := client.Write(buf[:size]); err != nil {
			return
		}
	}
}

// A row that takes longer than one wait of the receiver comes through.
func TestRowThatComesSlowlyIsReceived(t *testing.T) {
	server := shared.NewDatabase(t)
	r := newRig(t, server, `CREATE TABLE a (id int PRIMARY KEY, big text)`, define(table("a", "id:int|big:text")))
	through := newNetwork(t, server)
	r.cfg.DatabaseURL = through.url
	r.start()
	r.streaming()
	through.slow.Store(true)
	r.exec("INSERT INTO a SELECT 1, repeat('slow', 1 << 20)")
	r.exec("INSERT INTO a VALUES (2, 'behind')")
	r.same()
	if s := r.source.Status(); s.Reconnects != 0 {
		t.Errorf("it took %d reconnections: %s", s.Reconnects, s.Fault)
	}
}

// After a lost connection the server may hold the slot for the old one until
// wal_sender_timeout: that passes.
func TestSlotHeldAfterALostConnectionIsWaitedForLonger(t *testing.T) {
	server := pgtest.New(t).NewDatabase(t)
	r := newRig(t, server, pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	r.same()
	r.exec("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = $1", r.cfg.Slot)
	release := holdSlot(t, server, r.cfg.Slot, "dreamfeed")
	hold := time.NewTimer(6 * time.Second) // above the patience of a start
	select {
	case <-hold.C:
	case err := <-r.ended:
		t.Fatalf("run: %v", err)
	}
	release()
	r.exec("INSERT INTO a VALUES (1, 2)")
	r.same()
}
