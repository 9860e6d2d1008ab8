package stepca

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/certificates/db"
	"github.com/smallstep/certificates/errs"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/acmeca"
)

// authDB is the database of the embedded authority: our typed tables behind the
// interface of smallstep/certificates v0.30.2.
type authDB struct{ s *Server }

var _ db.AuthDB = (*authDB)(nil)

func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}

// service finds a certificate by its decimal serial number. Certificates of
// devices, of the controller and of enforcement points are none of the API's.
func (d *authDB) service(ctx context.Context, decimal string) (acmeca.Service, error) {
	n, ok := new(big.Int).SetString(decimal, 10)
	if !ok {
		return acmeca.Service{}, errs.BadRequest("%.60q is no serial number", decimal)
	}
	c, err := d.s.deps.Store.Service(ctx, n.Text(16))
	if errors.Is(err, inventory.ErrNotFound) {
		return c, errs.Unauthorized("certificate %s was not issued by the step API or ACME", n.Text(16))
	}
	return c, err
}

// IsRevoked implements [db.AuthDB]. The authority renews what it does not know;
// we do not.
func (d *authDB) IsRevoked(sn string) (bool, error) {
	ctx, cancel := bounded()
	defer cancel()
	c, err := d.service(ctx, sn)
	if err != nil {
		return true, err
	}
	return !c.RevokedAt.IsZero() || d.s.deps.CA.Revoked(c.Serial), nil
}

// UseToken implements [db.AuthDB]. The authority calls it before it has checked
// the token; checking first keeps strangers from filling the table and from
// spending somebody else's token.
func (d *authDB) UseToken(id, token string) (bool, error) {
	until, err := d.s.genuine(token, time.Now())
	if err != nil {
		return false, errs.UnauthorizedErr(err)
	}
	ctx, cancel := bounded()
	defer cancel()
	return d.s.deps.Store.UseToken(ctx, id, until)
}

// Revoke implements [db.AuthDB]: it goes to the one revocation log.
func (d *authDB) Revoke(r *db.RevokedCertificateInfo) error {
	ctx, cancel := bounded()
	defer cancel()
	c, err := d.service(ctx, r.Serial)
	if err != nil {
		return err
	}
	if !c.RevokedAt.IsZero() {
		return db.ErrAlreadyExists
	}
	if !r.MTLS && !r.ACME && r.ProvisionerID != c.Provisioner {
		return errs.Forbidden("provisioner %s may not revoke what %s issued", r.ProvisionerID, c.Provisioner)
	}
	reason := reasonText(r)
	by := "provisioner " + r.ProvisionerID
	switch {
	case r.ACME:
		by = "acme account " + c.Account
	case r.MTLS:
		return d.s.deps.CA.RevokeByHolder(ctx, c.Serial, reason, "holder of the certificate")
	}
	return d.s.deps.CA.Revoke(ctx, c.Serial, reason, by)
}

// reasonNames are the reasons of RFC 5280 §5.3.1 as the revocation log begins
// them.
var reasonNames = map[int]string{1: "key-compromise", 3: "affiliation-changed", 4: "superseded", 5: "cessation-of-operation", 9: "privilege-withdrawn"}

func reasonText(r *db.RevokedCertificateInfo) string {
	name, ok := reasonNames[r.ReasonCode]
	if !ok {
		name = "unspecified"
	}
	if text := strings.TrimSpace(r.Reason); text != "" && text != name {
		return fmt.Sprintf("%s: %.200s", name, text)
	}
	return name
}

// GetCertificate implements [db.AuthDB].
func (d *authDB) GetCertificate(sn string) (*x509.Certificate, error) {
	ctx, cancel := bounded()
	defer cancel()
	c, err := d.service(ctx, sn)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(c.Chain))
	if block == nil {
		return nil, fmt.Errorf("certificate %s is kept without its PEM", c.Serial)
	}
	return x509.ParseCertificate(block.Bytes)
}

