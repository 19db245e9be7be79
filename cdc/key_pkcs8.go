package cdc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the default of the standard, for keys made so
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"
)

// pkcs8Type is the PEM type of a private key that a password opens.
const pkcs8Type = "ENCRYPTED PRIVATE KEY"

var (
	errKeyForm     = errors.New("it is encrypted in a form that is not read here: rewrite it with openssl pkcs8 -topk8 -v2 aes-256-cbc")
	errKeyPassword = errors.New("the password does not open it")
)

// The algorithms of RFC 8018 that openssl uses.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// pseudoRandom are the functions that PBKDF2 is used with, by their identifiers.
func pseudoRandom(id asn1.ObjectIdentifier) func() hash.Hash {
	switch id.String() {
	case "1.2.840.113549.2.7", "": // the default
		return sha1.New
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

// aesKeyBytes is the length of the key of AES in CBC mode, 0 for another cipher.
func aesKeyBytes(id asn1.ObjectIdentifier) int {
	switch id.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16
	case "2.16.840.1.101.3.4.1.22":
		return 24
	case "2.16.840.1.101.3.4.1.42":
		return 32
	}
	return 0
}

// maxIterations bounds the work that a key file may ask for.
const maxIterations = 10_000_000

// decryptPKCS8 opens a private key in the form that openssl writes by default:
// PKCS #8, encrypted by PBES2 with PBKDF2 and AES in CBC mode (RFC 5958, RFC 8018).
// pgx reads only the older form. It returns the plain PKCS #8 key.
func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var outer struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	var scheme struct{ Derivation, Cipher pkix.AlgorithmIdentifier }
	var derivation struct {
		Salt       []byte
		Iterations int
		KeyBytes   int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	var iv []byte
	if !unmarshal(der, &outer) || !outer.Algorithm.Algorithm.Equal(oidPBES2) ||
		!unmarshal(outer.Algorithm.Parameters.FullBytes, &scheme) || !scheme.Derivation.Algorithm.Equal(oidPBKDF2) ||
		!unmarshal(scheme.Derivation.Parameters.FullBytes, &derivation) || !unmarshal(scheme.Cipher.Parameters.FullBytes, &iv) {
		return nil, errKeyForm
	}
	prf, size := pseudoRandom(derivation.PRF.Algorithm), aesKeyBytes(scheme.Cipher.Algorithm)
	if prf == nil || size == 0 || len(iv) != aes.BlockSize || derivation.Iterations < 1 || derivation.Iterations > maxIterations ||
		len(outer.Data) == 0 || len(outer.Data)%aes.BlockSize != 0 {
		return nil, errKeyForm
	}
	key, err := pbkdf2.Key(prf, password, derivation.Salt, derivation.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(outer.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, outer.Data)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > aes.BlockSize {
		return nil, errKeyPassword
	}
	for _, b := range plain[len(plain)-padding:] {
		if int(b) != padding {
			return nil, errKeyPassword
		}
	}
	return plain[:len(plain)-padding], nil
}

// unmarshal decodes all of data.
func unmarshal(data []byte, into any) bool {
	rest, err := asn1.Unmarshal(data, into)
	return err == nil && len(rest) == 0
}
