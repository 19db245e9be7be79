package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload"
)

// command runs ingest in this process, for command lines that end by themselves.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

func execute(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func empty(t *testing.T) string {
	t.Helper()
	url := shared.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := workload.CreateSchema(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return url
}

// Bad input gets a sentence that names the thing and the remedy, and leaves
// nothing half-made behind.
func TestBadInputIsNamedWithItsRemedy(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	url := empty(t)
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("format: 1\nname: x\ntabels: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	noPrivilege := shared.NewDatabase(t)
	execute(t, noPrivilege, "DROP ROLE IF EXISTS bystander", "CREATE ROLE bystander LOGIN")
	noTable := empty(t)
	execute(t, noTable, "DROP TABLE favorites")
	noColumn := empty(t)
	execute(t, noColumn, `ALTER TABLE search_history DROP COLUMN "cabinClass"`)
	noKey := empty(t)
	execute(t, noKey, "ALTER TABLE favorites REPLICA IDENTITY NOTHING")
	replica := pgtest.New(t, "wal_level=replica").URL("postgres")

	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"an unknown flag":             {[]string{"--databse-url", "x"}, 2, []string{"--databse-url"}},
		"a history of no length":      {[]string{"--database-url", url, "--history", "10ms"}, 2, []string{"--history", "1s or longer"}},
		"no database":                 {nil, 2, []string{"DATABASE_URL"}},
		"a URL that is none":          {[]string{"--database-url", "host:5432/db"}, 2, []string{"postgres://"}},
		"a server that is not there":  {[]string{"--database-url", "postgres://u@127.0.0.1:1/db"}, 1, []string{"127.0.0.1"}},
		"a password in an argument":   {[]string{"--database-url", "postgres://u:hush@127.0.0.1:1/db"}, 2, []string{"--database-url", "PGPASSWORD", "DATABASE_URL"}},
		"a NATS token in an argument": {[]string{"--database-url", url, "--nats-url", "nats://hush@127.0.0.1:1"}, 2, []string{"--nats-url", "NATS_URL"}},
		"a URL in the wrong place":    {[]string{"postgres://u:hush@127.0.0.1:1/db"}, 2, []string{"unexpected"}},
		"an address for everybody":    {[]string{"--database-url", url, "--listen", "0.0.0.0:0"}, 2, []string{"HTTP_TOKEN", "--tls-client-ca", "127.0.0.1"}},
		"a database that is missing":  {[]string{"--database-url", strings.Replace(url, "?", "x?", 1)}, 1, []string{"exist"}},
		"a missing definition":        {[]string{"--database-url", url, "--definition", "/nowhere.yaml"}, 2, []string{"/nowhere.yaml", "--definition"}},
		"a malformed definition":      {[]string{"--database-url", url, "--definition", broken}, 1, []string{"broken.yaml:3", "tables"}},
		"an address in use":           {[]string{"--database-url", url, "--listen", taken.Addr().String()}, 1, []string{"--listen"}},
		"an address that is none":     {[]string{"--database-url", url, "--listen", "nonsense"}, 2, []string{"nonsense", "--listen"}},
		"a stream for nothing":        {[]string{"--database-url", url, "--stream-max-bytes", "1"}, 2, []string{"--stream-max-bytes"}},
		"no backfill workers":         {[]string{"--database-url", url, "--backfill-workers", "0"}, 2, []string{"--backfill-workers"}},
		"rows of no bytes":            {[]string{"--database-url", url, "--max-row-bytes=-5"}, 2, []string{"--max-row-bytes"}},
		"a window before now":         {[]string{"--database-url", url, "--replay-window=-5h"}, 2, []string{"--replay-window"}},
		"a directory that is a file":  {[]string{"--database-url", url, "--data-dir", "/etc/passwd"}, 1, []string{"/etc/passwd", "--data-dir"}},
		"a disk that is full":         {[]string{"--database-url", url, "--disk-reserve", "9000000000000000000"}, 1, []string{"free", "--disk-reserve"}},
		"no disk reserve":             {[]string{"--database-url", url, "--disk-reserve", "0"}, 2, []string{"--disk-reserve"}},
		"no NATS server":              {[]string{"--database-url", url, "--nats-url", "nats://127.0.0.1:1"}, 1, []string{"nats://127.0.0.1:1", "--nats-url"}},
		"a NATS URL that is none":     {[]string{"--database-url", url, "--nats-url", "nats://[bad"}, 1, []string{"[bad", "--nats-url"}},
		"check without a database":    {[]string{"check"}, 2, []string{"DATABASE_URL"}},
		"wal_level replica":           {[]string{"--database-url", replica}, 1, []string{"wal_level", "logical"}},
		"no privilege":                {[]string{"--database-url", strings.Replace(noPrivilege, "postgres@", "bystander@", 1)}, 1, []string{"bystander", "REPLICATION"}},
		"a missing table":             {[]string{"--database-url", noTable}, 1, []string{"favorites"}},
		"a missing column":            {[]string{"--database-url", noColumn}, 1, []string{"search_history", "cabinClass"}},
		"a table without identity":    {[]string{"--database-url", noKey}, 1, []string{"favorites", "REPLICA IDENTITY"}},
	} {
		t.Run(name, func(t *testing.T) {
			dataDir := filepath.Join(t.TempDir(), "data")
			args := append(slices.Clone(c.args), "--log-level", "error")
			if !slices.Contains(args, "--data-dir") {
				args = append(args, "--data-dir", dataDir)
			}
			if !slices.Contains(args, "--listen") && !slices.Contains(args, "check") {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			code, _, stderr := command(t, args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d; it said %s", code, c.code, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("the error does not name %q: %s", want, stderr)
				}
			}
			if strings.Contains(stderr, "hush") {
				t.Errorf("the error tells the password: %s", stderr)
			}
			if strings.Contains(stderr, "goroutine ") {
				t.Errorf("the error is a panic: %s", stderr)
			}
		})
	}
}

// A second daemon on the same slot, or on the same directory, is refused, and
// the first goes on.
func TestWhatIsHeldIsRefused(t *testing.T) {
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	first := start(t, dataDir, url)
	first.waitReady()
	sameDirectory := start(t, dataDir, url)
	if code := sameDirectory.wait(); code != 1 || !strings.Contains(sameDirectory.output.String(), dataDir) {
		t.Errorf("same directory: exit code %d, want 1 and the directory named: %s", code, sameDirectory.output)
	}
	otherDirectory := start(t, filepath.Join(t.TempDir(), "data"), url)
	if code := otherDirectory.wait(); code != 1 || !strings.Contains(otherDirectory.output.String(), "slot") {
		t.Errorf("held slot: exit code %d, want 1 and the slot named: %s", code, otherDirectory.output)
	}
	if code, body := first.get("/readyz"); code != 200 {
		t.Errorf("the first daemon is not ready any more: %s", body)
	}
}

func TestCheckPrintsWhatMendsEachFault(t *testing.T) {
	url := empty(t)
	code, stdout, stderr := command(t, "check", "--database-url", url)
	if code != 0 {
		t.Fatalf("check of a good source: exit code %d: %s%s", code, stdout, stderr)
	}
	execute(t, url, "ALTER TABLE favorites REPLICA IDENTITY NOTHING", "DROP TABLE booking_data")
	code, stdout, stderr = command(t, "check", "--database-url", url)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"ALTER TABLE", "favorites", "booking_data"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("check does not say %q: %s%s", want, stdout, stderr)
		}
	}
}

