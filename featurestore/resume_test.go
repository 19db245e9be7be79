package featurestore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// wide makes a store with so many rows with and without entity that a scan takes
// many frames.
func wide(t testing.TB, rows int) (*featurestore.Store, string) {
	t.Helper()
	rels := relations()
	f := newFeed()
	var all []change.Row
	text := strings.Repeat("x", 2000)
	for i := range rows {
		all = append(all, insert(rels["users"], uint32(2*i), map[string]string{"id": fmt.Sprint(i), "name": text}),
			insert(rels["config"], uint32(2*i+1), map[string]string{"id": fmt.Sprint("k", i), "name": text}))
	}
	f.transaction(change.Backfill, 1000, all, 1, false)
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{})
	apply(t, s, f.batches...)
	return s, dir
}

// cutter breaks the connection of scans after some bytes, again and again.
type cutter struct {
	http.Handler
	after int // bytes of an answer that pass
	cuts  atomic.Int64
	most  int64 // how often
	// hold waits for the reader to break the connection instead.
	hold bool
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != featurestore.PathScan || c.cuts.Load() >= c.most {
		c.Handler.ServeHTTP(w, r)
		return
	}
	c.Handler.ServeHTTP(&cutWriter{ResponseWriter: w, left: c.after, cutter: c, request: r}, r)
}

