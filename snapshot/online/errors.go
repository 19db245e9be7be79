package online

import (
	"errors"
	"fmt"
	"time"
)

// ErrEmpty says that there is nothing to answer from yet.
var ErrEmpty = errors.New("the store holds no complete backfill yet: wait until /readyz answers")

// errClosed says that the service has ended.
var errClosed = errors.New("the online features are closing")

// RequestError says that a question cannot be answered as it was asked. Its text
// is for who asked; it may repeat names that the question gave, and is not logged.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return e.Err.Error() }
func (e *RequestError) Unwrap() error { return e.Err }

func refusal(format string, args ...any) error {
	return &RequestError{fmt.Errorf(format, args...)}
}

// StaleError says that the store lags by more than an answer may.
type StaleError struct {
	Lag, Limit time.Duration
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("the store lags by %s, and an answer may be at most %s old: ask again when it has caught up, or allow more (--max-staleness, max_staleness)",
		e.Lag.Round(time.Millisecond), e.Limit)
}
