package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"dreamfeed/featurestore"
	"dreamfeed/internal/certtest"
	"dreamfeed/internal/pgtest"
)

// Every secret of this test is recognised by one of these.
var secrets = map[string]string{
	"the role's password":           "pgS3cretWord",
	"a wrong password":              "pgWr0ngWord",
	"the password of a client key":  "keyS3cretWord",
	"the NATS password":             "natsS3cretWord",
	"a wrong NATS password or seed": "natsWr0ngWord",
	"a NATS token":                  "natsT0kenWord",
	"the HTTP token":                "httpT0kenWord-0123456789",
}

// told returns the names of the secrets that a text holds.
func told(text string, secrets map[string]string) (names []string) {
	for name, value := range secrets {
		if strings.Contains(text, value) {
			names = append(names, name)
		}
	}
	return names
}

// No password, token, key or seed is in what the program writes, answers or is
// called with: not while it works, at the most talkative level, and not when a
// connection fails, whatever fails about it (ADR 0008).
func TestSecretsAreNeverTold(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	authority, clients, strangers := certtest.New(t, "ours"), certtest.New(t, "clients"), certtest.New(t, "strangers")
	server := pgtest.New(t)
	execute(t, server.URL("postgres"), "CREATE DATABASE app", "CREATE ROLE feeder LOGIN SUPERUSER PASSWORD '"+secrets["the role's password"]+"'")
	populate(t, server.URL("app"), 10)
	pair := authority.Server("127.0.0.1")
	server.SetTLS(t, pair.Cert, pair.Key, clients.File)
	server.SetAccess(t, "hostssl all feeder 127.0.0.1/32 scram-sha-256 clientcert=verify-full")

	public, seedFile, seed := nkey(t)
	_, strangerFile, strangerSeed := nkey(t)
	operator, creds := operated(t)
	secrets := maps.Clone(secrets)
	secrets["the nkey's seed"], secrets["a stranger's seed"] = seed, strangerSeed
	credentials, err := os.ReadFile(creds)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(credentials)) {
		if line = strings.TrimSpace(line); len(line) > 40 && !strings.Contains(line, " ") {
			secrets["line of the credentials, "+line[:4]] = line
		}
	}
	withPassword := natsServer(t, func(o *natsserver.Options) { o.Username, o.Password = "feeder", secrets["the NATS password"] }).Addr().String()
	withNKey := natsServer(t, func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: public}} }).Addr().String()
	withOperator := natsServer(t, operator).Addr().String()

	key, cert := encryptedClientKey(t, clients, secrets["the password of a client key"])
	parameters := fmt.Sprintf("@127.0.0.1:%d/app?sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s&sslpassword=%s",
		server.Port, authority.File, cert, key, secrets["the password of a client key"])
	source := "postgres://feeder:" + secrets["the role's password"] + parameters
	wrong := "postgres://feeder:" + secrets["a wrong password"] + parameters
	nats := "nats://feeder:" + secrets["the NATS password"] + "@" + withPassword

	// silent runs ingest with these variables, and looks at everything it says.
	silent := func(t *testing.T, variables map[string]string, args ...string) (d *daemon, look func(*testing.T)) {
		t.Helper()
		for name, value := range variables {
			t.Setenv(name, value)
		}
		dataDir, logFile := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "log")
		d = start(t, dataDir, variables["DATABASE_URL"], append(args, "--log-level", "debug", "--log-file", logFile)...)
		look = func(t *testing.T) {
			t.Helper()
			secrets := maps.Clone(secrets)
			if endpoint, err := featurestore.ReadEndpoint(dataDir); err == nil {
				secrets["the endpoint's token"] = endpoint.Token
			}
			log, err := os.ReadFile(logFile)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			commandLine, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.command.Process.Pid))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			places := map[string]string{"the output": d.output.String(), "the log file": string(log), "the arguments": string(commandLine)}
			for _, path := range []string{"/v1/status", "/metrics", "/readyz", "/healthz"} {
				_, body := ask(t, http.DefaultClient, "GET", "http://"+d.address+path, variables["HTTP_TOKEN"])
				places[path] = body
			}
			for place, text := range places {
				for _, name := range told(text, secrets) {
					t.Errorf("%s tells %s", place, name)
				}
			}
		}
		return d, look
	}

	t.Run("while it works, and when it loses its sources", func(t *testing.T) {
		d, look := silent(t, map[string]string{"DATABASE_URL": source, "NATS_URL": nats, "HTTP_TOKEN": secrets["the HTTP token"]})
		waitFor(t, d, func() bool { code, _ := d.get("/readyz"); return code == http.StatusOK })
		if code, body := ask(t, http.DefaultClient, "GET", "http://"+d.address+"/v1/status", secrets["the HTTP token"]); code != http.StatusOK || !strings.Contains(body, "streaming") {
			t.Errorf("status %d %s", code, body)
		}
		look(t)
		// The password is changed under it.
		execute(t, server.URL("postgres"), "ALTER ROLE feeder PASSWORD 'another'",
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'feeder'")
		if code := d.wait(); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		if !strings.Contains(d.output.String(), "correct the password, which comes from the database URL") {
			t.Errorf("it does not say what to do: %s", d.output)
		}
		look(t)
		execute(t, server.URL("postgres"), "ALTER ROLE feeder PASSWORD '"+secrets["the role's password"]+"'")
	})

	for name, c := range map[string]struct {
		variables map[string]string
		args      []string
		code      int
		want      string
	}{
		"a wrong password":                     {map[string]string{"DATABASE_URL": wrong}, nil, 1, "28P01"},
		"a wrong password of the environment":  {map[string]string{"DATABASE_URL": "postgres://feeder" + parameters, "PGPASSWORD": secrets["a wrong password"]}, nil, 1, "28P01"},
		"a wrong password in a password file":  {map[string]string{"DATABASE_URL": "postgres://feeder" + parameters, "PGPASSFILE": secretFile(t, "*:*:*:*:"+secrets["a wrong password"])}, nil, 1, "28P01"},
		"a wrong password in a service file":   {map[string]string{"PGSERVICEFILE": secretFile(t, "[app]\nhost=127.0.0.1\nport=1\nuser=u\npassword="+secrets["a wrong password"]), "PGSERVICE": "app"}, nil, 1, "127.0.0.1:1"},
		"a broken service file":                {map[string]string{"PGSERVICEFILE": secretFile(t, "[app]\npassword "+secrets["a wrong password"]), "PGSERVICE": "app"}, nil, 2, "line 2"},
		"a wrong host":                         {map[string]string{"DATABASE_URL": strings.Replace(source, "127.0.0.1", "nowhere.invalid", 1)}, nil, 1, "nowhere.invalid"},
		"a wrong port":                         {map[string]string{"DATABASE_URL": "postgres://u:" + secrets["a wrong password"] + "@127.0.0.1:1/app"}, nil, 1, "127.0.0.1:1"},
		"a wrong authority":                    {map[string]string{"DATABASE_URL": strings.Replace(source, authority.File, strangers.File, 1)}, nil, 1, "sslrootcert"},
		"an authority that is missing":         {map[string]string{"DATABASE_URL": strings.Replace(source, authority.File, "/nowhere", 1)}, nil, 2, "/nowhere"},
		"a wrong password of the client's key": {map[string]string{"DATABASE_URL": strings.Replace(source, secrets["the password of a client key"], secrets["a wrong password"], 1)}, nil, 2, "sslkey"},
		"a URL that cannot be read":            {map[string]string{"DATABASE_URL": "postgres://u:" + secrets["a wrong password"] + "@[::1/app"}, nil, 2, "postgres://user@host"},
		"a URL with a password for a port":     {map[string]string{"DATABASE_URL": "postgres://u:" + secrets["a wrong password"] + ":x@y@127.0.0.1/app"}, nil, 2, "%40"},
		"a URL with a slash in its password":   {map[string]string{"DATABASE_URL": "postgres://u:12/" + secrets["a wrong password"] + "@127.0.0.1/app"}, nil, 2, "%40"},
		"a URL with a ? in its password":       {map[string]string{"DATABASE_URL": "postgres://u:12?" + secrets["a wrong password"] + "@127.0.0.1/app"}, nil, 2, "%40"},
		"keywords that cannot be read":         {map[string]string{"DATABASE_URL": "host=127.0.0.1 password='" + secrets["a wrong password"]}, nil, 2, "postgres://user@host"},
		"a wrong NATS password":                {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://feeder:" + secrets["a wrong NATS password or seed"] + "@" + withPassword}, nil, 1, "NATS_URL"},
		"a wrong NATS token":                   {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://" + secrets["a NATS token"] + "@" + withPassword}, nil, 1, "NATS_URL"},
		"a NATS URL that cannot be read":       {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://u:" + secrets["a NATS token"] + "@[bad"}, nil, 1, "--nats-url"},
		"a NATS server that is not there":      {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://u:" + secrets["a NATS token"] + "@127.0.0.1:1"}, nil, 1, "--nats-url"},
		"a stranger's nkey":                    {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://" + withNKey, "NATS_NKEY": strangerFile}, nil, 1, "--nats-nkey"},
		"an nkey that is none":                 {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://" + withNKey, "NATS_NKEY": secretFile(t, secrets["a wrong NATS password or seed"])}, nil, 2, "--nats-nkey"},
		"a seed in place of credentials":       {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://" + withOperator, "NATS_CREDS": seedFile}, nil, 1, "NATS"},
		"credentials of another server":        {map[string]string{"DATABASE_URL": source, "NATS_URL": "nats://" + withNKey, "NATS_CREDS": creds}, nil, 1, "NATS"},
		"a good nkey and a wrong password":     {map[string]string{"DATABASE_URL": wrong, "NATS_URL": "nats://" + withNKey, "NATS_NKEY": seedFile}, nil, 1, "28P01"},
		"credentials and a wrong password":     {map[string]string{"DATABASE_URL": wrong, "NATS_URL": "nats://" + withOperator, "NATS_CREDS": creds}, nil, 1, "28P01"},
		"a short HTTP token":                   {map[string]string{"DATABASE_URL": source, "HTTP_TOKEN": secrets["the HTTP token"][:13]}, nil, 2, "openssl rand"},
		"an open address":                      {map[string]string{"DATABASE_URL": source, "HTTP_TOKEN": secrets["the HTTP token"]}, []string{"--listen", "0.0.0.0:0"}, 2, "--allow-plain-http"},
	} {
		t.Run(name, func(t *testing.T) {
			d, look := silent(t, c.variables, c.args...)
			if code := d.wait(); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, d.output)
			}
			if !strings.Contains(d.output.String(), c.want) {
				t.Errorf("it does not name %q: %s", c.want, d.output)
			}
			if strings.Contains(d.output.String(), "goroutine ") {
				t.Errorf("it panics: %s", d.output)
			}
			look(t)
		})
	}

	t.Run("a password on the command line is refused and not repeated", func(t *testing.T) {
		for _, args := range [][]string{
			{"--database-url", source},
			{"check", "--database-url", source},
			{"--database-url=" + source},
			{"--nats-url", nats, "--database-url", "postgres://u@127.0.0.1:1/x"},
			{source},
			{"--databse-url", source},
			{"--log-level", source},
		} {
			code, stdout, stderr := command(t, args...)
			if code != 2 {
				t.Errorf("exit code %d, want 2: %s", code, stderr)
			}
			if names := told(stdout+stderr, secrets); len(names) > 0 {
				t.Errorf("it tells %v: %s", names, stderr)
			}
		}
	})
}

// encryptedClientKey makes a client certificate for feeder and its key, which
// opens with a password.
func encryptedClientKey(t *testing.T, authority *certtest.Authority, password string) (key, cert string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:staticcheck // the form that libpq's sslpassword is for
	block, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private), []byte(password), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	return secretFile(t, string(pem.EncodeToMemory(block))), authority.ClientFor("feeder", &private.PublicKey)
}
