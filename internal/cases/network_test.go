package cases_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// network stands between a daemon and its server.
type network struct {
	t      testing.TB
	url    string // of the server through the network
	server string // host and port

	mu       sync.Mutex
	conns    map[net.Conn]bool
	mute     bool
	muted    int
	held     bool
	limited  bool // what may still come is limited to budget bytes
	budget   int
	released *sync.Cond
}

// newNetwork makes a network to the server of a URL.
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
	n := &network{t: t, server: u.Host, conns: map[net.Conn]bool{}}
	n.released = sync.NewCond(&n.mu)
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
			n.conns[client], n.conns[server] = true, true
			n.mu.Unlock()
			wg.Go(func() { n.answers(client, server) })
			wg.Go(func() { n.requests(client, server) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		n.hold(false)
		n.cut()
		wg.Wait()
	})
	return n
}

// cut ends all connections without a word.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.Close()
	}
	clear(n.conns)
}

// hold stops what the server says on its way, with the connections open, or
// lets it go on.
func (n *network) hold(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held, n.limited = on, false
	n.released.Broadcast()
}

// holdAfter stops what the server says once so many bytes more have passed.
func (n *network) holdAfter(bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.limited, n.budget = true, bytes
}

// holding says whether anything is held back by now.
func (n *network) holding() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held
}

// swallow drops the client's status updates, which confirm progress.
func (n *network) swallow(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute = on
}

// swallowed returns how many status updates were dropped.
func (n *network) swallowed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.muted
}

func (n *network) end(client, server net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	client.Close()
	server.Close()
	delete(n.conns, client)
	delete(n.conns, server)
}

// answers carries what the server says.
func (n *network) answers(client, server net.Conn) {
	defer n.end(client, server)
	buf := make([]byte, 64<<10)
	for {
		size, err := server.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		if n.limited {
			n.budget -= size
			n.held = n.held || n.budget < 0
		}
		for n.held {
			n.released.Wait()
		}
		n.mu.Unlock()
		if _, err := client.Write(buf[:size]); err != nil {
			return
		}
	}
}

// requests carries what the client says, message by message.
func (n *network) requests(client, server net.Conn) {
	defer n.end(client, server)
	const protocol3 = 3 << 16
	started := false
	for {
		head := make([]byte, 4, 64)
		if started {
			head = head[:5]
		}
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
		if size < 0 || size > 1<<30 {
			return
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		if started && head[0] == 'd' && size > 0 && body[0] == 'r' && n.drops() {
			continue
		}
		// Before the startup message comes a request for TLS, perhaps.
		started = started || size >= 4 && binary.BigEndian.Uint32(body) == protocol3
		if _, err := server.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func (n *network) drops() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mute {
		n.muted++
	}
	return n.mute
}
