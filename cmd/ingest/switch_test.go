package main

import (
	"path/filepath"
	"testing"

	"dreamfeed/internal/natstest"
)

// I1, I3: a daemon that was killed, and is started on an external stream then, does not
// give up what its store has to apply again from the embedded one.
func TestKilledDaemonKeepsItsEmbeddedStreamWhenGivenAnother(t *testing.T) {
	for name, c := range map[string]struct {
		slot  string // they share a server
		young bool
	}{
		"with tables":                {"switch_tables", false},
		"before there was any table": {"switch_young", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
			nats := natstest.Start(t)
			args := []string{"--slot", c.slot}
			external := append([]string{"--nats-url", nats.URL()}, args...)
			if !c.young {
				catchUp(t, dataDir, url, args...)
			}
			d := start(t, dataDir, url, args...)
			d.waitReady()
			stop := traffic(t, url, 200)
			published(t, d, 20)
			stop()
			d.kill()
			d = start(t, dataDir, url, append(external, "--until-caught-up")...)
			if code := d.wait(); code != 1 {
				t.Errorf("on an external stream: exit code %d, want 1", code)
			}
			d.waitSays("run ingest --until-caught-up without --nats-url first")
			catchUp(t, dataDir, url, args...)
			requireEqual(t, dreamscape(t), dataDir, url)
			if found := gaps(t, dataDir); len(found) > 0 {
				t.Errorf("the store has gaps: %v", found)
			}
		})
	}
}
