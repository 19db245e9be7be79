package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
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

	"dreamfeed/deploy"
	"dreamfeed/featurestore"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/proctest"
	"dreamfeed/internal/row"
)

// asProgram makes the test binary behave as ingest itself, so that tests can
// run, signal and kill it as a process of its own.
const asProgram = "DREAMFEED_TEST_AS_INGEST"

var (
	shared pgtest.Shared
	update = flag.Bool("update", false, "rewrite the golden files")
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		hook, err := faultHook()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(runHooked(context.Background(), os.Args[1:], os.Stdout, os.Stderr, hook))
	}
	os.Exit(shared.Main(m))
}

// daemon is ingest as a process.
type daemon struct {
	t       *testing.T
	command *exec.Cmd
	address string
	output  *proctest.Output
	done    chan error
}

func start(t *testing.T, dataDir, url string, args ...string) *daemon {
	t.Helper()
	return startWith(t, nil, dataDir, url, args...)
}

// startWith is start with more environment.
func startWith(t *testing.T, env []string, dataDir, url string, args ...string) *daemon {
	t.Helper()
	address := freeAddress(t)
	d := startCommand(t, env, url, append([]string{"--data-dir", dataDir, "--listen", address}, args...)...)
	d.address = address
	return d
}

// startCommand starts any command of ingest.
func startCommand(t *testing.T, env []string, url string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, output: &proctest.Output{}, done: make(chan error, 1)}
	d.command = exec.Command(os.Args[0], args...)
	d.command.Env = append(os.Environ(), asProgram+"=1", "DATABASE_URL="+url)
	d.command.Env = append(d.command.Env, env...)
	d.command.Stdout, d.command.Stderr = d.output, d.output
	d.command.SysProcAttr = childAttributes()
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.done <- d.command.Wait() }()
	t.Cleanup(func() {
		if d.command.ProcessState == nil {
			_ = d.command.Process.Kill()
			<-d.done
		}
		if t.Failed() {
			t.Logf("ingest said:\n%s", d.output)
		}
	})
	return d
}

// wait returns the exit code.
func (d *daemon) wait() int {
	d.t.Helper()
	select {
	case err := <-d.done:
		d.done <- err
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			d.t.Fatal(err)
		}
		return d.command.ProcessState.ExitCode()
	case <-time.After(90 * time.Second):
		d.t.Fatal("ingest did not end within 90 s")
		return -1
	}
}

func (d *daemon) signal(s os.Signal) {
	d.t.Helper()
	if err := d.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatal(err)
	}
}

func (d *daemon) kill() {
	d.t.Helper()
	d.signal(syscall.SIGKILL)
	d.wait()
}

