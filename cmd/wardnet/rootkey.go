package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"filippo.io/age"

	"github.com/wardnet/wardnet/inventory"
)

// minPassphrase is the shortest passphrase of a root's key, in bytes; scrypt
// makes each guess expensive, not a short list of them.
const minPassphrase = 16

// seal encrypts to the passphrase in a file, in the age format (scrypt).
func seal(plain []byte, passphraseFile string) ([]byte, error) {
	pass, err := readSecret(passphraseFile)
	if err != nil {
		return nil, err
	}
	if len(pass) < minPassphrase {
		return nil, fmt.Errorf("%w: the passphrase in %s is shorter than %d bytes", inventory.ErrInvalid, passphraseFile, minPassphrase)
	}
	to, err := age.NewScryptRecipient(pass)
	if err != nil {
		return nil, fmt.Errorf("encrypt the root's key: %w", err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, fmt.Errorf("encrypt the root's key: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("encrypt the root's key: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt the root's key: %w", err)
	}
	return out.Bytes(), nil
}

// unsealKey opens a key that seal encrypted.
func unsealKey(file, passphraseFile string) (*ecdsa.PrivateKey, error) {
	fail := func(err error) (*ecdsa.PrivateKey, error) {
		return nil, fmt.Errorf("%w: open the root's key in %s: %w", inventory.ErrInvalid, file, err)
	}
	pass, err := readSecret(passphraseFile)
	if err != nil {
		return nil, err
	}
	sealed, err := os.ReadFile(file)
	if err != nil {
		return fail(err)
	}
	id, err := age.NewScryptIdentity(pass)
	if err != nil {
		return fail(err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), id)
	if err != nil {
		return fail(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return fail(err)
	}
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, fmt.Errorf("%w: %s holds no key", inventory.ErrInvalid, file) // not the text: it may be a key
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	key, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: %s holds no ECDSA key", inventory.ErrInvalid, file)
	}
	return key, nil
}

// rootPair reads the root's certificate and key, and sees that they belong
// together.
func rootPair(c ceremony) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	root, err := certificateIn(c.root)
	if err != nil {
		return nil, nil, err
	}
	key, err := unsealKey(c.key, c.passphrase)
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(root.PublicKey) {
		return nil, nil, fmt.Errorf("%w: the key in %s is not that of %s", inventory.ErrInvalid, c.key, c.root)
	}
	return root, key, nil
}

func pemIn(file, kind string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != kind {
		return nil, fmt.Errorf("%w: %s is not a PEM %s", inventory.ErrInvalid, file, kind)
	}
	return b.Bytes, nil
}

func certificateIn(file string) (*x509.Certificate, error) {
	der, err := pemIn(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, file, err)
	}
	return c, nil
}

// fingerprintOf is the lower-case hex SHA-256 of the certificate, as the step
// CLI writes it.
func fingerprintOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
