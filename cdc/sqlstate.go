package cdc

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATE codes that something here is decided by (PostgreSQL manual,
// appendix A).
const (
	stateInsufficientPrivilege = "42501"
	stateInvalidPassword       = "28P01"
	stateInvalidAuthorization  = "28000"
	stateNoSuchDatabase        = "3D000"
	stateUndefinedObject       = "42704"
	stateObjectInUse           = "55006"
	stateDuplicateObject       = "42710"
	stateNotInPrerequisite     = "55000"
	stateUndefinedFile         = "58P01"
	stateCannotConnectNow      = "57P03"
	stateTooManyConnections    = "53300"
	stateConfigurationLimit    = "53400"
	stateProtocolViolation     = "08P01"
)

// sqlState returns the SQLSTATE of an error that came from the server, "" for
// any other error.
func sqlState(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// class is the first two characters of an SQLSTATE.
func class(state string) string { return state[:min(2, len(state))] }

// passing says whether an error may go away by itself, so that trying again
// makes sense. What the server says is judged by its SQLSTATE alone; anything
// that is not known to pass is permanent.
func passing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var stream *streamError
	if errors.As(err, &stream) {
		return false
	}
	var retry *retryError
	if errors.As(err, &retry) {
		return true
	}
	if state := sqlState(err); state != "" {
		switch state {
		case stateConfigurationLimit: // all replication slots are in use, say
			return false
		case "57P01", // admin shutdown
			"57P02",               // crash shutdown
			stateCannotConnectNow, // starting up, shutting down
			"57P05",               // idle session timeout
			"57014",               // query cancelled by an administrator
			"25P03":               // idle in transaction timeout
			return true
		}
		switch class(state) {
		case "08", // the connection broke
			"40", // serialisation, deadlock
			"53": // too many connections, out of memory, disk full
			return true
		}
		// Also a password that is refused after it was good once: whoever changes
		// it wants to hear of us, and a server locks out who asks for ever.
		return false
	}
	var network net.Error
	switch {
	case refusedByTLS(err):
		return false
	case errors.As(err, &network),
		errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE),
		errors.Is(err, syscall.ECONNREFUSED):
		return true
	}
	return false
}

// retryError marks an error of our own as one that passes: what was begun is
// begun again from the start.
type retryError struct{ err error }

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }
