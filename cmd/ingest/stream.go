package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
)

// streamPath is where the daemon hands out its stream, behind a place, as it is
// stored. The question is a cdc.Place in JSON.
const streamPath = "/v1/stream"

// maxStreamQuestion bounds the body of a question, in bytes.
const maxStreamQuestion = 64 << 10

// stream answers streamPath: with what the stream holds behind a place now.
func (s *server) stream(w http.ResponseWriter, r *http.Request) {
	var at cdc.Place
	if err := json.NewDecoder(io.LimitReader(r.Body, maxStreamQuestion)).Decode(&at); err != nil {
		featurestore.Refuse(w, fmt.Errorf("read the question: %w", err))
		return
	}
	featurestore.ServeRecords(w, r, func(ctx context.Context, send func([]byte) error) error {
		err := s.sendStream(ctx, at, send)
		if fault, ok := cdc.AppendFault(nil, err); ok {
			return send(fault)
		}
		return err
	})
}

func (s *server) sendStream(ctx context.Context, at cdc.Place, send func([]byte) error) error {
	passage, err := s.Log.Follows(ctx, at)
	if err != nil {
		return err
	}
	messages, err := s.Log.Messages(ctx, passage)
	if err != nil {
		return err
	}
	defer messages.Close()
	if err := send(cdc.AppendPassage(nil, passage)); err != nil {
		return err
	}
	var record []byte
	for {
		m, err := messages.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		record = cdc.AppendMessage(record[:0], m)
		if err := send(record); err != nil {
			return err
		}
	}
}

// passage is what a stream holds behind a place, wherever it is read from.
type passage struct {
	cdc.Passage
	messages cdc.Messages
	close    func() error
}

// streamFlags say which stream is read, and how.
type streamFlags struct {
	dataDir     string
	nats        *natsFlags
	maxRowBytes int
}

// open opens the stream behind a place: of the NATS server that is named, else of
// the daemon that runs on the data directory, whose lock keeps everybody else
// out, else in the directory itself.
func (f streamFlags) open(ctx context.Context, at cdc.Place, logger *slog.Logger) (*passage, error) {
	if f.nats.NATSURL != "" {
		options, err := f.nats.options()
		if err != nil {
			return nil, err
		}
		return openedStream(ctx, at, cdc.LogConfig{URL: f.nats.NATSURL, Options: options, MaxRowBytes: f.maxRowBytes, Existing: true, Logger: logger})
	}
	var unanswered error
	endpoint, err := featurestore.ReadEndpoint(f.dataDir)
	if err == nil {
		p, err := askedStream(ctx, at, endpoint)
		if err == nil {
			logger.Debug("reading the stream through the daemon", "address", endpoint.Address, "pid", endpoint.PID)
			return p, nil
		}
		var told *featurestore.RemoteError
		if errors.As(err, &told) || ofStream(err) || ctx.Err() != nil {
			return nil, err
		}
		unanswered = err
	} else if !errors.Is(err, featurestore.ErrNoEndpoint) {
		return nil, err
	}
	p, err := openedStream(ctx, at, cdc.LogConfig{Dir: filepath.Join(f.dataDir, "stream"), MaxRowBytes: f.maxRowBytes, Existing: true, Logger: logger})
	if err != nil && unanswered != nil && !cdc.Lost(err) {
		return nil, fmt.Errorf("%w; the ingest that left its address there (process %d) does not answer: %w", err, endpoint.PID, unanswered)
	}
	return p, err
}

// ofStream says whether an error is about what the stream holds.
func ofStream(err error) bool {
	var other *cdc.OtherStreamError
	var none *cdc.NoStreamError
	return cdc.Lost(err) || errors.As(err, &other) || errors.As(err, &none)
}

// openedStream reads a stream that nobody else has open, or an external one.
func openedStream(ctx context.Context, at cdc.Place, cfg cdc.LogConfig) (_ *passage, err error) {
	feed, err := cdc.OpenLog(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, feed.Close())
		}
	}()
	follows, err := feed.Follows(ctx, at)
	if err != nil {
		return nil, err
	}
	messages, err := feed.Messages(ctx, follows)
	if err != nil {
		return nil, err
	}
	return &passage{follows, messages, func() error { messages.Close(); return feed.Close() }}, nil
}

// askedStream reads the stream of a daemon.
func askedStream(ctx context.Context, at cdc.Place, endpoint featurestore.Endpoint) (_ *passage, err error) {
	client := endpoint.Client()
	records, err := client.Records(ctx, streamPath, at)
	if err != nil {
		client.Close()
		return nil, err
	}
	closeAll := func() error {
		err := records.Close()
		client.Close()
		return err
	}
	remote := &remoteMessages{records: records}
	record, err := remote.next()
	if err == nil {
		remote.passage, err = cdc.ReadPassage(record)
	}
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	remote.at = remote.passage.After
	return &passage{remote.passage, remote, closeAll}, nil
}

// remoteMessages are messages that a daemon sends.
type remoteMessages struct {
	records *featurestore.Records
	passage cdc.Passage
	at      uint64
}

func (m *remoteMessages) next() ([]byte, error) {
	record, err := m.records.Next()
	if errors.Is(err, featurestore.ErrCut) {
		return nil, fmt.Errorf("the connection to the daemon was cut while its stream was read: look whether it still runs, and try again: %w", err)
	}
	return record, err
}

// Next implements cdc.Messages.
func (m *remoteMessages) Next(context.Context) (cdc.Message, error) {
	record, err := m.next()
	if err != nil {
		return cdc.Message{}, err
	}
	if record == nil {
		if m.at < m.passage.Last {
			return cdc.Message{}, &cdc.GapError{Stream: m.passage.Stream, Want: m.at + 1, First: m.passage.Last + 1}
		}
		return cdc.Message{}, io.EOF
	}
	message, err := cdc.ReadMessage(record)
	m.at = message.Sequence
	return message, err
}

// Ready implements cdc.Messages.
func (m *remoteMessages) Ready() bool { return m.records.Ready() }
