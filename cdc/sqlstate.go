package cdc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
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
	stateNotInPrerequisite     = "55000"
	stateUndefinedFile         = "58P01"
	stateCannotConnectNow      = "57P03"
	stateTooManyConnections    = "53300"
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
		switch state[:2] {
		case "08", // the connection broke
			"40", // serialisation, deadlock
			"53": // too many connections, out of memory, disk full
			return true
		}
		switch state {
		case "57P01", // admin shutdown
			"57P02", // crash shutdown
			"57P03", // cannot connect now: starting up, shutting down
			"57P05", // idle session timeout
			"57014", // query cancelled by an administrator
			"25P03": // idle in transaction timeout
			return true
		}
		return false
	}
	var network net.Error
	switch {
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

// connectRemedy says what helps against an error on connecting.
func connectRemedy(err error, cfg *pgconn.Config, replication bool) string {
	switch state := sqlState(err); {
	case state == stateInvalidPassword:
		return "correct the password in the database URL or in ~/.pgpass"
	case state == stateInvalidAuthorization && replication:
		return "add a pg_hba.conf line that lets the role connect to the database, and give it the right: ALTER ROLE " + quoteIdent(cfg.User) + " REPLICATION"
	case state == stateInvalidAuthorization:
		return "create the role or ALTER ROLE " + quoteIdent(cfg.User) + " LOGIN, and let it connect in pg_hba.conf"
	case state == stateNoSuchDatabase:
		return "correct the database name in the URL, or CREATE DATABASE " + quoteIdent(cfg.Database)
	case state == stateInsufficientPrivilege && replication:
		return "ALTER ROLE " + quoteIdent(cfg.User) + " REPLICATION"
	case state == stateInsufficientPrivilege:
		return "GRANT CONNECT ON DATABASE " + quoteIdent(cfg.Database) + " TO " + quoteIdent(cfg.User)
	case state == stateTooManyConnections:
		return "raise max_connections or max_wal_senders, or end idle sessions"
	case state == stateCannotConnectNow:
		return "wait until the server has started"
	case strings.HasPrefix(state, "42"), strings.HasPrefix(state, "22"):
		return "the server, or a pooler before it, refused a session setting: connect to PostgreSQL itself, not through a pooler"
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "correct the host name in the database URL"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start PostgreSQL there, or correct host and port in the database URL"
	case errors.Is(err, context.DeadlineExceeded):
		return "check that a firewall lets the connection through"
	}
	return "check host, port and sslmode in the database URL"
}
