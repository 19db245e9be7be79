package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"dreamfeed/internal/cli"
	"dreamfeed/internal/secret"
)

// natsFlags say how an external NATS server is reached. A user and password, or
// a token, may stand in the URL when it comes from the environment.
type natsFlags struct {
	NATSURL   string `name:"nats-url" env:"NATS_URL" secret:"nats" placeholder:"URL" help:"External NATS server with JetStream, or several of a cluster; tls://… for TLS. Without it one runs inside this process."`
	NATSCA    string `name:"nats-ca" env:"NATS_CA" placeholder:"FILE" help:"Certificates of the authorities that may sign the NATS server's (PEM); TLS is then required."`
	NATSCert  string `name:"nats-cert" env:"NATS_CERT" placeholder:"FILE" help:"Client certificate for the NATS server (PEM)."`
	NATSKey   string `name:"nats-key" env:"NATS_KEY" placeholder:"FILE" help:"Key of the client certificate (PEM), readable by its owner only."`
	NATSCreds string `name:"nats-creds" env:"NATS_CREDS" placeholder:"FILE" help:"Credentials file with the user's JWT and seed, readable by its owner only."`
	NATSNKey  string `name:"nats-nkey" env:"NATS_NKEY" placeholder:"FILE" help:"File with an nkey user seed, readable by its owner only."`
}

// options reads the files that the flags name. A fault in them is a
// *cli.UsageError: starting again does not mend it.
func (f *natsFlags) options() (_ []nats.Option, err error) {
	defer func() {
		if err != nil {
			err = &cli.UsageError{Err: err}
		}
	}()
	files := []struct{ flag, path string }{
		{"--nats-ca", f.NATSCA}, {"--nats-cert", f.NATSCert}, {"--nats-key", f.NATSKey}, {"--nats-creds", f.NATSCreds}, {"--nats-nkey", f.NATSNKey},
	}
	for _, file := range files {
		if file.path != "" && f.NATSURL == "" {
			return nil, fmt.Errorf("%s is for an external NATS server: name it with --nats-url, or leave the flag out", file.flag)
		}
	}
	switch {
	case (f.NATSCert == "") != (f.NATSKey == ""):
		return nil, errors.New("a client certificate needs both --nats-cert and --nats-key")
	case f.NATSCreds != "" && f.NATSNKey != "":
		return nil, errors.New("--nats-creds and --nats-nkey are two ways to say who connects: give one of them")
	case (f.NATSCreds != "" || f.NATSNKey != "") && secret.InNATSURL(f.NATSURL):
		return nil, errors.New("the NATS URL names a user or a token, and a credentials file or nkey another one: give one of them")
	}
	if f.NATSURL == "" {
		return nil, nil
	}
	// Credentials that are refused for a while, or run out and are renewed in
	// their file, do not end the daemon: it connects again with what is there.
	options := []nats.Option{nats.IgnoreAuthErrorAbort()}
	if f.NATSCA != "" || f.NATSCert != "" {
		config, err := f.tls()
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Secure(config))
	} else if strings.Contains(f.NATSURL, "tls://") {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	if f.NATSCreds != "" {
		if err := privateFile("--nats-creds", f.NATSCreds); err != nil {
			return nil, err
		}
		options = append(options, nats.UserCredentials(f.NATSCreds))
	}
	if f.NATSNKey != "" {
		if err := privateFile("--nats-nkey", f.NATSNKey); err != nil {
			return nil, err
		}
		option, err := nats.NkeyOptionFromSeed(f.NATSNKey)
		if err != nil {
			// The library's error is left out: it was made from what the file holds.
			return nil, fmt.Errorf("--nats-nkey: %s holds no nkey user seed (SU…): name the right file", f.NATSNKey)
		}
		options = append(options, option)
	}
	return options, nil
}

func (f *natsFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.NATSCA != "" {
		pool, err := authorities("--nats-ca", f.NATSCA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if f.NATSCert != "" {
		read := func() (*tls.Certificate, error) {
			pair, err := keyPair("--nats-cert", f.NATSCert, "--nats-key", f.NATSKey)
			return &pair, err
		}
		if _, err := read(); err != nil {
			return nil, err
		}
		// Read anew for each connection: it may have been renewed.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() }
	}
	return config, nil
}

// authorities reads the certificates that a flag names.
func authorities(flag, path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fileFault(flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: %s holds no certificate: name the authority's certificate in PEM form", flag, path)
	}
	return pool, nil
}

// keyPair reads a certificate and its key.
func keyPair(certFlag, cert, keyFlag, key string) (tls.Certificate, error) {
	if err := privateFile(keyFlag, key); err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		return tls.Certificate{}, fileFault(certFlag, err)
	case err != nil:
		return tls.Certificate{}, fmt.Errorf("%s %s and %s %s do not belong together, or one of them is none: %w", certFlag, cert, keyFlag, key, err)
	}
	return pair, nil
}

// privateFile checks that a flag's file is there and nobody else may read it.
func privateFile(flag, path string) error {
	if err := secret.Private(path); err != nil {
		return fileFault(flag, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fileFault(flag, err)
	}
	return f.Close()
}

// fileFault says what is wrong with the file that a flag names.
func fileFault(flag string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: read %s: %w: correct the path, or let this user read it", flag, path.Path, path.Err)
	}
	return fmt.Errorf("%s: %w", flag, err)
}
