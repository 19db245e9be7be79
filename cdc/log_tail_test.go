package cdc

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// A reader that takes the newest messages from the publisher gets what is in the stream:
// all of it, in order, once, whether it keeps up or falls behind, and while publishers end
// and others go on. The server tells whether it is asked.
func TestReaderBesideThePublisherReadsTheStream(t *testing.T) {
	noLeak(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	l := openTestLog(t, LogConfig{})
	l.tail.limit = 8 << 10
	r, err := l.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	const rounds, each = 12, 60
	for round := range rounds {
		f := openFeed(t, l)
		done := make(chan error, 1)
		sizes := make([]int, each)
		for i := range sizes {
			sizes[i] = random.IntN(1500)
		}
		wait := random.IntN(2) == 0 // for the reader, after each message
		read := make(chan struct{}, each)
		go func() {
			for _, size := range sizes {
				if err := f.add(context.Background(), size); err != nil {
					done <- err
					return
				}
				if wait {
					<-read
				}
			}
			done <- f.publisher.Flush(context.Background())
		}()
		if !wait { // the publisher runs ahead, further than the tail reaches
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for i := range each {
			readOn(t, r, round*each+i+1, round*each+i+1)
			read <- struct{}{}
		}
		if wait {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, "the reader to be back at the tail", func() bool { return consumers(t, l) == 0 })
		f.publisher.Close()
		if random.IntN(3) == 0 { // else the next publisher may come first
			waitFor(t, "the reader to ask the stream", func() bool { return consumers(t, l) == 1 })
		}
	}
	readAll(t, l, 0, 1, rounds*each) // the stream says the same
}

// consumers is how many readers of the stream the server knows.
func consumers(t *testing.T, l *Log) int {
	t.Helper()
	info, err := l.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Consumers
}

// Of what nobody takes the tail holds no more than its limit, and nothing without a
// reader; memory that it gives up is used again.
func TestTailIsBounded(t *testing.T) {
	held := func(l *tail) (n int) {
		for _, m := range l.list {
			n += len(m.data)
		}
		if n != l.bytes {
			t.Errorf("the tail counts %d bytes of %d", l.bytes, n)
		}
		return n
	}
	l := newTail()
	l.limit = 1000
	l.begin(5)
	if free := l.put(6, make([]byte, 300)); free == nil || held(l) != 0 {
		t.Errorf("without a reader the tail holds %d bytes", held(l))
	}
	r := new(Reader)
	l.follow(r)
	l.follow(new(Reader))
	freed := 0
	for i := range uint64(10) {
		if l.put(7+i, make([]byte, 300)) != nil {
			freed++
		}
		if held(l) > l.limit {
			t.Errorf("the tail holds %d bytes, more than %d", held(l), l.limit)
		}
	}
	if freed != 7 {
		t.Errorf("%d buffers were given up, want 7", freed)
	}
	if _, ok, later := l.take(r, 7); ok || later != nil {
		t.Error("what was given up is told to be there, or to come")
	}
	if _, ok, later := l.take(new(Reader), 16); ok || later != nil {
		t.Error("another reader takes from the tail")
	}
	if m, ok, _ := l.take(r, 15); !ok || m.sequence != 15 {
		t.Errorf("got message %d, want 15", m.sequence)
	}
	if _, ok, later := l.take(r, 17); ok || later == nil {
		t.Error("the next message is not waited for")
	}
	l.leave(r)
	if held(l) != 0 {
		t.Errorf("without its reader the tail holds %d bytes", held(l))
	}
}
