package pgtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
)

// closeTimeout bounds the shutdown of a test's server; after it the server is
// killed and the test fails.
const closeTimeout = 30 * time.Second

// New starts a server that belongs to one test: it is stopped and removed when
// the test ends. Each setting is written "name=value". The test fails, it does
// not skip, when the server cannot be started.
func New(t testing.TB, settings ...string) *Server {
	t.Helper()
	cfg := Config{Settings: map[string]string{}}
	for _, setting := range settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			t.Fatalf("setting %q is not of the form name=value", setting)
		}
		cfg.Settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("start a throw-away PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if t.Failed() {
			t.Logf("the server's log ends:\n%s", s.Log())
		}
		if err := s.Close(ctx); err != nil {
			t.Errorf("stop the throw-away PostgreSQL: %v", err)
		}
	})
	return s
}

// NewDatabase makes an empty database for one test and returns its URL. When
// the test ends the database is dropped, with the connections and replication
// slots that are left in it.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := databaseName(t.Name())
	if err := s.CreateDatabase(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.Running() {
			return // it goes with its server
		}
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := s.dropDatabase(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return s.URL(name)
}

// dropDatabase drops a database with its slots. A slot in use keeps a database
// from being dropped even by force, so its walsender is ended first.
func (s *Server) dropDatabase(ctx context.Context, name string) error {
	const endWalsenders = `SELECT pg_terminate_backend(active_pid, 10000)
		FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL`
	if err := s.exec(ctx, "end the walsenders of "+name, endWalsenders, name); err != nil {
		return err
	}
	return s.exec(ctx, "drop database "+name, "DROP DATABASE "+name+" WITH (FORCE)")
}

// databaseName makes a test's name an identifier that needs no quotes, is not
// cut by PostgreSQL, and differs between two runs of the same test.
func databaseName(test string) string {
	name := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToLower(r)
		}
		return '_'
	}, test)
	if len(name) > 40 {
		name = name[:40]
	}
	return fmt.Sprintf("%s_%x", name, time.Now().UnixNano())
}

// Shared is one server for all tests of a package, started when the first of
// them asks for it. Its zero value is ready; it belongs in a variable of the
// test package and its Main in TestMain:
//
//	var shared pgtest.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }
//
//	func TestX(t *testing.T) { url := shared.NewDatabase(t) … }
//
// PostgreSQL makes a logical slot only after every older transaction of the
// whole server has ended: a test that keeps transactions open while others make
// slots wants New.
type Shared struct {
	// Settings are the server's, as in Config.
	Settings map[string]string

	mu     sync.Mutex
	server *Server
	err    error
}

// Main runs the tests, closes the server if one of them started it, and returns
// the exit code.
func (sh *Shared) Main(m interface{ Run() int }) int {
	code := m.Run()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.server == nil {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := sh.server.Close(ctx)
	sh.server = nil
	if err != nil {
		fmt.Fprintf(os.Stderr, "stop the throw-away PostgreSQL: %v\n", err)
		return max(code, 1)
	}
	return code
}

// Server returns the server, started by the first call. It must not be stopped,
// killed or restarted by tests.
func (sh *Shared) Server(t testing.TB) *Server {
	t.Helper()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.server == nil && sh.err == nil {
		// Not the test's context: the server outlives the test.
		sh.server, sh.err = Start(context.Background(), Config{Settings: sh.Settings})
	}
	if sh.err != nil {
		t.Fatalf("start a throw-away PostgreSQL: %v", sh.err)
	}
	return sh.server
}

// NewDatabase makes an empty database for one test, on the shared server; see
// Server.NewDatabase.
func (sh *Shared) NewDatabase(t testing.TB) string {
	t.Helper()
	return sh.Server(t).NewDatabase(t)
}
