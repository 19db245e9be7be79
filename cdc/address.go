package cdc

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/secret"
)

// address is where and how to connect: a database URL completed, as libpq does
// it, by the environment, a service file and a password file.
type address struct {
	*pgx.ConnConfig
	// passwordFrom says where the password comes from, for messages.
	passwordFrom string
}

// sourceVariables are the environment variables of libpq that name a server, a
// database or a role: with one of them set no URL is needed.
var sourceVariables = []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"}

// SourceGiven says whether a source is named: by url, or, where that is empty,
// by the environment variables of libpq.
func SourceGiven(url string) bool {
	return url != "" || slices.ContainsFunc(sourceVariables, func(name string) bool { return os.Getenv(name) != "" })
}

// errAddress does not repeat the address, which may hold a password.
var errAddress = errors.New("read the database URL: it is not of the form postgres://user@host:port/database?sslmode=…")

// parseURL reads a database URL or key-value string, empty for the environment
// alone, and adds the pinned settings. What it makes of them is what libpq makes
// of them; where pgx does not do so, this does:
//
//   - a password file and a client's key that others may read are refused;
//   - a password file is looked through for the database that an address without
//     one means, and a password in it may end with space;
//   - the system-wide service file ($PGSYSCONFDIR) is looked into;
//   - a client's key may be encrypted as openssl does it today (PKCS #8);
//   - sslmode=verify-ca needs the root certificate: without, every certificate
//     that anybody bought would do;
//   - ssl_min_protocol_version and ssl_max_protocol_version hold;
//   - keywords that would weaken the connection if they were passed over
//     (sslcrl, requirepeer, hostaddr, gssencmode=require) are refused, those that
//     tune a socket are passed over.
//
// No error of it holds a password.
func parseURL(url string, replication bool) (*address, error) {
	set, err := connectionSettings(url)
	if err != nil {
		return nil, err
	}
	if err := set.supported(); err != nil {
		return nil, err
	}
	if err := set.checkTLS(); err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(set.source(url))
	if err != nil {
		return nil, errAddress
	}
	a := &address{ConnConfig: cfg, passwordFrom: set.from["password"]}
	if set.pair != nil {
		a.certify(*set.pair, set.value["sslcertmode"])
	}
	if cfg.Database == "" {
		cfg.Database = cfg.User
	}
	if set.value["password"] == "" {
		if err := a.readPassfile(set.value["passfile"]); err != nil {
			return nil, err
		}
	}
	if err := a.boundTLS(set.value["ssl_min_protocol_version"], set.value["ssl_max_protocol_version"]); err != nil {
		return nil, err
	}
	settings := pinned()
	maps.Copy(settings, guarded())
	for given := range cfg.RuntimeParams {
		if _, ours := settings[strings.ToLower(given)]; ours || slices.Contains(passedOver, given) || slices.Contains(ofTLS, given) {
			delete(cfg.RuntimeParams, given)
		}
	}
	maps.Copy(cfg.RuntimeParams, settings)
	if replication {
		cfg.RuntimeParams["replication"] = "database"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	// Statements here run once each; a cache of prepared ones would only make
	// trouble with poolers and with the replication protocol.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	return a, nil
}

// passedOver are keywords of libpq that tune sockets or name what is not used
// here; the server would take them for settings of its own.
var passedOver = []string{
	"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
	"sslcompression", "fallback_application_name", "gsslib", "gssencmode", "load_balance_hosts", "gssdelegation",
	"sslcrl", "sslcrldir", "requirepeer", "hostaddr",
}

// ofTLS are keywords that boundTLS acts on.
var ofTLS = []string{"ssl_min_protocol_version", "ssl_max_protocol_version"}

// supported refuses what libpq would do and this program does not, where
// leaving it out would make the connection weaker, or another one.
func (s *settings) supported() error {
	for _, c := range []struct{ keyword, instead string }{
		{"sslcrl", "leave it out, and replace a revoked certificate's authority in sslrootcert"},
		{"sslcrldir", "leave it out, and replace a revoked certificate's authority in sslrootcert"},
		{"requirepeer", "leave it out, or connect over TCP with sslmode=verify-full"},
		{"hostaddr", "give the host alone, and let the name service or /etc/hosts know its address"},
	} {
		if s.value[c.keyword] != "" {
			return fmt.Errorf("%s, from %s, is not supported: %s", c.keyword, s.from[c.keyword], c.instead)
		}
	}
	if s.value["gssencmode"] == "require" {
		return fmt.Errorf("gssencmode=require, from %s, is not supported: use sslmode=verify-full instead", s.from["gssencmode"])
	}
	return nil
}

// sslModes are what sslmode may be.
var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// checkTLS reads the files that TLS needs, so that what is wrong with one of
// them is said of that one.
func (s *settings) checkTLS() error {
	mode, root, cert, key := s.value["sslmode"], s.value["sslrootcert"], s.value["sslcert"], s.value["sslkey"]
	switch {
	case mode != "" && !slices.Contains(sslModes, mode):
		return fmt.Errorf("sslmode %q, from %s, is none: want %s", mode, s.from["sslmode"], strings.Join(sslModes, ", "))
	case mode == "disable" || s.local():
		return nil
	case mode == "verify-ca" && root == "":
		return errors.New("sslmode=verify-ca needs the certificate of the authority to trust: name its file with sslrootcert, or use sslmode=verify-full, which trusts the system's authorities")
	}
	if root != "" && root != "system" {
		data, err := os.ReadFile(root)
		if err != nil {
			return s.fileFault("sslrootcert", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(data) {
			return fmt.Errorf("sslrootcert, from %s: %s holds no certificate: name the authority's certificate in PEM form", s.from["sslrootcert"], root)
		}
	}
	if s.value["sslcertmode"] == "disable" || cert == "" && key == "" {
		return nil
	}
	if cert == "" || key == "" {
		return errors.New("a client certificate needs both its files: name the certificate with sslcert and its key with sslkey")
	}
	return s.checkKeyPair(cert, key)
}

// checkKeyPair reads a client's certificate and key.
func (s *settings) checkKeyPair(cert, key string) error {
	certificate, err := os.ReadFile(cert)
	if err != nil {
		return s.fileFault("sslcert", err)
	}
	if err := secret.Private(key); err != nil {
		return s.fileFault("sslkey", err)
	}
	private, err := os.ReadFile(key)
	if err != nil {
		return s.fileFault("sslkey", err)
	}
	block, _ := pem.Decode(private)
	switch {
	case block == nil:
		return fmt.Errorf("sslkey, from %s: %s holds no key in PEM form: name the key of the certificate in sslcert", s.from["sslkey"], key)
	case block.Type == pkcs8Type || x509.IsEncryptedPEMBlock(block): //nolint:staticcheck // the older form of libpq's sslpassword
		plain, err := s.openKey(key, block)
		if err != nil {
			return err
		}
		private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain})
	}
	pair, err := tls.X509KeyPair(certificate, private)
	if err != nil {
		return fmt.Errorf("sslcert %s and sslkey %s do not belong together, or one of them is none: %w", cert, key, err)
	}
	if block.Type == pkcs8Type {
		s.pair = &pair
	}
	return nil
}

// openKey decrypts a client's key with the password that is given for it.
func (s *settings) openKey(key string, block *pem.Block) ([]byte, error) {
	password := s.value["sslpassword"]
	if password == "" {
		return nil, fmt.Errorf("sslkey, from %s: %s is encrypted: set PGSSLPASSWORD to its password", s.from["sslkey"], key)
	}
	var plain []byte
	var err error
	if block.Type == pkcs8Type {
		plain, err = decryptPKCS8(block.Bytes, password)
	} else if plain, err = x509.DecryptPEMBlock(block, []byte(password)); err != nil { //nolint:staticcheck // as above
		err = errKeyPassword
	}
	switch {
	case errors.Is(err, errKeyPassword):
		return nil, fmt.Errorf("sslkey, from %s: %s does not open with the password of %s: correct it", s.from["sslkey"], key, s.from["sslpassword"])
	case err != nil:
		return nil, fmt.Errorf("sslkey, from %s: %s: %w", s.from["sslkey"], key, err)
	}
	return plain, nil
}

// fileFault says what is wrong with the file that a keyword names.
func (s *settings) fileFault(keyword string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s, from %s: read %s: %w: correct the path, or let this user read it", keyword, s.from[keyword], path.Path, path.Err)
	}
	return fmt.Errorf("%s, from %s: %w", keyword, s.from[keyword], err)
}

