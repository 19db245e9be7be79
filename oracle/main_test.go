package oracle_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// programs is the directory of the built programs.
var programs string

// TestMain builds the programs as a user would, without cgo.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "dreamfeed-oracle-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./cmd/ingest", "./cmd/snapshot")
		build.Dir = ".."
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		}
		programs = dir
		return m.Run()
	}())
}

// secretKey is the anonymisation key of the tests that do not read the key file.
const secretKey = "8f1d6f0c2f6e4b7a9c3d5e7f90a1b2c3d4e5f60718293a4b5c6d7e8f9aabbccd"

// run runs a program to its end and returns what it printed on stdout.
func run(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, program), args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// catchUp runs ingest until everything committed so far is in the store.
func catchUp(t *testing.T, url, dataDir string, more ...string) {
	t.Helper()
	run(t, []string{"DATABASE_URL=" + url}, "ingest", append([]string{
		"--until-caught-up", "--listen", "127.0.0.1:0",
		"--data-dir", dataDir, "--log-level", "warn",
	}, more...)...)
}

// daemon is a running ingest.
type daemon struct {
	address string
	ended   chan error
	log     *strings.Builder
}

// startIngest starts ingest and waits until it is ready.
func startIngest(t *testing.T, url, dataDir string) *daemon {
	t.Helper()
	d := &daemon{address: freeAddress(t), ended: make(chan error, 1), log: &strings.Builder{}}
	cmd := exec.Command(filepath.Join(programs, "ingest"), "--listen", d.address, "--data-dir", dataDir)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
	cmd.Stderr = d.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-d.ended:
			if err != nil {
				t.Errorf("ingest ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-d.ended
			t.Error("ingest did not stop within 30 s of SIGTERM")
		}
		if t.Failed() {
			t.Logf("ingest's log:\n%s", d.log)
		}
	})
	d.await(t, "ready", func() bool {
		resp, err := http.Get("http://" + d.address + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return d
}

// await polls until done holds; an ingest that ended by itself fails the test.
func (d *daemon) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	limit := time.After(90 * time.Second)
	for !done() {
		select {
		case err := <-d.ended:
			d.ended <- nil
			t.Fatalf("ingest ended before it was %s: %v\n%s", what, err, d.log)
		case <-limit:
			t.Fatalf("ingest is not %s after 90 s", what)
		case <-poll.C:
		}
	}
}

// freeAddress returns an address of this machine that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// connect opens a session in UTC that ends with the test.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["timezone"] = "UTC"
	// The temporary tables that the oracle builds are large for the default.
	cfg.RuntimeParams["work_mem"] = "64MB"
	cfg.RuntimeParams["jit"] = "off"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := conn.Close(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%v\n%.600s", err, sql)
	}
}

// rowsOf returns the rows of a query by column name.
func rowsOf(t *testing.T, conn *pgx.Conn, sql string, args ...any) []map[string]any {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%v\n%.600s", err, sql)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		t.Fatalf("%v\n%.600s", err, sql)
	}
	return all
}
