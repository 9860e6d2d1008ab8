package stepca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	casapi "github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/errs"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// callTimeout bounds one call; smallstep's interfaces hand over no context.
const callTimeout = 10 * time.Second

// templates signs for the authority. Of what the authority has put together
// only names, key and end count: extensions, usages and the distribution point
// are ours, so that a renewal over an issuer's rotation names the new list.
type templates struct{ ca CA }

var _ casapi.CertificateAuthorityService = (*templates)(nil)

func (t *templates) sign(c *x509.Certificate, end time.Time) ([]*x509.Certificate, error) {
	if c.IsCA || len(c.EmailAddresses) > 0 {
		return nil, wrong(fmt.Errorf("%w: service certificates are no CAs and have no e-mail addresses", inventory.ErrInvalid))
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	chain, err := t.ca.SignService(ctx, pki.ServiceLeaf{
		Key: c.PublicKey, Subject: c.Subject.CommonName, DNSNames: c.DNSNames, IPs: c.IPAddresses, URIs: c.URIs, NotAfter: end,
	})
	return chain, wrong(err)
}

// wrong makes a fault of the request one for smallstep's handlers, too.
func wrong(err error) error {
	if errors.Is(err, inventory.ErrInvalid) {
		return errs.ForbiddenErr(err, "this cannot be certified")
	}
	return err
}

// CreateCertificate implements [casapi.CertificateAuthorityService].
func (t *templates) CreateCertificate(q *casapi.CreateCertificateRequest) (*casapi.CreateCertificateResponse, error) {
	if len(q.Template.ExtraExtensions) > 0 {
		return nil, wrong(fmt.Errorf("%w: extension %s is not certified", inventory.ErrInvalid, q.Template.ExtraExtensions[0].Id))
	}
	for _, u := range q.Template.URIs {
		if q.Provisioner != nil && q.Provisioner.ID != tokenID && strings.HasPrefix(u.Path, "/"+pki.RegistrarKind+"/") {
			return nil, wrong(fmt.Errorf("%w: registrars are made by the controller's tokens alone, not by %s", inventory.ErrInvalid, q.Provisioner.Name))
		}
	}
	end := q.Template.NotAfter
	if end.IsZero() {
		end = time.Now().Add(q.Lifetime)
	}
	chain, err := t.sign(q.Template, end)
	if err != nil {
		return nil, err
	}
	return &casapi.CreateCertificateResponse{Certificate: chain[0], CertificateChain: chain[1:]}, nil
}

// lifeOf is the life that was asked for when the whole validity is d: the signer
// lets it begin a tenth of the life, at most 10 minutes, before now. Without
// this each renewal would be longer than the one before.
func lifeOf(d time.Duration) time.Duration {
	const most = 10 * time.Minute
	if d > 11*most {
		return (d - most).Truncate(time.Second)
	}
	return (d * 10 / 11).Truncate(time.Second)
}

// RenewCertificate implements [casapi.CertificateAuthorityService].
func (t *templates) RenewCertificate(q *casapi.RenewCertificateRequest) (*casapi.RenewCertificateResponse, error) {
	old, err := renewed(q.Template)
	if err != nil {
		return nil, err
	}
	chain, err := t.sign(old, time.Now().Add(lifeOf(q.Lifetime)))
	if err != nil {
		return nil, err
	}
	return &casapi.RenewCertificateResponse{Certificate: chain[0], CertificateChain: chain[1:]}, nil
}

// RevokeCertificate implements [casapi.CertificateAuthorityService]: revoking is
// the database's.
func (t *templates) RevokeCertificate(q *casapi.RevokeCertificateRequest) (*casapi.RevokeCertificateResponse, error) {
	return &casapi.RevokeCertificateResponse{Certificate: q.Certificate}, nil
}
