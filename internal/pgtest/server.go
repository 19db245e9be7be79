package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	logName      = "server.log"
	settingsName = "pgtest.conf"
	// socketPathMax is a length of a socket's path that every system takes.
	socketPathMax = 100
	// portTries bounds how often Start picks another port when a picked one
	// turns out to be taken.
	portTries = 8
	// readyInterval is how often a starting server is asked whether it is ready.
	readyInterval = 20 * time.Millisecond
)

// Config says how a server is made. The zero value is a good one.
type Config struct {
	// Dir is the data directory. An existing one is used as it is and stays
	// after Close; a missing or empty one is initialised and stays too. Empty
	// means a new temporary directory, which Close removes.
	Dir string
	// Settings are configuration parameters of the server by name. They win
	// over this package's own (see baseSettings) and lose against ALTER SYSTEM.
	Settings map[string]string
	// Port is the TCP port on 127.0.0.1; 0 means a free one.
	Port int
}

// Server is a PostgreSQL server. Its methods that start or end the server must
// not be called concurrently.
type Server struct {
	// Dir is the data directory.
	Dir string
	// Port is the TCP port on 127.0.0.1.
	Port int

	bin      string
	as       *account
	home     *home // nil when the caller chose Dir
	settings map[string]string
	process  *process // nil before the first start
}

// baseSettings are what every server has unless Config.Settings says otherwise.
func baseSettings() map[string]string {
	return map[string]string{
		"wal_level":              "logical",
		"max_replication_slots":  "20",
		"max_wal_senders":        "20",
		"track_commit_timestamp": "on",
		"listen_addresses":       "127.0.0.1",
		"fsync":                  "off",
		"full_page_writes":       "off",
		"shared_buffers":         "64MB",
		"timezone":               "UTC",
		"log_timezone":           "UTC",
	}
}

// Start makes and starts a server and returns when it accepts connections. It
// returns ErrNoPrograms, wrapped, when the server programs are not installed;
// any other error holds the end of the server's log.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{Port: cfg.Port, settings: baseSettings()}
	maps.Copy(s.settings, cfg.Settings)
	var err error
	if s.bin, err = programs(ctx); err != nil {
		return nil, err
	}
	if s.as, err = serverAccount(); err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		if s.home, err = newHome(); err != nil {
			return nil, err
		}
		s.Dir = filepath.Join(s.home.dir, "data")
	} else if s.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", cfg.Dir, err)
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.removeHome())
	}
	if err := s.startOnPort(ctx, cfg.Port == 0); err != nil {
		return nil, errors.Join(err, s.removeHome())
	}
	return s, nil
}

// prepare initialises the data directory if it has to be, and writes settings.
func (s *Server) prepare(ctx context.Context) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	// PostgreSQL wants exactly this mode, which a copied directory may have lost.
	if err := os.Chmod(s.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := s.as.reaches(s.Dir); err != nil {
		return fmt.Errorf("data directory %s: %w", s.Dir, err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := s.initdb(ctx); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := s.writeSettings(); err != nil {
		return err
	}
	if err := s.as.own(s.Dir); err != nil {
		return fmt.Errorf("give %s to the server's user: %w", s.Dir, err)
	}
	return nil
}

func (s *Server) initdb(ctx context.Context) error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("data directory %s is neither empty nor a PostgreSQL cluster: choose another directory", s.Dir)
	}
	if err := s.as.own(s.Dir); err != nil {
		return fmt.Errorf("give %s to the server's user: %w", s.Dir, err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "--pgdata", s.Dir,
		"--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C",
		"--no-sync", "--no-instructions")
	cmd.Dir, cmd.Env = s.Dir, environment()
	// No parent-death signal here: its thread is not kept, and initdb is brief.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.as.credential()}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb %s: %w: %s", s.Dir, err, strings.TrimSpace(string(out)))
	}
	conf, err := os.OpenFile(filepath.Join(s.Dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configure %s: %w", s.Dir, err)
	}
	_, err = fmt.Fprintf(conf, "\ninclude_if_exists = '%s'\n", settingsName)
	if err := errors.Join(err, conf.Close()); err != nil {
		return fmt.Errorf("configure %s: %w", s.Dir, err)
	}
	return nil
}

func (s *Server) writeSettings() error {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(s.settings[name], "'", "''"))
	}
	if err := os.WriteFile(filepath.Join(s.Dir, settingsName), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("configure %s: %w", s.Dir, err)
	}
	return nil
}

