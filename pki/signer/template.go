package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// Longest lives that no configuration raises.
const (
	maxServiceLife = 90 * 24 * time.Hour
	maxOCSPLife    = 7 * 24 * time.Hour
	maxCRLLife     = 8 * 24 * time.Hour
	backdate       = 10 * time.Minute // of every certificate: clocks of edges are off
)

// issuerOf says which issuer a template belongs to; one without: any.
var issuerOf = map[Kind]Issuer{DeviceLeaf: Devices, ServiceLeaf: Services, ServerLeaf: Hub}

// serviceKinds are the SPIFFE ids of the services issuer: whoever offers or asks
// for something, and whoever may ask for the certificates of services.
var serviceKinds = []string{enrol.ServiceKind, "registrar"}

var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5} // RFC 6960 §4.2.2.2.1

// rules are what the templates are checked against.
type rules struct {
	domain     string
	deviceLife time.Duration
	serverLife time.Duration
	names      []string // DNS names and addresses of the controller
}

// leaf turns an order for an issuer into the certificate to sign, without its
// serial number. All faults at once, wrapping [inventory.ErrInvalid].
func (r rules) leaf(o Order, issuer Info, parent *x509.Certificate, now time.Time) (*x509.Certificate, crypto.PublicKey, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if want, ok := issuerOf[o.Kind]; o.Kind != OCSPLeaf && (!ok || want != issuer.Issuer) {
		bad("the %s issuer signs no %q certificates", issuer.Issuer, o.Kind)
	}
	pub, csr, err := o.key()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, errors.Join(append(errs, err)...))
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: o.Subject}, NotBefore: now, NotAfter: o.NotAfter.UTC(), SubjectKeyId: keyIdentifier(pub),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	longest := maxOCSPLife
	switch o.Kind {
	case DeviceLeaf:
		longest = r.deviceLife
		errs = append(errs, r.device(o, t, csr, pub))
	case ServiceLeaf:
		longest = maxServiceLife
		errs = append(errs, r.service(o, t, csr))
		if _, ok := pub.(*rsa.PublicKey); ok {
			t.KeyUsage |= x509.KeyUsageKeyEncipherment
		}
	case ServerLeaf:
		longest = r.serverLife
		errs = append(errs, r.server(o, t, csr))
	case OCSPLeaf:
		if len(o.DNSNames)+len(o.IPs)+len(o.Emails)+len(o.URIs) > 0 {
			bad("a certificate for OCSP answers has no names")
		}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		t.ExtraExtensions = []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}}
	}
	life := o.NotAfter.Sub(now)
	if life <= 0 || life > longest+time.Second || t.NotAfter.After(parent.NotAfter) { // validity is cut to seconds
		bad("an end at %s is not within %s and the issuer's own life", o.NotAfter.UTC().Format(time.RFC3339), longest)
	}
	t.NotBefore = now.Add(-min(backdate, max(0, life)/10).Truncate(time.Second)).UTC()
	if o.CRLURL != "" {
		errs = append(errs, webURL(o.CRLURL, CRLPath(issuer.KeyID)))
		t.CRLDistributionPoints = []string{o.CRLURL}
	}
	if o.OCSPURL != "" {
		errs = append(errs, webURL(o.OCSPURL, ""))
		t.OCSPServer = []string{o.OCSPURL}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, fmt.Errorf("%w: order of a %s certificate: %w", inventory.ErrInvalid, o.Kind, err)
	}
	return t, pub, nil
}

// key gives the key to certify, from a CSR that proves its possession or alone.
func (o Order) key() (crypto.PublicKey, *x509.CertificateRequest, error) {
	var pub crypto.PublicKey
	var csr *x509.CertificateRequest
	var err error
	switch {
	case len(o.CSR) > 0 && len(o.PublicKey) > 0:
		return nil, nil, errors.New("a CSR and a public key were given, want one")
	case len(o.CSR) > 0:
		if csr, err = x509.ParseCertificateRequest(o.CSR); err != nil {
			return nil, nil, fmt.Errorf("csr: %w", err)
		}
		if err := csr.CheckSignature(); err != nil {
			return nil, nil, fmt.Errorf("csr is not signed by its own key: %w", err)
		}
		pub = csr.PublicKey
	case o.Kind == DeviceLeaf || o.Kind == ServerLeaf:
		return nil, nil, fmt.Errorf("a %s certificate needs a CSR", o.Kind)
	default:
		if pub, err = x509.ParsePKIXPublicKey(o.PublicKey); err != nil {
			return nil, nil, fmt.Errorf("public key: %w", err)
		}
	}
	return pub, csr, strong(pub)
}

// strong refuses keys that are too weak to certify.
func strong(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= 8192 {
			return nil
		}
		return errors.New("an RSA key needs 2048 to 8192 bits")
	}
	return fmt.Errorf("keys of type %T are not certified; use ECDSA P-256", pub)
}

