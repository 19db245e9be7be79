package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
	"dreamfeed/snapshot/pit"
)

// parseAsOf reads --as-of; the zero version is the newest applied moment.
func parseAsOf(text string, now time.Time) (change.Version, error) {
	if text == "" {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, &cli.UsageError{Err: fmt.Errorf("--as-of %q is no moment: write it like 2026-11-01T00:00:00Z, with its zone", text)}
	}
	if t.After(now) {
		return 0, fmt.Errorf("--as-of %s lies in the future: a dataset can only be built of a moment that has passed", text)
	}
	if !t.After(time.Unix(0, 0)) {
		return 0, fmt.Errorf("--as-of %s lies before the history of any store: choose a moment after its first backfill", text)
	}
	return change.VersionAt(t), nil
}

// openView opens the store as of a moment: through the daemon that holds it,
// or from its directory when none does. The directory's lock is the truth, the
// daemon's file only a hint, since a daemon that was killed leaves it behind.
func openView(ctx context.Context, dataDir string, asOf change.Version, logger *slog.Logger) (pit.View, error) {
	var unanswered error
	if endpoint, err := featurestore.ReadEndpoint(dataDir); err == nil {
		view, err := endpoint.Dial(ctx, asOf)
		if err == nil {
			logger.Debug("reading through the daemon", "address", endpoint.Address, "pid", endpoint.PID)
			return view, nil
		}
		if answered(err) {
			return nil, err
		}
		unanswered = err
	}
	store, err := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{Logger: logger, ReadOnly: true})
	var locked *featurestore.LockedError
	if errors.As(err, &locked) && unanswered != nil {
		return nil, fmt.Errorf("process %d holds the store and does not answer for it: %w: look at its log, or stop it and try again", locked.PID, unanswered)
	}
	if err != nil {
		return nil, err
	}
	view, err := store.View(asOf)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &localView{View: view, store: store}, nil
}

// answered says whether an error is what a daemon said about its store. Any
// other one may come from another program that has the address by now.
func answered(err error) bool {
	var open *featurestore.NotClosedError
	var early *featurestore.TooEarlyError
	return errors.Is(err, featurestore.ErrEmpty) || errors.As(err, &open) || errors.As(err, &early)
}

// localView is a view of a store that is closed with it.
type localView struct {
	pit.View
	store *featurestore.Store
}

// Close closes the view and the store.
func (v *localView) Close() error { return errors.Join(v.View.Close(), v.store.Close()) }
