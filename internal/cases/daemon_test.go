package cases_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rungroup "github.com/oklog/run"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/durable"
	"dreamfeed/internal/pgtest"
)

// options say what a case's daemon follows and how.
type options struct {
	tables []definition.Table
	// via is the network that the daemon reaches the server through, if any.
	via *network
	// natsURL is an external stream's address; empty embeds one.
	natsURL     string
	maxRowBytes int
	memoryLimit int64 // of a child's garbage collector, childMemoryLimit when 0
	// source, log and store change the configuration of a part. They do not reach
	// a child.
	source func(*cdc.Config)
	log    func(*cdc.LogConfig)
	store  func(*featurestore.Options)
}

// setup is all that a daemon needs, in a form that a child can be told.
type setup struct {
	Dir, URL, NATSURL string
	Slot, Publication string
	Tables            []definition.Table
	MaxRowBytes       int
	MemoryLimit       int64
	// KillAt is the number, from 1, of the step KillStep at which a child kills
	// itself; 0 lets it live.
	KillStep durable.Step
	KillAt   int32
}

func (s setup) definition() *definition.Definition {
	def := &definition.Definition{Name: "cases", Hash: "cases", Zone: time.UTC, Tables: s.Tables}
	for _, t := range s.Tables {
		if t.Entity != "" && !slices.ContainsFunc(def.Entities, func(e definition.Entity) bool { return e.Name == t.Entity }) {
			def.Entities = append(def.Entities, definition.Entity{Name: t.Entity})
		}
	}
	return def
}

// parts are the daemon's: opened newest last, closed newest first.
type parts struct {
	store  *featurestore.Store
	log    *cdc.Log
	reader *cdc.Reader
	source *cdc.Source
}

