package enrol

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// Kinds of SPIFFE id we issue: the first path element.
const (
	DeviceKind  = "device"
	ServiceKind = "service"
)

// HubUnit is the organisational unit in the subject of the issuer of the
// controller's own certificates. A device that has no pin yet asks for it; the
// root vouches for it.
const HubUnit = "hub"

// segment is a SPIFFE path segment without the dot names (SPIFFE-ID §2.2).
var segment = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,126}$`)

// SPIFFEID is the name a certificate of kind carries, e.g.
// spiffe://wardnet.hcmc/device/e-26740. An unfit name wraps
// [inventory.ErrInvalid].
func SPIFFEID(domain, kind, name string) (*url.URL, error) {
	if !segment.MatchString(name) {
		return nil, fmt.Errorf("%w: %s %q cannot stand in a certificate: use letters, digits, '.', '_', '-'", inventory.ErrInvalid, kind, name)
	}
	return &url.URL{Scheme: "spiffe", Host: domain, Path: "/" + kind + "/" + name}, nil
}

// ParseSPIFFEID gives the name in an id of domain and kind; any other URI wraps
// [inventory.ErrInvalid].
func ParseSPIFFEID(u *url.URL, domain, kind string) (string, error) {
	name, ok := strings.CutPrefix(u.String(), "spiffe://"+domain+"/"+kind+"/")
	if !ok || !segment.MatchString(name) {
		return "", fmt.Errorf("%w: %q is not a %s id of spiffe://%s", inventory.ErrInvalid, u, kind, domain)
	}
	return name, nil
}

// TrustDomain is the trust domain a root certificate speaks for: the host of
// its only URI (X509-SVID §4.1).
func TrustDomain(rootPEM []byte) (string, error) {
	root, err := parseCertificates(rootPEM)
	if err != nil {
		return "", err
	}
	if !root[0].IsCA || len(root[0].URIs) != 1 || root[0].URIs[0].Scheme != "spiffe" || root[0].URIs[0].Host == "" {
		return "", fmt.Errorf("%w: not a Wardnet root certificate: it names no trust domain", inventory.ErrInvalid)
	}
	return root[0].URIs[0].Host, nil
}

// SerialOf is a certificate's serial number as Wardnet writes it everywhere:
// lower-case hex without leading zeros.
func SerialOf(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

// KeyID is the fingerprint of a public key: lower-case hex SHA-256 of its
// SubjectPublicKeyInfo.
func KeyID(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("fingerprint of a public key: %w", err)
	}
	return digest(der), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// CSRHash is the lower-case hex SHA-256 of the request's DER.
func CSRHash(csr *x509.CertificateRequest) string { return digest(csr.Raw) }

// NewKey makes a P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// NewCSR asks for a certificate that carries id and nothing else, PEM.
func NewCSR(key crypto.Signer, id *url.URL) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return "", fmt.Errorf("make certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// ParseCSR reads exactly one PEM certificate request and checks its signature.
func ParseCSR(text string) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("%w: csr is not one PEM block of type CERTIFICATE REQUEST", inventory.ErrInvalid)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: csr: %w", inventory.ErrInvalid, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: csr is not signed by its own key: %w", inventory.ErrInvalid, err)
	}
	return csr, nil
}

// ParseWireGuardKey reads a WireGuard public key: base64 of 32 bytes, not the
// zero key, which WireGuard takes as "none".
func ParseWireGuardKey(text string) (*ecdh.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 32 || [32]byte(raw) == [32]byte{} {
		return nil, fmt.Errorf("%w: wireguard_public_key is not the base64 of a 32-byte key", inventory.ErrInvalid)
	}
	return ecdh.X25519().NewPublicKey(raw)
}

// parseCertificates reads one or more PEM certificates and nothing else.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: PEM block of type %q where a certificate is expected", inventory.ErrInvalid, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate: %w", inventory.ErrInvalid, err)
		}
		out, text = append(out, c), rest
	}
	if len(out) == 0 || len(strings.TrimSpace(string(text))) > 0 {
		return nil, fmt.Errorf("%w: not a list of PEM certificates", inventory.ErrInvalid)
	}
	return out, nil
}
