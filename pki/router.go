package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// RouterRequest asks for the server certificate of a router that is dialled
// over TLS.
type RouterRequest struct {
	Device inventory.DeviceID
	Host   string        // name or address that it is dialled by
	CSR    string        // PEM; exactly the name Host, ECDSA P-256
	TTL    time.Duration // default and at most 90 days
	By     string
}

// IssueRouter issues a router's certificate from the services issuer. It names
// the router's host and no SPIFFE id, so that no listener of ours takes it for a
// client's. A CSR that says something else than the request wraps
// [inventory.ErrInvalid], an unknown or retired router [inventory.ErrNotFound].
func (p *PKI) IssueRouter(ctx context.Context, q RouterRequest) (Certificate, error) {
	fail := func(err error) (Certificate, error) {
		return Certificate{}, fmt.Errorf("issue certificate for router %s: %w", q.Device, err)
	}
	if q.TTL == 0 {
		q.TTL = maxServiceTTL
	}
	if q.TTL < 0 || q.TTL > maxServiceTTL {
		return fail(fmt.Errorf("%w: life %s is not within %s", inventory.ErrInvalid, q.TTL, maxServiceTTL))
	}
	if _, err := p.declared(ctx, q.Device); err != nil {
		return fail(err)
	}
	csr, err := checkRouterCSR(q)
	if err != nil {
		return fail(err)
	}
	ca := p.cas[Services]
	chain, err := ca.sign(ctx, order{csr: csr, subject: string(q.Device), sans: []string{q.Host}, life: q.TTL})
	if err != nil {
		return fail(err)
	}
	c, err := p.record(chain, csr, q.By)
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(
		p.audit(ctx, Event{Actor: q.By, Action: "issue", Object: "certificate " + c.Serial, Outcome: "done", Reason: clip("router " + string(q.Device) + " at " + q.Host)}),
		p.deps.Store.AddCertificate(ctx, c),
	); err != nil {
		return fail(err)
	}
	p.metrics.issued.WithLabelValues(string(Services)).Inc()
	return c, nil
}

// checkRouterCSR parses a router's CSR and reports all its faults at once.
func checkRouterCSR(q RouterRequest) (*x509.CertificateRequest, error) {
	csr, err := enrol.ParseCSR(q.CSR)
	if err != nil {
		return nil, err
	}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: csr: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if key, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		bad("the key must be ECDSA P-256")
	}
	var names []string
	names = append(names, csr.DNSNames...)
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	want := q.Host
	if a, err := netip.ParseAddr(want); err == nil {
		want = a.String()
	}
	if len(names) != 1 || names[0] != want || len(csr.URIs)+len(csr.EmailAddresses) > 0 {
		bad("it names %q; its only name (subjectAltName) must be what the router is dialled by, %q", names, want)
	}
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			bad("extension %s is not allowed", e.Id)
		}
	}
	if cn := csr.Subject.CommonName; cn != "" && cn != string(q.Device) {
		bad("common name %q is not %q", cn, q.Device)
	}
	return csr, errors.Join(errs...)
}

// CheckRouter looks at the certificate of a router that was dialled, for a
// client's VerifyConnection: it is from the services issuer, for servers, and not
// revoked. That it names the host is for [tls.Config] to check.
func (p *PKI) CheckRouter(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the router showed no certificate")
	}
	leaf, set := cs.PeerCertificates[0], p.issuers.Load()
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: set.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("the router's certificate %.40s: %w; give it one with 'wardnet router certify-tls'", enrol.SerialOf(leaf), err)
	}
	serial := enrol.SerialOf(leaf)
	if by := set.byRaw[string(chains[0][len(chains[0])-1].Raw)]; by.Issuer != Services || !by.State.accepted() {
		return fmt.Errorf("the router's certificate %s is not of the %s CA in force, but of generation %d of the %s CA, which is %s; give it another with 'wardnet router certify-tls'", serial, Services, by.Number, by.Issuer, by.State)
	}
	if leaf.IsCA || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return fmt.Errorf("the router's certificate %s is not for TLS servers", serial)
	}
	if p.revoked.has(serial) {
		return fmt.Errorf("the router's certificate %s is revoked; give it another with 'wardnet router certify-tls'", serial)
	}
	return nil
}
