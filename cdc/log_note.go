package cdc

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// noteBytes is the most that a note may take: the server bounds all metadata
// of a stream together at 128 KiB.
const noteBytes = 96 << 10

// note keeps a text with the stream, in its metadata, beside the incarnation. A
// text that is too long is not kept.
func (l *Log) note(ctx context.Context, key, text string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg, err := l.config(ctx)
	if err != nil {
		return err
	}
	if len(text) > noteBytes {
		text = ""
	}
	if cfg.Metadata[key] == text {
		return nil
	}
	cfg.Metadata[key] = text
	if _, err := l.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("note %s with stream %s: %w", key, l.cfg.Name, err)
	}
	return nil
}

// noted returns what note has kept, "" for nothing.
func (l *Log) noted(ctx context.Context, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg, err := l.config(ctx)
	return cfg.Metadata[key], err
}

// config reads the stream's configuration.
func (l *Log) config(ctx context.Context) (jetstream.StreamConfig, error) {
	stream, err := l.js.Stream(ctx, l.cfg.Name)
	if err != nil {
		return jetstream.StreamConfig{}, fmt.Errorf("read the configuration of stream %s: %w", l.cfg.Name, err)
	}
	cfg := stream.CachedInfo().Config
	got, err := incarnationOf(cfg)
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	if got != l.incarnation {
		return jetstream.StreamConfig{}, &IncarnationError{Stream: l.cfg.Name, Want: l.incarnation, Got: got}
	}
	return cfg, nil
}
