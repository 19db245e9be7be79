package cdc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dreamfeed/internal/change"
)

func TestLogKeepsItsMessagesAndIncarnationOverAReopening(t *testing.T) {
	noLeak(t)
	dir := t.TempDir()
	l := openTestLog(t, LogConfig{Dir: dir})
	if !l.Embedded() || !l.Durable() {
		t.Error("the embedded server's acknowledgements are durable")
	}
	if h, sequence, found, err := l.Last(t.Context()); found || sequence != 0 || err != nil || h != (change.Header{}) {
		t.Errorf("an empty stream tells %v, %d, %v, %v", h, sequence, found, err)
	}
	f := openFeed(t, l)
	f.addAll(100, 10)
	for i, sequence := range f.acked {
		if sequence != uint64(i+1) {
			t.Fatalf("acknowledgement %d is of message %d", i+1, sequence)
		}
	}
	f.publisher.Close()
	if err := f.publisher.Err(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close the error is %v", err)
	}
	before := l.Incarnation()
	closeLog(t, l)

	l = openTestLog(t, LogConfig{Dir: dir})
	if l.Incarnation() != before || before == 0 {
		t.Errorf("incarnation %x became %x", before, l.Incarnation())
	}
	h, sequence, found, err := l.Last(t.Context())
	if err != nil || !found || sequence != 100 || h != f.writer.last() {
		t.Errorf("the last message is %d %+v, %v, %v", sequence, h, found, err)
	}
	f = openFeed(t, l)
	f.addAll(50, 10)
	readAll(t, l, 0, 1, 150)
	readAll(t, l, 120, 121, 150)
	f.publisher.Close()

	if other := openTestLog(t, LogConfig{}); other.Incarnation() == before {
		t.Error("another stream has the same incarnation")
	}
}

func TestLimitOfAStreamCanBeChanged(t *testing.T) {
	noLeak(t)
	dir := t.TempDir()
	l := openTestLog(t, LogConfig{Dir: dir, MaxBytes: 1 << 30})
	f := openFeed(t, l)
	f.addAll(30, 100_000)
	f.publisher.Close()
	before := l.Incarnation()
	closeLog(t, l)
	for _, limit := range []int64{4 << 20, 1 << 20, 2 << 30} {
		l = openTestLog(t, LogConfig{Dir: dir, MaxBytes: limit})
		state, err := l.State(t.Context())
		if err != nil || state.Messages != 30 || state.MaxBytes != limit || l.Incarnation() != before {
			t.Errorf("with a limit of %d the stream holds %+v, %v", limit, state, err)
		}
		closeLog(t, l)
	}
}

func TestStreamThatIsNotRecoveredIsNotMadeAnew(t *testing.T) {
	noLeak(t)
	dir := t.TempDir()
	l := openTestLog(t, LogConfig{Dir: dir})
	f := openFeed(t, l)
	f.addAll(3, 10)
	f.publisher.Close()
	closeLog(t, l)
	meta := filepath.Join(dir, "jetstream", "$G", "streams", "DREAMFEED", "meta.inf")
	if err := os.Remove(meta); err != nil {
		t.Fatal(err)
	}
	if l, err := OpenLog(t.Context(), LogConfig{Dir: dir, MaxBytes: 64 << 20, Logger: testLogger()}); err == nil {
		closeLog(t, l)
		t.Error("a new stream is made in its place")
	}
}

// A process that is killed while it makes the stream leaves a directory without
// metadata, of which nothing would be lost.
func TestStreamThatWasNotMadeToTheEndIsMadeAgain(t *testing.T) {
	for _, missing := range []string{"meta.inf", "meta.sum"} {
		t.Run(missing, func(t *testing.T) {
			dir := t.TempDir()
			closeLog(t, openTestLog(t, LogConfig{Dir: dir}))
			// The index is written by an orderly stop.
			for _, file := range []string{missing, filepath.Join("msgs", "index.db")} {
				if err := os.Remove(filepath.Join(dir, "jetstream", "$G", "streams", "DREAMFEED", file)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			f := openFeed(t, openTestLog(t, LogConfig{Dir: dir}))
			f.addAll(3, 10)
			f.publisher.Close()
		})
	}
}

func TestDirectoryInUseIsRefused(t *testing.T) {
	noLeak(t)
	dir := t.TempDir()
	openTestLog(t, LogConfig{Dir: dir})
	if l, err := OpenLog(t.Context(), LogConfig{Dir: dir, Logger: testLogger()}); err == nil {
		closeLog(t, l)
		t.Error("a second log opens the directory")
	}
}

func TestTrimNeverRemovesTheNewestMessage(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{})
	if err := l.Trim(t.Context(), 5); err != nil {
		t.Errorf("trim of an empty stream: %v", err)
	}
	f := openFeed(t, l)
	f.addAll(10, 10)
	for _, tc := range []struct{ upTo, first uint64 }{{0, 1}, {4, 5}, {3, 5}, {1 << 63, 10}, {^uint64(0), 10}} {
		if err := l.Trim(t.Context(), tc.upTo); err != nil {
			t.Fatal(err)
		}
		if state, err := l.State(t.Context()); err != nil || state.First != tc.first || state.Last != 10 {
			t.Errorf("trim up to %d leaves %d to %d, %v", tc.upTo, state.First, state.Last, err)
		}
	}
	var gap *GapError
	if _, err := l.Reader(t.Context(), 0); !errors.As(err, &gap) || gap.Want != 1 || gap.First != 10 {
		t.Errorf("reading what is trimmed: got %v, want a *GapError", err)
	}
	var tail *LostTailError
	if _, err := l.Reader(t.Context(), 11); !errors.As(err, &tail) || tail.Want != 11 || tail.Last != 10 {
		t.Errorf("reading after the end: got %v, want a *LostTailError", err)
	}
	readAll(t, l, 9, 10, 10)
}

func TestReaderIsReadyWhileMessagesWait(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{})
	r, err := l.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if r.Ready() {
		t.Error("ready for an empty stream")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next of an empty stream: %v", err)
	}
	f := openFeed(t, l)
	f.addAll(3, 10)
	waitFor(t, "the reader to be ready", r.Ready)
	readOn(t, r, 1, 3)
	if r.Ready() {
		t.Error("ready after the last message")
	}
	r.Close()
	if _, err := r.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
}

