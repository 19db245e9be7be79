package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/certtest"
	"dreamfeed/internal/cli"
)

const httpToken = "0123456789abcdef-http"

// A web page whose name was resolved to a loopback address is not answered.
func TestWithoutATokenOnlyThisMachinesNamesAreAnsweredFor(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for host, want := range map[string]int{
		"127.0.0.1:8080": http.StatusOK, "localhost": http.StatusOK, "LocalHost:8080": http.StatusOK, "[::1]:8080": http.StatusOK, "::1": http.StatusOK,
		"evil.example": http.StatusMisdirectedRequest, "evil.example:8080": http.StatusMisdirectedRequest, "127.0.0.1.evil.example": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/features/user/1", nil)
		r.Host = host
		w := httptest.NewRecorder()
		(&access{}).guard(answer).ServeHTTP(w, r)
		if w.Code != want || want != http.StatusOK && !strings.Contains(w.Body.String(), tokenVariable) {
			t.Errorf("host %s: %d %s, want %d", host, w.Code, w.Body, want)
		}
	}
	// Who shows the token may ask by any name.
	r := httptest.NewRequest(http.MethodGet, "/v1/status", nil)
	r.Host = "features.example"
	r.Header.Set("Authorization", "Bearer "+httpToken)
	w := httptest.NewRecorder()
	(&access{guarded: true, given: true, token: sha256.Sum256([]byte(httpToken))}).guard(answer).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("with the token: %d", w.Code)
	}
}

// What other machines reach is bound only with a token over TLS, with client
// certificates, or by an explicit word.
func TestAddressesThatOthersReachNeedProtection(t *testing.T) {
	authority := certtest.New(t, "ours")
	pair, file := authority.Server("127.0.0.1"), secretFile(t, httpToken)
	exposed := secretFile(t, httpToken)
	if err := os.Chmod(exposed, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		flags listenFlags
		env   string
		want  []string // of the error; none when it binds
	}{
		"loopback":                       {flags: listenFlags{Listen: "127.0.0.1:0"}},
		"loopback of IPv6":               {flags: listenFlags{Listen: "[::1]:0"}},
		"another loopback":               {flags: listenFlags{Listen: "127.0.0.2:0"}},
		"loopback by name":               {flags: listenFlags{Listen: "localhost:0"}},
		"every address":                  {flags: listenFlags{Listen: "0.0.0.0:0"}, want: []string{"0.0.0.0:0", "HTTP_TOKEN", "127.0.0.1"}},
		"every address, without a host":  {flags: listenFlags{Listen: ":0"}, want: []string{"HTTP_TOKEN"}},
		"every address of IPv6":          {flags: listenFlags{Listen: "[::]:0"}, want: []string{"HTTP_TOKEN"}},
		"a token without TLS":            {flags: listenFlags{Listen: ":0"}, env: httpToken, want: []string{"clear", "--tls-cert", "--allow-plain-http"}},
		"a token without TLS, meant so":  {flags: listenFlags{Listen: ":0", AllowPlainHTTP: true}, env: httpToken},
		"no token, meant so":             {flags: listenFlags{Listen: ":0", AllowPlainHTTP: true}, want: []string{"HTTP_TOKEN"}},
		"TLS without a token":            {flags: listenFlags{Listen: ":0", TLSCert: pair.Cert, TLSKey: pair.Key}, want: []string{"HTTP_TOKEN"}},
		"TLS and a token":                {flags: listenFlags{Listen: ":0", TLSCert: pair.Cert, TLSKey: pair.Key, HTTPTokenFile: file}},
		"TLS and client certificates":    {flags: listenFlags{Listen: ":0", TLSCert: pair.Cert, TLSKey: pair.Key, TLSClientCA: authority.File}},
		"a short token":                  {flags: listenFlags{Listen: "127.0.0.1:0"}, env: "hush", want: []string{"openssl rand"}},
		"two tokens":                     {flags: listenFlags{Listen: "127.0.0.1:0", HTTPTokenFile: file}, env: httpToken, want: []string{"give one of them"}},
		"a token that others may read":   {flags: listenFlags{Listen: "127.0.0.1:0", HTTPTokenFile: exposed}, want: []string{"--http-token-file", "chmod 600"}},
		"a token's file that is missing": {flags: listenFlags{Listen: "127.0.0.1:0", HTTPTokenFile: "/nowhere"}, want: []string{"--http-token-file", "/nowhere"}},
		"a certificate without its key":  {flags: listenFlags{Listen: "127.0.0.1:0", TLSCert: pair.Cert}, want: []string{"--tls-key"}},
		"client certificates without TLS": {
			flags: listenFlags{Listen: "127.0.0.1:0", TLSClientCA: authority.File}, want: []string{"--tls-cert"},
		},
		"a key that is none": {flags: listenFlags{Listen: "127.0.0.1:0", TLSCert: pair.Cert, TLSKey: file}, want: []string{"--tls-key", file}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tokenVariable, c.env)
			a, err := c.flags.open(t.Context(), slog.New(slog.DiscardHandler))
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				a.listener.Close()
				if host, _, err := net.SplitHostPort(a.address); err != nil || !net.ParseIP(host).IsLoopback() {
					t.Errorf("programs of this machine are sent to %s", a.address)
				}
				return
			}
			var usage *cli.UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("error %v, want a *cli.UsageError", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), httpToken) || strings.Contains(err.Error(), "hush") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

