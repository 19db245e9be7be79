package online_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/online"
)

type column struct {
	Name, Status string
	Value        any
}

type body struct {
	Error   string
	Version uint64
	Moment  string
	Age     float64 `json:"staleness_seconds"`
	Member  string
	Columns []column
	Items   []struct {
		Item    any
		Columns []column
	}
}

// served is a service over HTTP with one member and one thing.
func served(t *testing.T, o online.Options) (*memory, *httptest.Server, *bytes.Buffer) {
	t.Helper()
	def := club(t)
	m := newMemory(def)
	var log bytes.Buffer
	o.Definition = def
	o.Now = func() time.Time { return time.UnixMicro(epoch + 12*second) }
	s := service(t, m, o)
	server := httptest.NewServer(s.Handler(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	t.Cleanup(server.Close)
	return m, server, &log
}

func fill(m *memory) {
	m.commit(change.Version(epoch+10*second),
		changed{"secret-id", "people", "secret-id", map[string]any{"id": "secret-id", "name": `Zoë "<>"`, "made": stamp(epoch), "changed": stamp(epoch)}},
		changed{"t0", "things", "t0", map[string]any{"id": "t0", "a": "x", "b": "p", "score": "1.5", "made": nil, "changed": nil}})
}

func send(t *testing.T, server *httptest.Server, method, path, question string) (int, body) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b body
	if resp.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
	}
	return resp.StatusCode, b
}

func (b *body) column(t *testing.T, name string) column {
	t.Helper()
	return find(t, b.Columns, name)
}

func find(t *testing.T, list []column, name string) column {
	t.Helper()
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	t.Errorf("there is no column %s", name)
	return column{}
}

func TestGETAnswersTheFeaturesOfOneEntityInTheOrderOfTheDefinition(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, server, log := served(t, online.Options{Registerer: registry})
	if code, b := send(t, server, "GET", "/v1/features/member/secret-id", ""); code != http.StatusServiceUnavailable || !strings.Contains(b.Error, "no complete backfill") {
		t.Errorf("an empty store answers %d %s", code, b.Error)
	}
	fill(m)
	code, b := send(t, server, "GET", "/v1/features/member/secret-id", "")
	if code != http.StatusOK || b.Member != "secret-id" || b.Age != 2 || b.Version != uint64(epoch+10*second) || b.Moment != change.Version(b.Version).String() {
		t.Fatalf("got %d %+v", code, b)
	}
	var names, want []string
	for _, c := range b.Columns {
		names = append(names, c.Name)
	}
	def := club(t)
	for i := range def.Columns {
		if def.Columns[i].Role == definition.RoleFeature {
			want = append(want, def.Columns[i].Name)
		}
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("columns: (-definition +answer)\n%s", diff)
	}
	for _, c := range []column{
		{"name", "present", `Zoë "<>"`},
		{"tone", "never_seen", "UNKNOWN"},
		{"note", "null", "UNKNOWN"},
		{"thing_score", "never_seen", nil},
		{"events", "present", 0.0},
		{"has_kind", "present", false},
		{"edition", "present", 7.0},
		{"last_age", "never_seen", nil},
	} {
		if got := b.column(t, c.Name); got != c {
			t.Errorf("got %+v, want %+v", got, c)
		}
	}
	// A new entity can be scored.
	code, b = send(t, server, "GET", "/v1/features/member/nobody%2Fnew", "")
	if code != http.StatusOK || b.Member != "nobody/new" || b.column(t, "name").Status != "never_seen" || b.column(t, "events").Value != 0.0 {
		t.Errorf("an unknown entity: %d %+v", code, b)
	}
	if strings.Contains(log.String(), "secret-id") || strings.Contains(log.String(), "Zo") {
		t.Errorf("I8: the log has an id or a value:\n%s", log)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.Contains(f.String(), "secret-id") {
			t.Errorf("I8: metric %s has an id", f.GetName())
		}
	}
	counted := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "dreamfeed_features_requests_total" {
			for _, x := range f.GetMetric() {
				counted[x.GetLabel()[0].GetValue()] = x.GetCounter().GetValue()
			}
		}
	}
	outcomes := map[string]float64{"answered": 2, "empty": 1, "failed": 0, "gone": 0, "refused": 0, "stale": 0}
	if diff := cmp.Diff(outcomes, counted); diff != "" {
		t.Errorf("requests by outcome: (-want +got)\n%s", diff)
	}
}

func TestPOSTAnswersItemByItem(t *testing.T) {
	m, server, _ := served(t, online.Options{})
	fill(m)
	code, b := send(t, server, "POST", "/v1/features", `{"member": "secret-id", "context": {"note": "shared", "b": "p"},
		"items": ["t0", {"id": "t9", "note": "own"}, {"a": "x"}]}`)
	if code != http.StatusOK || len(b.Items) != 3 || b.Columns != nil {
		t.Fatalf("got %d %+v", code, b)
	}
	for i, want := range []struct {
		item        any
		note        string
		score       any
		scoreStatus string
	}{
		{"t0", "shared", 1.5, "present"},
		{"t9", "own", nil, "never_seen"},
		{nil, "shared", 1.5, "present"}, // by its columns
	} {
		got := b.Items[i]
		score := find(t, got.Columns, "thing_score")
		if got.Item != want.item || find(t, got.Columns, "note").Value != want.note || score.Value != want.score || score.Status != want.scoreStatus {
			t.Errorf("item %d: %v, note %v, score %v %s", i, got.Item, find(t, got.Columns, "note").Value, score.Value, score.Status)
		}
	}
	if code, b := send(t, server, "POST", "/v1/features", `{"member": "secret-id", "items": []}`); code != http.StatusOK || b.Items == nil || len(b.Items) != 0 {
		t.Errorf("no items: %d %+v", code, b)
	}
}

