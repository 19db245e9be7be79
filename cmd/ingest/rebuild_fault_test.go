package main

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/durable"
)

// A rebuild whose k-th durable step fails, for every k, leaves nothing that could
// be taken for finished; then it succeeds in the same place.
func TestRebuildThatFailsLeavesNothing(t *testing.T) {
	url, dataDir, base := populated(t, 10), filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "base")
	catchUp(t, dataDir, url)
	giveKey(t, dataDir)
	done(t, "backup", "--data-dir", dataDir, "--to", base)
	execute(t, url, `UPDATE users SET updated_at = now(), nationality = 'XX'`)
	catchUp(t, dataDir, url)
	key, err := hex.DecodeString(rebuildSecret)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := featurestore.OpenLedger(filepath.Join(dataDir, featurestore.LedgerFile), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Add(featurestore.Erasure{Entity: "user", ID: "nobody"}); err != nil {
		t.Fatal(err)
	}
	newest := tellStore(t, dreamscape(t), dataDir, 0)
	parent := t.TempDir()
	into := filepath.Join(parent, "rebuilt")
	args := []string{"rebuild", "--data-dir", dataDir, "--until", newest.Info.AsOf.String(), "--into", into, "--from", base, "--log-level", "error"}
	const most = 1000
	for k := range most {
		n := 0
		var step durable.Step
		hook := func(s durable.Step, _ uint64) error {
			if n++; n == k+1 {
				step = s
				return errInjected
			}
			return nil
		}
		var out bytes.Buffer
		code := runHooked(t.Context(), args, &out, &out, hook)
		if n <= k {
			if code != 0 || k < 10 {
				t.Fatalf("exit code %d after %d durable steps: %s", code, n, &out)
			}
			break
		}
		// The last step makes the name durable that the directory has by then.
		_, err := os.Stat(into)
		published := step == durable.SyncDirectory && err == nil
		if code != 1 || !strings.Contains(out.String(), errInjected.Error()) {
			t.Errorf("step %d, %s, failed: exit code %d: %s", k, step, code, &out)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 && !published {
			t.Errorf("step %d, %s, failed: %v, %v is left", k, step, left, err)
		}
		if published {
			if err := os.RemoveAll(into); err != nil {
				t.Fatal(err)
			}
		}
	}
	requireTold(t, newest, tellStore(t, dreamscape(t), into, 0))
}

// A stream at a NATS server is read from there, or through the daemon.
func TestRebuildOfAnExternalStream(t *testing.T) {
	url, dataDir, nats := populated(t, 20), filepath.Join(t.TempDir(), "data"), externalStream(t)
	d := start(t, dataDir, url, "--nats-url", nats)
	d.waitReady()
	giveKey(t, dataDir)
	execute(t, url, missWhileStopped)
	endpoint, err := featurestore.ReadEndpoint(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	client := endpoint.Client()
	defer client.Close()
	barrier, err := client.Barrier(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	view, err := endpoint.Dial(t.Context(), barrier.Version)
	if err != nil {
		t.Fatal(err)
	}
	want := tellAll(t, dreamscape(t), view)
	for name, flags := range map[string][]string{"through the daemon": nil, "from the server": {"--nats-url", nats}} {
		into := filepath.Join(t.TempDir(), "rebuilt")
		done(t, append([]string{"rebuild", "--data-dir", dataDir, "--until", barrier.Version.String(), "--into", into, "--log-level", "error"}, flags...)...)
		t.Run(name, func(t *testing.T) { requireTold(t, want, tellStore(t, dreamscape(t), into, 0)) })
	}
	d.stopped()
	code, out := invoke(t, "rebuild", "--data-dir", dataDir, "--until", barrier.Version.String(), "--into", filepath.Join(t.TempDir(), "rebuilt"))
	if code != 1 || !strings.Contains(out, "--nats-url") {
		t.Errorf("without the server's address: exit code %d: %s", code, out)
	}
}
