package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// answerOf is an answer of online features.
type answerOf struct {
	Error     string
	Version   uint64
	Moment    string
	Staleness float64 `json:"staleness_seconds"`
	User      string
	Columns   []printedColumn
	Items     []struct {
		Item    string
		Columns []printedColumn
	}
}

func (a *answerOf) column(t *testing.T, name string) printedColumn {
	t.Helper()
	columns := a.Columns
	if len(a.Items) > 0 {
		columns = a.Items[0].Columns
	}
	for _, c := range columns {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no column %s", name)
	return printedColumn{}
}

func parseAnswer(t *testing.T, text string) *answerOf {
	t.Helper()
	a := &answerOf{}
	if err := json.Unmarshal([]byte(text), a); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return a
}

// A user is served over HTTP, through the daemon on the command line, and from the
// directory when no daemon runs: the same values, the newest and those of a moment
// before.
func TestOnlineFeaturesFromTheDaemonAndFromItsDirectory(t *testing.T) {
	url, dataDir := populated(t, 60), filepath.Join(t.TempDir(), "data")
	d := start(t, dataDir, url, "--max-staleness", "5m")
	d.waitReady()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var user, item string
	err = conn.QueryRow(t.Context(), `SELECT v."userId", i.id FROM user_vectors v, item_vectors i ORDER BY 1, 2 LIMIT 1`).Scan(&user, &item)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, *answerOf) {
		t.Helper()
		code, body := d.get(path)
		return code, parseAnswer(t, body)
	}
	code, before := get("/v1/features/user/" + user)
	if code != http.StatusOK || before.User != user || before.Staleness > 300 || before.column(t, "user_search_count").Status == "" {
		t.Fatalf("got %d %+v", code, before)
	}

	// A change is served as soon as it is applied.
	if _, err := conn.Exec(t.Context(), `UPDATE user_vectors SET vector = '[0.125, 2, 0, 0, 0, 0, 0, 1]', "updatedAt" = now() WHERE "userId" = $1`, user); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(60 * time.Second)
	var after *answerOf
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if _, after = get("/v1/features/user/" + user); string(after.column(t, "user_climate_pref").Value) == "0.125" {
			tick.Stop()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the change is not served: %+v", after)
		}
	}
	if c := after.column(t, "user_culture_pref"); string(c.Value) != "1" { // vectors are clipped
		t.Errorf("a vector beyond its range is served as %s", c.Value)
	}
	if after.Version <= before.Version {
		t.Errorf("the answer is of version %d after %d", after.Version, before.Version)
	}

	question := []string{"features", "--data-dir", dataDir, "--user", user, "--item", item, "--context", "score=0.5", "--context", "contextType=home", "--json"}
	at := []string{"--at", before.Moment}
	ask := func(more ...string) *answerOf {
		t.Helper()
		code, stdout, stderr := command(t, append(append([]string{}, question...), more...)...)
		if code != 0 {
			t.Fatalf("ingest features %v: %d: %s", more, code, stderr)
		}
		return parseAnswer(t, stdout)
	}
	asked, past := ask(), ask(at...)
	if c := asked.column(t, "user_climate_pref"); string(c.Value) != "0.125" || asked.Items[0].Item != item {
		t.Errorf("on the command line: %+v", c)
	}
	for name, want := range map[string]string{"recommendation_score": "0.5", "context_type": `"home"`, "item_vector_id": fmt.Sprintf("%q", item)} {
		if c := asked.column(t, name); string(c.Value) != want || c.Status != "present" {
			t.Errorf("%s is %s (%s), want %s", name, c.Value, c.Status, want)
		}
	}
	if old, c := before.column(t, "user_climate_pref"), past.column(t, "user_climate_pref"); string(old.Value) != string(c.Value) || past.Version != before.Version {
		t.Errorf("as of %s: %s of version %d, was %s", before.Moment, c.Value, past.Version, old.Value)
	}

	code, stdout, stderr := command(t, "features", "--data-dir", dataDir, "--user", user)
	if code != 0 || !strings.Contains(stdout, "user "+user+" as of ") || !strings.Contains(stdout, "user_climate_pref") || !strings.Contains(stdout, "present") {
		t.Errorf("the table: %d %s%s", code, stdout, stderr)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"an unknown column", []string{"--context", "scor=1"}, 1, `unknown column "scor", did you mean "score"?`},
		{"a value of another type", []string{"--context", "score=high"}, 1, "column score: it is a text, not a number"},
		{"a context without value", []string{"--context", "score"}, 2, "write COLUMN=VALUE"},
		{"a moment that is none", []string{"--at", "yesterday"}, 2, "write it like"},
		{"a moment before the history", []string{"--at", "2001-01-01T00:00:00Z"}, 1, "lies before the store's history"},
		{"a moment to come", []string{"--at", "2901-01-01T00:00:00Z"}, 1, "is not closed"},
		{"a store that lags", []string{"--max-staleness", "1ns"}, 1, "the store lags by"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := command(t, append([]string{"features", "--data-dir", dataDir, "--user", user}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" || strings.Count(strings.TrimSpace(stderr), "\n") > 1 {
				t.Errorf("got %d %q %q, want %d %q", code, stdout, stderr, c.code, c.want)
			}
		})
	}
	if code, body := d.get("/metrics"); code != http.StatusOK || !strings.Contains(body, `dreamfeed_features_requests_total{outcome="answered"}`) || strings.Contains(body, user) {
		t.Errorf("/metrics: %d; the user's id is there: %v", code, strings.Contains(body, user))
	}

	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Fatalf("ingest ended with %d", code)
	}
	if strings.Contains(d.output.String(), user) {
		t.Error("I8: the log names the user")
	}
	closed, pastClosed := ask(), ask(at...)
	same := func(what string, a, b *answerOf) {
		t.Helper()
		for i, c := range a.Items[0].Columns {
			o := b.Items[0].Columns[i]
			// Between two newest moments days may pass.
			if c.Name != o.Name || string(c.Value) != string(o.Value) || c.Status != o.Status {
				t.Errorf("%s: %s is %s (%s) and %s (%s)", what, c.Name, c.Value, c.Status, o.Value, o.Status)
			}
		}
	}
	same("with and without the daemon", asked, closed)
	same("with and without the daemon, as of a moment", past, pastClosed)
}

func TestOnlineFeaturesOfADirectoryWithoutAStoreSayWhatIsMissing(t *testing.T) {
	code, _, stderr := command(t, "features", "--data-dir", t.TempDir(), "--user", "u")
	if code != 1 || !strings.Contains(stderr, "store") {
		t.Errorf("got %d %q", code, stderr)
	}
}

func TestAnIDThatIsNoTextIsRefused(t *testing.T) {
	for _, flag := range []string{"--user=\xff", "--item=\xff", "--context=contextType=\xff"} {
		if code, _, stderr := command(t, "features", "--data-dir", t.TempDir(), "--user", "u", flag); code != 2 || !strings.Contains(stderr, "UTF-8") {
			t.Errorf("%q: got %d %q", flag, code, stderr)
		}
	}
}