// A role that may replicate and read, and owns nothing, is enough once the
// tables' owner has run the statement that check prints.
func TestRoleThatOwnsNothingFollowsAfterWhatCheckPrints(t *testing.T) {
	url := empty(t)
	execute(t, url, "DROP ROLE IF EXISTS onlooker", "CREATE ROLE onlooker LOGIN REPLICATION", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO onlooker")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), url)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "DROP OWNED BY onlooker; DROP ROLE onlooker"); err != nil {
			t.Error(err)
		}
	})
	asOnlooker := strings.Replace(url, "postgres@", "onlooker@", 1)
	code, stdout, _ := command(t, "check", "--database-url", asOnlooker)
	_, statement, found := strings.Cut(stdout, "CREATE PUBLICATION")
	if code != 1 || !found || strings.Contains(stdout, "GRANT") {
		t.Fatalf("exit code %d, want the statement for the owner and no grant of the owner's rights: %s", code, stdout)
	}
	statement, _, _ = strings.Cut(statement, "\n")
	execute(t, url, "CREATE PUBLICATION"+statement)
	if code, stdout, _ := command(t, "check", "--database-url", asOnlooker); code != 0 {
		t.Errorf("check after it: exit code %d: %s", code, stdout)
	}
	catchUp(t, filepath.Join(t.TempDir(), "data"), asOnlooker)
}

func TestDefinitionIsPrintedWithItsHash(t *testing.T) {
	code, stdout, stderr := command(t, "definition")
	if code != 0 || !strings.Contains(stdout, dreamscape(t).Hash) || !strings.Contains(stdout, "engagement_score:") {
		t.Errorf("exit code %d, %s, %.200s", code, stderr, stdout)
	}
	code, stdout, stderr = command(t, "definition", "--docs")
	committed, err := os.ReadFile("../../docs/DATASET.md")
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 || stdout != string(committed) {
		t.Errorf("docs/DATASET.md differs from ingest definition --docs (exit code %d, %s)", code, stderr)
	}
}

// The first page of help shows the flags of the daemon, their defaults and their
// variables; help is a result, so it goes to stdout.
func TestHelpShowsEveryFlag(t *testing.T) {
	code, stdout, stderr := command(t, "--help")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	for _, want := range []string{
		"--database-url", "$DATABASE_URL", "--nats-url", "$NATS_URL", "--listen", "$LISTEN", "127.0.0.1:8080",
		"--until-caught-up", "--data-dir", "$DATA_DIR", "--definition", "$DEFINITION", "$LOG_LEVEL", "$LOG_FILE", "$LOG_FORMAT", "check", "definition",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the help does not show %s:\n%s", want, stdout)
		}
	}
}

// An empty variable is one that is not set; a flag wins over a variable.
func TestFlagsWinOverTheEnvironment(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	t.Setenv("LOG_LEVEL", "")
	if code, _, stderr := command(t); code != 2 || !strings.Contains(stderr, "DATABASE_URL") {
		t.Errorf("empty variables: exit code %d, %s", code, stderr)
	}
	t.Setenv("DEFINITION", "/variable.yaml")
	if code, _, stderr := command(t, "definition"); code != 2 || !strings.Contains(stderr, "/variable.yaml") {
		t.Errorf("a variable: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := command(t, "definition", "--definition", "/flag.yaml"); code != 2 || !strings.Contains(stderr, "/flag.yaml") {
		t.Errorf("a flag beside a variable: exit code %d, %s", code, stderr)
	}
}
