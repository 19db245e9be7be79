// Package certtest makes certificates for tests: an authority, and what it
// signs for servers and clients. They hold for an hour, on this machine's names
// or those that are given, and their keys are written to files that nobody else
// can read.
//
// What it does not: revoke, or sign what is not a test's.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	// File is the authority's certificate (PEM).
	File string

	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

// Pair are the files of a certificate and its key (PEM). Both may be read by
// this user only.
type Pair struct{ Cert, Key string }

// New makes an authority of the given name.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir(), next: 2, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	a.File, a.cert = a.sign(name, template, template, &a.key.PublicKey, a.key)
	return a
}

// Server makes a certificate for a server under hosts, names or addresses.
func (a *Authority) Server(hosts ...string) Pair {
	a.t.Helper()
	template := a.template(hosts[0], x509.ExtKeyUsageServerAuth)
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return a.pair("server-"+hosts[0], template)
}

// Expired makes a certificate for a server under host that held until a minute
// ago.
func (a *Authority) Expired(host string) Pair {
	a.t.Helper()
	template := a.template(host, x509.ExtKeyUsageServerAuth)
	template.IPAddresses = []net.IP{net.ParseIP(host)}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	return a.pair("expired-"+host, template)
}

// Client makes a certificate for a client with the given common name.
func (a *Authority) Client(name string) Pair {
	a.t.Helper()
	return a.pair("client-"+name, a.template(name, x509.ExtKeyUsageClientAuth))
}

// ClientFor makes a certificate for a client whose key the caller holds, and
// returns its file.
func (a *Authority) ClientFor(name string, key crypto.PublicKey) string {
	a.t.Helper()
	file, _ := a.sign(fmt.Sprintf("client-%s-%d", name, a.next), a.template(name, x509.ExtKeyUsageClientAuth), a.cert, key, a.key)
	return file
}

func (a *Authority) template(name string, usage x509.ExtKeyUsage) *x509.Certificate {
	a.next++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}

func (a *Authority) pair(name string, template *x509.Certificate) Pair {
	a.t.Helper()
	key := newKey(a.t)
	file, _ := a.sign(name, template, a.cert, &key.PublicKey, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{Cert: file, Key: a.write(name+".key", "PRIVATE KEY", der)}
}

func (a *Authority) sign(name string, template, parent *x509.Certificate, key crypto.PublicKey, by *ecdsa.PrivateKey) (string, *x509.Certificate) {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", "CERTIFICATE", der), cert
}

func (a *Authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