// local says whether every host is a directory of Unix sockets, to which TLS
// does not apply.
func (s *settings) local() bool {
	host := s.value["host"]
	if host == "" {
		return false
	}
	for one := range strings.SplitSeq(host, ",") {
		if !filepath.IsAbs(one) {
			return false
		}
	}
	return true
}

// boundTLS bounds the versions of TLS. Below 1.2 nothing is spoken.
func (a *address) boundTLS(least, most string) error {
	versions := map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	bound := func(name, text string, least uint16) (uint16, error) {
		if text == "" {
			return least, nil
		}
		version, ok := versions[text]
		if !ok {
			return 0, fmt.Errorf("%s %q: want TLSv1.2 or TLSv1.3", name, text)
		}
		return version, nil
	}
	low, err := bound("ssl_min_protocol_version", least, tls.VersionTLS12)
	if err != nil {
		return err
	}
	high, err := bound("ssl_max_protocol_version", most, 0)
	if err != nil {
		return err
	}
	if high != 0 && high < low {
		return errors.New("ssl_min_protocol_version is above ssl_max_protocol_version: correct one of them")
	}
	for _, c := range a.tlsConfigs() {
		c.MinVersion, c.MaxVersion = low, high
	}
	return nil
}

// certify gives every attempt a client certificate that pgx could not read.
func (a *address) certify(pair tls.Certificate, mode string) {
	a.SSLCertMode = cmp.Or(mode, "allow")
	for _, c := range a.tlsConfigs() {
		c.Certificates = []tls.Certificate{pair}
	}
}

// tlsConfigs are those of all attempts that use TLS.
func (a *address) tlsConfigs() (configs []*tls.Config) {
	if a.TLSConfig != nil {
		configs = append(configs, a.TLSConfig)
	}
	for _, f := range a.Fallbacks {
		if f.TLSConfig != nil {
			configs = append(configs, f.TLSConfig)
		}
	}
	return configs
}
