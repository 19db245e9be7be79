package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
	"dreamfeed/snapshot/pit"
)

// asOfNow is the --as-of that asks for everything that is committed by now.
const asOfNow = "now"

// asOf is the moment that --as-of asks for.
type asOf struct {
	text string
	// version is the moment; 0 is the newest closed one, or that of a barrier.
	version change.Version
	barrier bool
}

// parseAsOf reads --as-of.
func parseAsOf(text string) (asOf, error) {
	switch text {
	case "":
		return asOf{}, nil
	case asOfNow:
		return asOf{text: text, barrier: true}, nil
	}
	t, err := change.ParseMoment(text)
	if err != nil {
		return asOf{}, &cli.UsageError{Err: fmt.Errorf("--as-of %w, or now", err)}
	}
	// Before 1970 there are no versions; what the store says of the first one
	// is as true of all before it.
	return asOf{text: text, version: change.VersionAt(time.UnixMicro(max(1, t.UnixMicro())))}, nil
}

// refused adds to what a store says of a moment that it cannot show what it
// cannot know: the moment as it was asked for, and the present one.
func (a asOf) refused(err error, now time.Time) error {
	var open *featurestore.NotClosedError
	if errors.As(err, &open) && open.AsOf > change.VersionAt(now) {
		return fmt.Errorf("--as-of %s lies in the future: the newest closed moment is %s: choose that or an earlier one, or --as-of now", a.text, open.Newest)
	}
	var early *featurestore.TooEarlyError
	if errors.As(err, &early) && early.AsOf == 1 {
		return fmt.Errorf("--as-of %s lies before the history of any store: the earliest possible is %s", a.text, early.Earliest)
	}
	return err
}

// barrier asks the daemon for the moment up to which everything that was
// committed on the source before the call is applied.
func barrier(ctx context.Context, dataDir string, wait time.Duration, logger *slog.Logger) (change.Version, error) {
	endpoint, err := featurestore.FindEndpoint(dataDir, "--as-of now asks the one that runs how far the source is applied")
	if err != nil {
		return 0, err
	}
	client := endpoint.Client()
	defer client.Close()
	answer, err := client.Barrier(ctx, wait)
	if err != nil {
		return 0, endpoint.Unanswered(fmt.Errorf("--as-of now: %w", err))
	}
	logger.Info("everything that was committed is applied", "lsn", answer.LSN.String(), "version", answer.Version.String())
	return answer.Version, nil
}

// openView opens the store as of a moment, with the history of a window before
// it: through the daemon that holds it, or from its directory when none does. The
// directory's lock is the truth, the daemon's file only a hint, since a daemon
// that was killed leaves it behind.
func openView(ctx context.Context, dataDir string, version change.Version, window time.Duration, logger *slog.Logger) (pit.View, error) {
	var unanswered error
	if endpoint, err := featurestore.ReadEndpoint(dataDir); err == nil {
		view, err := endpoint.DialWithin(ctx, version, window)
		if err == nil {
			logger.Debug("reading through the daemon", "address", endpoint.Address, "pid", endpoint.PID)
			return view, nil
		}
		if featurestore.Answered(err) {
			return nil, err
		}
		unanswered = err
	}
	store, err := featurestore.OpenUnanswered(dataDir, unanswered, featurestore.Options{Logger: logger})
	if err != nil {
		return nil, err
	}
	view, err := store.ViewWithin(version, window)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &localView{View: view, store: store}, nil
}

// localView is a view of a store that is closed with it.
type localView struct {
	pit.View
	store *featurestore.Store
}

// Close closes the view and the store.
func (v *localView) Close() error { return errors.Join(v.View.Close(), v.store.Close()) }