// GetCertificateData tells the authority which provisioner issued a
// certificate; it is not in the certificate.
func (d *authDB) GetCertificateData(sn string) (*db.CertificateData, error) {
	ctx, cancel := bounded()
	defer cancel()
	c, err := d.service(ctx, sn)
	if err != nil {
		return nil, err
	}
	return &db.CertificateData{Provisioner: &db.ProvisionerData{ID: c.Provisioner}}, nil
}

// StoreCertificateChain leaves the recording to who had it signed, before it is
// shown: the sign handler records it with the token, ACME with the order.
func (d *authDB) StoreCertificateChain(provisioner.Interface, ...*x509.Certificate) error { return nil }

// StoreRenewedCertificate records a renewal in the lineage of what it renews.
func (d *authDB) StoreRenewedCertificate(old *x509.Certificate, chain ...*x509.Certificate) error {
	ctx, cancel := bounded()
	defer cancel()
	c, err := d.service(ctx, old.SerialNumber.String())
	if err != nil {
		return err
	}
	next := acmeca.Service{Provisioner: c.Provisioner}
	next.Parent = c.Serial
	if next, err = d.s.row(next, chain); err != nil {
		return err
	}
	if err := d.s.deps.Store.AddService(ctx, next); err != nil {
		return err
	}
	d.s.recorded(ctx, next, "renew")
	return nil
}

// recordOnce records a certificate together with the token it is given for.
func (s *Server) recordOnce(ctx context.Context, id string, until time.Time, c acmeca.Service, chain []*x509.Certificate) (bool, error) {
	c, err := s.row(c, chain)
	if err != nil {
		return false, err
	}
	first, err := s.deps.Store.AddServiceOnce(ctx, id, until, c)
	if first {
		s.recorded(ctx, c, "issue")
	}
	return first, err
}

// row completes what is kept of a signed chain.
func (s *Server) row(c acmeca.Service, chain []*x509.Certificate) (acmeca.Service, error) {
	row, err := s.deps.CA.ServiceRow(chain)
	if err != nil {
		return c, err
	}
	row.Parent, row.IssuedBy = c.Parent, "step provisioner "+c.Provisioner
	c.Certificate, c.Names = row, namesOf(chain[0])
	return c, nil
}

// recorded counts and audits what is in the database.
func (s *Server) recorded(ctx context.Context, c acmeca.Service, action string) {
	reason := strings.Join(c.Names, ", ")
	if c.Parent != "" {
		reason += ", renews " + c.Parent
	}
	if err := s.deps.CA.ServiceIssued(ctx, c.Certificate, action, reason); err != nil {
		s.deps.Log.ErrorContext(ctx, "service certificate not audited", "err", err) // its row tells the same
	}
	s.metrics.issued.WithLabelValues(action).Inc()
}

// renewed reads the names and the subject out of what the authority copies from
// the certificate it renews.
func renewed(t *x509.Certificate) (*x509.Certificate, error) {
	name, err := commonName(t.RawSubject)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{PublicKey: t.PublicKey, DNSNames: t.DNSNames, IPAddresses: t.IPAddresses, URIs: t.URIs, EmailAddresses: t.EmailAddresses, IsCA: t.IsCA}
	c.Subject.CommonName = name
	return c, nil
}

func namesOf(c *x509.Certificate) []string {
	out := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	for _, u := range c.URIs {
		out = append(out, u.String())
	}
	return out
}

// SSH certificates are not issued here.

// IsSSHRevoked implements [db.AuthDB].
func (d *authDB) IsSSHRevoked(string) (bool, error) { return true, db.ErrNotImplemented }

// RevokeSSH implements [db.AuthDB].
func (d *authDB) RevokeSSH(*db.RevokedCertificateInfo) error { return db.ErrNotImplemented }

// IsSSHHost implements [db.AuthDB].
func (d *authDB) IsSSHHost(string) (bool, error) { return false, db.ErrNotImplemented }

// GetSSHHostPrincipals implements [db.AuthDB].
func (d *authDB) GetSSHHostPrincipals() ([]string, error) { return nil, db.ErrNotImplemented }

// Shutdown implements [db.AuthDB].
func (d *authDB) Shutdown() error { return nil }