// startOnPort starts the server, on another free port when the one picked
// before has been taken meanwhile.
func (s *Server) startOnPort(ctx context.Context, pick bool) error {
	var err error
	for range portTries {
		if pick {
			if s.Port, err = freePort(); err != nil {
				return err
			}
		}
		if err = s.start(ctx); err == nil || !pick || !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// errPortTaken is what start returns when something else listens on the port.
var errPortTaken = errors.New("the port is taken")

func (s *Server) start(ctx context.Context) error {
	logFile, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("start PostgreSQL in %s: %w", s.Dir, err)
	}
	defer logFile.Close()
	begin, err := logFile.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("start PostgreSQL in %s: %w", s.Dir, err)
	}
	sockets := s.Dir
	if len(filepath.Join(sockets, ".s.PGSQL.65535.lock")) > socketPathMax {
		sockets = ""
	}
	// The server outlives the context of Start: Stop and Kill end it.
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.Dir, //nolint:noctx // see above
		"-p", strconv.Itoa(s.Port), "-c", "unix_socket_directories="+sockets)
	cmd.Dir, cmd.Env = s.Dir, environment()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if s.process, err = startProcess(cmd, s.as); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		s.process.kill()
		tail := s.log(begin)
		// English, because the cluster's locale is C.
		if strings.Contains(tail, "could not bind") {
			err = errors.Join(err, errPortTaken)
		}
		return fmt.Errorf("start PostgreSQL in %s on port %d: %w; its log ends:\n%s", s.Dir, s.Port, err, tail)
	}
	return nil
}

// awaitReady returns when the server answers a query. There is no event to
// wait for, so it asks again after each readyInterval. It returns errPortTaken
// when another server answers.
func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for {
		err := s.ask(ctx)
		if err == nil || errors.Is(err, errPortTaken) {
			return err
		}
		select {
		case <-tick.C:
		case <-s.process.exited:
			return fmt.Errorf("the postmaster ended: %w", s.process.waitErr)
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer: %w", ctx.Err(), err)
		}
	}
}

// ask makes sure that what answers on the port is this server.
func (s *Server) ask(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != s.Dir {
		return fmt.Errorf("%w by the server of %s", errPortTaken, dir)
	}
	return nil
}

// URL returns the address of a database of the server.
func (s *Server) URL(db string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User("postgres"), Host: "127.0.0.1:" + strconv.Itoa(s.Port),
		Path: "/" + db, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// CreateDatabase makes an empty database.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.exec(ctx, "create database "+name, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

func (s *Server) exec(ctx context.Context, what, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, err = conn.Exec(ctx, sql, args...)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Running reports whether the server's main process lives.
func (s *Server) Running() bool { return s.process != nil && s.process.running() }

// Stop shuts the server down fast: open transactions are rolled back, clients
// are disconnected, walsenders send what is left. The data stays, and Restart
// starts it again. When ctx ends first the server is killed, and an error says
// so. Stopping a stopped server does nothing, but waits for what an ended
// postmaster left behind.
func (s *Server) Stop(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	if s.process.running() {
		return s.process.stop(ctx)
	}
	select {
	case <-s.process.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the children of postmaster %d: %w", s.process.cmd.Process.Pid, ctx.Err())
	}
}

// Kill ends all of the server's processes with SIGKILL, as a crash would, and
// returns when they are gone. The data stays; Restart recovers it.
func (s *Server) Kill() {
	if s.process != nil {
		s.process.kill()
	}
}

// Restart stops the server, if it runs, and starts it with the same data, port
// and settings.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

// Close stops the server and removes its directory if it was a temporary one.
func (s *Server) Close(ctx context.Context) error {
	return errors.Join(s.Stop(ctx), s.removeHome())
}

func (s *Server) removeHome() error {
	if s.home == nil {
		return nil
	}
	h := s.home
	s.home = nil
	if err := h.remove(); err != nil {
		return fmt.Errorf("remove the server's directory: %w", err)
	}
	return nil
}

// Log returns the end of the server's log, at most 16 KiB, for messages.
func (s *Server) Log() string { return s.log(0) }

func (s *Server) logPath() string { return filepath.Join(s.Dir, logName) }

// log returns what the log holds from byte begin on, at most its last 16 KiB.
func (s *Server) log(begin int64) string {
	const most = 16 << 10
	f, err := os.Open(s.logPath())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	tail, err := io.ReadAll(io.NewSectionReader(f, max(begin, info.Size()-most), most))
	if err != nil {
		return err.Error()
	}
	return string(tail)
}

// environment is this process's, without what would change the server.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG")
	})
}

// freePort picks a port that nothing listens on. It lies below the range from
// which systems number outgoing connections, so that it stays free while the
// server is down.
func freePort() (int, error) {
	const first, last = 15_000, 32_000
	var err error
	for range 100 {
		port := first + rand.IntN(last-first)
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
