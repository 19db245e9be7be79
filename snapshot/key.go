package snapshot

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// KeyVariable is the environment variable that holds the secret, and KeyFile
// the file of the data directory that holds it otherwise, both in hex.
const (
	KeyVariable = "ANONYMIZATION_KEY"
	KeyFile     = "anonymization.key"
)

// keySize is the number of bytes of the secret and of every sub-key.
const keySize = 32

// WeakKeyError refuses a secret that is no secret. It never shows the secret.
type WeakKeyError struct {
	Source string // the variable or the file
	Reason string
}

func (e *WeakKeyError) Error() string {
	return fmt.Sprintf("the anonymisation key in %s %s: set it to 64 hex digits from a random source, for example the output of `openssl rand -hex 32`", e.Source, e.Reason)
}

// EnvironmentKey is the value of ANONYMIZATION_KEY, "" if it is not set. Set to
// nothing it is a *WeakKeyError: the key that was meant is missing, and no other may
// take its place.
func EnvironmentKey() (string, error) {
	text, set := os.LookupEnv(KeyVariable)
	if set && text == "" {
		return "", &WeakKeyError{Source: "the environment variable " + KeyVariable, Reason: "is empty"}
	}
	return text, nil
}

// LoadKey returns the secret from which pseudonyms come: env (the value of
// ANONYMIZATION_KEY) if it is set, else the content of the key file in dataDir,
// which is made with mode 0600 if it does not exist; created says that it was,
// and the caller announces it, for whoever loses the file cannot make the same
// pseudonyms again. The error is a *WeakKeyError if the secret is malformed,
// short or well known.
func LoadKey(dataDir, env string) (key []byte, created bool, err error) {
	if env != "" {
		key, err = parseKey(env, "the environment variable "+KeyVariable)
		return key, false, err
	}
	path := filepath.Join(dataDir, KeyFile)
	key, err = readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createKey(path)
	}
	return key, false, err
}

// ReadKey is LoadKey for whoever asks about a dataset that exists: it makes no
// key, and its error wraps fs.ErrNotExist if there is none.
func ReadKey(dataDir, env string) ([]byte, error) {
	if env != "" {
		return parseKey(env, "the environment variable "+KeyVariable)
	}
	key, err := readKey(filepath.Join(dataDir, KeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: name the data directory of the build with --data-dir, or set %s", err, KeyVariable)
	}
	return key, err
}

// readKey reads the key file, and refuses one that anybody may read or replace.
func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the anonymisation key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the anonymisation key: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("the anonymisation key %s is open to every user of the machine (mode %#o), and whoever has read it can undo the pseudonyms: chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return nil, fmt.Errorf("read the anonymisation key: %w", err)
	}
	return parseKey(string(text), path)
}

// createKey makes the key file whole or not at all. If another process makes
// it at the same time, the one that came first counts.
func createKey(path string) ([]byte, bool, error) {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return nil, false, fmt.Errorf("make an anonymisation key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, false, fmt.Errorf("make an anonymisation key: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".anonymization-*") // mode 0600
	if err != nil {
		return nil, false, fmt.Errorf("make an anonymisation key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "%x\n", key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, false, fmt.Errorf("write the anonymisation key: %w", err)
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		key, err := readKey(path)
		return key, false, err
	} else if err != nil {
		return nil, false, fmt.Errorf("write the anonymisation key: %w", err)
	}
	return key, true, syncDirectory(filepath.Dir(path))
}

func parseKey(text, source string) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, &WeakKeyError{Source: source, Reason: "is not hexadecimal"}
	}
	if reason := weakness(key); reason != "" {
		return nil, &WeakKeyError{Source: source, Reason: reason}
	}
	return key, nil
}

// weakness says what is wrong with a secret, "" if nothing is known to be. A
// random key has a chance of less than 2^-80 to be refused.
func weakness(key []byte) string {
	switch {
	case len(key) == 0:
		return "is empty"
	case len(key) != keySize:
		return fmt.Sprintf("has %d bytes, not %d", len(key), keySize)
	}
	for period := 1; period <= keySize/2; period *= 2 {
		if bytes.Equal(key[period:], key[:keySize-period]) {
			return "repeats itself"
		}
	}
	step := key[1] - key[0]
	even, printable := true, true
	for i, b := range key {
		if i > 0 && b-key[i-1] != step {
			even = false
		}
		if b < ' ' || b > '~' {
			printable = false
		}
	}
	nibbles := true // 0123456789abcdef0123…
	for i, b := range key {
		if b != byte(2*i%16)<<4|byte((2*i+1)%16) {
			nibbles = false
		}
	}
	switch {
	case even || nibbles:
		return "counts up or down"
	case printable:
		return "is text, not random bytes"
	}
	return ""
}

// subKey derives the key of a column's pseudonyms (RFC 5869, HKDF with SHA-256
// and no salt).
func subKey(root []byte, column, version string, stable bool) ([]byte, error) {
	info := column
	if !stable {
		info += "/v" + version
	}
	key, err := hkdf.Key(sha256.New, root, nil, info, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of column %s: %w", column, err)
	}
	return key, nil
}

// Pseudonym is what a dataset of the version has in the column for the id: the
// first length hex digits (0: all 64) of its HMAC-SHA-256 under the column's
// sub-key. stable is --pseudonyms stable.
func Pseudonym(root []byte, column, version string, stable bool, length int, id string) (string, error) {
	key, err := subKey(root, column, version, stable)
	if err != nil {
		return "", err
	}
	return string(newPseudonymizer(key, length).appendHex(nil, id)), nil
}

// pseudonymizer makes the pseudonyms of one column. It is for one goroutine.
type pseudonymizer struct {
	mac    hash.Hash
	length int // hex digits
	sum    [sha256.Size]byte
	text   []byte
}

func newPseudonymizer(key []byte, length int) *pseudonymizer {
	if length <= 0 || length > 2*sha256.Size {
		length = 2 * sha256.Size
	}
	return &pseudonymizer{mac: hmac.New(sha256.New, key), length: length}
}

// raw returns the bytes whose hex digits are the pseudonym; of an odd length
// the last half byte is 0. They are valid until the next call.
func (p *pseudonymizer) raw(id string) []byte {
	p.text = append(p.text[:0], id...)
	p.mac.Reset()
	p.mac.Write(p.text)
	p.mac.Sum(p.sum[:0])
	n := (p.length + 1) / 2
	if p.length%2 == 1 {
		p.sum[n-1] &= 0xf0
	}
	return p.sum[:n]
}

func (p *pseudonymizer) appendHex(dst []byte, id string) []byte {
	return hex.AppendEncode(dst, p.raw(id))[:len(dst)+p.length]
}