// get returns status and body of a request to the daemon; 0 while it does not answer.
func (d *daemon) get(path string) (int, string) {
	response, err := http.Get("http://" + d.address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// post returns the status of a request with an empty body; 0 while the daemon
// does not answer.
func (d *daemon) post(path string) int {
	response, err := http.Post("http://"+d.address+path, "application/json", nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// waitReady polls /readyz.
func (d *daemon) waitReady() {
	d.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for {
		code, body := d.get("/readyz")
		if code == http.StatusOK {
			return
		}
		select {
		case err := <-d.done:
			d.done <- err
			d.t.Fatalf("ingest ended before it was ready: %v", err)
		case <-deadline:
			d.t.Fatalf("ingest is not ready after 60 s: %d %s", code, body)
		case <-tick.C:
		}
	}
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

// catchUp runs ingest --until-caught-up and requires exit code 0.
func catchUp(t *testing.T, dataDir, url string, args ...string) {
	t.Helper()
	d := start(t, dataDir, url, append(args, "--until-caught-up")...)
	if code := d.wait(); code != 0 {
		t.Fatalf("ingest --until-caught-up: exit code %d, want 0", code)
	}
}

func dreamscape(t *testing.T) *definition.Definition {
	t.Helper()
	def, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// requireEqual compares every published row of every table, value by value as
// PostgreSQL writes it, between the source and the store of a stopped daemon.
func requireEqual(t *testing.T, def *definition.Definition, dataDir, url string) (rows int) {
	t.Helper()
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{
		Definition: def, ReadOnly: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	view, err := store.View(0)
	if err != nil {
		t.Fatal(err)
	}
	held := readStore(t, def, view)
	for i := range def.Tables {
		table := &def.Tables[i]
		want := readSource(t, table, url)
		got := held[table.Name]
		for key, line := range want {
			if got[key] != line {
				t.Errorf("table %s, key %s:\nsource %s\nstore  %s", table.Name, key, line, got[key])
			}
		}
		for key, line := range got {
			if _, ok := want[key]; !ok {
				t.Errorf("table %s, key %s is not in the source; the store holds %s", table.Name, key, line)
			}
		}
		if counted := store.Status().Rows[table.Name]; counted != int64(len(want)) {
			t.Errorf("table %s: the store counts %d rows, the source holds %d", table.Name, counted, len(want))
		}
		rows += len(want)
		if t.Failed() {
			t.FailNow()
		}
	}
	return rows
}

// readStore renders the rows that hold in a view, by table and key.
func readStore(t *testing.T, def *definition.Definition, view *featurestore.View) map[string]map[string]string {
	t.Helper()
	info := view.Info()
	out := make(map[string]map[string]string)
	for _, table := range info.Tables {
		out[table.Name] = make(map[string]string)
	}
	collect := func(e *history.Entity) error {
		for _, r := range e.Rows {
			newest := r.Versions[0]
			if newest.Deleted {
				continue
			}
			var table *history.Table
			for i := range info.Tables {
				if info.Tables[i].ID == r.Table {
					table = &info.Tables[i]
				}
			}
			cells, err := row.Decode(newest.Data, nil)
			if err != nil {
				return err
			}
			key, line := render(def.Table(table.Name), func(column string) (string, bool) {
				slot := table.Slot(column)
				if slot < 0 || slot >= len(cells) || cells[slot].Kind == row.NotCaptured {
					return "not captured", true
				}
				return cells[slot].String(), cells[slot].Kind != row.Null
			})
			if _, twice := out[table.Name][key]; twice {
				return fmt.Errorf("table %s: key %s is held twice", table.Name, key)
			}
			out[table.Name][key] = line
		}
		return nil
	}
	scanAll(t, def, view, 3, collect)
	return out
}

// scanAll scans every kind of entity of a view, and the rows without one, in up
// to so many ranges each.
func scanAll(t *testing.T, def *definition.Definition, view *featurestore.View, ranges int, fn func(*history.Entity) error) {
	t.Helper()
	kinds := []string{""}
	for _, e := range def.Entities {
		kinds = append(kinds, e.Name)
	}
	for _, kind := range kinds {
		parts, err := view.Ranges(t.Context(), kind, ranges)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range parts {
			if err := view.Scan(t.Context(), kind, r, fn); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func readSource(t *testing.T, table *definition.Table, url string) map[string]string {
	t.Helper()
	conn := pgtest.Session(t, url, pgx.QueryExecModeSimpleProtocol)
	defer conn.Close(context.Background())
	place := make(map[string]int)
	names := make([]string, 0, len(table.Columns))
	for i, c := range table.Columns {
		place[c.Name] = i
		names = append(names, pgx.Identifier{c.Name}.Sanitize())
	}
	name := pgx.Identifier(strings.Split(table.Name, "."))
	rows, err := conn.Query(t.Context(), "SELECT "+strings.Join(names, ", ")+" FROM "+name.Sanitize())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := make(map[string]string)
	for rows.Next() {
		values := rows.RawValues()
		key, line := render(table, func(column string) (string, bool) {
			v := values[place[column]]
			return string(v), v != nil
		})
		out[key] = line
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// render writes a row's key, and the row with every value quoted and nulls apart.
func render(table *definition.Table, value func(column string) (string, bool)) (key, line string) {
	var k, l strings.Builder
	for _, c := range table.Key {
		v, _ := value(c)
		fmt.Fprintf(&k, "%q", v)
	}
	for _, c := range table.Columns {
		if v, ok := value(c.Name); ok {
			fmt.Fprintf(&l, "%s=%q ", c.Name, v)
		} else {
			fmt.Fprintf(&l, "%s=NULL ", c.Name)
		}
	}
	return k.String(), l.String()
}
