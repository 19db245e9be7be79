package main

import (
	"errors"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/snapshot/online"
	"dreamfeed/snapshot/pit"
)

// onlineStore is a feature store as the online features ask it.
type onlineStore struct{ *featurestore.Store }

// Newest is 0 before the first backfill is complete.
func (s onlineStore) Newest() (change.Version, error) {
	newest, err := s.Store.Newest()
	if errors.Is(err, featurestore.ErrEmpty) {
		return 0, nil
	}
	return newest, err
}

// View refuses a moment that the store cannot show as a fault of the question.
func (s onlineStore) View(asOf change.Version, window time.Duration) (pit.View, error) {
	view, err := s.ViewWithin(asOf, window)
	switch {
	case err == nil:
		return view, nil
	case errors.Is(err, featurestore.ErrEmpty):
		return nil, online.ErrEmpty
	case answered(err):
		return nil, &online.RequestError{Err: err}
	}
	return nil, err
}

func (s onlineStore) Watch(entities []string, limit int) (online.Watch, error) {
	return s.Store.Watch(entities, limit)
}

// answered says whether an error is about the moment that was asked for.
func answered(err error) bool {
	var open *featurestore.NotClosedError
	var early *featurestore.TooEarlyError
	var gap *featurestore.GapError
	return errors.As(err, &open) || errors.As(err, &early) || errors.As(err, &gap)
}
