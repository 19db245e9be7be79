package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/secret"
)

// tokenVariable may hold the token itself; there is no flag for it, since
// arguments are visible.
const tokenVariable = "HTTP_TOKEN"

// minToken is the least length of a token in bytes: below, it can be guessed.
const minToken = 16

// listenFlags say where the daemon answers over HTTP, and whom (ADR 0008).
type listenFlags struct {
	Listen         string `name:"listen" env:"LISTEN" default:"127.0.0.1:8080" placeholder:"ADDRESS" help:"Address of health, metrics, status and views. One that other machines reach needs a token or client certificates."`
	HTTPTokenFile  string `name:"http-token-file" env:"HTTP_TOKEN_FILE" placeholder:"FILE" help:"File with the token that /metrics and /v1/status are asked with (Authorization: Bearer …), readable by its owner only; or the token itself in $HTTP_TOKEN."`
	TLSCert        string `name:"tls-cert" env:"TLS_CERT" placeholder:"FILE" help:"Certificate for HTTPS (PEM). A renewed one is taken up without a restart."`
	TLSKey         string `name:"tls-key" env:"TLS_KEY" placeholder:"FILE" help:"Key of the certificate (PEM), readable by its owner only."`
	TLSClientCA    string `name:"tls-client-ca" env:"TLS_CLIENT_CA" placeholder:"FILE" help:"Certificates of the authorities whose client certificates open /metrics and /v1/status (PEM)."`
	AllowPlainHTTP bool   `name:"allow-plain-http" env:"ALLOW_PLAIN_HTTP" help:"Accept that the token crosses the network in clear: behind a proxy that speaks TLS, or in a container whose port is published on a loopback address."`
}

// access is who may ask what, and under which certificate the daemon answers.
type access struct {
	listener net.Listener
	// address is where programs of this machine reach the listener.
	address string
	// guarded says that /metrics and /v1/status ask for token or certificate.
	guarded bool
	token   [sha256.Size]byte
	given   bool        // a token is set
	tls     *tls.Config // nil without TLS
	// local is the PEM text of the certificate for programs of this machine.
	local string
}

// open binds the address, if it may be bound.
func (f *listenFlags) open(ctx context.Context, logger *slog.Logger) (*access, error) {
	a := &access{}
	if _, _, err := net.SplitHostPort(f.Listen); err != nil {
		return nil, &cli.UsageError{Err: fmt.Errorf("--listen: %w: give host:port, such as 127.0.0.1:8080", err)}
	}
	token, err := f.token()
	if err == nil {
		err = f.certificates(a, logger)
	}
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	a.given, a.token = token != "", sha256.Sum256([]byte(token))
	a.guarded = a.given || f.TLSClientCA != ""
	if a.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", f.Listen); err != nil {
		return nil, fmt.Errorf("%w; give a free host:port with --listen", err)
	}
	// The listener's own address tells what a name was resolved to. Nothing is
	// answered before this check.
	if err := f.reach(a); err != nil {
		return nil, &cli.UsageError{Err: errors.Join(err, a.listener.Close())}
	}
	return a, nil
}

// reach refuses an address that other machines reach and nothing protects.
func (f *listenFlags) reach(a *access) error {
	bound, ok := a.listener.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("--listen %s is no TCP address", f.Listen)
	}
	a.address = bound.String()
	if bound.IP.IsUnspecified() {
		a.address = fmt.Sprintf("127.0.0.1:%d", bound.Port)
	}
	switch {
	case bound.IP.IsLoopback():
		return nil
	case !a.guarded:
		return fmt.Errorf("--listen %s can be reached from other machines: set a token with %s or --http-token-file, or ask for client certificates with "+
			"--tls-cert, --tls-key and --tls-client-ca, or listen on 127.0.0.1", f.Listen, tokenVariable)
	case a.tls == nil && !f.AllowPlainHTTP:
		return fmt.Errorf("--listen %s without TLS would send the token in clear: name a certificate with --tls-cert and --tls-key, or, "+
			"if a proxy before it speaks TLS or the port is published on a loopback address only, say so with --allow-plain-http", f.Listen)
	}
	return nil
}

