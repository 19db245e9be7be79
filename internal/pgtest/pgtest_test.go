package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dreamfeed/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

var shared pgtest.Shared

// ownerVariable, when set, makes this test binary the owner of a server that
// TestServerDiesWithItsOwner kills.
const ownerVariable = "PGTEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerVariable) != "" {
		s, err := pgtest.Start(context.Background(), pgtest.Config{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.Port, s.Dir)
		select {}
	}
	os.Exit(shared.Main(m))
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec1(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func one[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestServerIsReadyForLogicalReplication(t *testing.T) {
	conn := connect(t, shared.NewDatabase(t))
	for setting, want := range map[string]string{
		"wal_level": "logical", "max_replication_slots": "20", "max_wal_senders": "20", "fsync": "off",
		"track_commit_timestamp": "on", "listen_addresses": "127.0.0.1", "server_encoding": "UTF8",
		"lc_collate": "C", "TimeZone": "UTC",
	} {
		if got := one[string](t, conn, "SHOW "+setting); got != want {
			t.Errorf("%s = %s, want %s", setting, got, want)
		}
	}
	slot := one[string](t, conn, "SELECT slot_name FROM pg_create_logical_replication_slot('ready', 'pgoutput')")
	if slot != "ready" {
		t.Errorf("slot %q", slot)
	}
	// The slot is left behind on purpose: dropping the database takes it along.
}

func TestNewDatabaseIsEmptyAndGoesWithItsTest(t *testing.T) {
	var name string
	t.Run("first", func(t *testing.T) {
		conn := connect(t, shared.NewDatabase(t))
		name = one[string](t, conn, "SELECT current_database()")
		exec1(t, conn, "CREATE TABLE t (id int)")
	})
	second := connect(t, shared.NewDatabase(t))
	if n := one[int](t, second, "SELECT count(*)::int FROM pg_class WHERE relname = 't'"); n != 0 {
		t.Errorf("the second database holds a table of the first")
	}
	if n := one[int](t, second, "SELECT count(*)::int FROM pg_database WHERE datname = '"+name+"'"); n != 0 {
		t.Errorf("database %s is still there after its test", name)
	}
}

func TestNewDatabaseIsDroppedUnderAWalsender(t *testing.T) {
	t.Run("walsender", func(t *testing.T) {
		url := shared.NewDatabase(t)
		conn, err := pgx.Connect(t.Context(), url+"&replication=database")
		if err != nil {
			t.Fatal(err)
		}
		pg := conn.PgConn()
		t.Cleanup(func() { pg.Conn().Close() })
		if _, err := pg.Exec(t.Context(), "CREATE_REPLICATION_SLOT busy LOGICAL pgoutput").ReadAll(); err != nil {
			t.Fatal(err)
		}
		exec1(t, connect(t, url), "CREATE PUBLICATION p FOR ALL TABLES")
		// The server answers by entering copy mode and keeps the slot in use.
		pg.Exec(t.Context(), "START_REPLICATION SLOT busy LOGICAL 0/0 (proto_version '1', publication_names 'p')")
		watch := connect(t, shared.Server(t).URL("postgres"))
		await(t, "the slot is in use", func() bool {
			return one[bool](t, watch, "SELECT coalesce(bool_or(active), false) FROM pg_replication_slots WHERE slot_name = 'busy'")
		})
	})
	conn := connect(t, shared.Server(t).URL("postgres"))
	if n := one[int](t, conn, "SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = 'busy'"); n != 0 {
		t.Error("the slot is still there after its test")
	}
}

// await asks until done holds or the test's patience ends.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestRestartKeepsDataPortAndSettings(t *testing.T) {
	s := pgtest.New(t, "work_mem=5MB", "application_name = it's")
	url := s.URL("postgres")
	exec1(t, connect(t, url), "CREATE TABLE kept AS SELECT 7 AS n")
	for _, tt := range []struct {
		name string
		end  func() error
	}{
		{"while it runs", func() error { return nil }},
		{"after a stop", func() error { return s.Stop(t.Context()) }},
		{"after a kill", func() error { s.Kill(); return nil }},
		{"after somebody else killed its postmaster", func() error {
			if err := syscall.Kill(postmasterPID(t, s.Dir), syscall.SIGKILL); err != nil {
				return err
			}
			await(t, "the server is seen to be dead", func() bool { return !s.Running() })
			return nil
		}},
		{"after a stop of a killed server", func() error { s.Kill(); return s.Stop(t.Context()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.end(); err != nil {
				t.Fatal(err)
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.URL("postgres") != url {
				t.Errorf("url %s, before %s", s.URL("postgres"), url)
			}
			conn := connect(t, url)
			if n := one[int](t, conn, "SELECT n FROM kept"); n != 7 {
				t.Errorf("kept row holds %d", n)
			}
			if got := one[string](t, conn, "SHOW work_mem"); got != "5MB" {
				t.Errorf("work_mem = %s", got)
			}
		})
	}
}

func TestStopEndsBusyConnections(t *testing.T) {
	s := pgtest.New(t)
	conn := connect(t, s.URL("postgres"))
	exec1(t, conn, "BEGIN; CREATE TABLE unfinished (id int)")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Running() {
		t.Error("the server runs after Stop")
	}
	if _, err := pgx.Connect(t.Context(), s.URL("postgres")); err == nil {
		t.Error("a stopped server answers")
	}
}

func TestStopKillsWhenItsContextEnds(t *testing.T) {
	s := pgtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Halted, the postmaster cannot shut down, so that only the kill can end it.
	pid := postmasterPID(t, s.Dir)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop = %v, want context.Canceled", err)
	}
	if s.Running() {
		t.Error("the server runs after Stop")
	}
}

// TestKillLeavesNoProcess kills a server whose backend is in the middle of a
// long computation and would not notice the end of its postmaster by itself.
func TestKillLeavesNoProcess(t *testing.T) {
	s := pgtest.New(t)
	conn := connect(t, s.URL("postgres"))
	backend := int(one[int32](t, conn, "SELECT pg_backend_pid()"))
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b")
		ended <- err
	}()
	watch := connect(t, s.URL("postgres"))
	await(t, "the query runs", func() bool {
		return one[bool](t, watch, "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series(1, 100000)%' AND pid <> pg_backend_pid()")
	})
	s.Kill()
	// All it held is released when Kill returns; the system's own bookkeeping
	// may take a moment longer.
	await(t, "the backend is gone", func() bool { return gone(backend) })
	if err := <-ended; err == nil {
		t.Error("the query came to an end")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func postmasterPID(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(content), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone reports whether a process has ended, be it that its new parent has not
// waited for it yet.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestServerDiesWithItsOwner(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(self)
	owner.Env = append(os.Environ(), ownerVariable+"=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	var port int
	var dir string
	if _, err := fmt.Sscan(line, &port, &dir); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	pid := postmasterPID(t, dir)
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed, so this is an error
	await(t, "the server is gone", func() bool { return gone(pid) })

	// The next server to start removes what was left, once it is old enough.
	home := filepath.Dir(dir)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(home, old, old); err != nil {
		t.Fatal(err)
	}
	pgtest.New(t)
	if _, err := os.Stat(home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory of the killed owner: %v, want it removed", err)
	}
}

func TestCloseRemovesOnlyTemporaryDirectories(t *testing.T) {
	temporary, err := pgtest.Start(t.Context(), pgtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := temporary.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(temporary.Dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary directory after Close: %v, want it removed", err)
	}

	parent, err := os.MkdirTemp("", "own-directory-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "cluster")
	for range 2 {
		s, err := pgtest.Start(t.Context(), pgtest.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		exec1(t, connect(t, s.URL("postgres")), "CREATE TABLE IF NOT EXISTS kept (id int)")
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// A copy is somebody else's in owner and mode, and still a cluster.
	restored := filepath.Join(parent, "restored")
	if err := os.CopyFS(restored, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s, err := pgtest.Start(t.Context(), pgtest.Config{Dir: restored})
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, connect(t, s.URL("postgres")), "SELECT id FROM kept")
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStartNamesWhatIsWrong(t *testing.T) {
	occupied, err := os.MkdirTemp("", "occupied-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(occupied) })
	if err := os.Chmod(occupied, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(occupied, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  pgtest.Config
		bin  string
		want string
	}{
		{"missing programs", pgtest.Config{}, t.TempDir(), "postgresql-15"},
		{"missing programs name the variable", pgtest.Config{}, t.TempDir(), "PG_BIN"},
		{"a foreign directory", pgtest.Config{Dir: occupied}, "", "neither empty nor a PostgreSQL cluster"},
		{"an unknown setting", pgtest.Config{Settings: map[string]string{"shared_bufers": "1MB"}}, "", "shared_bufers"},
		{"a taken port", pgtest.Config{Port: shared.Server(t).Port}, "", "the port is taken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.bin != "" {
				t.Setenv("PG_BIN", tt.bin)
			}
			s, err := pgtest.Start(t.Context(), tt.cfg)
			if err == nil {
				t.Fatal(errors.Join(errors.New("the server started"), s.Close(t.Context())))
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			if tt.bin != "" && !errors.Is(err, pgtest.ErrNoPrograms) {
				t.Errorf("error %q is not ErrNoPrograms", err)
			}
		})
	}
}

func TestRootIsToldWhichFolderTheServerMayNotEnter(t *testing.T) {
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := pgtest.Start(t.Context(), pgtest.Config{Dir: filepath.Join(closed, "data")})
	if os.Geteuid() != 0 {
		// Its own user may enter, so here the server must work.
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err == nil {
		t.Fatal(errors.Join(errors.New("the server started"), s.Close(t.Context())))
	}
	if !strings.Contains(err.Error(), "chmod o+x") {
		t.Errorf("error %q does not say how to mend it", err)
	}
}

func TestManyServersStartAtOnce(t *testing.T) {
	ids := make(chan int64, 3)
	t.Run("group", func(t *testing.T) {
		for i := range cap(ids) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				conn := connect(t, pgtest.New(t).URL("postgres"))
				ids <- one[int64](t, conn, "SELECT system_identifier FROM pg_control_system()")
			})
		}
	})
	seen := map[int64]bool{}
	for range cap(ids) {
		seen[<-ids] = true
	}
	if len(seen) != cap(ids) {
		t.Errorf("%d servers have %d system identifiers", cap(ids), len(seen))
	}
}

func ExampleStart() {
	ctx := context.Background()
	s, err := pgtest.Start(ctx, pgtest.Config{Settings: map[string]string{"wal_sender_timeout": "10s"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close(ctx)
	if err := s.CreateDatabase(ctx, "shop"); err != nil {
		fmt.Println(err)
		return
	}
	conn, err := pgx.Connect(ctx, s.URL("shop"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(ctx)
	var level string
	if err := conn.QueryRow(ctx, "SHOW wal_level").Scan(&level); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(level)
	// Output: logical
}
