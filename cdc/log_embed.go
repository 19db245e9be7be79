package cdc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"dreamfeed/internal/durable"
)

const (
	// maxStore is the embedded server's own limit on disk, in bytes: none. The
	// stream has a limit; with one of the server below it, the server would not
	// recover a stream whose limit was lowered.
	maxStore = 1 << 60
	// maxMemory is what the server may keep in memory, in bytes. Nothing of a
	// feed is: only the state of its consumers.
	maxMemory = 64 << 20
)

// embed starts a JetStream server inside the process that listens nowhere and
// syncs every message before it acknowledges it (I1), and connects to it.
func (l *Log) embed(ctx context.Context) error {
	if _, err := os.Stat(l.cfg.Dir); l.cfg.Existing && errors.Is(err, os.ErrNotExist) {
		return &NoStreamError{Dir: l.cfg.Dir, Stream: l.cfg.Name}
	}
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(l.cfg.Dir)
	if err != nil {
		return err
	}
	l.lock = lock
	s, err := server.NewServer(&server.Options{
		ServerName:             "dreamfeed",
		DontListen:             true,
		NoSigs:                 true,
		JetStream:              true,
		StoreDir:               l.cfg.Dir,
		SyncAlways:             true,
		JetStreamMaxStore:      maxStore,
		JetStreamMaxMemory:     maxMemory,
		MaxPayload:             int32(l.cfg.MaxMessage),
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return fmt.Errorf("configure the embedded server: %w", err)
	}
	l.server = s
	debug := l.cfg.Logger.Enabled(ctx, slog.LevelDebug)
	s.SetLoggerV2(&serverLogger{l.cfg.Logger.With(slog.String("component", "nats-server"))}, debug, false, false)
	s.Start()
	deadline := time.Now().Add(requestTimeout)
	for !s.ReadyForConnections(100 * time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("the embedded server does not start: see the log of component nats-server")
		}
	}
	if !s.JetStreamEnabled() {
		return errors.New("the embedded server could not open its directory: see the log of component nats-server")
	}
	l.conn, err = nats.Connect("", l.options(nats.InProcessServer(s))...)
	return err
}

// unrecovered says whether the directory holds files of the stream, though the
// server does not know it: making it anew would bury them.
func (l *Log) unrecovered() bool {
	if l.server == nil {
		return false
	}
	_, err := os.Stat(l.streamDir())
	return err == nil
}

// streamDir is where the embedded server keeps the stream.
func (l *Log) streamDir() string {
	return filepath.Join(l.server.StoreDir(), "$G", "streams", l.cfg.Name)
}

// removeUnborn removes what a process that was killed while it made the stream
// has left: a directory that the server does not know, in whose files for
// messages not a byte stands.
func (l *Log) removeUnborn() (removed bool, err error) {
	if !l.unrecovered() {
		return false, nil
	}
	dir := l.streamDir()
	files, err := os.ReadDir(filepath.Join(dir, "msgs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return false, err
		}
		if info.IsDir() || info.Size() > 0 {
			return false, nil
		}
	}
	if err := l.cfg.Hook.Before(durable.RemoveFile); err != nil {
		return false, err
	}
	return true, os.RemoveAll(dir)
}

// serverLogger hands the embedded server's messages to slog. Its notices are
// of no use to an operator of this program.
type serverLogger struct{ log *slog.Logger }

// Noticef implements server.Logger.
func (l *serverLogger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf implements server.Logger.
func (l *serverLogger) Warnf(format string, v ...any) { l.log.Warn(fmt.Sprintf(format, v...)) }

// Fatalf implements server.Logger.
func (l *serverLogger) Fatalf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }

// Errorf implements server.Logger.
func (l *serverLogger) Errorf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }

// Debugf implements server.Logger.
func (l *serverLogger) Debugf(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Tracef implements server.Logger.
func (l *serverLogger) Tracef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
