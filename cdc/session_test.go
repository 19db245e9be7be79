package cdc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dreamfeed/cdc"
	"dreamfeed/internal/certtest"
	"dreamfeed/internal/pgtest"
)

// ownHome gives a test a home directory and no variables of libpq.
func ownHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") && name != "PG_BIN" {
			t.Setenv(name, "") // counts as not set
		}
	}
	return home
}

func writeFile(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// secured is a server that speaks TLS, with a role feeder whose password is
// pa55word and who owns table a of database app.
type secured struct {
	*pgtest.Server
	ours, theirs *certtest.Authority // of the server's certificate; another one
	clients      *certtest.Authority // trusted by the server
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{Server: pgtest.New(t), ours: certtest.New(t, "ours"), theirs: certtest.New(t, "theirs"), clients: certtest.New(t, "clients")}
	admin := session(t, s.URL("postgres"))
	execOn(t, admin, "CREATE DATABASE app")
	execOn(t, admin, "CREATE ROLE feeder LOGIN REPLICATION PASSWORD 'pa55word'")
	app := session(t, s.URL("app"))
	execOn(t, app, "GRANT CREATE ON DATABASE app TO feeder; CREATE TABLE a (id int PRIMARY KEY, n int); ALTER TABLE a OWNER TO feeder; INSERT INTO a VALUES (1, 1), (2, 2)")
	pair := s.ours.Server("127.0.0.1")
	s.SetTLS(t, pair.Cert, pair.Key, s.clients.File)
	return s
}

// url is the address of database app for the role feeder.
func (s *secured) url(parameters string) string {
	return fmt.Sprintf("postgres://feeder@127.0.0.1:%d/app?%s", s.Port, parameters)
}

const (
	hbaPassword   = "hostssl all feeder 127.0.0.1/32 scram-sha-256"
	hbaClientCert = "hostssl all feeder 127.0.0.1/32 scram-sha-256 clientcert=verify-full"
	hbaCert       = "hostssl all feeder 127.0.0.1/32 cert"
)

// Every connection that libpq would make is made, and what stops one is said in
// one sentence with its remedy.
func TestConnectionsAsLibpqMakesThem(t *testing.T) {
	home := ownHome(t)
	s := newSecured(t)
	def := define(table("a", "id:int|n:int"))
	dir := t.TempDir()
	var (
		root    = "sslrootcert=" + s.ours.File
		feeder  = s.clients.Client("feeder")
		other   = s.clients.Client("somebody")
		foreign = s.theirs.Client("feeder")
		asked   = func(pair certtest.Pair) string { return "&sslcert=" + pair.Cert + "&sslkey=" + pair.Key }
	)
	exposedKey := writeFile(t, filepath.Join(dir, "exposed.key"), readText(t, feeder.Key), 0o644)
	line := fmt.Sprintf("127.0.0.1:%d:app:feeder:pa55word\n", s.Port)
	passfile := writeFile(t, filepath.Join(dir, "pass"), "# ours\n*:1:*:*:wrong\n"+line, 0o600)
	exposed := writeFile(t, filepath.Join(dir, "exposed"), line, 0o644)
	notOurs := writeFile(t, filepath.Join(dir, "else"), "elsewhere:*:*:*:x\n", 0o644)
	service := fmt.Sprintf("[other]\nhost=nowhere\n[app]\nhost=127.0.0.1\nport=%d\ndbname=app\nuser=feeder\npassword=pa55word\nsslmode=verify-full\nsslrootcert=%s\n", s.Port, s.ours.File)
	services := writeFile(t, filepath.Join(dir, "services"), service, 0o600)
	writeFile(t, filepath.Join(dir, "etc", "pg_service.conf"), service, 0o644)
	encrypted, plainCert := encryptedKey(t, s.clients)
	opensslCert := s.clients.ClientFor("feeder", publicKey(t))
	modern := func(name, more string) string {
		key := writeFile(t, filepath.Join(dir, name), readText(t, filepath.Join("testdata", "keys", name)), 0o600)
		return s.url("sslmode=verify-full&" + root + "&sslcert=" + opensslCert + "&sslkey=" + key + more)
	}
	port := fmt.Sprint(s.Port)
	last := ""

	for name, c := range map[string]struct {
		hba  string // hbaPassword when empty
		url  string // without one: of the environment
		env  map[string]string
		home map[string]string // files in the home directory, "path mode" to text
		want []string          // of the error; none when it connects
	}{
		"verify-full with the right authority": {url: s.url("sslmode=verify-full&" + root), env: map[string]string{"PGPASSWORD": "pa55word"}},
		"verify-full with another authority": {
			url: s.url("sslmode=verify-full&sslrootcert=" + s.theirs.File), env: map[string]string{"PGPASSWORD": "pa55word"},
			want: []string{"unknown authority", "name its certificate with sslrootcert"},
		},
		"verify-full under another name": {
			url:  strings.Replace(s.url("sslmode=verify-full&"+root), "127.0.0.1", "localhost", 1),
			env:  map[string]string{"PGPASSWORD": "pa55word"},
			want: []string{"localhost", "connect by a name that stands in the server's certificate"},
		},
		"verify-ca under another name": {url: strings.Replace(s.url("sslmode=verify-ca&"+root), "127.0.0.1", "localhost", 1), env: map[string]string{"PGPASSWORD": "pa55word"}},
		"verify-ca without an authority": {
			url: s.url("sslmode=verify-ca"), want: []string{"verify-ca", "sslrootcert", "verify-full"},
		},
		"the authority of the home directory": {
			url: s.url("sslmode=verify-full"), env: map[string]string{"PGPASSWORD": "pa55word"},
			home: map[string]string{".postgresql/root.crt": readText(t, s.ours.File)},
		},
		"the system's authorities do not know ours": {
			url: s.url("sslrootcert=system"), env: map[string]string{"PGPASSWORD": "pa55word"}, want: []string{"unknown authority", "sslrootcert"},
		},
		"TLS at least 1.3": {url: s.url("ssl_min_protocol_version=TLSv1.3&sslmode=verify-full&" + root), env: map[string]string{"PGPASSWORD": "pa55word"}},
		"TLS 1.0":          {url: s.url("ssl_min_protocol_version=TLSv1&sslmode=require"), want: []string{"ssl_min_protocol_version", "TLSv1.2"}},
		"channel binding":  {url: s.url("channel_binding=require&sslmode=require"), env: map[string]string{"PGPASSWORD": "pa55word"}},
		"without TLS where the server asks for it": {
			url: s.url("sslmode=disable"), env: map[string]string{"PGPASSWORD": "pa55word"}, want: []string{"pg_hba.conf", "sslmode=verify-full"},
		},
		"a client certificate": {hba: hbaClientCert, url: s.url("sslmode=verify-full&" + root + asked(feeder)), env: map[string]string{"PGPASSWORD": "pa55word"}},
		"a client certificate from the environment": {
			hba: hbaClientCert, url: s.url("sslmode=verify-full"),
			env: map[string]string{"PGPASSWORD": "pa55word", "PGSSLCERT": feeder.Cert, "PGSSLKEY": feeder.Key, "PGSSLROOTCERT": s.ours.File},
		},
		"a client certificate in place of a password": {hba: hbaCert, url: s.url("sslmode=verify-full&" + root + asked(feeder))},
		"a client certificate with an encrypted key": {
			hba: hbaCert, url: s.url("sslmode=verify-full&" + root + "&sslcert=" + plainCert + "&sslkey=" + encrypted), env: map[string]string{"PGSSLPASSWORD": "0pen"},
		},
		"an encrypted key without its password": {
			hba: hbaCert, url: s.url("sslmode=verify-full&" + root + "&sslcert=" + plainCert + "&sslkey=" + encrypted), want: []string{encrypted, "PGSSLPASSWORD"},
		},
		"an encrypted key with another password": {
			hba: hbaCert, url: s.url("sslmode=verify-full&" + root + "&sslcert=" + plainCert + "&sslkey=" + encrypted), env: map[string]string{"PGSSLPASSWORD": "pa55word"},
			want: []string{encrypted, "PGSSLPASSWORD"},
		},
		"a key as openssl encrypts it":           {hba: hbaCert, url: modern("aes256-sha256.key", ""), env: map[string]string{"PGSSLPASSWORD": "0pen"}},
		"a key as older openssl encrypted it":    {hba: hbaCert, url: modern("aes128-sha1.key", "&sslpassword=0pen")},
		"a key encrypted in another way":         {hba: hbaCert, url: modern("aes192-sha512.key", "&sslpassword=0pen&sslcertmode=require")},
		"a key of openssl without its password":  {hba: hbaCert, url: modern("aes256-sha256.key", ""), want: []string{"aes256-sha256.key", "PGSSLPASSWORD"}},
		"a key of openssl with another password": {hba: hbaCert, url: modern("aes256-sha256.key", "&sslpassword=0pen0pen"), want: []string{"aes256-sha256.key", "does not open"}},
		"a key encrypted in an unknown way":      {hba: hbaCert, url: modern("scrypt.key", "&sslpassword=0pen"), want: []string{"scrypt.key", "openssl pkcs8"}},
		"no client certificate where the server asks for one": {
			hba: hbaClientCert, url: s.url("sslmode=verify-full&" + root), env: map[string]string{"PGPASSWORD": "pa55word"}, want: []string{"client certificate", "sslcert"},
		},
		"a client certificate of somebody else": {
			hba: hbaCert, url: s.url("sslmode=verify-full&" + root + asked(other)), want: []string{`"feeder"`, "common name"},
		},
		"a client certificate of another authority": {
			hba: hbaCert, url: s.url("sslmode=verify-full&" + root + asked(foreign)), want: []string{"ssl_ca_file"},
		},
		"a client's key that others may read": {
			hba: hbaCert, url: s.url("sslmode=verify-full&" + root + "&sslcert=" + feeder.Cert + "&sslkey=" + exposedKey), want: []string{"chmod 600 " + exposedKey},
		},
		"a client certificate without its key": {url: s.url("sslmode=require&sslcert=" + feeder.Cert), want: []string{"sslkey"}},
		"a key of another certificate":         {url: s.url("sslmode=require&sslcert=" + feeder.Cert + "&sslkey=" + other.Key), want: []string{"do not belong together"}},
		"an authority's file that is missing":  {url: s.url("sslmode=verify-full&sslrootcert=/nowhere.crt"), want: []string{"sslrootcert", "/nowhere.crt"}},
		"an authority's file that is none":     {url: s.url("sslmode=verify-full&sslrootcert=" + passfile), want: []string{"sslrootcert", passfile}},
		"an sslmode that is none":              {url: s.url("sslmode=verify"), want: []string{`"verify"`, "verify-full"}},
		"a revocation list":                    {url: s.url("sslmode=require&sslcrl=/x"), want: []string{"sslcrl"}},
		"a revocation list in the environment": {url: s.url("sslmode=require"), env: map[string]string{"PGSSLCRL": "/x"}, want: []string{"PGSSLCRL"}},
		"keywords that tune the socket":        {url: s.url("sslmode=require&keepalives_idle=30&tcp_user_timeout=9&gssencmode=disable"), env: map[string]string{"PGPASSWORD": "pa55word"}},
		"a wrong password":                     {url: s.url("sslmode=require"), env: map[string]string{"PGPASSWORD": "wr0ng"}, want: []string{"28P01", "PGPASSWORD"}},
		"a wrong password in the URL":          {url: strings.Replace(s.url("sslmode=require"), "feeder@", "feeder:wr0ng@", 1), want: []string{"28P01", "the database URL"}},
		"no password":                          {url: s.url("sslmode=require"), want: []string{"28P01", "PGPASSFILE", "127.0.0.1:" + port + ":app:feeder:PASSWORD"}},
		"a password file":                      {url: s.url("sslmode=require"), env: map[string]string{"PGPASSFILE": passfile}},
		"a password file in the URL":           {url: s.url("sslmode=require&passfile=" + passfile)},
		"a password file at home":              {url: s.url("sslmode=require"), home: map[string]string{".pgpass": line}},
		"a password file that others may read": {url: s.url("sslmode=require"), env: map[string]string{"PGPASSFILE": exposed}, want: []string{"password file", "chmod 600 " + exposed}},
		"a password file of other servers that others may read": {
			url: s.url("sslmode=require"), env: map[string]string{"PGPASSFILE": notOurs}, want: []string{"28P01", "no password was given"},
		},
		"a password wins over the password file": {url: s.url("sslmode=require"), env: map[string]string{"PGPASSFILE": exposed, "PGPASSWORD": "pa55word"}},
		"a service":                              {url: "postgres:///?service=app", env: map[string]string{"PGSERVICEFILE": services}},
		"a service as keywords":                  {url: "service=app", env: map[string]string{"PGSERVICEFILE": services}},
		"a service of the environment":           {env: map[string]string{"PGSERVICEFILE": services, "PGSERVICE": "app"}},
		"a service at home":                      {env: map[string]string{"PGSERVICE": "app"}, home: map[string]string{".pg_service.conf": service}},
		"a service of the system":                {env: map[string]string{"PGSERVICE": "app", "PGSYSCONFDIR": filepath.Join(dir, "etc")}},
		"a service of the system, named":         {url: "service=app", env: map[string]string{"PGSYSCONFDIR": filepath.Join(dir, "etc")}},
		"a service that is not defined":          {env: map[string]string{"PGSERVICEFILE": services, "PGSERVICE": "apq"}, want: []string{"apq", services, "PGSERVICEFILE"}},
		"the environment alone": {
			env: map[string]string{"PGHOST": "127.0.0.1", "PGPORT": port, "PGDATABASE": "app", "PGUSER": "feeder", "PGPASSWORD": "pa55word", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": s.ours.File},
		},
		"the URL wins over the environment": {url: s.url("sslmode=require"), env: map[string]string{"PGHOST": "nowhere", "PGSSLMODE": "disable", "PGPASSWORD": "pa55word"}},
		"no pg_hba.conf line":               {hba: "local all all trust", url: s.url("sslmode=require"), env: map[string]string{"PGPASSWORD": "pa55word"}, want: []string{"let the role connect in pg_hba.conf"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.hba == "" {
				c.hba = hbaPassword
			}
			if c.hba != last {
				s.SetAccess(t, c.hba)
				last = c.hba
			}
			for variable, value := range c.env {
				t.Setenv(variable, value)
			}
			for path, text := range c.home {
				path = writeFile(t, filepath.Join(home, path), text, 0o600)
				t.Cleanup(func() { os.Remove(path) })
			}
			if !cdc.SourceGiven(c.url) {
				t.Fatal("no source is given")
			}
			faults, err := cdc.Check(t.Context(), cdc.Config{DatabaseURL: c.url, Definition: def})
			if len(c.want) == 0 {
				if err != nil || len(faults) != 0 {
					t.Fatalf("error %v, faults %v: want none", err, faults)
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
			for _, hidden := range []string{"pa55word", "wr0ng", "0pen"} {
				if strings.Contains(fmt.Sprintf("%+v", err), hidden) {
					t.Errorf("the error tells the password: %v", err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is not one sentence: %v", err)
			}
		})
	}

	t.Run("a server certificate out of date", func(t *testing.T) {
		pair := s.ours.Expired("127.0.0.1")
		s.SetTLS(t, pair.Cert, pair.Key, "")
		_, err := cdc.Check(t.Context(), cdc.Config{DatabaseURL: s.url("sslmode=verify-full&" + root), Definition: def})
		if err == nil || !strings.Contains(err.Error(), "out of date: renew it") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a server without TLS", func(t *testing.T) {
		url := shared.Server(t).URL("postgres")
		_, err := cdc.Check(t.Context(), cdc.Config{DatabaseURL: strings.Replace(url, "disable", "require", 1), Definition: def})
		if err == nil || !strings.Contains(err.Error(), "does not speak TLS: set ssl = on") {
			t.Errorf("error %v", err)
		}
	})
}

// The replication session takes the same way as the ordinary ones: the whole
// chain runs with TLS, a client certificate and a password file.
func TestWholeChainOverTLSWithClientCertificate(t *testing.T) {
	home := ownHome(t)
	s := newSecured(t)
	s.SetAccess(t, hbaClientCert)
	writeFile(t, filepath.Join(home, ".pgpass"), "*:*:*:feeder:pa55word\n", 0o600)
	pair := s.clients.Client("feeder")
	r := newRig(t, s.URL("app"), "", define(table("a", "id:int|n:int")))
	r.cfg.DatabaseURL = s.url("sslmode=verify-full&sslrootcert=" + s.ours.File + "&sslcert=" + pair.Cert + "&sslkey=" + pair.Key)
	r.start()
	r.streaming()
	var open int
	if err := r.conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
		WHERE a.usename = 'feeder' AND a.application_name = 'dreamfeed' AND (NOT s.ssl OR s.client_dn <> '/CN=feeder')`).Scan(&open); err != nil || open != 0 {
		t.Errorf("%d sessions without TLS or certificate, %v", open, err)
	}
	r.exec("INSERT INTO a VALUES (3, 3)")
	r.same()
}

func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// encryptedKey makes a client certificate for feeder whose RSA key opens with
// "0pen", in the form of openssl rsa -traditional.
func encryptedKey(t testing.TB, authority *certtest.Authority) (key, cert string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert = authority.ClientFor("feeder", &private.PublicKey)
	//nolint:staticcheck // the form that libpq's sslpassword is for
	block, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private), []byte("0pen"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "encrypted.key"), string(pem.EncodeToMemory(block)), 0o600), cert
}

// publicKey is that of the keys in testdata/keys, which openssl 3.0 wrote.
func publicKey(t testing.TB) any {
	t.Helper()
	block, _ := pem.Decode([]byte(readText(t, filepath.Join("testdata", "keys", "public.pem"))))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