// secureClient asks over TLS, with a certificate if pair is given.
func secureClient(t *testing.T, ca string, pair *certtest.Pair, most uint16) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS10, MaxVersion: most} //nolint:gosec // it tries what is refused
	config.RootCAs.AppendCertsFromPEM(pem)
	if pair != nil {
		cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		// Also one of an authority that the server does not ask for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func ask(t *testing.T, client *http.Client, method, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// On an address that others reach, health is open, numbers ask for the token or
// a client certificate, and rows for the endpoint file's token: who may scrape
// may not read. Programs of this machine find their way in through TLS.
func TestWhoMayAskWhatOnAnOpenAddress(t *testing.T) {
	authority, clients, strangers := certtest.New(t, "ours"), certtest.New(t, "clients"), certtest.New(t, "strangers")
	pair := authority.Server("127.0.0.1")
	t.Setenv(tokenVariable, httpToken)
	url, dataDir := populated(t, 20), filepath.Join(t.TempDir(), "data")
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, dataDir, url, "--listen", "0.0.0.0:"+port, "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tls-client-ca", clients.File)
	base := "https://127.0.0.1:" + port
	anybody := secureClient(t, authority.File, nil, 0)
	waitFor(t, d, func() bool { code, _ := ask(t, anybody, "GET", base+"/readyz", ""); return code == http.StatusOK })

	known, unknown := clients.Client("scraper"), strangers.Client("scraper")
	scraper, stranger := secureClient(t, authority.File, &known, 0), secureClient(t, authority.File, &unknown, 0)
	for name, c := range map[string]struct {
		client *http.Client
		token  string
		path   string
		method string
		want   int
	}{
		"health":                          {anybody, "", "/healthz", "GET", 200},
		"readiness":                       {anybody, "", "/readyz", "GET", 200},
		"metrics without a token":         {anybody, "", "/metrics", "GET", 401},
		"metrics with a wrong token":      {anybody, httpToken + "x", "/metrics", "GET", 401},
		"metrics with the token":          {anybody, httpToken, "/metrics", "GET", 200},
		"metrics with a certificate":      {scraper, "", "/metrics", "GET", 200},
		"metrics of an unknown authority": {stranger, "", "/metrics", "GET", 0},
		"status without a token":          {anybody, "", "/v1/status", "GET", 401},
		"status with the token":           {anybody, httpToken, "/v1/status", "GET", 200},
		"a view without a token":          {anybody, "", featurestore.PathView, "POST", 401},
		"a view with the scraper's token": {anybody, httpToken, featurestore.PathView, "POST", 401},
		"a view with a certificate":       {scraper, "", featurestore.PathView, "POST", 401},
		"metrics over TLS 1.1":            {secureClient(t, authority.File, nil, tls.VersionTLS11), httpToken, "/metrics", "GET", 0},
	} {
		if code, body := ask(t, c.client, c.method, base+c.path, c.token); code != c.want {
			t.Errorf("%s: %d %.100s, want %d", name, code, body, c.want)
		}
	}
	if code, _ := ask(t, http.DefaultClient, "GET", "http://127.0.0.1:"+port+"/metrics", httpToken); code != http.StatusBadRequest {
		t.Errorf("without TLS: %d, want 400", code)
	}

	endpoint, err := featurestore.ReadEndpoint(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	view, err := endpoint.Dial(t.Context(), 0)
	if err != nil {
		t.Fatalf("the endpoint file does not lead to the daemon: %v", err)
	}
	if rows, err := view.Ranges(t.Context(), "user", 2); err != nil || len(rows) == 0 {
		t.Errorf("ranges %v, %v", rows, err)
	}
	view.Close()
	// Another certificate under the same address is not the daemon's.
	forged := endpoint
	text, err := os.ReadFile(authority.File)
	if err != nil {
		t.Fatal(err)
	}
	forged.Certificate = string(text)
	if view, err := forged.Dial(t.Context(), 0); err == nil {
		view.Close()
		t.Error("the endpoint's certificate is not looked at")
	}
	d.signal(os.Interrupt)
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// waitFor polls until a condition holds, while the daemon lives.
func waitFor(t *testing.T, d *daemon, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for !holds() {
		select {
		case err := <-d.done:
			d.done <- err
			t.Fatalf("ingest ended: %v", err)
		case <-deadline.Done():
			t.Fatal("it does not come within 60 s")
		case <-tick.C:
		}
	}
}

func TestRenewedCertificateIsTakenUpAndABrokenOneIsNot(t *testing.T) {
	authority := certtest.New(t, "ours")
	first, second := authority.Server("127.0.0.1"), authority.Server("localhost")
	dir := t.TempDir()
	r := &renewed{cert: filepath.Join(dir, "c"), key: filepath.Join(dir, "k"), logger: slog.New(slog.DiscardHandler)}
	install := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r.looked = time.Time{}
	}
	shown := func() []byte { return r.current().Certificate[0] }
	install(first.Cert, r.cert)
	install(first.Key, r.key)
	if err := r.load(); err != nil {
		t.Fatal(err)
	}
	before := shown()
	install(second.Cert, r.cert) // its key is not there yet
	if !bytes.Equal(shown(), before) {
		t.Error("a certificate without its key is shown")
	}
	install(second.Key, r.key)
	if after := shown(); bytes.Equal(after, before) {
		t.Error("the renewed certificate is not shown")
	}
}
