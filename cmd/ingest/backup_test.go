package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

// invoke runs a command of ingest in this process and returns its exit code and
// what it said.
func invoke(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), args, &out, &out)
	return code, out.String()
}

// done runs a command that must succeed.
func done(t *testing.T, args ...string) string {
	t.Helper()
	code, out := invoke(t, args...)
	if code != 0 {
		t.Fatalf("ingest %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// stopped ends a daemon in order.
func (d *daemon) stopped() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		d.t.Fatalf("SIGTERM: exit code %d", code)
	}
}

// versions are all versions of all rows that a store shows as of a moment (0: the
// newest), a line each.
func versions(t *testing.T, def *definition.Definition, dir string, asOf change.Version) (change.Version, map[string]string) {
	t.Helper()
	store, err := featurestore.Open(dir, featurestore.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	view, err := store.View(asOf)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	scanAll(t, def, view, 2, func(e *history.Entity) error {
		for _, r := range e.Rows {
			for _, v := range r.Versions {
				out[fmt.Sprintf("%s %d %x %d.%d", e.ID, r.Table, r.Key, v.Version, v.Ordinal)] = fmt.Sprintf("%d %t %t %t %x", v.Known, v.Backfilled, v.Deleted, v.Moved, v.Data)
			}
		}
		return nil
	})
	return view.Info().AsOf, out
}

// I3: a store that was lost is restored from a full backup and increments, taken
// of a running daemon under traffic and in the middle of a refill, and catches up
// from the stream. It then shows at every moment what the lost one showed.
func TestI3RestoredStoreCatchesUpFromTheStream(t *testing.T) {
	for name, external := range map[string]bool{"embedded stream": false, "external stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, dataDir, files := populated(t, 20), filepath.Join(t.TempDir(), "data"), t.TempDir()
			extras(t, url, 8000)
			path, def := define(t, "tables:\n", extrasWide)
			database, _, _ := strings.Cut(url, "?")
			args := []string{"--definition", path, "--slot", filepath.Base(database)} // slots are the server's, not the database's
			if external {
				args = append(args, "--nats-url", externalStream(t))
			}
			stop, stopExtras := traffic(t, url, 200), write(t, url)
			d := start(t, dataDir, url, args...)
			d.waitReady()
			const key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
			if err := os.WriteFile(filepath.Join(dataDir, "anonymization.key"), []byte(key+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			endpoint, err := featurestore.ReadEndpoint(dataDir)
			if err != nil {
				t.Fatal(err)
			}
			chain := []string{filepath.Join(files, "full")}
			said := done(t, "backup", "--data-dir", dataDir, "--to", chain[0])
			if !strings.Contains(said, "full backup, as of 20") || !strings.Contains(said, chain[0]) {
				t.Errorf("backup said %q", said)
			}
			refilled := make(chan string, 1)
			go func() {
				code, out := refill(t, dataDir, "--table", "extras")
				refilled <- fmt.Sprintf("%d %s", code, out)
			}()
			execute(t, url, `UPDATE extras SET n = n + 1`) // in several parts
			for refilling := true; refilling; {
				next := filepath.Join(files, strconv.Itoa(len(chain)))
				done(t, "backup", "--data-dir", dataDir, "--to", next, "--base", chain[len(chain)-1])
				chain = append(chain, next)
				if len(chain) == 8 { // enough: wait for the end
					refilled <- <-refilled
				}
				select {
				case out := <-refilled:
					if refilling = false; !strings.HasPrefix(out, "0 ") {
						t.Fatalf("refill: %s", out)
					}
				default:
				}
			}
			execute(t, url, `UPDATE extras SET n = n + 1`, `DELETE FROM extras WHERE id % 7 = 0`)
			stop()
			stopExtras()
			d.stopped()
			catchUp(t, dataDir, url, args...)

			store, aside := filepath.Join(dataDir, "store"), filepath.Join(dataDir, "aside")
			if err := os.Rename(store, aside); err != nil {
				t.Fatal(err)
			}
			newest, want := versions(t, def, aside, 0)
			restore := []string{"restore", "--data-dir", dataDir}
			for _, f := range chain {
				restore = append(restore, "--from", f)
				data, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := hex.DecodeString(key)
				if err != nil {
					t.Fatal(err)
				}
				for _, secret := range [][]byte{[]byte(key), raw, []byte(endpoint.Token)} {
					if bytes.Contains(data, secret[:16]) {
						t.Errorf("%s holds a secret", f)
					}
				}
			}
			if out := done(t, append(restore, "--verify")...); strings.Count(out, "ok ") != len(chain) {
				t.Errorf("verify said %s", out)
			}
			said = done(t, restore...)
			if !strings.Contains(said, "Start ingest now") {
				t.Errorf("restore said %q", said)
			}
			then, had := versions(t, def, store, 0)
			if _, was := versions(t, def, aside, then); !maps.Equal(was, had) {
				t.Errorf("as of %s the restored store differs (-lost +restored):\n%.4000s", then, cmp.Diff(was, had))
			}
			catchUp(t, dataDir, url, args...)
			requireEqual(t, def, dataDir, url)
			if _, got := versions(t, def, store, newest); !maps.Equal(want, got) {
				t.Errorf("the store that caught up differs (-lost +restored):\n%.4000s", cmp.Diff(want, got))
			}
			t.Logf("%d backups, %d versions", len(chain), len(want))
		})
	}
}

// applied is the last message that the store of a stopped daemon has applied.
func applied(t *testing.T, dataDir string) uint64 {
	t.Helper()
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	return store.Watermark().Sequence
}

// A store that is restored from before what the stream still holds is not fed on
// with a hole: ingest names what is missing, and what can be done. The stream stays
// as it is, for a newer backup.
func TestRestoredStoreThatIsTooOldIsRefused(t *testing.T) {
	for name, external := range map[string]bool{"embedded stream": false, "external stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
			full, newer := filepath.Join(t.TempDir(), "full"), filepath.Join(t.TempDir(), "newer")
			database, _, _ := strings.Cut(url, "?")
			args := []string{"--slot", filepath.Base(database)}
			if external {
				args = append(args, "--nats-url", externalStream(t))
			}
			catchUp(t, dataDir, url, args...)
			done(t, "backup", "--data-dir", dataDir, "--to", full) // of a store that nobody holds
			held := applied(t, dataDir)
			// The newest message is never trimmed, and the first look for what can go
			// comes a second after the start: there must be more than one by then.
			for range 3 {
				execute(t, url, `UPDATE favorites SET updated_at = updated_at + interval '1 second'`)
				catchUp(t, dataDir, url, args...)
			}
			d := start(t, dataDir, url, append(args, "--replay-window", "0s")...)
			d.waitReady()
			execute(t, url, `DELETE FROM favorites WHERE id IN (SELECT id FROM favorites ORDER BY id LIMIT 3)`)
			d.until("the stream is trimmed past the backup", func(s statusReport) bool { return s.Stream.First > held+1 && s.Lag.Bytes == 0 })
			done(t, "backup", "--data-dir", dataDir, "--to", newer, "--base", full)
			execute(t, url, `DELETE FROM favorites WHERE id IN (SELECT id FROM favorites ORDER BY id LIMIT 3)`)
			d.stopped()
			if code, out := invoke(t, "restore", "--data-dir", dataDir, "--from", full); code != 1 || !strings.Contains(out, "a restore replaces none") {
				t.Errorf("restore over a store: exit code %d: %s", code, out)
			}
			lose := func() {
				t.Helper()
				if err := os.RemoveAll(filepath.Join(dataDir, "store")); err != nil {
					t.Fatal(err)
				}
			}
			lose()
			done(t, "restore", "--data-dir", dataDir, "--from", full)
			refused(t, dataDir, url, args, "lacks messages", "a newer backup", "ingest reset --confirm")
			lose()
			done(t, "restore", "--data-dir", dataDir, "--from", full, "--from", newer)
			catchUp(t, dataDir, url, args...)
			requireEqual(t, dreamscape(t), dataDir, url)
		})
	}
}

