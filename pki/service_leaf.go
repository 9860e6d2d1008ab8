package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// RegistrarKind is the kind of SPIFFE id whose holder may ask for certificates
// of services by the step API's X5C provisioner.
const RegistrarKind = "registrar"

// MaxServiceTTL is the longest life of a certificate of the services issuer.
const MaxServiceTTL = maxServiceTTL

// ServiceLeaf is all that a leaf of the services issuer can say: it is for TLS
// clients and servers and certifies nobody else.
type ServiceLeaf struct {
	Key      crypto.PublicKey // ECDSA P-256, P-384, P-521, Ed25519, or RSA of 2048 to 8192 bits
	Subject  string           // common name: "" or one of the names
	DNSNames []string
	IPs      []net.IP
	URIs     []*url.URL // SPIFFE ids of services and registrars
	NotAfter time.Time  // at most 90 days from now; validity begins a little before now
}

// Names lists the names of the leaf as text.
func (l ServiceLeaf) Names() []string {
	out := slices.Clone(l.DNSNames)
	for _, ip := range l.IPs {
		out = append(out, ip.String())
	}
	for _, u := range l.URIs {
		out = append(out, u.String())
	}
	return out
}

// CheckService says everything that is wrong with l, wrapping
// [inventory.ErrInvalid]. No leaf may be mistaken for the controller or for a
// device.
func (p *PKI) CheckService(l ServiceLeaf, now time.Time) error {
	errs := []error{serviceKeyFault(l.Key)}
	names := l.Names()
	if len(names) == 0 {
		errs = append(errs, errors.New("it has no name"))
	}
	if l.Subject != "" && !slices.Contains(names, l.Subject) && !p.lastElement(l) {
		errs = append(errs, fmt.Errorf("the common name %q is none of its names", l.Subject))
	}
	for _, n := range l.DNSNames {
		errs = append(errs, p.serviceNameFault(n))
	}
	for _, ip := range l.IPs {
		if a, ok := netip.AddrFromSlice(ip); !ok || !a.IsLoopback() && slices.Contains(p.cfg.IPs, a.Unmap()) {
			errs = append(errs, fmt.Errorf("address %s is the controller's", ip))
		}
	}
	for _, u := range l.URIs {
		_, service := enrol.ParseSPIFFEID(u, p.cfg.TrustDomain, enrol.ServiceKind)
		_, registrar := enrol.ParseSPIFFEID(u, p.cfg.TrustDomain, RegistrarKind)
		if service != nil && registrar != nil {
			errs = append(errs, fmt.Errorf("%q is not the SPIFFE id of a service of %s", u, p.cfg.TrustDomain))
		}
	}
	if !l.NotAfter.After(now) || l.NotAfter.Sub(now) > maxServiceTTL+time.Second { // validity is cut to seconds
		errs = append(errs, fmt.Errorf("its end, %s, is not within %s from now", l.NotAfter.Format(time.RFC3339), maxServiceTTL))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: service certificate: %w", inventory.ErrInvalid, err)
	}
	return nil
}

// lastElement allows the short name of the only SPIFFE id as common name.
func (p *PKI) lastElement(l ServiceLeaf) bool {
	return len(l.URIs) == 1 && len(l.Names()) == 1 && strings.HasSuffix(l.URIs[0].Path, "/"+l.Subject)
}

func (p *PKI) serviceNameFault(n string) error {
	bare := strings.TrimPrefix(n, "*.")
	if !isHostName(bare) || strings.HasSuffix(bare, ".") || bare != strings.ToLower(bare) {
		return fmt.Errorf("%q is no host name in lower case", n)
	}
	for _, own := range p.cfg.DNSNames {
		if own = strings.ToLower(own); own == "localhost" {
			continue // everybody's
		}
		_, parent, _ := strings.Cut(own, ".")
		if bare == own || n == "*."+parent {
			return fmt.Errorf("%q is the controller's name", n)
		}
	}
	return nil
}

func serviceKeyFault(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
		return errors.New("its curve is not P-256, P-384 or P-521")
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= 8192 {
			return nil
		}
		return errors.New("its RSA key has not 2048 to 8192 bits")
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("its key is a %T; use ECDSA P-256", key)
}

// SignService checks l and signs it with the services issuer in force; the
// chain starts with the leaf. Nobody may see it before its row, see
// [PKI.ServiceRow], is recorded.
func (p *PKI) SignService(ctx context.Context, l ServiceLeaf) ([]*x509.Certificate, error) {
	start := time.Now()
	if err := p.CheckService(l, start); err != nil {
		return nil, err
	}
	chain, err := p.signServiceLeaf(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("sign a service certificate: %w", err)
	}
	p.metrics.signing.Observe(time.Since(start).Seconds())
	return chain, nil
}

// ServiceRow makes the row of a chain of [PKI.SignService].
func (p *PKI) ServiceRow(chain []*x509.Certificate) (Certificate, error) {
	if len(chain) < 2 {
		return Certificate{}, errors.New("record a service certificate: its chain has no issuer")
	}
	leaf := chain[0]
	issuerKey, err := enrol.KeyID(chain[1].PublicKey)
	if err != nil {
		return Certificate{}, fmt.Errorf("record a service certificate: %w", err)
	}
	serial := enrol.SerialOf(leaf)
	c := Certificate{
		Serial: serial, Issuer: Services, IssuerKey: issuerKey, Subject: leaf.Subject.CommonName,
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), IssuedAt: time.Now().UTC(),
		Lineage: serial, // renewals stay in it: a thief who renewed is revoked with whom he robbed
		// A key may be certified again for the same names: no CSR is spent.
		CSRHash: "service " + serial, Chain: string(certPEM(chain...)),
	}
	if len(leaf.URIs) == 1 {
		c.SPIFFEID = leaf.URIs[0].String()
	}
	return c, nil
}

// ServiceIssued counts and audits a recorded service certificate.
func (p *PKI) ServiceIssued(ctx context.Context, c Certificate, action, reason string) error {
	p.metrics.issued.WithLabelValues(string(Services)).Inc()
	return p.audit(context.WithoutCancel(ctx), Event{Actor: c.IssuedBy, Action: action, Object: "certificate " + c.Serial, Outcome: "done", Reason: clip(reason)})
}

// Revoked says whether a certificate is revoked, by its serial number in
// lower-case hex.
func (p *PKI) Revoked(serial string) bool { return p.revoked.has(serial) }

// count rises with every revocation.
func (s *revokedSet) count() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return uint64(len(s.serials))
}