// open wires the parts as cmd/ingest does.
func (s setup) open(ctx context.Context, logger *slog.Logger, o options) (_ *parts, err error) {
	p := &parts{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	def := s.definition()
	storeOptions := featurestore.Options{Definition: def, Logger: logger, MaxRowBytes: s.MaxRowBytes, Memory: 64 << 20}
	if o.store != nil {
		o.store(&storeOptions)
	}
	if p.store, err = featurestore.Open(filepath.Join(s.Dir, "store"), storeOptions); err != nil {
		return nil, err
	}
	logConfig := cdc.LogConfig{Dir: filepath.Join(s.Dir, "stream"), URL: s.NATSURL, MaxRowBytes: s.MaxRowBytes, Logger: logger}
	if o.log != nil {
		o.log(&logConfig)
	}
	if p.log, err = cdc.OpenLog(ctx, logConfig); err != nil {
		return nil, err
	}
	mark := p.store.Watermark()
	if mark.Incarnation != 0 && mark.Incarnation != p.log.Incarnation() {
		return nil, fmt.Errorf("the stream is another one than the store was fed from, up to message %d", mark.Sequence)
	}
	if p.reader, err = p.log.Reader(ctx, mark.Sequence); err != nil {
		return nil, err
	}
	config := cdc.Config{
		DatabaseURL: s.URL, Publication: s.Publication, Slot: s.Slot, Definition: def, Log: p.log,
		MaxRowBytes: s.MaxRowBytes, Logger: logger,
	}
	if !p.log.Durable() {
		config.Durable = p.store.DurableLSN
	}
	if o.source != nil {
		o.source(&config)
	}
	p.source, err = cdc.NewSource(config)
	return p, err
}

// run follows the source until ctx ends or a part does.
func (p *parts) run(ctx context.Context) error {
	var g rungroup.Group
	for _, actor := range []func(context.Context) error{
		p.source.Run,
		func(ctx context.Context) error { return p.store.Run(ctx, p.reader) },
		func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		ctx, cancel := context.WithCancel(ctx)
		g.Add(func() error { return actor(ctx) }, func(error) { cancel() })
	}
	err := g.Run()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

func (p *parts) close() error {
	var errs []error
	if p.reader != nil {
		p.reader.Close()
	}
	if p.log != nil {
		errs = append(errs, p.log.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	return errors.Join(errs...)
}

// daemon follows a database: in this process, in a child, or not at the moment.
type daemon struct {
	t       testing.TB
	setup   setup
	options options

	*parts // while it runs in this process
	cancel context.CancelFunc
	ended  chan struct{} // closed after err is set
	err    error

	child *child // while it runs in a child
}

// newDaemon prepares a daemon that does not run yet.
func newDaemon(t testing.TB, db *database, o options) *daemon {
	t.Helper()
	d := &daemon{t: t, options: o, setup: setup{
		Dir: t.TempDir(), URL: db.url, NATSURL: o.natsURL, Tables: o.tables, MaxRowBytes: o.maxRowBytes, MemoryLimit: o.memoryLimit,
		Slot: pgtest.SlotName(t), Publication: cdc.DefaultName,
	}}
	if o.via != nil {
		d.setup.URL = o.via.url
	}
	t.Cleanup(func() {
		if d.running() {
			d.stop()
		}
	})
	return d
}

// start follows a database in this process, and returns when it streams.
func start(t testing.TB, db *database, o options) *daemon {
	t.Helper()
	d := newDaemon(t, db, o)
	d.start()
	return d
}

// startChild follows a database in a child process, and returns when it streams.
func startChild(t testing.TB, db *database, o options) *daemon {
	t.Helper()
	d := newDaemon(t, db, o)
	d.startChild()
	return d
}

func (d *daemon) running() bool { return d.parts != nil || d.child != nil }

// start runs the daemon in this process and returns when it streams.
func (d *daemon) start() {
	d.t.Helper()
	d.launch()
	d.streaming()
}

// launch runs the daemon in this process and returns at once.
func (d *daemon) launch() {
	d.t.Helper()
	if err := d.tryLaunch(); err != nil {
		d.t.Fatalf("start the daemon: %v", err)
	}
}

// tryLaunch is launch that returns what hinders the parts from opening.
func (d *daemon) tryLaunch() error {
	d.t.Helper()
	if d.running() {
		d.t.Fatal("the daemon runs already")
	}
	p, err := d.setup.open(context.Background(), newLogger(d.t), d.options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.parts, d.cancel, d.ended, d.err = p, cancel, make(chan struct{}), nil
	ended := d.ended
	go func() {
		d.err = p.run(ctx)
		close(ended)
	}()
	return nil
}

// stop ends the daemon in order. That it had ended with an error fails the test.
func (d *daemon) stop() {
	d.t.Helper()
	if d.child != nil {
		d.child.stop()
		d.child = nil
		return
	}
	if d.parts == nil {
		return
	}
	d.cancel()
	if err := d.end(); err != nil {
		d.t.Errorf("the daemon ended with: %v", err)
	}
}

// end waits for the daemon's end, closes its parts, and returns its error.
func (d *daemon) end() error {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience()):
		d.t.Fatalf("the daemon did not end within %s", patience())
	}
	d.cancel()
	if err := d.parts.close(); err != nil {
		d.t.Errorf("close the daemon's parts: %v", err)
	}
	d.parts = nil
	return d.err
}

// failure waits until the daemon stops of itself, and returns why.
func (d *daemon) failure() error {
	d.t.Helper()
	err := d.end()
	if err == nil {
		d.t.Fatal("the daemon ended without an error")
	}
	return err
}

// restart stops the daemon in order and starts it again.
func (d *daemon) restart() {
	d.t.Helper()
	d.stop()
	d.start()
}

// crash kills a child with SIGKILL.
func (d *daemon) crash() {
	d.t.Helper()
	if d.child == nil {
		d.t.Fatal("only a daemon in a child can crash: startChild")
	}
	d.child.kill()
	d.child = nil
}

// until waits until the source's status is as wanted.
func (d *daemon) until(what string, ok func(cdc.Status) bool) {
	d.t.Helper()
	d.await(what, func() bool { return ok(d.source.Status()) })
}

func (d *daemon) streaming() {
	d.t.Helper()
	d.until("the source streams", func(s cdc.Status) bool { return s.State == cdc.Streaming })
}

// await waits for a condition while the daemon runs.
func (d *daemon) await(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.NewTimer(patience())
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-d.ended:
			d.t.Fatalf("the daemon ended while the test waited until %s: %v", what, d.err)
		case <-deadline.C:
			d.t.Fatalf("not so after %s: %s; %+v", patience(), what, d.source.Status())
		case <-tick.C:
		}
	}
}

// catchUp returns when everything that is committed now is applied, and on
// disk in the store; the version is the newest closed moment then.
func (d *daemon) catchUp() change.Version {
	d.t.Helper()
	if d.child != nil {
		return d.child.catchUp()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	ended := d.ended
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	version, err := caughtUp(ctx, d.parts)
	if err != nil {
		select {
		case <-ended:
			d.t.Fatalf("catch up: the daemon ended: %v", d.err)
		default:
			d.t.Fatalf("catch up: %v; %+v", err, d.source.Status())
		}
	}
	return version
}

// eventually waits for a condition that the daemon in this process is not
// needed for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience())
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not so after %s: %s", patience(), what)
		case <-tick.C:
		}
	}
}

func caughtUp(ctx context.Context, p *parts) (change.Version, error) {
	lsn, err := p.source.Barrier(ctx)
	if err != nil {
		return 0, err
	}
	return p.store.Wait(ctx, lsn)
}

// lines is where log lines of the code under test go while a test runs.
type lines struct{ t testing.TB }

func (w lines) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// newLogger shows errors, and with -v all that is worth telling.
func newLogger(t testing.TB) *slog.Logger {
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(lines{t}, &slog.HandlerOptions{Level: level}))
}

// childLogger is a child's.
func childLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
