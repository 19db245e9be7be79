package cdc

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// connectLogError says that an external server could not be reached or refused
// us. It never holds a password or a token.
func connectLogError(list string, err error) error {
	err = withoutURL(err)
	return fmt.Errorf("open stream: connect to the NATS server %s: %w: %s", shownURL(list), err, natsRemedy(err))
}

// natsRemedy says what helps against an error on connecting.
func natsRemedy(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrNkeysNotSupported):
		return "the server does not know this user: correct the user and password or token in the environment's NATS_URL, --nats-creds or --nats-nkey"
	case errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired):
		return "the credentials do not count any more: get new ones for --nats-creds"
	case errors.As(err, &unknown):
		return "the authority that signed the server's certificate is not trusted: name its certificate with --nats-ca"
	case errors.As(err, &name):
		return "connect by a name that stands in the server's certificate, or let it be made anew"
	case errors.As(err, &invalid):
		return "the server's certificate is out of date or not for servers: let it be made anew"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the server does not speak TLS: configure it there, or leave out --nats-ca and tls://"
	case refusedByTLS(err), errors.Is(err, nats.ErrTLS):
		return "the server asks for a client certificate that an authority of its own has signed: name it with --nats-cert and its key with --nats-key"
	}
	return "start one with JetStream there, or correct --nats-url"
}
