package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/proctest"
	"dreamfeed/internal/row"
)

// verifyOn runs ingest verify against a daemon's data directory.
func verifyOn(t *testing.T, dataDir, url string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("DATABASE_URL", url)
	return command(t, append([]string{"verify", "--data-dir", dataDir}, args...)...)
}

// noTemporarySlot waits until the server has no slot of a verify any more.
func noTemporarySlot(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		n := count(t, url, "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'dreamfeed_tmp%'")
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d temporary slots are left", n)
		}
	}
}

// lines returns the lines of text that begin with one of the words, with the
// blanks between words made one.
func lines(text string, words ...string) []string {
	var out []string
	for line := range strings.Lines(text) {
		for _, w := range words {
			if strings.HasPrefix(line, w) {
				out = append(out, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return out
}

func TestVerifyFindsTheStoreEqualUnderTraffic(t *testing.T) {
	url, dataDir := populated(t, 150), filepath.Join(t.TempDir(), "data")
	d := start(t, dataDir, url)
	d.waitReady()
	stop := traffic(t, url, 400)
	defer stop()
	for range 3 {
		code, stdout, stderr := verifyOn(t, dataDir, url)
		if code != 0 || len(lines(stdout, "equal")) != len(dreamscape(t).Tables) || len(lines(stdout, "ok:")) != 1 {
			t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
		}
		noTemporarySlot(t, url)
	}
	table := dreamscape(t).Tables[0].Name
	code, stdout, stderr := verifyOn(t, dataDir, url, "--json", "--table", table)
	var result verifyResult
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || code != 0 || !result.Equal || len(result.Tables) != 1 ||
		result.Tables[0].Name != table || result.Tables[0].SourceRows == 0 || result.Tables[0].StoreRows != result.Tables[0].SourceRows {
		t.Errorf("--json: exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
}

// verifySchema has a partitioned table; of the text "secret" nothing may be
// printed.
const verifySchema = `CREATE TABLE holders (id text PRIMARY KEY, n int NOT NULL, note text);
CREATE TABLE entries (id text PRIMARY KEY, holder text, n int NOT NULL, body text,
  made_at timestamp NOT NULL DEFAULT '2026-01-01', closed_at timestamp) PARTITION BY RANGE (id);
CREATE TABLE entries_low PARTITION OF entries FOR VALUES FROM ('a') TO ('e5');
CREATE TABLE entries_high PARTITION OF entries FOR VALUES FROM ('e5') TO ('z');
INSERT INTO holders SELECT 'h' || i, i, 'secret-' || i FROM generate_series(0, 199) i;
INSERT INTO entries SELECT 'e' || i, CASE WHEN i % 5 > 0 THEN 'h' || i % 7 END, i, 'secret body ' || i FROM generate_series(0, 9) i`

// rewrite calls fn with every entry of the rows in a stopped store; it returns
// the new key and value, no key to delete the entry, and whether there is a
// change.
func rewrite(t *testing.T, dataDir string, fn func(key, value []byte, flags byte) ([]byte, []byte, bool)) (changed int) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(filepath.Join(dataDir, "store")).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = db.Update(func(txn *badger.Txn) error {
		var entries []*badger.Entry
		var gone [][]byte
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{0x10}})
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			old := it.Item().KeyCopy(nil)
			key, value, ok := fn(bytes.Clone(old), value, it.Item().UserMeta())
			if !ok {
				continue
			}
			changed++
			if !bytes.Equal(key, old) {
				gone = append(gone, old)
			}
			if key != nil {
				entries = append(entries, &badger.Entry{Key: key, Value: value, UserMeta: it.Item().UserMeta()})
			}
		}
		it.Close()
		for _, key := range gone {
			if err := txn.Delete(key); err != nil {
				return err
			}
		}
		for _, e := range entries {
			if err := txn.SetEntry(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// breakRow flips one bit of a stored value so that the row cannot be decoded.
func breakRow(t *testing.T, value []byte, flags byte) []byte {
	t.Helper()
	begin := 0
	if flags&0x04 != 0 { // the known time stands before the row
		_, begin = binary.Uvarint(value)
	}
	for bit := range 8 * (len(value) - begin) {
		value[begin+bit/8] ^= 1 << (bit % 8)
		if _, err := row.Decode(value[begin:], nil); err != nil {
			return value
		}
		value[begin+bit/8] ^= 1 << (bit % 8)
	}
	t.Fatal("no bit breaks the row")
	return nil
}

func TestVerifyNamesTheKeysThatDiffer(t *testing.T) {
	url, dataDir := shared.NewDatabase(t), filepath.Join(t.TempDir(), "data")
	execute(t, url, strings.Split(verifySchema, ";\n")...)
	args := []string{"--definition", ledgerFile}
	d := start(t, dataDir, url, args...)
	d.waitReady()
	if code, stdout, stderr := verifyOn(t, dataDir, url, args...); code != 0 {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	stop := func() {
		t.Helper()
		d.signal(syscall.SIGTERM)
		if code := d.wait(); code != 0 {
			t.Fatalf("ingest ended with exit code %d", code)
		}
	}
	// differ requires the lines, after a look whether values are printed.
	differ := func(want ...string) {
		t.Helper()
		code, stdout, stderr := verifyOn(t, dataDir, url, args...)
		if code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		if diff := cmp.Diff(want, lines(stdout, "missing", "extra", "different", "unreadable", "repeated", "further")); diff != "" {
			t.Errorf("differences (-want +got):\n%s\n%s%s", diff, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "secret") {
			t.Errorf("a value is printed: %s%s", stdout, stderr)
		}
		if !strings.Contains(stderr, "ingest refill") || len(lines(stderr, "missing", "extra", "different")) > 0 {
			t.Errorf("stderr: %s", stderr)
		}
	}

	stop()
	flipped := rewrite(t, dataDir, func(key, value []byte, flags byte) ([]byte, []byte, bool) {
		switch {
		case bytes.Contains(value, []byte("secret-99")):
			value[bytes.Index(value, []byte("secret-99"))+8] ^= 1
			return key, value, true
		case bytes.Contains(value, []byte("secret-123")):
			return key, breakRow(t, value, flags), true
		case bytes.Contains(value, []byte("secret body 3")): // entry e3
			return nil, nil, true
		case bytes.Contains(value, []byte("secret body 6")): // e6, of holder h6
			return bytes.Replace(key, []byte("h6"), []byte("h5"), 1), value, true
		}
		return nil, nil, false
	})
	if flipped != 4 {
		t.Fatalf("%d entries were changed, want 4", flipped)
	}
	d = start(t, dataDir, url, args...)
	d.waitReady()
	damaged := []string{"unreadable holders id=h123", "different holders id=h99 columns note"}
	astray := "different entries id=e6 columns (entity)"
	differ(append(damaged[:2:2], "missing entries id=e3", astray)...)

	// The server does not publish the TRUNCATE of one partition.
	execute(t, url, `TRUNCATE entries_low`)
	differ(append(damaged[:2:2], "extra entries id=e0", "extra entries id=e1", "extra entries id=e2", "extra entries id=e4", astray)...)
	if code, stdout, stderr := verifyOn(t, dataDir, url, append(args, "--table", "entries")...); code != 1 || strings.Contains(stdout, "holders") {
		t.Errorf("one table: exit code %d: %s%s", code, stdout, stderr)
	}
	execute(t, url, `UPDATE holders SET note = 'mended' WHERE id IN ('h99')`)
	differ("unreadable holders id=h123", "extra entries id=e0", "extra entries id=e1", "extra entries id=e2", "extra entries id=e4", astray)
}

func TestVerifyNamesTheTransactionThatIsInItsWayAndLeavesNothingBehind(t *testing.T) {
	server := pgtest.New(t)
	url, dataDir := server.NewDatabase(t), filepath.Join(t.TempDir(), "data")
	execute(t, url, strings.Split(verifySchema, ";\n")...)
	args := []string{"--definition", ledgerFile}
	d := start(t, dataDir, url, args...)
	d.waitReady()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `BEGIN; INSERT INTO holders VALUES ('open', 1, 'x')`); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := verifyOn(t, dataDir, url, append(args, "--wait", "300ms")...)
	if want := fmtPID(conn); code != 1 || !strings.Contains(stderr, want) || stdout != "" {
		t.Errorf("exit code %d, want 1 and %q: %s%s", code, want, stdout, stderr)
	}
	noTemporarySlot(t, url)

	// SIGINT while it waits.
	process := exec.Command(os.Args[0], append([]string{"verify", "--data-dir", dataDir, "--wait", "60s"}, args...)...)
	process.Env = append(os.Environ(), asProgram+"=1", "DATABASE_URL="+url)
	process.SysProcAttr = childAttributes()
	var output proctest.Output
	process.Stdout, process.Stderr = &output, &output
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); count(t, url, "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'dreamfeed_tmp%'") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("verify made no slot")
		}
	}
	if err := process.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err = process.Wait()
	if process.ProcessState.ExitCode() != 1 || !strings.Contains(output.String(), "interrupted") {
		t.Errorf("%v: %s", err, output.String())
	}
	noTemporarySlot(t, url)

	if _, err := conn.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := verifyOn(t, dataDir, url, args...); code != 0 {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

func fmtPID(conn *pgx.Conn) string {
	return "pg_terminate_backend(" + strconv.FormatUint(uint64(conn.PgConn().PID()), 10) + ")"
}

func TestVerifyRefusesWhatItCannotCompare(t *testing.T) {
	url, dataDir := shared.NewDatabase(t), filepath.Join(t.TempDir(), "data")
	schema := strings.Split(verifySchema, ";\n")
	execute(t, url, schema...)
	args := []string{"--definition", ledgerFile}
	refused := func(what string, code int, url string, args []string, words ...string) {
		t.Helper()
		got, stdout, stderr := verifyOn(t, dataDir, url, args...)
		if got != code || stdout != "" {
			t.Errorf("%s: exit code %d, want %d: %s", what, got, code, stdout)
		}
		for _, w := range words {
			if !strings.Contains(stderr, w) {
				t.Errorf("%s: the error does not say %q: %s", what, w, stderr)
			}
		}
	}
	refused("no daemon", 1, url, args, "no ingest runs", dataDir)
	d := start(t, dataDir, url, args...)
	d.waitReady()
	refused("an unknown table", 2, url, append(args, "--table", "nothing"), "nothing", "holders, entries")
	refused("another definition", 1, url, nil, "--definition")
	refused("no database", 2, "", args, "DATABASE_URL")

	sibling := shared.NewDatabase(t)
	execute(t, sibling, schema...)
	refused("another database of the server", 1, sibling, args, "follows database")
	stranger := pgtest.New(t).NewDatabase(t)
	execute(t, stranger, schema...)
	refused("another server", 1, stranger, args, "another server")

	d.kill()
	refused("a daemon that was killed", 1, url, args, "start ingest")
}
