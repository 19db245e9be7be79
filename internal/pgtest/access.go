package pgtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// hbaOfTests lets the superuser postgres in over TCP, whatever else the access
// rules say, so that tests keep a way in.
const hbaOfTests = "host all postgres 127.0.0.1/32 trust\n"

// SetTLS lets the server speak TLS with a certificate and its key, and, if
// clientCA is not empty, trust that authority's client certificates. It copies
// the files into the data directory.
func (s *Server) SetTLS(t testing.TB, cert, key, clientCA string) {
	t.Helper()
	s.settings["ssl"], s.settings["ssl_cert_file"], s.settings["ssl_key_file"] = "on", "server.crt", "server.key"
	files := map[string]string{"server.crt": cert, "server.key": key}
	if clientCA != "" {
		s.settings["ssl_ca_file"] = "root.crt"
		files["root.crt"] = clientCA
	}
	for name, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.writeSettings(); err != nil {
		t.Fatal(err)
	}
	s.reload(t)
}

// SetAccess replaces the rules of pg_hba.conf. The superuser postgres keeps its
// way in over TCP.
func (s *Server) SetAccess(t testing.TB, rules ...string) {
	t.Helper()
	text := hbaOfTests + strings.Join(rules, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(s.Dir, "pg_hba.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reload(t)
}

// reloadTimeout bounds the wait for the postmaster to take up its files.
const reloadTimeout = 30 * time.Second

// reload returns when sessions begin with the new settings and rules.
func (s *Server) reload(t testing.TB) {
	t.Helper()
	if err := s.as.own(s.Dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), reloadTimeout)
	defer cancel()
	before, err := s.loaded(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for {
		// The postmaster loads all files before it starts another session.
		now, err := s.loaded(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		if now.After(before) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the server did not reload its configuration: %v", ctx.Err())
		}
	}
}

// loaded returns when the configuration was loaded that new sessions have, and
// asks for another load if reload is set.
func (s *Server) loaded(ctx context.Context, reload bool) (at time.Time, err error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return at, fmt.Errorf("reload the configuration: %w", err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "SELECT pg_conf_load_time()").Scan(&at); err != nil {
		return at, fmt.Errorf("reload the configuration: %w", err)
	}
	if reload {
		if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
			return at, fmt.Errorf("reload the configuration: %w", err)
		}
	}
	return at, nil
}
