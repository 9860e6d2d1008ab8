//go:build lab

package strongswan

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// authority is a CA of the shape that package pki makes: a root, and issuers
// that are bounded in their own certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

const trustDomain = "wardnet.test"

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCA(t *testing.T, unit string, parent *authority) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	c := &x509.Certificate{
		SerialNumber: serial(t), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		Subject:  pkix.Name{Organization: []string{"Wardnet"}, OrganizationalUnit: []string{unit}, CommonName: "Wardnet " + unit + " CA"},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: parent != nil,
		URIs: []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	}
	if parent == nil {
		parent = &authority{c, a.key}
	} else {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{trustDomain}, true
	}
	a.cert = sign(t, c, parent, a.key)
	return a
}

func sign(t *testing.T, c *x509.Certificate, parent *authority, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// identity makes a fresh certificate of device.
func (a *authority) identity(t *testing.T, root *authority, device inventory.DeviceID) Identity {
	t.Helper()
	k := newKey(t)
	c := sign(t, &x509.Certificate{
		SerialNumber: serial(t), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(168 * time.Hour),
		Subject: pkix.Name{CommonName: string(device)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: trustDomain, Path: "/device/" + string(device)}},
	}, a, k)
	return Identity{Certificate: &tls.Certificate{Certificate: [][]byte{c.Raw, a.cert.Raw}, PrivateKey: k}, Root: root.cert}
}

func leafOf(t *testing.T, id Identity) string {
	t.Helper()
	c, err := x509.ParseCertificate(id.Certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return certPEM(c)
}

func keyOf(t *testing.T, id Identity) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(id.Certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