func TestRowAboveTheLargestMessageComesThrough(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{MaxMessage: 100_000})
	f := openFeed(t, l)
	f.addAll(2, 10)
	f.addAll(1, 1_000_000)
	f.addAll(2, 300_000)
	r, err := l.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, size := range []int{10, 10, 1_000_000, 300_000, 300_000} {
		batch, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := len(batch.Entries[0].Transaction.Rows[0].New[1].Text); got != size {
			t.Errorf("row %d has %d bytes, want %d", i+1, got, size)
		}
		if i == 2 { // a reader that starts behind it finds the next one whole
			readAll(t, l, batch.Sequence, 4, 5)
		}
	}
}

func TestDamagedMessageEndsTheReader(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{})
	f := openFeed(t, l)
	f.addAll(2, 10)
	f.publisher.Close() // whose stream it would be alone
	if _, err := l.js.Publish(t.Context(), l.subject(), []byte("no message of a feed")); err != nil {
		t.Fatal(err)
	}
	r, err := l.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	readOn(t, r, 1, 2)
	for range 2 {
		var want *CorruptMessageError
		if _, err := r.Next(t.Context()); !errors.As(err, &want) || want.Sequence != 3 {
			t.Errorf("got %v, want a *CorruptMessageError of message 3", err)
		}
	}
}

func TestMissingMessageBreaksTheChain(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{})
	var messages []frameMessage
	w := mustWriter(t, frameConfig(&messages))
	for i := range 3 {
		if err := errors.Join(w.tick(t.Context(), change.Version(i+1), 1), w.flush(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{0, 2} {
		if _, err := l.js.Publish(t.Context(), l.subject(), messages[i].data); err != nil {
			t.Fatal(err)
		}
	}
	r, err := l.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want *ChainError
	if _, err := r.Next(t.Context()); !errors.As(err, &want) {
		t.Errorf("got %v, want a *ChainError", err)
	}
}

func TestExternalServerRestartLosesAndDoublesNothing(t *testing.T) {
	noLeak(t)
	e := startExternal(t)
	l := openTestLog(t, LogConfig{URL: e.s.ClientURL(), AckTimeout: 2 * time.Second, Options: []nats.Option{nats.ReconnectWait(20 * time.Millisecond)}})
	if l.Embedded() || l.Durable() {
		t.Error("an external server's acknowledgements are taken for durable")
	}
	r, err := l.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f := openFeed(t, l)
	const n = 2000
	done := make(chan error, 1)
	go func() {
		for range n {
			if err := f.add(context.Background(), 100); err != nil {
				done <- err
				return
			}
		}
		done <- f.publisher.Flush(context.Background())
	}()
	readOn(t, r, 1, 300)
	e.stop()
	e.start()
	readOn(t, r, 301, 900)
	e.stop()
	e.start()
	readOn(t, r, 901, n)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(f.acked) != n {
		t.Errorf("%d messages are acknowledged, want %d", len(f.acked), n)
	}
	if state, err := l.State(t.Context()); err != nil || state.Last != n {
		t.Errorf("the stream ends at %d, %v", state.Last, err)
	}
	readAll(t, l, 0, 1, n)
}

func TestStreamMadeAnewEndsReaderAndPublisher(t *testing.T) {
	noLeak(t)
	e := startExternal(t)
	l := openTestLog(t, LogConfig{URL: e.s.ClientURL()})
	f := openFeed(t, l)
	f.addAll(5, 10)
	r, err := l.Reader(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := l.js.DeleteStream(t.Context(), l.cfg.Name); err != nil {
		t.Fatal(err)
	}
	anew := openTestLog(t, LogConfig{URL: e.s.ClientURL()})
	var want *IncarnationError
	if _, err := l.State(t.Context()); !errors.As(err, &want) || want.Want != l.Incarnation() || want.Got != anew.Incarnation() {
		t.Errorf("the state: got %v, want an *IncarnationError", err)
	}
	err = errors.Join(f.add(t.Context(), 10), f.publisher.Flush(t.Context()))
	if !errors.As(err, &want) {
		t.Errorf("the publisher: got %v, want an *IncarnationError", err)
	}
	if _, err := r.Next(t.Context()); !errors.As(err, &want) {
		t.Errorf("the reader: got %v, want an *IncarnationError", err)
	}
}

func TestStreamOfAnotherMakerIsRefused(t *testing.T) {
	noLeak(t)
	e := startExternal(t)
	nc, err := nats.Connect(e.s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FOREIGN", Subjects: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if l, err := OpenLog(t.Context(), LogConfig{URL: e.s.ClientURL(), Name: "FOREIGN", Logger: testLogger()}); err == nil {
		closeLog(t, l)
		t.Error("it is opened")
	}
	ours := openTestLog(t, LogConfig{URL: e.s.ClientURL(), Name: "OURS"})
	cfg := ours.stream.CachedInfo().Config
	cfg.Discard = jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if l, err := OpenLog(t.Context(), LogConfig{URL: e.s.ClientURL(), Name: "OURS", MaxBytes: 64 << 20, Logger: testLogger()}); err == nil {
		closeLog(t, l)
		t.Error("a stream that discards is opened")
	}
}
