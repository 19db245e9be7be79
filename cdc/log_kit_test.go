package cdc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"dreamfeed/internal/change"
)

// logWriter receives log lines of the code under test.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func testLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// noLeak fails the test if it leaves goroutines behind.
func noLeak(t testing.TB) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func openTestLog(t testing.TB, cfg LogConfig) *Log {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = testLogger()
	}
	if cfg.Dir == "" && cfg.URL == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 64 << 20
	}
	l, err := OpenLog(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, l) })
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// externalServer is a NATS server on loopback that can be stopped and started
// again.
type externalServer struct {
	t    testing.TB
	opts server.Options
	s    *server.Server
}

func startExternal(t testing.TB) *externalServer {
	e := &externalServer{t: t, opts: server.Options{
		ServerName: "external", Host: "127.0.0.1", Port: -1, JetStream: true,
		StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 8 << 20,
	}}
	e.start()
	t.Cleanup(e.stop)
	return e
}

func (e *externalServer) start() {
	opts := e.opts
	s, err := server.NewServer(&opts)
	if err != nil {
		e.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		e.t.Fatal("the external server does not start")
	}
	e.s = s
	e.opts.Port = opts.Port
	if e.opts.Port <= 0 {
		e.t.Fatal("the external server has no port")
	}
}

func (e *externalServer) stop() {
	e.s.Shutdown()
	e.s.WaitForShutdown()
}

// feed writes numbered transactions of one row to a log.
type feed struct {
	t         testing.TB
	log       *Log
	publisher *Publisher
	writer    *messageWriter
	mu        sync.Mutex
	acked     []uint64
	next      int // number of the next transaction
}

var feedRelation = &change.Relation{ID: 9, Schema: "public", Name: "event", Replica: 'd', Columns: []change.Column{{Name: "id", Key: true}, {Name: "body"}}}

// openFeed goes on after the log's last message.
func openFeed(t testing.TB, l *Log) *feed {
	t.Helper()
	f := &feed{t: t, log: l}
	last, sequence, found, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found {
		f.next = int(last.Last)
	}
	f.publisher = l.Publisher(context.Background(), sequence, func(sequence uint64, _ change.Header) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.acked = append(f.acked, sequence)
	})
	t.Cleanup(f.publisher.Close)
	f.writer = mustWriter(t, messageWriterConfig{
		Origin: change.Origin{System: 1, Timeline: 1}, Epoch: 1, Last: last,
		MaxBytes: l.MaxMessage(), Buffer: f.publisher.Buffer, Emit: f.publisher.Publish,
	})
	if err := f.writer.relation(appendRelation(nil, feedRelation)); err != nil {
		t.Fatal(err)
	}
	return f
}

// add publishes one transaction in a message of its own, with a body of the size.
func (f *feed) add(ctx context.Context, size int) error {
	f.next++
	row := appendInsert(nil, feedRelation.ID, []change.Value{text(fmt.Sprint(f.next)), text(strings.Repeat("b", size))})
	return errors.Join(f.writer.begin(ctx, change.Live, change.Version(f.next), 1, change.LSN(16*f.next), 1),
		f.writer.row(ctx, row), f.writer.commit(ctx, change.LSN(16*f.next+8)), f.writer.flush(ctx))
}

func (f *feed) addAll(n, size int) {
	f.t.Helper()
	for range n {
		if err := f.add(f.t.Context(), size); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := f.publisher.Flush(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// readAll reads after a sequence until version last, and checks that the
// transactions come in order, each once.
func readAll(t testing.TB, l *Log, after uint64, first, last int) {
	t.Helper()
	r, err := l.Reader(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	readOn(t, r, first, last)
}

func readOn(t testing.TB, r *Reader, first, last int) {
	t.Helper()
	for want := first; want <= last; {
		batch, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if batch.Incarnation != r.log.Incarnation() || batch.Sequence == 0 || batch.Bytes == 0 {
			t.Fatalf("the batch says %d, %d, %d", batch.Incarnation, batch.Sequence, batch.Bytes)
		}
		for _, e := range batch.Entries {
			if got := int(e.Transaction.Version); got != want {
				t.Fatalf("transaction %d came, want %d", got, want)
			}
			if id := string(e.Transaction.Rows[0].New[0].Text); id != fmt.Sprint(want) {
				t.Fatalf("transaction %d has row %s", want, id)
			}
			want++
		}
	}
}

// waitFor waits until a condition holds.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !ok() {
		if pause(ctx, 5*time.Millisecond) != nil {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
