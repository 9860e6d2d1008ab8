package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
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

// Lives of the CA certificates.
const (
	rootLife   = 20 * 365 * 24 * time.Hour
	issuerLife = 10 * 365 * 24 * time.Hour
)

// sshNames are the SSH CAs' keys: users' and hosts'.
var sshNames = []string{"ssh-user", "ssh-host"}

// Exists says whether dir holds a CA. An error that is not about a missing file
// is given, for then nobody knows.
func Exists(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, "root.crt"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Create makes root, issuers and SSH CAs in dir, all or nothing: they are
// written and synced beside it and renamed into place. Another process that was
// first wins: its CA stays.
func Create(dir, domain string, now time.Time) error {
	rootKey, err := enrol.NewKey()
	if err != nil {
		return err
	}
	root, err := NewRoot(rootKey, domain, now)
	if err != nil {
		return err
	}
	text, err := EncodeKey(rootKey)
	if err != nil {
		return err
	}
	return create(dir, root, func(tmp string) error {
		errs := []error{writeSynced(filepath.Join(tmp, "root.key"), text)}
		for _, i := range Issuers {
			cert, err := certify(caSpec{name: i, domain: domain, now: now}, tmp, root, rootKey)
			if err != nil {
				return err
			}
			errs = append(errs, writeSynced(filepath.Join(tmp, string(i)+".crt"), encodeCert(cert)))
		}
		return errors.Join(errs...)
	})
}

// Prepare is [Create] for a root whose key is on another machine: the issuers'
// keys are made, their certificates wait for [Install].
func Prepare(dir string, root *x509.Certificate) error {
	if err := checkRoot(root); err != nil {
		return err
	}
	return create(dir, root, func(tmp string) error {
		for _, i := range Issuers {
			if err := MakeKey(tmp, string(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func create(dir string, root *x509.Certificate, fill func(tmp string) error) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("create CA directory: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".ca-*") // mode 0700
	if err != nil {
		return fmt.Errorf("create CA directory: %w", err)
	}
	defer os.RemoveAll(tmp) // renamed away unless a step below failed
	errs := []error{writeSynced(filepath.Join(tmp, "root.crt"), encodeCert(root)), fill(tmp)}
	for _, name := range sshNames {
		errs = append(errs, MakeKey(tmp, name))
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

// NewRoot makes a root certificate for a trust domain.
func NewRoot(key *ecdsa.PrivateKey, domain string, now time.Time) (*x509.Certificate, error) {
	t, err := caTemplate(caSpec{name: Root, domain: domain, now: now})
	if err != nil {
		return nil, err
	}
	return signCA(t, t, &key.PublicKey, key)
}

// SignIssuer signs an issuer's CSR with the root's key, on the machine that has
// it. What the issuer may certify is written here, not taken from the CSR.
func SignIssuer(csrDER []byte, i Issuer, root *x509.Certificate, key crypto.Signer, crlURL string, now time.Time) (*x509.Certificate, error) {
	fail := func(err error) (*x509.Certificate, error) {
		return nil, fmt.Errorf("sign the CSR of the %s issuer: %w", i, err)
	}
	if err := checkRoot(root); err != nil {
		return fail(err)
	}
	if !slices.Contains(Issuers, i) {
		return fail(fmt.Errorf("%w: no issuer %q", inventory.ErrInvalid, i))
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return fail(fmt.Errorf("%w: %w", inventory.ErrInvalid, err))
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fail(fmt.Errorf("%w: its key is a %T, want ECDSA", inventory.ErrInvalid, csr.PublicKey))
	}
	if !slices.Equal(csr.Subject.OrganizationalUnit, []string{string(i)}) {
		return fail(fmt.Errorf("%w: it was made for issuer %v", inventory.ErrInvalid, csr.Subject.OrganizationalUnit))
	}
	t, err := caTemplate(caSpec{name: i, domain: root.URIs[0].Host, now: now, crlURL: crlURL})
	if err != nil {
		return fail(err)
	}
	return signCA(t, root, pub, key)
}

// SignRootCRL makes the root's revocation list: the serial numbers of the
// issuers that are not to be trusted.
func SignRootCRL(root *x509.Certificate, key crypto.Signer, number uint64, url string, entries []CRLEntry, now time.Time) ([]byte, error) {
	return signCRL(root, key, CRLOrder{Number: number, Life: rootCRLLife, URL: url, Entries: entries}, now)
}

func checkRoot(root *x509.Certificate) error {
	if root == nil || !root.IsCA || len(root.URIs) != 1 || root.URIs[0].Scheme != "spiffe" || root.URIs[0].Host == "" || root.CheckSignatureFrom(root) != nil {
		return fmt.Errorf("%w: not a Wardnet root certificate: it is not self-signed for one trust domain", inventory.ErrInvalid)
	}
	return nil
}

type caSpec struct {
	name   Issuer
	domain string
	now    time.Time
	crlURL string
}

// caTemplate bounds what an issuer may certify in its own certificate, so that
// a foreign verifier bounds it too.
func caTemplate(s caSpec) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	life := issuerLife
	if s.name == Root {
		life = rootLife
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Organization: []string{"Wardnet"}, OrganizationalUnit: []string{string(s.name)},
			CommonName: fmt.Sprintf("Wardnet %s CA %s %x", s.name, s.domain, serial.Bytes()[:4]),
		},
		NotBefore: s.now.Add(-backdate), NotAfter: s.now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: s.name != Root,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: "spiffe", Host: s.domain}},
	}
	if s.crlURL != "" {
		t.CRLDistributionPoints = []string{s.crlURL}
	}
	switch s.name {
	case Devices:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageOCSPSigning}
		t.PermittedURIDomains, t.PermittedDNSDomainsCritical = []string{s.domain}, true
	case Services:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning}
	case Hub:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning}
	}
	return t, nil
}

// certify makes the key of s in dir and its certificate.
func certify(s caSpec, dir string, root *x509.Certificate, rootKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	if err := MakeKey(dir, string(s.name)); err != nil {
		return nil, err
	}
	key, err := LoadKey(dir, string(s.name))
	if err != nil {
		return nil, err
	}
	t, err := caTemplate(s)
	if err != nil {
		return nil, err
	}
	return signCA(t, root, &key.PublicKey, rootKey)
}

func signCA(t, parent *x509.Certificate, pub *ecdsa.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("certify %v CA: %w", t.Subject.OrganizationalUnit, err)
	}
	return x509.ParseCertificate(der)
}

// issuerCSR is what the root has to sign for an issuer's key.
func issuerCSR(i Issuer, key crypto.Signer) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{"Wardnet"}, OrganizationalUnit: []string{string(i)}},
	}, key)
}

