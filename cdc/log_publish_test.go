package cdc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"dreamfeed/internal/change"
)

func TestSecondWriterEndsThePublisherAndStoresNothingOfIt(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{})
	f := openFeed(t, l)
	f.addAll(5, 10)
	if _, err := l.js.Publish(t.Context(), l.subject(), []byte("of another process")); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := f.add(t.Context(), 10); err != nil {
			break
		}
	}
	if err := f.publisher.Flush(t.Context()); !errors.Is(err, ErrNotSingleWriter) {
		t.Errorf("got %v, want ErrNotSingleWriter", err)
	}
	<-f.publisher.Done()
	if state, err := l.State(t.Context()); err != nil || state.Last != 6 {
		t.Errorf("the stream ends at %d, %v: want 6", state.Last, err)
	}
}

// A publisher that does not know whether its messages were stored compares them
// with the stream: those that were are acknowledged, not stored twice.
func TestMessagesStoredAlreadyAreNotStoredTwice(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{})
	var messages []frameMessage
	f := openFeed(t, l)
	emit := f.writer.cfg.Emit
	f.writer.cfg.Emit = func(ctx context.Context, h change.Header, data []byte) error {
		messages = append(messages, frameMessage{h, bytes.Clone(data)})
		return emit(ctx, h, data)
	}
	f.addAll(10, 10)
	f.publisher.Close()

	var acked []uint64
	// All are in its queue before it sends the first, as after an interruption:
	// a message of the stream that is not in the queue is another writer's.
	p, start := l.newPublisher(t.Context(), 3, func(sequence uint64, _ change.Header) { acked = append(acked, sequence) })
	for _, m := range messages[3:] {
		if err := p.Publish(t.Context(), m.header, m.data); err != nil {
			t.Fatal(err)
		}
	}
	go start()
	defer p.Close()
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(acked) != "[4 5 6 7 8 9 10]" {
		t.Errorf("acknowledged are %v", acked)
	}
	if state, err := l.State(t.Context()); err != nil || state.Messages != 10 {
		t.Errorf("the stream holds %d messages, %v: want 10", state.Messages, err)
	}
}

func TestFullStreamPushesBackAndGoesOnAfterATrim(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{MaxBytes: 2 << 20})
	f := openFeed(t, l)
	done := make(chan error, 1)
	ctx := t.Context()
	go func() {
		for range 60 {
			if err := f.add(ctx, 100_000); err != nil {
				done <- err
				return
			}
		}
		done <- f.publisher.Flush(ctx)
	}()
	trims := 0
	for {
		var err error
		ended := false
		waitFor(t, "a full stream or the end", func() bool {
			select {
			case err = <-done:
				ended = true
			default:
			}
			return ended || f.publisher.Full()
		})
		if err != nil {
			t.Fatal(err)
		}
		if ended {
			break
		}
		state, err := l.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if state.Messages == 0 || state.Bytes > 2<<20 {
			t.Fatalf("the full stream holds %+v", state)
		}
		first := int(state.First)
		readAll(t, l, state.First-1, first, int(state.Last))
		if err := l.Trim(ctx, state.Last); err != nil {
			t.Fatal(err)
		}
		after, err := l.State(ctx)
		if err != nil || after.First < state.Last {
			t.Fatalf("after the trim the stream holds %+v, %v", after, err)
		}
		trims++
		waitFor(t, "the publisher to go on", func() bool { return !f.publisher.Full() || len(done) > 0 })
	}
	if trims < 2 {
		t.Errorf("the stream was full %d times, want it more often", trims)
	}
	if h, sequence, _, err := l.Last(ctx); err != nil || sequence != 60 || h.Last != 60 {
		t.Errorf("the stream ends at message %d with version %d, %v", sequence, h.Last, err)
	}
}

// TestPublishingChild is the process that the next test kills: it publishes
// until then, and says what was acknowledged. Without the variable it is no
// test.
func TestPublishingChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return
	}
	l, err := OpenLog(t.Context(), LogConfig{Dir: dir, MaxBytes: 64 << 20, Logger: testLogger()})
	if err != nil {
		t.Fatal(err)
	}
	last, sequence, _, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{t: t, log: l, next: int(last.Last)}
	f.publisher = l.Publisher(t.Context(), sequence, func(sequence uint64, _ change.Header) { fmt.Println("acked", sequence) })
	f.writer = mustWriter(t, messageWriterConfig{
		Origin: change.Origin{System: 1, Timeline: 1}, Epoch: 1, Last: last,
		Buffer: f.publisher.Buffer, Emit: f.publisher.Publish,
	})
	if err := f.writer.relation(appendRelation(nil, feedRelation)); err != nil {
		t.Fatal(err)
	}
	for {
		if err := f.add(t.Context(), 2000); err != nil {
			t.Fatal(err)
		}
	}
}

// I1: what was acknowledged is there after a kill, and the next process goes on
// behind it, each transaction once.
func TestKilledPublisherLosesNothingAcknowledged(t *testing.T) {
	noLeak(t)
	dir := filepath.Join(t.TempDir(), "log")
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPublishingChild$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = logWriter{t}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acked uint64
		seen := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscanf(lines.Text(), "acked %d", &acked); err != nil {
				continue
			}
			if seen++; seen == 100+70*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || seen < 100 {
			t.Fatalf("the child ended with %v after %d acknowledgements", err, seen)
		}
		l := openTestLog(t, LogConfig{Dir: dir})
		h, sequence, found, err := l.Last(t.Context())
		if err != nil || !found || sequence < acked || uint64(h.Last) != sequence {
			t.Fatalf("acknowledged up to %d, the stream ends at %d with version %d, %v", acked, sequence, h.Last, err)
		}
		readAll(t, l, 0, 1, int(sequence))
		closeLog(t, l)
	}
}

// childDir names the directory in which TestPublishingChild publishes.
const childDir = "DREAMFEED_TEST_CHILD_DIR"
