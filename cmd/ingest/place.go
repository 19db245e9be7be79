package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// placeOf is where a stream goes on behind a store.
func placeOf(mark featurestore.Watermark) cdc.Place {
	return cdc.Place{
		Incarnation: mark.Incarnation, Sequence: mark.Sequence,
		State: change.Header{
			Origin: mark.Origin, Epoch: mark.Epoch, First: mark.Last, Last: mark.Last,
			EndLSN: mark.EndLSN, Resume: mark.EndLSN,
			Part: mark.Part, Open: mark.OpenVersion != 0, OpenKind: mark.OpenKind, NextOrdinal: mark.NextOrdinal,
		},
	}
}

// follow opens the stream at the store's own place, and returns the epoch of the
// feed. It does so before anything is asked of the source, so that a stream and
// a store that do not belong together leave nothing behind there. An external
// stream that has lost what the store has applied is renewed from the store.
func follow(ctx context.Context, feed *cdc.Log, store *featurestore.Store, dataDir string, logger *slog.Logger) (*cdc.Reader, change.Epoch, error) {
	at := placeOf(store.Watermark())
	after, err := feed.Locate(ctx, at)
	if !feed.Embedded() {
		if refused := refuseUnapplied(ctx, feed, at, err, dataDir, logger); refused != nil {
			return nil, 0, refused
		}
	}
	// PostgreSQL was confirmed what came behind the moment of a rebuilt or restored
	// store: it could not send it again, and the stream may still serve a newer one.
	if err != nil && store.Until() == 0 && !store.Restored() && feed.Renewable(at, err) {
		reason := err.Error()
		if other := (*cdc.OtherStreamError)(nil); errors.As(err, &other) {
			reason = other.Problem() // its remedy is not needed
		}
		logger.Warn("the external stream is renewed from the store, and PostgreSQL sends again what it lacks", "reason", reason, "applied", at.State.Last.String(), "lsn", at.State.Resume.String())
		if err := feed.Renew(ctx, at); err != nil {
			return nil, 0, err
		}
		after, err = feed.Locate(ctx, at)
	}
	if err != nil {
		return nil, 0, unfit(err)
	}
	last, _, _, err := feed.Last(ctx)
	if err != nil {
		return nil, 0, unfit(err)
	}
	reader, err := feed.Reader(ctx, after)
	if err != nil {
		return nil, 0, unfit(err)
	}
	return reader, max(last.Epoch, 1), nil
}

// refuseUnapplied keeps an external stream from being begun, or renewed, for a store that
// has not applied all of the embedded stream that it followed before: PostgreSQL was told
// to forget that, and a store that was killed goes back to what it has in tables.
func refuseUnapplied(ctx context.Context, feed *cdc.Log, at cdc.Place, located error, dataDir string, logger *slog.Logger) error {
	if located == nil {
		state, err := feed.State(ctx)
		if err != nil || state.Messages > 0 {
			return err
		}
	} else if !feed.Renewable(at, located) {
		return nil // it is refused anyhow
	}
	dir := filepath.Join(dataDir, "stream")
	p, err := openedStream(ctx, at, cdc.LogConfig{Dir: dir, Existing: true, Logger: logger})
	if ofStream(err) {
		return nil // none that goes on where the store stands
	}
	if err != nil {
		return fmt.Errorf("look for changes in %s that the store has not applied: %w", dir, err)
	}
	if err := p.close(); err != nil {
		return err
	}
	if p.Last > p.After {
		return fmt.Errorf("the embedded stream in %s holds %d messages that the store has not applied, and PostgreSQL may have forgotten: run ingest --until-caught-up without --nats-url first; if they are not wanted, remove %s",
			dir, p.Last-p.After, dir)
	}
	return nil
}

// unfit adds to an error of the stream what mends it, if the error does not say
// so itself.
func unfit(err error) error {
	if !cdc.Damaged(err) {
		return err
	}
	return fmt.Errorf("%w: restore a newer backup of the store, or the stream and the store that belong together, or begin the feed anew with: ingest reset --confirm", err)
}

// durableLSN is what the store lets PostgreSQL forget, for an external stream:
// nothing while the store still stands in an earlier epoch, since its position
// may be another server's.
func durableLSN(store *featurestore.Store, epoch change.Epoch) func() change.LSN {
	return func() change.LSN {
		mark := store.Watermark()
		if mark.Epoch != epoch {
			return 0
		}
		return mark.EndLSN
	}
}
