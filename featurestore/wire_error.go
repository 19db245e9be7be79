package featurestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"dreamfeed/internal/change"
)

// wireError is an error on its way to another process: its sentence, and what
// a caller needs to tell it apart.
type wireError struct {
	Code    string         `json:"code,omitempty"`
	Message string         `json:"message"`
	AsOf    change.Version `json:"as_of,omitempty"`
	Limit   change.Version `json:"limit,omitempty"`
	Entity  string         `json:"entity,omitempty"`
}

const (
	codeEmpty     = "empty"
	codeNotClosed = "not_closed"
	codeTooEarly  = "too_early"
	codeEntity    = "entity"
	codeClosed    = "closed"
	codeToken     = "token"
	codeRequest   = "request"
)

// RemoteError is an error of the process that serves the view, in its words.
type RemoteError struct{ Message string }

func (e *RemoteError) Error() string { return "the daemon answered: " + e.Message }

// ErrToken is returned when the daemon refuses the bearer token.
var ErrToken = errors.New("the daemon refuses the token: it was started anew meanwhile, or the endpoint file is another one's: try again")

func encodeWireError(err error) wireError {
	w := wireError{Message: err.Error()}
	var notClosed *NotClosedError
	var early *TooEarlyError
	var entity *EntityError
	switch {
	case errors.Is(err, ErrEmpty):
		w.Code = codeEmpty
	case errors.Is(err, ErrClosed):
		w.Code = codeClosed
	case errors.As(err, &notClosed):
		w.Code, w.AsOf, w.Limit = codeNotClosed, notClosed.AsOf, notClosed.Newest
	case errors.As(err, &early):
		w.Code, w.AsOf, w.Limit = codeTooEarly, early.AsOf, early.Earliest
	case errors.As(err, &entity):
		w.Code, w.Entity = codeEntity, entity.Entity
	}
	return w
}

// status is the HTTP status that goes with the error.
func (w *wireError) status() int {
	switch w.Code {
	case codeEmpty, codeClosed:
		return http.StatusServiceUnavailable
	case codeNotClosed, codeTooEarly:
		return http.StatusConflict
	case codeEntity:
		return http.StatusNotFound
	case codeToken:
		return http.StatusUnauthorized
	case codeRequest:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func decodeWireError(data []byte) error {
	var w wireError
	if err := json.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("%w: an error that cannot be read: %w", ErrCut, err)
	}
	switch w.Code {
	case codeEmpty:
		return ErrEmpty
	case codeClosed:
		return ErrClosed
	case codeToken:
		return ErrToken
	case codeNotClosed:
		return &NotClosedError{AsOf: w.AsOf, Newest: w.Limit}
	case codeTooEarly:
		return &TooEarlyError{AsOf: w.AsOf, Earliest: w.Limit}
	case codeEntity:
		return &EntityError{Entity: w.Entity}
	}
	return &RemoteError{Message: w.Message}
}
