package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// Issuer names an issuing CA.
type Issuer string

// The three issuing CAs under the root.
const (
	Devices  Issuer = "devices"  // enrolment and renewal of devices, nothing else
	Services Issuer = "services" // services and people
	Hub      Issuer = "hub"      // the controller's own certificates; devices pin it
)

var issuers = []Issuer{Devices, Services, Hub}

// Lives of the CA certificates.
const (
	rootLife   = 20 * 365 * 24 * time.Hour
	issuerLife = 10 * 365 * 24 * time.Hour
	backdate   = 10 * time.Minute // of every certificate: clocks of edges are off
)

// caFiles is the content of the CA directory: <name>.crt and <name>.key of the
// root and the issuers, <purpose>.key of the signing keys.
type caFiles struct {
	root    *x509.Certificate
	certs   map[Issuer]*x509.Certificate
	signers map[Issuer]*ecdsa.PrivateKey
	keys    map[Purpose]*ecdsa.PrivateKey
}

// createCA makes root, issuers and signing keys in dir, all or nothing: they
// are written and synced beside it and renamed into place.
func createCA(dir, domain string, now time.Time) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("create CA directory: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".ca-*") // mode 0700
	if err != nil {
		return fmt.Errorf("create CA directory: %w", err)
	}
	defer os.RemoveAll(tmp) // renamed away unless a step below failed
	rootKey, err := enrol.NewKey()
	if err != nil {
		return err
	}
	root, err := certifyCA(caSpec{name: "root", domain: domain, now: now, life: rootLife}, nil, rootKey, rootKey)
	if err != nil {
		return err
	}
	errs := []error{saveCert(tmp, "root", root), saveKey(tmp, "root", rootKey)}
	for _, i := range issuers {
		key, err := enrol.NewKey()
		if err != nil {
			return err
		}
		cert, err := certifyCA(caSpec{name: i, domain: domain, now: now, life: issuerLife}, root, key, rootKey)
		if err != nil {
			return err
		}
		errs = append(errs, saveCert(tmp, string(i), cert), saveKey(tmp, string(i), key))
	}
	for _, purpose := range Purposes {
		key, err := enrol.NewKey()
		if err != nil {
			return err
		}
		errs = append(errs, saveKey(tmp, string(purpose), key))
	}
	if err := errors.Join(append(errs, syncDir(tmp))...); err != nil {
		return fmt.Errorf("create CA: %w", err)
	}
	// Fails when another process was first: then its CA is the one.
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create CA: %w", err)
	}
	return syncDir(parent)
}

type caSpec struct {
	name   Issuer // or "root"
	domain string
	now    time.Time
	life   time.Duration
}

// certifyCA makes a CA certificate. What an issuer may certify is bounded in
// its own certificate, so that a foreign verifier bounds it too.
func certifyCA(s caSpec, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Organization: []string{"Wardnet"}, OrganizationalUnit: []string{string(s.name)},
			CommonName: fmt.Sprintf("Wardnet %s CA %s %x", s.name, s.domain, serial.Bytes()[:4]),
		},
		NotBefore: s.now.Add(-backdate), NotAfter: s.now.Add(s.life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: parent != nil,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: "spiffe", Host: s.domain}},
	}
	switch s.name {
	case Devices:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		t.PermittedURIDomains, t.PermittedDNSDomainsCritical = []string{s.domain}, true
	case Services:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	case Hub:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("certify %s CA: %w", s.name, err)
	}
	return x509.ParseCertificate(der)
}

// loadCA reads and checks the CA directory. The root's key may be elsewhere:
// only new issuers need it.
func loadCA(dir, domain string, now time.Time) (*caFiles, error) {
	ca := &caFiles{certs: map[Issuer]*x509.Certificate{}, signers: map[Issuer]*ecdsa.PrivateKey{}, keys: map[Purpose]*ecdsa.PrivateKey{}}
	var err error
	if ca.root, err = loadCert(dir, "root"); err != nil {
		return nil, err
	}
	var errs []error
	if len(ca.root.URIs) != 1 || ca.root.URIs[0].Host != domain {
		errs = append(errs, fmt.Errorf("%w: the CA in %s is not for trust domain %q; set pki.trust_domain to the CA's", inventory.ErrInvalid, dir, domain))
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	for _, i := range issuers {
		cert, err := loadCert(dir, string(i))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ca.signers[i], err = loadKey(dir, string(i)); err != nil {
			errs = append(errs, err)
			continue
		}
		if !ca.signers[i].PublicKey.Equal(cert.PublicKey) {
			errs = append(errs, fmt.Errorf("%w: %s.key does not belong to %s.crt in %s", inventory.ErrInvalid, i, i, dir))
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s CA in %s: %w", inventory.ErrInvalid, i, dir, err))
		}
		ca.certs[i] = cert
	}
	for _, purpose := range Purposes {
		if ca.keys[purpose], err = loadKey(dir, string(purpose)); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	return ca, nil
}

func saveCert(dir, name string, c *x509.Certificate) error {
	return writeSynced(filepath.Join(dir, name+".crt"), certPEM(c))
}

func saveKey(dir, name string, k *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	return writeSynced(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func certPEM(list ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func loadCert(dir, name string) (*x509.Certificate, error) {
	block, err := loadPEM(filepath.Join(dir, name+".crt"), "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %s.crt in %s: %w", inventory.ErrInvalid, name, dir, err)
	}
	return c, nil
}

// loadKey reads a key and refuses one that others may read: it may be stolen
// already, and the operator has to know.
func loadKey(dir, name string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, name+".key")
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w; restore the CA directory from a backup", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s may be read by others (mode %04o); run chmod 600 on it and consider replacing the key", inventory.ErrInvalid, path, info.Mode().Perm())
	}
	der, err := loadPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: %s is not an ECDSA key", inventory.ErrInvalid, path)
	}
	return key, nil
}

func loadPEM(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; restore the CA directory from a backup", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%w: %s is not a PEM %s", inventory.ErrInvalid, path, kind)
	}
	return slices.Clone(block.Bytes), nil
}

// writeSynced writes a new file for its owner alone and waits for the disk.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
