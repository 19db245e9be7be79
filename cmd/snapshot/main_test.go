package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

// asProgram makes the test binary behave as snapshot itself, so that tests can
// signal and kill it as a process of its own.
const asProgram = "DREAMFEED_TEST_AS_SNAPSHOT"

// patience bounds every wait for a process.
const patience = 90 * time.Second

var shared pgtest.Shared

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Unsetenv("ANONYMIZATION_KEY")
	code := shared.Main(m)
	if dir, err := ingestProgram(); err == nil {
		os.RemoveAll(filepath.Dir(dir))
	}
	os.Exit(code)
}

// ingestProgram builds ingest, which fills the stores that are read here.
var ingestProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dreamfeed-ingest-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "ingest")
	if out, err := exec.Command("go", "build", "-o", program, "dreamfeed/cmd/ingest").CombinedOutput(); err != nil {
		return program, fmt.Errorf("build ingest: %w: %s", err, out)
	}
	return program, nil
})

// command runs snapshot in this process.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// source is a populated database with the data directory of a feed from it.
type source struct {
	url, dataDir string
	flags        []string // of ingest
}

// follow populates a database and lets ingest catch up with it.
func follow(t *testing.T, users int) source {
	t.Helper()
	return followAt(t, shared.NewDatabase(t), users)
}

// followAt is follow with an empty database that is given; flags are for ingest.
func followAt(t *testing.T, url string, users int, flags ...string) source {
	t.Helper()
	s := source{url: url, dataDir: filepath.Join(t.TempDir(), "data"), flags: flags}
	conn, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := workload.CreateSchema(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.Populate(t.Context(), conn, workload.Config{Seed: 3, Users: users, Items: 60, Days: 40, Now: time.Now().UTC()}); err != nil {
		t.Fatal(err)
	}
	s.catchUp(t)
	return s
}

func (s source) catchUp(t *testing.T) {
	t.Helper()
	p := s.ingest(t, "--until-caught-up")
	if code := p.wait(t); code != 0 {
		t.Fatalf("ingest --until-caught-up: exit code %d: %s", code, p.stderr.String())
	}
}

func (s source) ingest(t *testing.T, args ...string) *process {
	t.Helper()
	program, err := ingestProgram()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, []string{"DATABASE_URL=" + s.url}, program, slices.Concat([]string{"--data-dir", s.dataDir, "--listen", "127.0.0.1:0"}, s.flags, args)...)
}

// daemon starts ingest, waits until it is ready, and returns its newest moment.
func (s source) daemon(t *testing.T) (*process, string) {
	t.Helper()
	address := freeAddress(t)
	p := s.ingest(t, "--listen", address)
	var status struct{ Applied struct{ Moment string } }
	await(t, "ingest to be ready", func() bool {
		if code, _ := get(address, "/readyz"); code != http.StatusOK {
			return false
		}
		_, body := get(address, "/v1/status")
		return json.Unmarshal(body, &status) == nil && status.Applied.Moment != ""
	})
	return p, status.Applied.Moment
}

// process is a program under test.
type process struct {
	command        *exec.Cmd
	stdout, stderr bytes.Buffer // to be read after wait
	done           chan struct{}
}

func start(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{command: exec.Command(program, args...), done: make(chan struct{})}
	p.command.Env = append(os.Environ(), env...)
	p.command.Stdout, p.command.Stderr = &p.stdout, &p.stderr
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // wait tells the exit code
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.done
	})
	return p
}

// snapshotProcess starts snapshot as a process of its own.
func snapshotProcess(t *testing.T, args ...string) *process {
	t.Helper()
	return start(t, []string{asProgram + "=1"}, os.Args[0], args...)
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.command.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s did not end within %s", p.command, patience)
		return -1
	}
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Fatalf("%s: exit code %d after SIGTERM: %s", p.command, code, p.stderr.String())
	}
}

// await polls until done.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

func get(address, path string) (int, []byte) {
	response, err := http.Get("http://" + address + path)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil
	}
	return response.StatusCode, body
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// names lists a directory; none if there is no directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
