package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/wardnet/wardnet/pki/enrol"
)

func randomText() string { return rand.Text() }

// csrOf asks for names of any kind.
func csrOf(key crypto.Signer, cn string, names ...string) (string, error) {
	q := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
	for _, n := range names {
		switch ip := net.ParseIP(n); {
		case ip != nil:
			q.IPAddresses = append(q.IPAddresses, ip)
		case strings.Contains(n, "://"):
			u, err := url.Parse(n)
			if err != nil {
				return "", err
			}
			q.URIs = append(q.URIs, u)
		case strings.Contains(n, "@"):
			q.EmailAddresses = append(q.EmailAddresses, n)
		default:
			q.DNSNames = append(q.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, q, key)
	if err != nil {
		return "", err
	}
	return requestPEM(der), nil
}

func requestPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// brokenCSR is changed after it was signed.
func brokenCSR(name string) (string, error) {
	text, err := csrOf(newKey(elliptic.P256()), name, name)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode([]byte(text))
	block.Bytes[len(block.Bytes)-1] ^= 1
	return requestPEM(block.Bytes), nil
}

// weakKey1024 is a key that Go makes only when told to.
var weakKey1024 *rsa.PrivateKey

func weakCSR(name string) (string, error) {
	if weakKey1024 == nil {
		if err := os.Setenv("GODEBUG", "rsa1024min=0"); err != nil {
			return "", err
		}
		defer os.Unsetenv("GODEBUG")
		key, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			return "", fmt.Errorf("make a weak key: %w", err)
		}
		weakKey1024 = key
	}
	return csrOf(weakKey1024, name, name)
}

// tokenKey is the key of our controller's tokens with its id.
func (s *station) tokenKey() (*ecdsa.PrivateKey, string, error) {
	key, err := readTokenKey(s.dir)
	if err != nil {
		return nil, "", err
	}
	kid, err := enrol.KeyID(&key.PublicKey)
	return key, kid, err
}

// readTokenKey reads the key of a controller's tokens, where only its user can:
// the checks need tokens that the controller would never make, and many.
func readTokenKey(dir string) (*ecdsa.PrivateKey, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "data", "ca", "step-tokens.key"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("step-tokens.key is not PEM")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("step-tokens.key is a %T", k)
	}
	return key, nil
}
