package featurestore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// LocalName is the name under which a daemon that speaks TLS shows who finds it
// through its endpoint file the certificate that stands in the file.
const LocalName = "endpoint.dreamfeed.internal"

// clientTimeout bounds making a connection and its TLS handshake. Answers are
// not bounded: a view of a large store takes its time.
const clientTimeout = 15 * time.Second

// Client asks the daemon that left an Endpoint. It shows the endpoint's token,
// and over TLS accepts the endpoint's certificate only. It may be used from
// several goroutines.
type Client struct {
	base, token string
	http        *http.Client
	transport   *http.Transport
}

// Client returns a client of the daemon. It connects with the first request.
func (e Endpoint) Client() *Client {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: clientTimeout}).DialContext,
		TLSHandshakeTimeout: clientTimeout,
		MaxIdleConnsPerHost: 16,
		DisableCompression:  true,
	}
	base := "http://"
	if e.Certificate != "" {
		base = "https://"
		roots := x509.NewCertPool()
		// Of a damaged file nothing is accepted: the first request says so.
		roots.AppendCertsFromPEM([]byte(e.Certificate))
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: LocalName, MinVersion: tls.VersionTLS13}
	}
	return &Client{
		base: base + e.Address, token: e.Token, transport: transport,
		// A daemon does not redirect; who does is somebody else, and gets no token.
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// Close frees the connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// post asks a question in JSON and returns the answer, whose body the caller
// closes. An answer other than 200 becomes the error that the daemon wrote:
// those of Store.View, ErrToken, *RemoteError.
func (c *Client) post(ctx context.Context, path string, question any) (*http.Response, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, frameBytes))
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %s: %w", resp.Status, err)
	}
	if resp.Header.Get("Content-Type") != "application/json" {
		return nil, &RemoteError{Message: resp.Status + " for " + path}
	}
	return nil, decodeWireError(text)
}

// Ask asks a question in JSON and decodes the answer, JSON of at most 16 MiB,
// into answer. Errors of the daemon: those of Store.View, ErrToken, *RemoteError.
// An answer that is cut off wraps ErrCut.
func (c *Client) Ask(ctx context.Context, path string, question, answer any) error {
	resp, err := c.post(ctx, path, question)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// Refuse answers a Client's question with an error, which its Ask then returns.
func Refuse(w http.ResponseWriter, err error) { refuse(w, encodeWireError(err)) }
