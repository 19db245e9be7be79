package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
)

// I2: a stream that is nearly full of what a store has applied, but has in its memtables
// only, makes room once the store has it in tables, and not before.
func TestNearlyFullStreamHasTheStoreWriteWhatItApplied(t *testing.T) {
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	catchUp(t, dataDir, url)
	for range 5 { // messages of their own
		execute(t, url, `INSERT INTO search_history (id, "userId", "sessionId", origin, destination, "departureDate", passengers)
SELECT gen_random_uuid()::text, NULL, 's', repeat('o', 1000), 'd', now(), '1' FROM generate_series(1, 800)`)
		catchUp(t, dataDir, url)
	}
	logger := slog.New(slog.DiscardHandler)
	stream := cdc.LogConfig{Dir: filepath.Join(dataDir, "stream"), Logger: logger}
	opened := func() (*cdc.Log, cdc.LogState) {
		t.Helper()
		feed, err := cdc.OpenLog(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		state, err := feed.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return feed, state
	}
	feed, before := opened()
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	stream.MaxBytes = int64(before.Bytes) * 10 / 9
	feed, full := opened()
	defer feed.Close()
	if full.Bytes <= uint64(full.MaxBytes)/100*roomFull {
		t.Fatalf("the stream holds %d of at most %d bytes, which is not nearly full", full.Bytes, full.MaxBytes)
	}

	store, err := featurestore.Open(filepath.Join(t.TempDir(), "store"), featurestore.Options{Definition: dreamscape(t), Replayable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	reader, err := feed.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx, reader) }()
	await(t, "the stream to be applied", func() bool { return store.Watermark().Sequence == before.Last })
	if got := store.Durable().Sequence; got != 0 {
		t.Fatalf("message %d is durable before anything was done for it", got)
	}
	if err := makeRoom(t.Context(), feed, store, logger); err != nil {
		t.Fatal(err)
	}
	after, err := feed.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.Bytes > uint64(after.MaxBytes)/100*roomFull {
		t.Errorf("the stream still holds %d of at most %d bytes", after.Bytes, after.MaxBytes)
	}
	if got := store.Durable().Sequence; after.First > got+1 {
		t.Errorf("the stream begins at message %d, and the store has %d on disk", after.First, got)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the store: %v", err)
	}
}
