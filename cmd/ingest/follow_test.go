package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/workload"
)

// populated returns the URL of a database with a populated Dreamscape schema.
func populated(t *testing.T, users int) string {
	t.Helper()
	url := shared.NewDatabase(t)
	populate(t, url, users)
	return url
}

// populate makes and fills the Dreamscape schema in a database.
func populate(t *testing.T, url string, users int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := workload.CreateSchema(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.Populate(t.Context(), conn, workload.Config{Seed: 7, Users: users, Items: 60, Days: 30, Now: time.Now().UTC()}); err != nil {
		t.Fatal(err)
	}
}

// I3, I4: the store equals the source after a backfill under writes, live
// traffic, an orderly stop and a catch-up.
func TestStoreEqualsSourceAfterBackfillAndLiveTraffic(t *testing.T) {
	url, dataDir := populated(t, 200), filepath.Join(t.TempDir(), "data")
	var wg sync.WaitGroup
	wg.Go(func() {
		// The traffic runs before, during and after the backfill.
		if _, err := workload.Run(t.Context(), url, workload.Traffic{Seed: 1, Transactions: 1500, Connections: 4}); err != nil {
			t.Error(err)
		}
	})
	d := start(t, dataDir, url)
	d.waitReady()
	wg.Wait()

	code, body := d.get("/v1/status")
	var status struct {
		State    string           `json:"state"`
		Rows     map[string]int64 `json:"rows"`
		Applied  struct{ Moment, LSN string }
		Earliest string
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil || code != http.StatusOK {
		t.Fatalf("/v1/status: %d, %v: %s", code, err, body)
	}
	if status.State != "streaming" || status.Rows["users"] == 0 || status.Applied.Moment <= status.Earliest || status.Earliest == "" {
		t.Errorf("/v1/status of a daemon that follows: %s", body)
	}
	if code, body := d.get("/metrics"); code != http.StatusOK || !strings.Contains(body, "dreamfeed_lag_seconds") {
		t.Errorf("/metrics: %d: no dreamfeed_lag_seconds", code)
	}
	if code, _ := d.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	if code := d.post("/v1/view"); code != http.StatusUnauthorized {
		t.Errorf("a view without the token: %d, want %d", code, http.StatusUnauthorized)
	}
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d, want 0", code)
	}
	catchUp(t, dataDir, url)
	t.Logf("%d rows equal", requireEqual(t, dreamscape(t), dataDir, url))
}

// I1, I2, I3: nothing is lost or doubled by kill -9 at any moment, be it in the
// backfill or under live traffic.
func TestStoreEqualsSourceAfterKillsUnderLoad(t *testing.T) {
	url, dataDir := populated(t, 200), filepath.Join(t.TempDir(), "data")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ctx, stopTraffic := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := workload.Run(ctx, url, workload.Traffic{Seed: n, Transactions: 2000, Connections: 4, Rate: 300}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for range 6 {
		d := start(t, dataDir, url)
		timer := time.NewTimer(time.Duration(50+random.IntN(1500)) * time.Millisecond)
		select {
		case <-timer.C:
		case err := <-d.done:
			t.Fatalf("ingest ended by itself: %v", err)
		}
		d.kill()
	}
	d := start(t, dataDir, url)
	d.waitReady()
	d.kill()
	stopTraffic()
	wg.Wait()
	catchUp(t, dataDir, url)
	t.Logf("%d rows equal", requireEqual(t, dreamscape(t), dataDir, url))
}
