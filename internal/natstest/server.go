package natstest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// dirVariable and portVariable tell the child what to serve.
	dirVariable  = "DREAMFEED_TEST_NATS_DIR"
	portVariable = "DREAMFEED_TEST_NATS_PORT"
	// readyLine is what the child says once it serves.
	readyLine = "the NATS server is ready"
	patience  = 30 * time.Second
)

// Server is a NATS server in a process of its own.
type Server struct {
	t       testing.TB
	dir     string
	port    int
	command *exec.Cmd
	input   *os.File // its other end is the child's, which ends with it
}

// Start starts a server with an empty disk. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: filepath.Join(t.TempDir(), "jetstream"), port: listener.Addr().(*net.TCPAddr).Port}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// URL is the server's address; it stays the same.
func (s *Server) URL() string { return "nats://127.0.0.1:" + strconv.Itoa(s.port) }

// Start starts a server that was killed, and returns when it serves.
func (s *Server) Start() {
	s.t.Helper()
	own, others, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.input = others
	s.command = exec.Command(os.Args[0], "-test.run=^TestNATSServer$", "-test.v=false") //nolint:noctx // Kill ends it
	s.command.Env = append(os.Environ(), dirVariable+"="+s.dir, portVariable+"="+strconv.Itoa(s.port))
	s.command.Stdin = own
	out, err := s.command.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := own.Close(); err != nil {
		s.t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), readyLine) {
			return
		}
		s.t.Logf("the NATS server: %s", lines.Text())
	}
	s.Kill()
	s.t.Fatal("the NATS server does not start")
}

// Kill ends the server with SIGKILL, if it runs.
func (s *Server) Kill() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill()
	_ = s.command.Wait() // it was killed
	_ = s.input.Close()
	s.command = nil
}

// Save copies the disk of a killed server; Restore puts the copy back.
func (s *Server) Save() (saved string) {
	s.t.Helper()
	s.dead()
	saved = filepath.Join(s.t.TempDir(), "saved")
	s.copy(s.dir, saved)
	return saved
}

// Restore puts the disk of a killed server back to what Save has copied.
func (s *Server) Restore(saved string) {
	s.t.Helper()
	s.Empty()
	s.copy(saved, s.dir)
}

// Empty removes all that a killed server holds.
func (s *Server) Empty() {
	s.t.Helper()
	s.dead()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) dead() {
	s.t.Helper()
	if s.command != nil {
		s.t.Fatal("the server runs: kill it first")
	}
}

func (s *Server) copy(from, to string) {
	s.t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		s.t.Fatal(err)
	}
}

// Serve is the server's process: it serves until it is killed or its input
// ends, which it does with the test. In an ordinary run it does nothing.
func Serve(t *testing.T) {
	dir := os.Getenv(dirVariable)
	if dir == "" {
		return
	}
	port, err := strconv.Atoi(os.Getenv(portVariable))
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "external", Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir,
		NoSigs: true, NoLog: true, MaxPayload: 8 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	fmt.Println(readyLine)
	for b := []byte{0}; ; {
		if _, err := os.Stdin.Read(b); err != nil {
			return
		}
	}
}
