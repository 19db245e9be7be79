package main

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"dreamfeed/cdc"
	"dreamfeed/internal/certtest"
)

// natsServer runs an external server with JetStream.
func natsServer(t *testing.T, configure func(*natsserver.Options)) *natsserver.Server {
	t.Helper()
	options := &natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 8 << 20,
	}
	configure(options)
	s, err := natsserver.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

// withTLS lets a server speak TLS and, with clients, ask for certificates of
// theirs.
func withTLS(t *testing.T, pair certtest.Pair, clients *certtest.Authority) func(*natsserver.Options) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *natsserver.Options) {
		o.TLS, o.TLSTimeout = true, 30
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
		if clients != nil {
			pem, err := os.ReadFile(clients.File)
			if err != nil {
				t.Fatal(err)
			}
			o.TLSVerify, o.TLSConfig.ClientAuth, o.TLSConfig.ClientCAs = true, tls.RequireAndVerifyClientCert, x509.NewCertPool()
			o.TLSConfig.ClientCAs.AppendCertsFromPEM(pem)
		}
	}
}

// nkey makes an nkey pair and writes its seed to a file.
func nkey(t *testing.T) (public, seedFile, seed string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return public, secretFile(t, string(text)), string(text)
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// operated lets a server trust an operator with one account that has JetStream,
// and returns a credentials file of one of its users.
func operated(t *testing.T) (configure func(*natsserver.Options), creds string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		t.Helper()
		p, err := create()
		must(err)
		public, err := p.PublicKey()
		must(err)
		return p, public
	}
	operator, operatorID := pair(nkeys.CreateOperator)
	_, systemID := pair(nkeys.CreateAccount)
	account, accountID := pair(nkeys.CreateAccount)
	user, userID := pair(nkeys.CreateUser)

	resolver := &natsserver.MemAccResolver{}
	system, feed := jwt.NewAccountClaims(systemID), jwt.NewAccountClaims(accountID)
	feed.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1, MaxAckPending: -1}
	for _, claims := range []*jwt.AccountClaims{system, feed} {
		text, err := claims.Encode(operator)
		must(err)
		must(resolver.Store(claims.Subject, text))
	}
	claims := jwt.NewOperatorClaims(operatorID)
	claims.SystemAccount = systemID
	text, err := claims.Encode(operator)
	must(err)
	trusted, err := jwt.DecodeOperatorClaims(text)
	must(err)
	userJWT, err := jwt.NewUserClaims(userID).Encode(account)
	must(err)
	seed, err := user.Seed()
	must(err)
	file, err := jwt.FormatUserConfig(userJWT, seed)
	must(err)
	return func(o *natsserver.Options) {
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{trusted}, resolver, systemID
	}, secretFile(t, string(file))
}

