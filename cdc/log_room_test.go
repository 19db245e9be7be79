package cdc

import (
	"math"
	"strings"
	"testing"
)

// The embedded server never gets to meet a full disk: below the reserve nothing
// is sent to it, and what waits stays with the publisher.
func TestPublisherPausesBelowTheDiskReserve(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{DiskReserve: func() uint64 { return math.MaxUint64 }})
	f := openFeed(t, l)
	if err := f.add(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the publisher to pause", f.publisher.Full)
	if state, err := l.State(t.Context()); err != nil || state.Messages != 0 {
		t.Errorf("the stream holds %d messages, %v: want none", state.Messages, err)
	}
	if err := f.publisher.Err(); err != nil {
		t.Errorf("the publisher ended: %v", err)
	}
}

func TestAddressesOfServersAreShownWithoutSecrets(t *testing.T) {
	for given, want := range map[string]string{
		"nats://127.0.0.1:4222":                        "nats://127.0.0.1:4222",
		"nats://user:hush@a:4222":                      "nats://a:4222",
		"tls://hush@a:4222,nats://u:hu@sh@b:4222":      "tls://a:4222,nats://b:4222",
		"user:hush@a":                                  "nats://a",
		"nats://user:hush@[bad":                        "nats://[bad",
		"nats://one.example:4222,nats://two.example:1": "nats://one.example:4222,nats://two.example:1",
	} {
		if got := shownURL(given); got != want || strings.Contains(got, "hush") {
			t.Errorf("shownURL(%q) = %q, want %q", given, got, want)
		}
	}
}
