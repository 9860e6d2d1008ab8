package enrol

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/wardnet/wardnet/inventory"
)

// Keystore makes and keeps the private keys of identities: a TPM or a PKCS #11
// token, which a key never leaves. Keys are ECDSA P-256.
type Keystore interface {
	// Make makes a key and gives what the identity's file keeps of it.
	Make() (ref string, key crypto.Signer, err error)
	// Open gives the key behind ref; one of another keystore wraps
	// [inventory.ErrInvalid].
	Open(ref string) (crypto.Signer, error)
	// Forget removes the key behind ref; one that is gone is no error.
	Forget(ref string) error
}

// Files is the keystore of a box without a chip for keys: they are in the
// identity's file, which only its owner may read.
type Files struct{}

// keyBlock is the PEM type of a key that the file itself holds, PKCS #8.
const keyBlock = "PRIVATE KEY"

// Make implements [Keystore].
func (Files) Make() (string, crypto.Signer, error) {
	key, err := NewKey()
	if err != nil {
		return "", nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, fmt.Errorf("encode device key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})), key, nil
}

// Open implements [Keystore].
func (Files) Open(ref string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(ref))
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%w: the device key is not in the identity's file", inventory.ErrInvalid)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: the device key is damaged; enrol the device again with a new token", inventory.ErrInvalid) // not %w: nothing of a key
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: the device key is a %T, want ECDSA", inventory.ErrInvalid, k)
	}
	return key, nil
}

// Forget implements [Keystore]: the file goes.
func (Files) Forget(string) error { return nil }

// isFileKey says whether the identity's file holds the key itself.
func isFileKey(ref string) bool {
	block, _ := pem.Decode([]byte(ref))
	return block != nil && block.Type == keyBlock
}

// openKey gives the key behind ref. A file's key is opened with any keystore,
// so that a box can be given a chip and move to it with its next renewal; one
// of a chip, without its keystore, is there to be looked at but signs nothing.
func openKey(ref string, keys Keystore, pub crypto.PublicKey) (crypto.Signer, error) {
	switch {
	case isFileKey(ref):
		return Files{}.Open(ref)
	case keys == nil:
		return absentKey{pub}, nil
	}
	return keys.Open(ref)
}

// absentKey is a key that is somewhere else.
type absentKey struct{ pub crypto.PublicKey }

func (k absentKey) Public() crypto.PublicKey { return k.pub }

func (absentKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the device key is in a TPM or PKCS #11 token; say which with --keys")
}

// keyPair ties a certificate chain to its key; they must match.
func keyPair(chainPEM, ref string, keys Keystore) (*tls.Certificate, error) {
	chain, err := parseCertificates([]byte(chainPEM))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	key, err := openKey(ref, keys, chain[0].PublicKey)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	pub, ok := chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("%w: identity: certificate and key do not match", inventory.ErrInvalid)
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}
