package pki

import (
	"context"
	"time"

	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/wardnet/wardnet/pki/enrol"
)

// PresentSignedToken mints a one-time token of the devices authority for the
// CSR and gives a function that presents it as an API client would, its id
// being kept.
func (p *PKI) PresentSignedToken(csrPEM, name string) (func(context.Context) error, error) {
	csr, err := enrol.ParseCSR(csrPEM)
	if err != nil {
		return nil, err
	}
	ca := p.cas[Devices]
	ott, err := ca.mint(order{csr: csr, subject: name, sans: []string{csr.URIs[0].String()}}, time.Now())
	return func(ctx context.Context) error {
		_, err := ca.authority.Authorize(provisioner.NewContextWithMethod(ctx, provisioner.SignMethod), ott)
		return err
	}, err
}

// AuthorityRevoked asks the embedded authority, by decimal serial.
func (p *PKI) AuthorityRevoked(decimal string) (bool, error) {
	return p.cas[Devices].authority.IsRevoked(decimal)
}

// RenewServerNow replaces the controller's own certificate.
func (p *PKI) RenewServerNow(ctx context.Context) error { return p.renewServer(ctx) }
