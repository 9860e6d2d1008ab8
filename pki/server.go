package pki

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// maxServiceTTL is the longest life of a service certificate.
const maxServiceTTL = 90 * 24 * time.Hour

// serverCert is the controller's own certificate with its key, which never
// leaves the process: each start makes a new one.
type serverCert struct {
	pair *tls.Certificate
	due  time.Time // for renewal
}

// renewServer issues the controller's own certificate from the hub issuer.
func (p *PKI) renewServer(ctx context.Context) error {
	key, err := enrol.NewKey()
	if err != nil {
		return err
	}
	t := &x509.CertificateRequest{DNSNames: p.cfg.DNSNames}
	sans := append([]string(nil), p.cfg.DNSNames...)
	for _, a := range p.cfg.IPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
		sans = append(sans, a.String())
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return fmt.Errorf("request the controller's certificate: %w", err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return fmt.Errorf("request the controller's certificate: %w", err)
	}
	ca := p.cas[Hub]
	chain, err := ca.sign(ctx, order{csr: csr, subject: sans[0], sans: sans, life: p.cfg.ServerTTL})
	if err != nil {
		return err
	}
	c, err := p.record(chain, csr, "system")
	if err != nil {
		return err
	}
	if err := p.deps.Store.AddCertificate(ctx, c); err != nil {
		return fmt.Errorf("record the controller's certificate: %w", err)
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	life := c.NotAfter.Sub(c.NotBefore)
	p.server.Store(&serverCert{pair: pair, due: c.NotBefore.Add(life * 2 / 3)})
	p.metrics.issued.WithLabelValues(string(Hub)).Inc()
	p.metrics.serverExpiry.Set(float64(c.NotAfter.Unix()))
	return nil
}

func (p *PKI) renewServerIfDue(ctx context.Context) error {
	if time.Now().Before(p.server.Load().due) {
		return nil
	}
	return p.renewServer(ctx)
}

// ServiceRequest asks for the certificate of a service, such as a policy
// enforcement point.
type ServiceRequest struct {
	Name string        // last element of its SPIFFE id
	CSR  string        // PEM; exactly the SPIFFE id of Name, see [enrol.NewCSR]
	TTL  time.Duration // default 1 day, at most 90 days
	By   string
}

// IssueService issues a certificate from the services issuer. A CSR that says
// something else than the request wraps [inventory.ErrInvalid].
func (p *PKI) IssueService(ctx context.Context, q ServiceRequest) (Certificate, error) {
	if q.TTL == 0 {
		q.TTL = 24 * time.Hour
	}
	if q.TTL < 0 || q.TTL > maxServiceTTL {
		return Certificate{}, fmt.Errorf("issue certificate for service %s: %w: life %s is not within %s", q.Name, inventory.ErrInvalid, q.TTL, maxServiceTTL)
	}
	csr, name, err := checkCSR(q.CSR, p.cfg.TrustDomain, enrol.ServiceKind)
	if err == nil && name != q.Name {
		err = fmt.Errorf("%w: csr names service %q", inventory.ErrInvalid, name)
	}
	if err != nil {
		return Certificate{}, fmt.Errorf("issue certificate for service %s: %w", q.Name, err)
	}
	ca := p.cas[Services]
	chain, err := ca.sign(ctx, order{csr: csr, subject: name, sans: []string{csr.URIs[0].String()}, life: q.TTL})
	if err != nil {
		return Certificate{}, err
	}
	c, err := p.record(chain, csr, q.By)
	if err != nil {
		return Certificate{}, err
	}
	if err := errors.Join(
		p.audit(ctx, Event{Actor: q.By, Action: "issue", Object: "certificate " + c.Serial, Outcome: "done", Reason: "service " + name}),
		p.deps.Store.AddCertificate(ctx, c),
	); err != nil {
		return Certificate{}, fmt.Errorf("issue certificate for service %s: %w", name, err)
	}
	p.metrics.issued.WithLabelValues(string(Services)).Inc()
	return c, nil
}
