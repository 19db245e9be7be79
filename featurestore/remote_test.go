package featurestore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

const token = "secret-token"

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func dial(t testing.TB, addr string, asOf change.Version) *featurestore.RemoteView {
	t.Helper()
	v, err := featurestore.Dial(t.Context(), addr, token, asOf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func filled(t testing.TB, steps int) (*featurestore.Store, *generator) {
	t.Helper()
	g := newGenerator(seed(t))
	g.step(change.Backfill)
	for range steps {
		g.step(change.Live)
	}
	s := open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, g.f.batches...)
	return s, g
}

func TestRemoteViewEqualsLocalView(t *testing.T) {
	s, g := filled(t, 80)
	local := view(t, s, 0)
	remote := dial(t, serve(t, featurestore.NewHandler(s, token)), 0)
	if diff := cmp.Diff(local.Info(), remote.Info()); diff != "" {
		t.Errorf("info differs:\n%s", diff)
	}
	sameRows(t, g.m.asOf(local.Info().AsOf), dump(t, remote, 3))
	for _, id := range idPool {
		a, err := local.Entity(t.Context(), "user", id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := remote.Entity(t.Context(), "user", id)
		if err != nil {
			t.Fatal(err)
		}
		if a != nil && a.ID != id {
			t.Errorf("entity %q came back as %q", id, a.ID)
		}
		got := map[string][]string{}
		info := local.Info()
		if a != nil {
			dumpEntity(t, got, &info, "user", a)
		}
		want := map[string][]string{}
		for k, v := range g.m.asOf(info.AsOf) {
			if strings.HasPrefix(k, "user:"+id+"/") && !strings.HasPrefix(k, "user:"+id+"/é") {
				want[k] = v
			}
		}
		sameRows(t, want, got)
		if !sameEntity(a, b) {
			t.Errorf("entity %q differs between local and remote view", id)
		}
	}
}

func sameEntity(a, b *history.Entity) bool { return cmp.Equal(a, b, equalBytes) }

var equalBytes = cmp.Comparer(bytes.Equal)

func TestRangesAreReadInParallel(t *testing.T) {
	s, g := filled(t, 60)
	v := dial(t, serve(t, featurestore.NewHandler(s, token)), 0)
	ranges, err := v.Ranges(t.Context(), "user", 4)
	if err != nil {
		t.Fatal(err)
	}
	if len(ranges) < 3 {
		t.Errorf("%d ranges for 4 wanted and %d ids", len(ranges), len(idPool))
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	got, info := map[string][]string{}, v.Info()
	for _, r := range ranges {
		wait.Go(func() {
			err := v.Scan(t.Context(), "user", r, func(e *history.Entity) error {
				mu.Lock()
				defer mu.Unlock()
				dumpEntity(t, got, &info, "user", e)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	want := g.m.asOf(info.AsOf)
	for k := range want {
		if !strings.HasPrefix(k, "user:") {
			delete(want, k)
		}
	}
	sameRows(t, want, got)
}

func TestErrorsCrossTheWire(t *testing.T) {
	s, _ := filled(t, 5)
	addr := serve(t, featurestore.NewHandler(s, token))
	w := s.Watermark()
	for _, c := range []struct {
		name  string
		token string
		asOf  change.Version
		want  error
	}{
		{"another token is refused", "other", 0, featurestore.ErrToken},
		{"no token is refused", "", 0, featurestore.ErrToken},
		{"an open moment", token, w.Version + 1, &featurestore.NotClosedError{AsOf: w.Version + 1, Newest: w.Version}},
		{"a moment before the history", token, w.Birth - 1, &featurestore.TooEarlyError{AsOf: w.Birth - 1, Earliest: w.Birth}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := featurestore.Dial(t.Context(), addr, c.token, c.asOf)
			if err == nil || err.Error() != c.want.Error() {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	v := dial(t, addr, 0)
	var unknown *featurestore.EntityError
	if _, err := v.Ranges(t.Context(), "planet", 2); !errors.As(err, &unknown) || unknown.Entity != "planet" {
		t.Errorf("ranges of an unknown entity: %v", err)
	}
	stop := errors.New("enough")
	ranges, err := v.Ranges(t.Context(), "user", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Scan(t.Context(), "user", ranges[0], func(*history.Entity) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the callback comes back as %v", err)
	}
	empty := open(t, t.TempDir(), featurestore.Options{})
	if _, err := featurestore.Dial(t.Context(), serve(t, featurestore.NewHandler(empty, token)), token, 0); !errors.Is(err, featurestore.ErrEmpty) {
		t.Errorf("an empty store: %v, want ErrEmpty", err)
	}
	if _, err := featurestore.Dial(t.Context(), serve(t, featurestore.NewHandler(s, "")), "", 0); !errors.Is(err, featurestore.ErrToken) {
		t.Errorf("a handler without token lets in: %v", err)
	}
}

// tamper answers scans with a changed copy of what the store answers.
func tamper(h http.Handler, change func([]byte) []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != featurestore.PathScan {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		_, _ = w.Write(change(rec.Body.Bytes()))
	})
}

func TestEveryCutAndEveryFlippedByteIsSeen(t *testing.T) {
	s, _ := smallStore(t)
	h := featurestore.NewHandler(s, token)
	var body []byte
	scan := func(change func([]byte) []byte) error {
		v := dial(t, serve(t, tamper(h, change)), 0)
		v.Impatient()
		ranges, err := v.Ranges(t.Context(), "user", 1)
		if err != nil {
			t.Fatal(err)
		}
		return v.Scan(t.Context(), "user", ranges[0], func(*history.Entity) error { return nil })
	}
	if err := scan(func(b []byte) []byte { body = bytes.Clone(b); return b }); err != nil {
		t.Fatal(err)
	}
	for i := range body {
		if err := scan(func(b []byte) []byte { return b[:i] }); !errors.Is(err, featurestore.ErrCut) {
			t.Fatalf("cut after %d of %d bytes: %v, want ErrCut", i, len(body), err)
		}
		err := scan(func(b []byte) []byte { b = bytes.Clone(b); b[i] ^= 0x20; return b })
		if !errors.Is(err, featurestore.ErrCut) {
			t.Fatalf("byte %d flipped: %v, want ErrCut", i, err)
		}
	}
}

func smallStore(t testing.TB) (*featurestore.Store, *feed) {
	t.Helper()
	rels := relations()
	f := newFeed()
	f.transaction(change.Backfill, 1000, []change.Row{
		insert(rels["users"], 0, map[string]string{"id": "1", "name": "ann"}),
		insert(rels["users"], 1, map[string]string{"id": "2", "name": "bob"}),
		insert(rels["orders"], 2, map[string]string{"id": "o1", "user_id": "1", "name": "first"}),
		insert(rels["config"], 3, map[string]string{"id": "k", "name": "v"}),
	}, 1, false)
	s := open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, f.batches...)
	return s, f
}

func TestEndpointIsPrivateAndRemovedByItsOwner(t *testing.T) {
	dir := t.TempDir()
	if _, err := featurestore.ReadEndpoint(dir); !errors.Is(err, featurestore.ErrNoEndpoint) {
		t.Errorf("an empty directory: %v", err)
	}
	want := featurestore.Endpoint{PID: 42, Address: "127.0.0.1:7000", Token: token}
	for range 2 { // a second one replaces the first
		if err := featurestore.WriteEndpoint(dir, want, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := featurestore.ReadEndpoint(dir)
	if err != nil || got.Plain() != want {
		t.Errorf("read %+v, %v", got, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v: want one", len(files), err)
	}
	info, err := files[0].Info()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
	if err := featurestore.RemoveEndpoint(dir, 41, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := featurestore.ReadEndpoint(dir); err != nil {
		t.Errorf("another process removed it: %v", err)
	}
	if err := featurestore.RemoveEndpoint(dir, 42, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := featurestore.ReadEndpoint(dir); !errors.Is(err, featurestore.ErrNoEndpoint) {
		t.Errorf("after removal: %v", err)
	}
}

func ExampleDial() {
	// The daemon left its address in its data directory.
	e, err := featurestore.ReadEndpoint("/var/lib/dreamfeed")
	if err != nil {
		return
	}
	v, err := featurestore.Dial(context.Background(), e.Address, e.Token, 0)
	if err != nil {
		return
	}
	defer v.Close()
	_, _ = io.WriteString(io.Discard, v.Info().AsOf.String())
}
