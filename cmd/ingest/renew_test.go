package main

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dreamfeed/internal/natstest"
)

func TestNATSServer(t *testing.T) { natstest.Serve(t) }

// I1, I3: an external server that is killed and loses its newest messages, or
// all of them, loses nothing of the feed: the daemon goes on from the store.
func TestExternalStreamThatLostItsTailIsRenewed(t *testing.T) {
	for name, c := range map[string]struct {
		slot    string // they share a server
		lose    func(s *natstest.Server, older string)
		running bool
	}{
		"the tail, while stopped":    {"tail_stopped", (*natstest.Server).Restore, false},
		"everything, while stopped":  {"all_stopped", func(s *natstest.Server, _ string) { s.Empty() }, false},
		"the tail, while followed":   {"tail_followed", (*natstest.Server).Restore, true},
		"everything, while followed": {"all_followed", func(s *natstest.Server, _ string) { s.Empty() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, dataDir := populated(t, 60), filepath.Join(t.TempDir(), "data")
			nats := natstest.Start(t)
			args := []string{"--nats-url", nats.URL(), "--slot", c.slot}
			catchUp(t, dataDir, url, args...)
			nats.Kill()
			older := nats.Save()
			nats.Start()
			d := start(t, dataDir, url, args...)
			began := time.Now()
			d.waitReady()
			stop := traffic(t, url, 200)
			published(t, d, 300)
			if c.running {
				// It must have run for a while before it begins again by itself.
				awaitTime(t, began.Add(renewAgain+time.Second))
			} else {
				d.kill()
			}
			nats.Kill()
			c.lose(nats, older)
			nats.Start()
			if c.running {
				d.waitSays("renewed from the store")
				d.waitReady()
				d.signal(syscall.SIGTERM)
				if code := d.wait(); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
			}
			stop()
			catchUp(t, dataDir, url, args...)
			t.Logf("%d rows equal", requireEqual(t, dreamscape(t), dataDir, url))
			catchUp(t, dataDir, url, args...)
			if found := gaps(t, dataDir); len(found) > 0 {
				t.Errorf("the store has gaps: %v", found)
			}
		})
	}
}

// published waits until the daemon has taken so many transactions.
func published(t *testing.T, d *daemon, n float64) {
	t.Helper()
	awaitThat(t, "transactions are taken", func() bool {
		_, body := d.get("/metrics")
		return metricOf(t, body, "dreamfeed_source_transactions_total") >= n
	})
}

// waitSays waits until the daemon's output holds a text.
func (d *daemon) waitSays(text string) {
	d.t.Helper()
	awaitThat(d.t, "ingest says "+text, func() bool { return strings.Contains(d.output.String(), text) })
}

func awaitTime(t *testing.T, at time.Time) {
	t.Helper()
	awaitThat(t, "some time has passed", func() bool { return time.Now().After(at) })
}

// awaitThat waits until something is so.
func awaitThat(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(90 * time.Second); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// metricOf reads one number from what /metrics says, 0 if it is not there.
func metricOf(t *testing.T, body, name string) float64 {
	t.Helper()
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}