// A stream is opened on external servers that ask for TLS, certificates, nkeys,
// credentials, passwords and tokens; who has the wrong ones is told which.
func TestExternalServersLetInWhoShowsWhatTheyAskFor(t *testing.T) {
	ours, theirs, clients := certtest.New(t, "ours"), certtest.New(t, "theirs"), certtest.New(t, "clients")
	public, seedFile, _ := nkey(t)
	_, strangerFile, _ := nkey(t)
	operator, creds := operated(t)
	client, foreign := clients.Client("feeder"), theirs.Client("feeder")

	servers := map[string]string{}
	for name, configure := range map[string]func(*natsserver.Options){
		"open":     func(*natsserver.Options) {},
		"TLS":      withTLS(t, ours.Server("127.0.0.1"), nil),
		"mutual":   withTLS(t, ours.Server("127.0.0.1"), clients),
		"misnamed": withTLS(t, ours.Server("nats.example"), nil),
		"nkey":     func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: public}} },
		"operator": operator,
		"password": func(o *natsserver.Options) { o.Username, o.Password = "feeder", "hushhush" },
		"token":    func(o *natsserver.Options) { o.Authorization = "t0kent0ken" },
	} {
		servers[name] = natsServer(t, configure).Addr().String()
	}
	exposed := secretFile(t, "x")
	if err := os.Chmod(exposed, 0o644); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		server, user string
		scheme       string // nats:// when empty
		flags        natsFlags
		want         []string // of the error; none when it connects
	}{
		"TLS with the right authority":           {server: "TLS", flags: natsFlags{NATSCA: ours.File}},
		"TLS by the scheme":                      {server: "TLS", scheme: "tls://", want: []string{"unknown authority", "--nats-ca"}},
		"TLS with another authority":             {server: "TLS", flags: natsFlags{NATSCA: theirs.File}, want: []string{"--nats-ca"}},
		"TLS of a server with another name":      {server: "misnamed", flags: natsFlags{NATSCA: ours.File}, want: []string{"connect by a name"}},
		"an authority, but a server without TLS": {server: "open", flags: natsFlags{NATSCA: ours.File}, want: []string{"does not speak TLS"}},
		"a client certificate":                   {server: "mutual", flags: natsFlags{NATSCA: ours.File, NATSCert: client.Cert, NATSKey: client.Key}},
		"no client certificate":                  {server: "mutual", flags: natsFlags{NATSCA: ours.File}, want: []string{"--nats-cert"}},
		"a client certificate of somebody else":  {server: "mutual", flags: natsFlags{NATSCA: ours.File, NATSCert: foreign.Cert, NATSKey: foreign.Key}, want: []string{"--nats-cert"}},
		"an nkey":                                {server: "nkey", flags: natsFlags{NATSNKey: seedFile}},
		"an nkey of a stranger":                  {server: "nkey", flags: natsFlags{NATSNKey: strangerFile}, want: []string{"does not know this user", "--nats-nkey"}},
		"no nkey":                                {server: "nkey", want: []string{"--nats-nkey"}},
		"an nkey file that holds none":           {server: "nkey", flags: natsFlags{NATSNKey: creds + "x"}, want: []string{"--nats-nkey", "correct the path"}},
		"an nkey file that holds another thing":  {server: "nkey", flags: natsFlags{NATSNKey: client.Cert}, want: []string{"no nkey user seed"}},
		"an nkey file that others may read":      {server: "nkey", flags: natsFlags{NATSNKey: exposed}, want: []string{"--nats-nkey", "chmod 600"}},
		"credentials":                            {server: "operator", flags: natsFlags{NATSCreds: creds}},
		"no credentials":                         {server: "operator", want: []string{"--nats-creds"}},
		"credentials that others may read":       {server: "operator", flags: natsFlags{NATSCreds: exposed}, want: []string{"--nats-creds", "chmod 600"}},
		"a password":                             {server: "password", user: "feeder:hushhush@"},
		"a wrong password":                       {server: "password", user: "feeder:hushwrong@", want: []string{"NATS_URL"}},
		"a token":                                {server: "token", user: "t0kent0ken@"},
		"a wrong token":                          {server: "token", user: "t0kenwrong@", want: []string{"NATS_URL"}},
		"a password and credentials":             {server: "password", user: "feeder:hushhush@", flags: natsFlags{NATSCreds: creds}, want: []string{"give one of them"}},
		"credentials and an nkey":                {server: "nkey", flags: natsFlags{NATSCreds: creds, NATSNKey: seedFile}, want: []string{"give one of them"}},
		"a certificate without its key":          {server: "mutual", flags: natsFlags{NATSCert: client.Cert}, want: []string{"--nats-key"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.scheme == "" {
				c.scheme = "nats://"
			}
			c.flags.NATSURL = c.scheme + c.user + servers[c.server]
			options, err := c.flags.options()
			if err == nil {
				var log *cdc.Log
				log, err = cdc.OpenLog(t.Context(), cdc.LogConfig{URL: c.flags.NATSURL, Options: options, Logger: slog.New(slog.DiscardHandler)})
				if err == nil {
					defer log.Close()
				}
			}
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it connects")
			}
			t.Log(err)
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			for _, hidden := range []string{"hush", "t0ken"} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("the error tells the secret: %v", err)
				}
			}
		})
	}

	t.Run("files for a server that is not named", func(t *testing.T) {
		if _, err := (&natsFlags{NATSCreds: creds}).options(); err == nil || !strings.Contains(err.Error(), "--nats-url") {
			t.Errorf("error %v", err)
		}
	})
}