// token reads the token, "" for none.
func (f *listenFlags) token() (string, error) {
	token := strings.TrimSpace(os.Getenv(tokenVariable))
	if f.HTTPTokenFile != "" {
		if token != "" {
			return "", fmt.Errorf("both %s and --http-token-file are set: give one of them", tokenVariable)
		}
		var err error
		if token, err = secret.ReadFile(f.HTTPTokenFile); err != nil {
			return "", fileFault("--http-token-file", err)
		}
	}
	if token != "" && len(token) < minToken {
		return "", fmt.Errorf("the HTTP token has fewer than %d characters and could be guessed: make one with openssl rand -hex 32", minToken)
	}
	return token, nil
}

// certificates reads the flags of TLS.
func (f *listenFlags) certificates(a *access, logger *slog.Logger) error {
	switch {
	case (f.TLSCert == "") != (f.TLSKey == ""):
		return errors.New("HTTPS needs both --tls-cert and --tls-key")
	case f.TLSCert == "" && f.TLSClientCA != "":
		return errors.New("client certificates need HTTPS: name a certificate with --tls-cert and --tls-key beside --tls-client-ca")
	case f.TLSCert == "":
		return nil
	}
	served := &renewed{cert: f.TLSCert, key: f.TLSKey, logger: logger}
	if err := served.load(); err != nil {
		return err
	}
	own, err := localCertificate(time.Now())
	if err != nil {
		return err
	}
	a.local = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}))
	a.tls = &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == featurestore.LocalName {
				return own, nil
			}
			return served.current(), nil
		},
	}
	if f.TLSClientCA != "" {
		// Probes come without a certificate: who has one is known, who has none
		// may only ask for health.
		a.tls.ClientAuth = tls.VerifyClientCertIfGiven
		if a.tls.ClientCAs, err = authorities("--tls-client-ca", f.TLSClientCA); err != nil {
			return err
		}
	}
	return nil
}

// localLife is how long the certificate for programs of this machine holds. It
// is made anew with each start.
const localLife = 10 * 365 * 24 * time.Hour

// localCertificate makes the certificate that stands in the endpoint file. It is
// apart from the one of the flags, so that a renewed one changes nothing for the
// programs of this machine.
func localCertificate(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: featurestore.LocalName},
		DNSNames: []string{featurestore.LocalName}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(localLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// renewEvery is how often it is looked whether the certificate was renewed.
const renewEvery = 10 * time.Second

// renewed is a certificate that is read again when its files change. One that
// cannot be read leaves the one before in place.
type renewed struct {
	cert, key string
	logger    *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	text   []byte // of the certificate's file
	looked time.Time
}

func (r *renewed) load() error {
	text, err := os.ReadFile(r.cert)
	if err != nil {
		return fileFault("--tls-cert", err)
	}
	r.looked = time.Now()
	if bytes.Equal(text, r.text) {
		return nil
	}
	pair, err := keyPair("--tls-cert", r.cert, "--tls-key", r.key)
	if err != nil {
		return err
	}
	r.pair, r.text = &pair, text
	return nil
}

func (r *renewed) current() *tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) > renewEvery {
		if err := r.load(); err != nil {
			r.looked = time.Now()
			r.logger.Warn("the certificate was not read again; the one before goes on", "error", err)
		}
	}
	return r.pair
}

// answerTimeout bounds reading a short question and writing its answer.
const answerTimeout = 30 * time.Second

// public lets everybody in.
func (a *access) public(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A writer that has no deadlines needs none.
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Now().Add(answerTimeout))
		defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
		next(w, r)
	})
}

// guard lets in who shows the token or a client certificate. Where neither is
// set, which is on a loopback address only, it lets in everybody who asks by
// address or as localhost: a web page whose name somebody had resolved to this
// machine would otherwise read it through the browser of who works here.
func (a *access) guard(next http.Handler) http.Handler {
	return a.public(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case a.guarded && !a.known(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="dreamfeed"`)
			http.Error(w, "show the token (Authorization: Bearer …) or a client certificate", http.StatusUnauthorized)
		case !a.guarded && !local(r.Host):
			http.Error(w, "without a token only 127.0.0.1, [::1] and localhost are answered for: ask by one of them, or set a token with "+
				tokenVariable+" or --http-token-file", http.StatusMisdirectedRequest)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// local says whether a Host header is an address or localhost, not a name that
// anybody may give to an address.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return host == "" || strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}

// known says whether a request shows the token or a client certificate.
func (a *access) known(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	return a.given && shows(r, a.token)
}

// shows says whether a request bears the token whose hash is given.
func shows(r *http.Request, token [sha256.Size]byte) bool {
	text, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(text))
	return found && subtle.ConstantTimeCompare(sum[:], token[:]) == 1
}