func (r rules) device(o Order, t *x509.Certificate, csr *x509.CertificateRequest, pub crypto.PublicKey) error {
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if k, ok := pub.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return errors.New("the key of a device must be ECDSA P-256")
	}
	if len(csr.URIs) != 1 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return errors.New("a device has exactly one name, its SPIFFE id")
	}
	if len(o.DNSNames)+len(o.IPs)+len(o.Emails) > 0 || len(o.URIs) > 1 || (len(o.URIs) == 1 && o.URIs[0] != csr.URIs[0].String()) {
		return errors.New("the order names something else than the CSR")
	}
	name, err := enrol.ParseSPIFFEID(csr.URIs[0], r.domain, enrol.DeviceKind)
	if err != nil {
		return err
	}
	if o.Subject != "" && o.Subject != name {
		return fmt.Errorf("subject %q is not the device %q", o.Subject, name)
	}
	t.Subject.CommonName, t.URIs = name, csr.URIs
	return nil
}

func (r rules) service(o Order, t *x509.Certificate, csr *x509.CertificateRequest) error {
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.names()) == 0 {
		bad("a service certificate needs a name")
	}
	for _, text := range o.URIs {
		u, err := url.Parse(text)
		if err != nil || !slices.ContainsFunc(serviceKinds, func(kind string) bool {
			_, err := enrol.ParseSPIFFEID(u, r.domain, kind)
			return err == nil
		}) {
			bad("uri %q is not the SPIFFE id of a service of %s", text, r.domain)
			continue
		}
		t.URIs = append(t.URIs, u)
	}
	for _, name := range o.DNSNames {
		if !dnsName(strings.TrimPrefix(name, "*.")) || r.own(name) {
			bad("%q is no DNS name, or the controller's own", name)
		}
	}
	for _, a := range o.IPs {
		if !a.IsValid() || a.Zone() != "" || r.own(a.Unmap().String()) {
			bad("address %s is none, or the controller's own", a)
		}
		t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
	}
	for _, e := range o.Emails {
		if a, err := mail.ParseAddress(e); err != nil || a.Address != e {
			bad("%q is no e-mail address", e)
		}
	}
	if len(o.Subject) > 64 { // ub-common-name, RFC 5280 appendix A
		bad("subject is over 64 bytes")
	}
	t.DNSNames, t.EmailAddresses = o.DNSNames, o.Emails
	if csr != nil && len(namesOf(csr)) > 0 && !slices.Equal(namesOf(csr), o.names()) {
		bad("the order names %v, the CSR %v", o.names(), namesOf(csr))
	}
	return errors.Join(errs...)
}

// own says whether a name is one that people reach the controller by. The
// loopback is everybody's.
func (r rules) own(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil && a.IsLoopback() || name == "localhost" {
		return false
	}
	return slices.ContainsFunc(r.names, func(n string) bool { return strings.EqualFold(n, name) })
}

func (r rules) server(o Order, t *x509.Certificate, csr *x509.CertificateRequest) error {
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	var errs []error
	if len(o.DNSNames)+len(o.IPs) == 0 || len(o.URIs)+len(o.Emails) > 0 {
		errs = append(errs, errors.New("the controller's certificate has DNS names and addresses only"))
	}
	for _, name := range o.names() {
		if !slices.Contains(r.names, name) {
			errs = append(errs, fmt.Errorf("%q is not a configured name of the controller", name))
		}
	}
	if !slices.Equal(namesOf(csr), o.names()) {
		errs = append(errs, fmt.Errorf("the order names %v, the CSR %v", o.names(), namesOf(csr)))
	}
	t.DNSNames = o.DNSNames
	for _, a := range o.IPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
	}
	return errors.Join(errs...)
}

// names are all names of the order, sorted, as text.
func (o Order) names() []string {
	out := slices.Concat(o.DNSNames, o.Emails, o.URIs)
	for _, a := range o.IPs {
		out = append(out, a.Unmap().String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func namesOf(csr *x509.CertificateRequest) []string {
	out := slices.Concat(csr.DNSNames, csr.EmailAddresses)
	for _, u := range csr.URIs {
		out = append(out, u.String())
	}
	for _, ip := range csr.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap().String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func dnsName(s string) bool {
	if s == "" || len(s) > 253 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// webURL checks an address that goes into a certificate.
func webURL(text, suffix string) error {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || !strings.HasSuffix(u.Path, suffix) {
		return fmt.Errorf("%q is not an http URL that ends in %q", text, suffix)
	}
	return nil
}

// keyIdentifier is the subject key identifier: the left 160 bits of the SHA-256
// of the key (RFC 7093 §2 method 4).
func keyIdentifier(pub crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil // refused by strong
	}
	sum := sha256.Sum256(der)
	return sum[:20]
}
