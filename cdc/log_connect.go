package cdc

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

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

// shownURL is a server's address, or a list of them, without passwords and tokens.
func shownURL(list string) string {
	shown := strings.Split(list, ",")
	for i, text := range shown {
		at := strings.LastIndexByte(text, '@')
		if at < 0 {
			continue
		}
		scheme, _, found := strings.Cut(text, "://")
		if !found {
			scheme = "nats"
		}
		shown[i] = scheme + "://" + text[at+1:]
	}
	return strings.Join(shown, ",")
}

// withoutURL keeps what is wrong with a URL and leaves out the URL, which may
// hold a password.
func withoutURL(err error) error {
	var malformed *url.Error
	if errors.As(err, &malformed) {
		return malformed.Err
	}
	return err
}

// options are those of every connection, own ones behind.
func (l *Log) options(own ...nats.Option) []nats.Option {
	log := l.cfg.Logger
	return append([]nats.Option{
		nats.Name("dreamfeed"),
		nats.MaxReconnects(-1),
		// What is published while there is no connection fails at once, so that
		// the publisher knows that it must look what the stream holds.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the connection to the stream is lost", keyStream, l.cfg.Name, keyError, err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("the connection to the stream is back", keyStream, l.cfg.Name) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("the stream's connection reports an error", keyStream, l.cfg.Name, keyError, err)
		}),
	}, own...)
}