type cutWriter struct {
	http.ResponseWriter
	left    int
	cutter  *cutter
	request *http.Request
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		w.cutter.cuts.Add(1)
		if w.cutter.hold {
			<-w.request.Context().Done()
		}
		panic(http.ErrAbortHandler) // the server closes the connection
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// scanned lists what a scan of all of a kind hands out.
func scanned(t *testing.T, v scanner, kind string) ([]string, error) {
	t.Helper()
	ranges, err := v.Ranges(t.Context(), kind, 1)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	err = v.Scan(t.Context(), kind, ranges[0], func(e *history.Entity) error {
		seen = append(seen, fmt.Sprintf("%s %x", e.ID, e.Rows[0].Key))
		return nil
	})
	return seen, err
}

type scanner interface {
	Ranges(ctx context.Context, entity string, n int) ([]history.Range, error)
	Scan(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error
}

func TestCutScanGoesOnWithTheNextEntity(t *testing.T) {
	s, _ := wide(t, 1000)
	local := view(t, s, 0)
	for _, kind := range []string{"user", ""} {
		want, err := scanned(t, local, kind)
		if err != nil || len(want) != 1000 {
			t.Fatalf("%d entities, %v", len(want), err)
		}
		for _, after := range []int{300_000, 520_000} { // in the second frame, and in the third
			c := &cutter{Handler: featurestore.NewHandler(s, token), after: after, most: 5}
			got, err := scanned(t, dial(t, serve(t, c), 0), kind)
			if err != nil {
				t.Errorf("kind %q, cut after %d bytes: %v", kind, after, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("kind %q, cut after %d bytes, scan and resumed scan differ:\n%s", kind, after, diff)
			}
			if n := c.cuts.Load(); n < 2 {
				t.Errorf("kind %q: %d cuts: the test proves nothing", kind, n)
			}
		}
	}
}

func TestScanThatIsAlwaysCutAtTheSamePlaceFails(t *testing.T) {
	s, _ := wide(t, 300)
	c := &cutter{Handler: featurestore.NewHandler(s, token), after: 1000, most: 1 << 30}
	v := dial(t, serve(t, c), 0)
	v.Impatient()
	if _, err := scanned(t, v, "user"); !errors.Is(err, featurestore.ErrCut) {
		t.Errorf("error %v, want ErrCut", err)
	}
}

// successor is the address of a daemon that is started anew in the middle of a
// scan: another token, another address, the same data directory.
func TestScanGoesOnAtTheDaemonThatWasStartedAnew(t *testing.T) {
	s, storeDir := wide(t, 1000)
	dataDir := t.TempDir()
	announce := func(srv *httptest.Server, token string) featurestore.Endpoint {
		t.Helper()
		err := featurestore.WriteEndpoint(dataDir, featurestore.Endpoint{PID: 1, Address: strings.TrimPrefix(srv.URL, "http://"), Token: token}, nil)
		if err != nil {
			t.Fatal(err)
		}
		e, err := featurestore.ReadEndpoint(dataDir)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := httptest.NewServer(&cutter{Handler: featurestore.NewHandler(s, "first"), after: 300_000, most: 1, hold: true})
	defer first.Close()
	v, err := announce(first, "first").Dial(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	want, err := scanned(t, view(t, s, 0), "user")
	if err != nil {
		t.Fatal(err)
	}
	ranges, err := v.Ranges(t.Context(), "user", 1)
	if err != nil {
		t.Fatal(err)
	}
	var again *featurestore.Store
	var second *httptest.Server
	var got []string
	err = v.Scan(t.Context(), "user", ranges[0], func(e *history.Entity) error {
		got = append(got, fmt.Sprintf("%s %x", e.ID, e.Rows[0].Key))
		if len(got) != 10 {
			return nil
		}
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }() // tells the scan to end
		first.CloseClientConnections()
		if err := <-closed; err != nil {
			return err
		}
		again = open(t, storeDir, featurestore.Options{})
		second = httptest.NewServer(featurestore.NewHandler(again, "second"))
		announce(second, "second")
		return nil
	})
	if second == nil {
		t.Fatal("the scan did not come so far")
	}
	defer second.Close()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scan and resumed scan differ:\n%s", diff)
	}
	if st := again.Status(); st.Leases != 1 || st.OldestLease != v.Info().Floor {
		t.Errorf("the new daemon holds %d leases, the oldest of %s: want that of the view", st.Leases, st.OldestLease)
	}

	// One with another store is no successor.
	f := newFeed()
	for i, kind := range []change.Kind{change.Backfill, change.Live} { // about the view's moment
		f.transaction(kind, change.Version(900+200*i), []change.Row{insert(relations()["users"], 0, map[string]string{"id": "1", "name": "n"})}, 1, false)
	}
	other := open(t, t.TempDir(), featurestore.Options{})
	apply(t, other, f.batches...)
	third := httptest.NewServer(featurestore.NewHandler(other, "third"))
	defer third.Close()
	announce(third, "third")
	second.CloseClientConnections()
	second.Close()
	var stranger *featurestore.OtherStoreError
	if _, err := v.Entity(t.Context(), "user", "1"); !errors.As(err, &stranger) {
		t.Errorf("another store: %v", err)
	}
}

// A daemon that was killed stands behind what it had shown for a while, or has nothing
// to show yet.
func TestScanGoesOnAtTheDaemonThatAppliesAgain(t *testing.T) {
	s, _ := wide(t, 1000)
	behind := open(t, t.TempDir(), featurestore.Options{})
	f := newFeed()
	f.transaction(change.Backfill, 900, []change.Row{insert(relations()["users"], 0, map[string]string{"id": "1", "name": "n"})}, 1, false)
	apply(t, behind, f.batches...)
	c := &cutter{Handler: featurestore.NewHandler(s, token), after: 300_000, most: 1}
	stages := []http.Handler{featurestore.NewHandler(open(t, t.TempDir(), featurestore.Options{}), token), featurestore.NewHandler(behind, token), c}
	var asked atomic.Int64
	v := dial(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := http.Handler(c)
		if r.URL.Path == featurestore.PathView && c.cuts.Load() > 0 {
			h = stages[min(asked.Add(1), int64(len(stages)))-1]
		}
		h.ServeHTTP(w, r)
	})), 0)
	want, err := scanned(t, view(t, s, 0), "user")
	if err != nil {
		t.Fatal(err)
	}
	got, err := scanned(t, v, "user")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || asked.Load() != int64(len(stages)) {
		t.Errorf("asked %d times, scan and resumed scan differ:\n%s", asked.Load(), diff)
	}
}

func TestLeaseOfARemoteViewLastsFromDialToClose(t *testing.T) {
	s, _ := smallStore(t)
	addr := serve(t, featurestore.NewHandler(s, token))
	if st := s.Status(); st.Leases != 0 || st.OldestLease != 0 {
		t.Errorf("%d leases before any view", st.Leases)
	}
	v, err := featurestore.Dial(t.Context(), addr, token, 0)
	if err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Leases != 1 {
		t.Errorf("%d leases after a view was opened, want 1", st.Leases)
	}
	w := view(t, s, 0)
	for range 3 {
		if _, err := scanned(t, v, "user"); err != nil {
			t.Fatal(err)
		}
		if st := s.Status(); st.Leases != 2 || st.OldestLease != v.Info().Floor {
			t.Errorf("%d leases, the oldest of %s, want those of two views at %s", st.Leases, st.OldestLease, v.Info().Floor)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Leases != 0 {
		t.Errorf("%d leases after the views were closed", st.Leases)
	}
}