// checkIssuer holds a certificate that was signed elsewhere against what an
// issuer's must be; whatever else it could certify would be a way around the
// templates for a foreign verifier.
func checkIssuer(c *x509.Certificate, i Issuer, pub *ecdsa.PublicKey, root *x509.Certificate, now time.Time) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: certificate of the %s issuer: "+format, append([]any{inventory.ErrInvalid, i}, args...)...))
	}
	if err := c.CheckSignatureFrom(root); err != nil {
		bad("it is not signed by this root: %w", err)
	}
	if !pub.Equal(c.PublicKey) {
		bad("it is for another key than the CSR's")
	}
	want, err := caTemplate(caSpec{name: i, domain: root.URIs[0].Host, now: now})
	if err != nil {
		return err
	}
	if !c.IsCA || !c.MaxPathLenZero || c.KeyUsage != want.KeyUsage || !slices.Equal(c.ExtKeyUsage, want.ExtKeyUsage) ||
		!slices.Equal(c.PermittedURIDomains, want.PermittedURIDomains) || !slices.Equal(c.Subject.OrganizationalUnit, want.Subject.OrganizationalUnit) {
		bad("it allows something else than a %s issuer may do; sign it with 'wardnet cert ceremony sign'", i)
	}
	if now.After(c.NotAfter) || now.Add(backdate).Before(c.NotBefore) {
		bad("it is not valid now")
	}
	return errors.Join(errs...)
}

// newSerial is a positive random number of 127 bits (RFC 5280 §4.1.2.2).
func newSerial() (*big.Int, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil || n.BitLen() > 32 { // the name of a CA takes four bytes of it
			return n, err
		}
	}
}
