package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
	"dreamfeed/snapshot/pit"
)

const rebuildSecret = "5ca1ab1e0ddba11c0ffee00dfacade00112233445566778899aabbccddeeff01"

// giveKey puts the anonymisation key into a data directory.
func giveKey(t *testing.T, dataDir string) {
	t.Helper()
	if err := os.MkdirAll(dataDir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dataDir, "anonymization.key"), []byte(rebuildSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// account is everything that a view tells, whatever the numbers of its tables and
// the places of their columns are.
type account struct {
	Info history.Info
	Rows map[string][]string // versions, newest first, by entity, table and key
}

func tellAll(t *testing.T, def *definition.Definition, view pit.View) account {
	t.Helper()
	defer view.Close()
	out := account{Info: view.Info(), Rows: map[string][]string{}}
	tables := out.Info.Tables
	out.Info.Tables, out.Info.Applied = nil, 0
	kinds := []string{""}
	for _, e := range def.Entities {
		kinds = append(kinds, e.Name)
	}
	for _, kind := range kinds {
		ranges, err := view.Ranges(t.Context(), kind, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range ranges {
			err := view.Scan(t.Context(), kind, r, func(e *history.Entity) error {
				for _, r := range e.Rows {
					table := &tables[r.Table-1]
					key := fmt.Sprintf("%s %q %s %x", kind, e.ID, table.Name, r.Key)
					for _, v := range r.Versions {
						line, err := tellVersion(table, &v)
						if err != nil {
							return err
						}
						out.Rows[key] = append(out.Rows[key], line)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func tellVersion(table *history.Table, v *history.Version) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d.%d known %d", v.Version, v.Ordinal, v.Known)
	if v.Backfilled {
		b.WriteString(" backfilled")
	}
	if v.Arrived {
		b.WriteString(" arrived")
	}
	if v.Deleted {
		fmt.Fprintf(&b, " deleted, moved %t", v.Moved)
		return b.String(), nil
	}
	cells, err := row.Decode(v.Data, nil)
	if err != nil {
		return "", err
	}
	columns := map[string]string{}
	for slot, cell := range cells {
		if cell.Kind != row.NotCaptured {
			columns[table.Columns[slot]] = fmt.Sprintf("%d %s", cell.Kind, cell.String())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		fmt.Fprintf(&b, " %s=%q", name, columns[name])
	}
	return b.String(), nil
}

// tellStore tells what a store that nobody has open shows as of a moment.
func tellStore(t *testing.T, def *definition.Definition, dataDir string, asOf change.Version) account {
	t.Helper()
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	view, err := store.View(asOf)
	if err != nil {
		t.Fatal(err)
	}
	return tellAll(t, def, view)
}

func requireTold(t *testing.T, want, got account) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("as of %s the rebuilt store says something else (-live +rebuilt):\n%.4000s", want.Info.AsOf, diff)
	}
	if len(want.Rows) == 0 {
		t.Fatalf("as of %s there is nothing", want.Info.AsOf)
	}
}

// streamed is what a stream holds: its messages, decoded.
type streamed struct {
	sequence     uint64
	transactions []change.Transaction // without rows
	abandoned    bool
}

func readStream(t *testing.T, dataDir string) (out []streamed) {
	t.Helper()
	p, err := streamFlags{dataDir: dataDir, nats: &natsFlags{}}.open(t.Context(), cdc.Place{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	replay := cdc.NewReplay(p.messages, p.Passage, 0)
	for {
		b, err := replay.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		s := streamed{sequence: b.Sequence}
		for _, e := range b.Entries {
			s.abandoned = s.abandoned || e.Abandoned != 0
			if e.Transaction != nil {
				tx := *e.Transaction
				tx.Rows = nil
				s.transactions = append(s.transactions, tx)
			}
		}
		out = append(out, s)
	}
}

// moments are those that a rebuild is tried with, by what is special about them.
func moments(t *testing.T, messages []streamed, birth, newest change.Version, r *rand.Rand) map[string]change.Version {
	t.Helper()
	out := map[string]change.Version{"the newest closed one": newest, "the backfill": birth, "any": birth + change.Version(r.Int64N(int64(newest-birth)))}
	abandoned := false
	for _, m := range messages {
		abandoned = abandoned || m.abandoned
		for i, tx := range m.transactions {
			switch {
			case tx.Version <= birth || tx.Version > newest:
			case tx.Kind == change.Refill && tx.Last:
				out["a refill"], out["right before a refill"] = tx.Version, tx.Version-1
			case tx.Last && tx.Part > 0:
				out["a large transaction"], out["within a large transaction"] = tx.Version, tx.Version-1
			case i > 0 && i+1 < len(m.transactions) && tx.Last && m.transactions[i+1].Version-tx.Version > 1:
				out["between two transactions of a message"], out["right before a transaction"] = tx.Version+1, tx.Version-1
			}
		}
	}
	if !abandoned {
		t.Error("the stream holds no abandoned transaction")
	}
	for _, name := range []string{"a refill", "a large transaction", "between two transactions of a message"} {
		if out[name] == 0 {
			t.Errorf("the stream holds no moment that is %s", name)
		}
	}
	return out
}

// I7: a store that is rebuilt as of a moment, of the stream alone or of a backup
// and the stream, of a running daemon or of its directory, answers as the live one
// does at the moment and before. Its definition may have grown meanwhile.
func TestI7RebuiltStoreAnswersAsTheLiveOne(t *testing.T) {
	url, dataDir, files := populated(t, 40), filepath.Join(t.TempDir(), "data"), t.TempDir()
	extras(t, url, 4000)
	execute(t, url, `CREATE TABLE late (id int PRIMARY KEY, n int)`, `INSERT INTO late SELECT g, g FROM generate_series(1, 500) g`)
	first, _ := define(t, "tables:\n", extrasWide)
	grown, def := define(t, "tables:\n", "  late:\n    key: [id]\n    columns:\n      id: int\n      n: int\n"+extrasWide, "      nationality: text\n", "      isVerified: bool\n")
	giveKey(t, dataDir)

	// The first attempt at the backfill ends in the middle and is abandoned.
	cut := startWith(t, []string{traceEnv + "=" + filepath.Join(files, "trace"), faultEnv + "=kill:30"}, dataDir, url, "--definition", first)
	cut.wait()
	d := start(t, dataDir, url, "--definition", first)
	d.waitReady()
	stop, stopExtras := traffic(t, url, 300), write(t, url)
	execute(t, url, `UPDATE extras SET n = n + 1, big = repeat('y', 1000)`)
	early := filepath.Join(files, "early")
	done(t, "backup", "--data-dir", dataDir, "--to", early)
	execute(t, url, `DELETE FROM extras WHERE id % 5 = 0`, `DELETE FROM favorites WHERE ctid IN (SELECT ctid FROM favorites LIMIT 20)`)
	d.stopped()
	d = start(t, dataDir, url, "--definition", grown) // refills what it lacks
	d.waitReady()
	d.until("the grown definition is filled", func(s statusReport) bool { return s.Refills > 0 && len(s.Unfilled) == 0 })
	execute(t, url, `TRUNCATE late`, `INSERT INTO late SELECT g, 0 FROM generate_series(1, 100) g`)
	increment := filepath.Join(files, "increment")
	done(t, "backup", "--data-dir", dataDir, "--to", increment, "--base", early)
	execute(t, url, `UPDATE extras SET n = n + 1`)
	stop()
	stopExtras()
	if code, out := refill(t, dataDir, "--table", "extras"); code != 0 {
		t.Fatal(out)
	}

	endpoint, err := featurestore.ReadEndpoint(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	live, err := endpoint.Dial(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	birth, newest := live.Info().Birth, live.Info().AsOf
	live.Close()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	messages := readStream(t, dataDir)
	chosen := moments(t, messages, birth, newest, rand.New(rand.NewPCG(seed, 0)))
	want := map[string]account{}
	for name, until := range chosen {
		view, err := endpoint.Dial(t.Context(), until)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want[name] = tellAll(t, def, view)
	}
	rebuild := func(t *testing.T, name string, from ...string) (into string) {
		t.Helper()
		until := chosen[name]
		into = filepath.Join(t.TempDir(), "rebuilt")
		args := []string{"rebuild", "--data-dir", dataDir, "--definition", grown, "--until", until.String(), "--into", into, "--log-level", "warn"}
		for _, f := range from {
			args = append(args, "--from", f)
		}
		if said := done(t, args...); !strings.Contains(said, until.String()) {
			t.Errorf("rebuild said %q", said)
		}
		requireTold(t, want[name], tellStore(t, def, into, 0))
		requireTold(t, want["the backfill"], tellStore(t, def, into, birth))
		return into
	}
	bases := [][]string{nil, {early}, {early, increment}}
	half := 0
	for i, name := range slices.Sorted(maps.Keys(chosen)) {
		if i == len(chosen)/2 {
			d.stopped() // from here on the directory is read
			half = i
		}
		t.Run(name, func(t *testing.T) { rebuild(t, name, bases[i%len(bases)]...) })
	}
	if half == 0 {
		t.Error("the stream was not read in both ways")
	}
	into := rebuild(t, "the newest closed one")
	rebuild(t, "the backfill", early, increment) // a base that reaches further
	requireRebuiltDirectory(t, into, true)
	requireGoesOn(t, def, dataDir, into, url, "--definition", grown)
	requireGapsAreNamed(t, dataDir, grown, early, increment)
}

// requireRebuiltDirectory says what lies in a rebuilt directory.
func requireRebuiltDirectory(t *testing.T, dir string, key bool) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"anonymization.key", "rebuilt.json", "store"}
	if !key {
		want = want[1:]
	}
	if !slices.Equal(names, want) {
		t.Errorf("the directory holds %v, want %v", names, want)
	}
	if mark, found, err := featurestore.ReadRebuilt(dir); err != nil || !found || mark.Until == 0 || mark.Definition == "" || mark.Program == "" || mark.KeyInFile != key {
		t.Errorf("the mark is %+v, %v, %v", mark, found, err)
	}
	if !key {
		return
	}
	path := filepath.Join(dir, "anonymization.key")
	text, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(text)) != rebuildSecret {
		t.Errorf("the key is not the one that was given: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
}

// requireGoesOn: no feed begins on a rebuilt directory by itself; once it has the
// stream it goes on as the live store does.
func requireGoesOn(t *testing.T, def *definition.Definition, dataDir, into, url string, args ...string) {
	t.Helper()
	for _, command := range [][]string{{}, {"reset", "--confirm"}} {
		code, out := invoke(t, append(append(command, "--data-dir", into, "--database-url", url, "--log-level", "error"), args...)...)
		if code != 1 || !strings.Contains(out, "rebuilt as of") || !strings.Contains(out, "rebuilt.json") {
			t.Errorf("ingest %v on a rebuilt directory: exit code %d: %s", command, code, out)
		}
	}
	requireRebuiltDirectory(t, into, true) // and nothing was made in it
	copyDir(t, filepath.Join(dataDir, "stream"), filepath.Join(into, "stream"))
	if err := os.Remove(filepath.Join(into, "rebuilt.json")); err != nil {
		t.Fatal(err)
	}
	execute(t, url, `UPDATE users SET updated_at = now(), nationality = 'ZZ'`)
	catchUp(t, into, url, args...)
	requireEqual(t, def, into, url)
}

// requireGapsAreNamed trims a stream behind a base, and before another.
func requireGapsAreNamed(t *testing.T, dataDir, definition, early, increment string) {
	t.Helper()
	infos, err := featurestore.BackupHeaders(early, increment)
	if err != nil {
		t.Fatal(err)
	}
	feed, err := cdc.OpenLog(t.Context(), cdc.LogConfig{Dir: filepath.Join(dataDir, "stream"), Existing: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(feed.Trim(t.Context(), infos[1].Watermark.Sequence), feed.Close())
	if err != nil {
		t.Fatal(err)
	}
	try := func(from ...string) (int, string) {
		args := []string{"rebuild", "--data-dir", dataDir, "--definition", definition, "--until", (infos[1].Watermark.Version + 1).String(), "--into", filepath.Join(t.TempDir(), "rebuilt"), "--log-level", "error"}
		for _, f := range from {
			args = append(args, "--from", f)
		}
		return invoke(t, args...)
	}
	if code, out := try(); code != 1 || !strings.Contains(out, "message 1 is the first that is missing") || !strings.Contains(out, "--from") {
		t.Errorf("of a trimmed stream alone: exit code %d: %s", code, out)
	}
	missing := fmt.Sprintf("message %d is the first that is missing", infos[0].Watermark.Sequence+1)
	if code, out := try(early); code != 1 || !strings.Contains(out, missing) || !strings.Contains(out, "newer backup") {
		t.Errorf("behind an old base: exit code %d, want %q: %s", code, missing, out)
	}
	if code, out := try(early, increment); code != 0 {
		t.Errorf("behind a newer base: exit code %d: %s", code, out)
	}
}

// What cannot be rebuilt is refused with a sentence, and leaves nothing.
func TestRebuildIsRefusedWithItsRemedy(t *testing.T) {
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	catchUp(t, dataDir, url)
	giveKey(t, dataDir)
	info := tellStore(t, dreamscape(t), dataDir, 0).Info
	base := filepath.Join(t.TempDir(), "backup")
	otherDir, otherBase := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backup")
	catchUp(t, otherDir, populated(t, 20), "--slot", "other")
	done(t, "backup", "--data-dir", dataDir, "--to", base)
	done(t, "backup", "--data-dir", otherDir, "--to", otherBase)
	execute(t, url, missWhileStopped)
	catchUp(t, dataDir, url)
	newest := tellStore(t, dreamscape(t), dataDir, 0).Info.AsOf
	keyless := filepath.Join(t.TempDir(), "keyless")
	copyDir(t, dataDir, keyless)
	if err := os.Remove(filepath.Join(keyless, "anonymization.key")); err != nil {
		t.Fatal(err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "something"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for name, c := range map[string]struct {
		args []string
		env  string
		code int
		want []string
	}{
		"no moment":                  {args: []string{"--until", "yesterday"}, code: 2, want: []string{"--until", "2026-11-01T00:00:00Z"}},
		"the future":                 {args: []string{"--until", future}, code: 1, want: []string{"future"}},
		"before the backfill":        {args: []string{"--until", (info.Birth - 1).String()}, code: 1, want: []string{"earliest possible is " + info.Birth.String()}},
		"not closed":                 {args: []string{"--until", (newest + 1).String()}, code: 1, want: []string{"newest closed moment is " + newest.String()}},
		"not closed, behind a base":  {args: []string{"--until", (newest + 1).String(), "--from", base}, code: 1, want: []string{"newest closed moment is " + newest.String()}},
		"a directory with something": {args: []string{"--into", full}, code: 1, want: []string{full, "--into"}},
		"no key":                     {args: []string{"--data-dir", keyless}, code: 1, want: []string{"ANONYMIZATION_KEY", "never makes one"}},
		"a weak key":                 {env: strings.Repeat("00", 32), code: 1, want: []string{"ANONYMIZATION_KEY", "repeats itself"}},
		"an empty key":               {env: "empty", code: 1, want: []string{"is empty"}},
		"no stream":                  {args: []string{"--data-dir", full}, env: rebuildSecret, code: 1, want: []string{"no stream", "--data-dir"}},
		"another feed's backup":      {args: []string{"--from", otherBase}, code: 1, want: []string{"does not belong to the stream", "--from"}},
		"a backup that is none":      {args: []string{"--from", filepath.Join(full, "something")}, code: 1, want: []string{"something"}},
		"no NATS server":             {args: []string{"--nats-url", "nats://127.0.0.1:1"}, code: 1, want: []string{"--nats-url"}},
		"flags without NATS":         {args: []string{"--nats-creds", "/nowhere"}, code: 2, want: []string{"--nats-url"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("ANONYMIZATION_KEY", strings.TrimPrefix(c.env, "empty"))
			}
			parent := t.TempDir()
			args := []string{"rebuild", "--log-level", "error"}
			for flag, value := range map[string]string{"--data-dir": dataDir, "--until": newest.String(), "--into": filepath.Join(parent, "rebuilt")} {
				if !slices.Contains(c.args, flag) {
					args = append(args, flag, value)
				}
			}
			code, out := invoke(t, append(args, c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("the error does not name %q: %s", want, out)
				}
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
				t.Errorf("%v, %v is left", left, err)
			}
			if _, err := os.Stat(filepath.Join(keyless, "anonymization.key")); err == nil {
				t.Error("a key was made")
			}
		})
	}

	t.Setenv("ANONYMIZATION_KEY", rebuildSecret)
	into := filepath.Join(t.TempDir(), "rebuilt")
	said := done(t, "rebuild", "--data-dir", keyless, "--until", newest.String(), "--into", into, "--log-level", "error")
	if !strings.Contains(said, "ANONYMIZATION_KEY") || strings.Contains(said, rebuildSecret) {
		t.Errorf("with a key from the environment it said %q", said)
	}
	requireRebuiltDirectory(t, into, false)
}
