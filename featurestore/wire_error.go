package featurestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// wireError is an error on its way to another process: its sentence, and what
// a caller needs to tell it apart.
type wireError struct {
	Code    string         `json:"code,omitempty"`
	Message string         `json:"message"`
	AsOf    change.Version `json:"as_of,omitempty"`
	Limit   change.Version `json:"limit,omitempty"`
	Entity  string         `json:"entity,omitempty"`
	Gap     *history.Gap   `json:"gap,omitempty"`
	// Of *TooEarlyError.
	Window time.Duration `json:"window_ns,omitempty"`
	// Of *LeaseError, *LagError and *OriginError.
	Promised change.Version `json:"promised,omitempty"`
	LSN      change.LSN     `json:"lsn,omitempty"`
	Applied  change.LSN     `json:"applied,omitempty"`
	Waited   time.Duration  `json:"waited_ns,omitempty"`
	Store    change.Origin  `json:"store,omitzero"`
	Source   change.Origin  `json:"source,omitzero"`
	// Of *KeepError; What also of *BackupBaseError.
	Name string    `json:"name,omitempty"`
	Have *Keep     `json:"have,omitempty"`
	What string    `json:"what,omitempty"`
	Base *BackupID `json:"base,omitempty"`
}

const (
	codeEmpty     = "empty"
	codeNotClosed = "not_closed"
	codeTooEarly  = "too_early"
	codeGap       = "gap"
	codeEntity    = "entity"
	codeClosed    = "closed"
	codeToken     = "token"
	codeRequest   = "request"
	codeLease     = "lease"
	codeLag       = "lag"
	codeOrigin    = "origin"
	codeKeep      = "keep"
	codeBackup    = "backup"
)

// RemoteError is an error of the process that serves the view, in its words.
type RemoteError struct{ Message string }

func (e *RemoteError) Error() string { return "the daemon answered: " + e.Message }

// ErrToken is returned when the daemon refuses the bearer token.
var ErrToken = errors.New("the daemon refuses the token: it was started anew meanwhile, or the endpoint file is another one's: try again")

// Answered says whether an error is what a daemon said about its store, in a type
// of this package. Any other one, also ErrToken and *RemoteError, may come from another
// program that has the address by now.
func Answered(err error) bool {
	if err == nil {
		return false
	}
	code := encodeWireError(err).Code
	return code != "" && code != codeToken
}

func encodeWireError(err error) wireError {
	w := wireError{Message: err.Error()}
	var notClosed *NotClosedError
	var early *TooEarlyError
	var gap *GapError
	var entity *EntityError
	var lease *LeaseError
	var lag *LagError
	var origin *OriginError
	var keep *KeepError
	var base *BackupBaseError
	switch {
	case errors.Is(err, ErrEmpty):
		w.Code = codeEmpty
	case errors.Is(err, ErrClosed):
		w.Code = codeClosed
	case errors.Is(err, ErrToken):
		w.Code = codeToken
	case errors.As(err, &notClosed):
		w.Code, w.AsOf, w.Limit = codeNotClosed, notClosed.AsOf, notClosed.Newest
	case errors.As(err, &early):
		w.Code, w.AsOf, w.Limit, w.Window = codeTooEarly, early.AsOf, early.Earliest, early.Window
	case errors.As(err, &gap):
		w.Code, w.AsOf, w.Gap = codeGap, gap.AsOf, &gap.Gap
	case errors.As(err, &entity):
		w.Code, w.Entity = codeEntity, entity.Entity
	case errors.As(err, &lease):
		w.Code, w.AsOf, w.Promised, w.Limit = codeLease, lease.AsOf, lease.Promised, lease.Floor
	case errors.As(err, &lag):
		w.Code, w.LSN, w.Applied, w.Waited = codeLag, lag.LSN, lag.Applied, lag.Waited
	case errors.As(err, &origin):
		w.Code, w.Store, w.Source = codeOrigin, origin.Store, origin.Source
	case errors.As(err, &keep):
		w.Code, w.Name, w.Have, w.What = codeKeep, keep.Name, keep.Have, keep.What
	case errors.As(err, &base):
		w.Code, w.Base, w.What = codeBackup, &base.Base, base.What
	}
	return w
}

// status is the HTTP status that goes with the error.
func (w *wireError) status() int {
	switch w.Code {
	case codeEmpty, codeClosed:
		return http.StatusServiceUnavailable
	case codeNotClosed, codeTooEarly, codeGap, codeLease, codeLag, codeOrigin, codeKeep, codeBackup:
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
		return &TooEarlyError{AsOf: w.AsOf, Earliest: w.Limit, Window: w.Window}
	case codeGap:
		if w.Gap != nil {
			return &GapError{AsOf: w.AsOf, Gap: *w.Gap}
		}
	case codeEntity:
		return &EntityError{Entity: w.Entity}
	case codeLease:
		return &LeaseError{AsOf: w.AsOf, Promised: w.Promised, Floor: w.Limit}
	case codeLag:
		return &LagError{LSN: w.LSN, Applied: w.Applied, Waited: w.Waited}
	case codeOrigin:
		return &OriginError{Store: w.Store, Source: w.Source}
	case codeKeep:
		return &KeepError{Name: w.Name, Have: w.Have, What: w.What}
	case codeBackup:
		if w.Base != nil {
			return &BackupBaseError{Base: *w.Base, What: w.What}
		}
	}
	return &RemoteError{Message: w.Message}
}