func TestQuestionsThatCannotBeAnsweredAreToldWhy(t *testing.T) {
	m, server, log := served(t, online.Options{MaxBody: 200, MaxItems: 2, MaxStaleness: time.Minute})
	fill(m)
	for _, c := range []struct {
		name, method, path, question string
		code                         int
		want                         string
	}{
		{"no JSON", "POST", "/v1/features", `{`, 400, "the question is no JSON object"},
		{"no object", "POST", "/v1/features", `[]`, 400, "the question is no JSON object"},
		{"null", "POST", "/v1/features", `null`, 400, "the question is no JSON object"},
		{"no id", "POST", "/v1/features", `{}`, 400, `the question has no key "member"`},
		{"an id that is none", "POST", "/v1/features", `{"member": 1.5}`, 400, "member is no id"},
		{"an empty id", "POST", "/v1/features", `{"member": ""}`, 400, "member is no id"},
		{"a mistyped key", "POST", "/v1/features", `{"member": "m", "item": []}`, 400, `unknown key "item", did you mean "items"?`},
		{"items that are no list", "POST", "/v1/features", `{"member": "m", "items": "t0"}`, 400, "items is no list"},
		{"an item that is null", "POST", "/v1/features", `{"member": "m", "items": [null]}`, 400, "item 1 is null"},
		{"too many items", "POST", "/v1/features", `{"member": "m", "items": ["a", "b", "c"]}`, 400, "3 items are more than the 2"},
		{"an unknown column", "POST", "/v1/features", `{"member": "m", "context": {"nota": 1}}`, 400, `unknown column "nota", did you mean "note"?`},
		{"an outcome", "POST", "/v1/features", `{"member": "m", "context": {"state": "NEW"}}`, 400, "column state: it tells what became of an example"},
		{"the entity's column", "POST", "/v1/features", `{"member": "m", "context": {"member": "n"}}`, 400, "column member: it is the id of the member"},
		{"a wrong type", "POST", "/v1/features", `{"member": "m", "context": {"note": {}}}`, 400, "column note: it is an object, not a text"},
		{"a limit that is none", "POST", "/v1/features", `{"member": "m", "max_staleness": "5"}`, 400, `max_staleness "5" is no duration`},
		{"a limit in the address", "GET", "/v1/features/member/m?max_staleness=x", ``, 400, `max_staleness "x" is no duration`},
		{"a moment that is none", "GET", "/v1/features/member/m?at=now", ``, 400, `"now" is no moment`},
		{"an unknown parameter", "GET", "/v1/features/member/m?note=x", ``, 400, `unknown parameter "note"`},
		{"a body that is too large", "POST", "/v1/features", `{"member": "` + strings.Repeat("m", 200) + `"}`, 413, "larger than the 200 bytes"},
		{"another entity", "GET", "/v1/features/thing/t0", ``, 404, `unknown entity "thing", the only one is member`},
		{"nobody", "GET", "/v1/features", ``, 404, "the address names no member: ask GET /v1/features/member/ID"},
		{"nobody behind the slash", "GET", "/v1/features/member/", ``, 404, "the address names no member"},
		{"an id of two parts", "GET", "/v1/features/member/m/0", ``, 404, "with the id as one part of it"},
		{"an id that is no text", "POST", "/v1/features", "{\"member\": \"\xff\"}", 400, "the question is no text in UTF-8"},
		{"an id in the address that is no text", "GET", "/v1/features/member/%ff", ``, 400, "the id of the member is missing, or no text"},
		{"a store that lags", "GET", "/v1/features/member/m?max_staleness=1s", ``, 503, "the store lags by 2s, and an answer may be at most 1s old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, b := send(t, server, c.method, c.path, c.question)
			if code != c.code || !strings.Contains(b.Error, c.want) {
				t.Errorf("got %d %q, want %d %q", code, b.Error, c.code, c.want)
			}
		})
	}
	if code, _ := send(t, server, "DELETE", "/v1/features", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("another method: %d", code)
	}
	if log.Len() > 0 {
		t.Errorf("questions that are refused are no matter of the log:\n%s", log)
	}
}

func TestAStoreThatCannotBeReadIsAnErrorOfOurs(t *testing.T) {
	m, server, log := served(t, online.Options{})
	fill(m)
	m.failing = 100
	code, b := send(t, server, "GET", "/v1/features/member/secret-id", "")
	if code != http.StatusInternalServerError || strings.Contains(b.Error, "lease") || !strings.Contains(log.String(), "the lease is gone") {
		t.Errorf("got %d %q; the log says:\n%s", code, b.Error, log)
	}
	if strings.Contains(log.String(), "secret-id") {
		t.Errorf("I8: the log has an id:\n%s", log)
	}
}