// Whatever durable call a restore is killed at, there is no store or the whole
// one, and the next restore takes what is left away.
func TestKilledRestoreLeavesNothingOrTheWholeStore(t *testing.T) {
	s := newCrashSite(t)
	s.requireRecovered("--until-caught-up")
	full, store := filepath.Join(t.TempDir(), "full"), filepath.Join(s.dataDir, "store")
	done(t, "backup", "--data-dir", s.dataDir, "--to", full)
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	restore := []string{"restore", "--data-dir", s.dataDir, "--from", full}
	for k := 0; ; k++ {
		trace := filepath.Join(t.TempDir(), "trace")
		d := startCommand(t, []string{traceEnv + "=" + trace, faultEnv + "=kill:" + strconv.Itoa(k)}, s.url, restore...)
		switch code := d.wait(); {
		case code == 0:
			if k < 6 {
				t.Errorf("only %d durable calls", k)
			}
			s.requireRecovered("--until-caught-up")
			return
		case code != -1:
			t.Fatalf("call %d: exit code %d", k, code)
		}
		if _, err := os.Stat(store); err == nil {
			s.requireRecovered("--until-caught-up")
			if err := os.RemoveAll(store); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if k%2 == 0 {
			continue // the next one is killed, too, later
		}
		done(t, restore...)
		s.ledger.require(s.dataDir)
		if err := os.RemoveAll(store); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup for which there is no room says so and leaves nothing.
func TestBackupToAFullDiskLeavesNothing(t *testing.T) {
	url, dataDir, disk := populated(t, 100), filepath.Join(t.TempDir(), "data"), t.TempDir()
	catchUp(t, dataDir, url)
	sh := exec.CommandContext(t.Context(), "sh", "-c", `mount -t tmpfs -o size=64k none "$1" || exit 99; "$2" backup --data-dir "$3" --to "$1/full"; code=$?; ls -A "$1"; exit $code`, "sh", disk, os.Args[0], dataDir)
	sh.Env = append(os.Environ(), asProgram+"=1")
	sh.SysProcAttr = ownMounts()
	out, err := sh.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("the small disk of this test needs a mount namespace: run the tests as root: %v", err)
	}
	if code := sh.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), "no space left on device: free some disk") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestBackupsThatCannotBeTakenSaySo(t *testing.T) {
	dataDir, there := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no store":              {[]string{"backup", "--to", there + "2"}, 1, "there is no store in"},
		"a file that exists":    {[]string{"backup", "--to", there}, 1, "a backup replaces nothing"},
		"no file":               {[]string{"backup"}, 2, "--to"},
		"a base that is none":   {[]string{"backup", "--to", there + "2", "--base", there}, 1, "is damaged"},
		"a base that is absent": {[]string{"backup", "--to", there + "2", "--base", there + "3"}, 1, "no such file"},
		"no backup":             {[]string{"restore"}, 2, "--from"},
		"a backup that is none": {[]string{"restore", "--from", there}, 1, "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out := invoke(t, append(c.args, "--data-dir", dataDir)...); code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("exit code %d, want %d and %q: %s", code, c.code, c.says, out)
			}
		})
	}
	if data, err := os.ReadFile(there); err != nil || string(data) != "precious" {
		t.Errorf("the file that existed holds %q, %v", data, err)
	}
	if left, err := filepath.Glob(there + "*"); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}
