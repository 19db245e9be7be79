package cdc

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// ConnectError says that the source could not be reached or refused us. It
// never holds the password.
type ConnectError struct {
	Host     string
	Port     uint16
	Database string
	User     string
	// Remedy is what helps.
	Remedy string
	Err    error
}

// Error is one sentence with the place, the cause and the remedy.
func (e *ConnectError) Error() string {
	cause := "no answer"
	var server *pgconn.PgError
	if errors.As(e.Err, &server) {
		cause = server.Message + " (SQLSTATE " + server.Code + ")"
	} else if e.Err != nil {
		cause = innermost(e.Err).Error()
	}
	return fmt.Sprintf("connect to PostgreSQL at %s:%d, database %s, as %s: %s: %s",
		e.Host, e.Port, e.Database, e.User, cause, e.Remedy)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// innermost follows an error chain to its cause, so that the message does not
// repeat what ConnectError says itself. Of several joined causes (one for each
// address tried) it follows the last.
func innermost(err error) error {
	for {
		switch e := err.(type) { //nolint:errorlint // it walks the chain itself
		case interface{ Unwrap() error }:
			next := e.Unwrap()
			if next == nil {
				return err
			}
			// The words of a network error are in its outer parts.
			if _, ok := err.(interface{ Timeout() bool }); ok {
				return err
			}
			err = next
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			if len(all) == 0 {
				return err
			}
			err = all[len(all)-1]
		default:
			return err
		}
	}
}

func connectError(ctx context.Context, err error, to *address, replication bool) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &ConnectError{
		Host: to.Host, Port: to.Port, Database: to.Database, User: to.User,
		Remedy: connectRemedy(err, to, replication), Err: err,
	}
}

// The parts of the server that refuse a role, as its errors name them: before
// authentication, by it, and after it (src/backend/libpq/auth.c).
const (
	routineAccess = "ClientAuthentication"
	routineFailed = "auth_failed"
)

// connectRemedy says what helps against an error on connecting.
func connectRemedy(err error, to *address, replication bool) string {
	role := quoteIdent(to.User)
	switch state := sqlState(err); {
	case state == stateInvalidPassword && to.Password == "":
		return fmt.Sprintf("no password was given: set PGPASSWORD, or add a line %s:%d:%s:%s:PASSWORD to ~/.pgpass or the file in PGPASSFILE, mode 0600",
			to.Host, to.Port, to.Database, to.User)
	case state == stateInvalidPassword:
		return "correct the password, which comes from " + to.passwordFrom
	case state == stateInvalidAuthorization:
		return refusedRemedy(err, to, replication)
	case state == stateNoSuchDatabase:
		return "correct the database name in the URL, or CREATE DATABASE " + quoteIdent(to.Database)
	case state == stateInsufficientPrivilege && replication:
		return "ALTER ROLE " + role + " REPLICATION"
	case state == stateInsufficientPrivilege:
		return "GRANT CONNECT ON DATABASE " + quoteIdent(to.Database) + " TO " + role
	case state == stateTooManyConnections:
		return "raise max_connections or max_wal_senders, or end idle sessions"
	case state == stateCannotConnectNow:
		return "wait until the server has started"
	case strings.HasPrefix(state, "42"), strings.HasPrefix(state, "22"):
		return "the server, or a pooler before it, refused a session setting: connect to PostgreSQL itself, not through a pooler"
	}
	if remedy := tlsRemedy(err, to); remedy != "" {
		return remedy
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "correct the host name in the database URL"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start PostgreSQL there, or correct host and port in the database URL"
	case errors.Is(err, context.DeadlineExceeded):
		return "check that a firewall lets the connection through"
	case to.ChannelBinding == "require":
		return "channel_binding=require needs TLS and a role with a scram-sha-256 password"
	case to.RequireAuth != "":
		return "pg_hba.conf there asks for another kind of authentication than require_auth allows: change one of them"
	}
	return "check host, port and sslmode in the database URL"
}

// refusedRemedy says what helps when the server refuses a role without having
// been shown a wrong password.
func refusedRemedy(err error, to *address, replication bool) string {
	var server *pgconn.PgError
	errors.As(err, &server)
	role, certified := quoteIdent(to.User), to.certified()
	switch {
	case server.Routine == routineAccess && to.TLSConfig == nil:
		return "let the role connect in pg_hba.conf; if a hostssl line there does, connect with sslmode=verify-full"
	case server.Routine == routineAccess && !certified:
		return "let the role connect in pg_hba.conf; if that asks for a client certificate, name one with sslcert and its key with sslkey"
	case server.Routine == routineAccess:
		return "let the role connect in pg_hba.conf; the client certificate counts if an authority in the server's ssl_ca_file has signed it"
	case server.Routine == routineFailed && certified:
		return "the client certificate in sslcert must be made out to the role " + role + " (its common name), or pg_ident.conf must map it to the role"
	case replication:
		return "add a pg_hba.conf line that lets the role connect to the database, and give it the right: ALTER ROLE " + role + " REPLICATION"
	}
	return "create the role or ALTER ROLE " + role + " LOGIN, and let it connect in pg_hba.conf"
}

// certified says whether a client certificate is at hand.
func (a *address) certified() bool { return a.TLSConfig != nil && len(a.TLSConfig.Certificates) > 0 }

// refusedTLS is what pgconn says of a server without TLS; it has no type.
const refusedTLS = "server refused TLS connection"

// refusedByTLS says whether the other side ended a handshake with an alert,
// which trying again does not change.
func refusedByTLS(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// tlsRemedy says what helps against an error of TLS, "" against any other.
func tlsRemedy(err error, to *address) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return "the authority that signed the server's certificate is not trusted: name its certificate with sslrootcert"
	case errors.As(err, &name):
		return "connect by a name that stands in the server's certificate, or let it be made anew for " + to.Host
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate is out of date: renew it, or set this machine's clock right"
	case errors.As(err, &invalid):
		return "the server's certificate cannot be used for a server: let it be made anew"
	case refusedByTLS(err) && to.certified():
		return "the server does not accept the client certificate: sslcert must be signed by an authority in its ssl_ca_file, and be in date"
	case refusedByTLS(err):
		return "the server ended the TLS handshake: compare ssl_min_protocol_version on both sides, and see its log"
	case innermost(err).Error() == refusedTLS:
		return "the server does not speak TLS: set ssl = on there with a certificate, or, where nobody can listen, connect with sslmode=disable"
	}
	return ""
}
