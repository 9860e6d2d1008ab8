package pki

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"

	"github.com/wardnet/wardnet/pki/signer"
)

// OCSPPath is where the status listener answers OCSP (RFC 6960 appendix A).
const OCSPPath = "/ocsp"

// OCSPURL is what certificates name as their OCSP responder; "" when no status
// listener is known.
func (p *PKI) OCSPURL() string {
	if p.cfg.StatusURL == "" {
		return ""
	}
	return p.cfg.StatusURL + OCSPPath
}

// signServiceLeaf has l signed by the services issuer in force.
func (p *PKI) signServiceLeaf(ctx context.Context, l ServiceLeaf) ([]*x509.Certificate, error) {
	key, err := x509.MarshalPKIXPublicKey(l.Key)
	if err != nil {
		return nil, fmt.Errorf("encode the key to certify: %w", err)
	}
	o := signer.Order{Kind: signer.ServiceLeaf, PublicKey: key, Subject: l.Subject, DNSNames: l.DNSNames, NotAfter: l.NotAfter}
	for _, u := range l.URIs {
		o.URIs = append(o.URIs, u.String())
	}
	for _, ip := range l.IPs {
		if a, ok := netip.AddrFromSlice(ip); ok { // checked before
			o.IPs = append(o.IPs, a.Unmap())
		}
	}
	return p.issue(ctx, Services, o)
}

// ServiceIssuers are the certificates of the services issuers whose leaves
// count, the one in force first.
func (p *PKI) ServiceIssuers() []*x509.Certificate {
	set := p.issuers.Load()
	active := set.active[Services]
	out := []*x509.Certificate{active.cert}
	for _, g := range set.list {
		if g.Issuer == Services && g != active && g.State.accepted() {
			out = append(out, g.cert)
		}
	}
	return out
}

// ServiceIssuerKey is the key id of the services issuer in force.
func (p *PKI) ServiceIssuerKey() string { return p.issuers.Load().active[Services].KeyID }
