package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/ocsp"
	"github.com/wardnet/wardnet/pki/signer"
)

// OCSPStore answers about one certificate.
type OCSPStore interface {
	// OCSPStatus gives the revocation of a serial number of an issuer key; its
	// At is zero while the certificate is not revoked.
	// [inventory.ErrNotFound]: there is no such certificate.
	OCSPStatus(ctx context.Context, issuerKey, serial string) (Revocation, error)
}

// ocspSource is the PKI as the OCSP responder sees it.
type ocspSource struct {
	p     *PKI
	store OCSPStore
}

// OCSPSource gives what an OCSP responder answers from.
func (p *PKI) OCSPSource(store OCSPStore) ocsp.Source { return &ocspSource{p, store} }

// Issuers implements [ocsp.Source]: of all generations that are known, retired
// ones too, for whoever still looks.
func (o *ocspSource) Issuers() []ocsp.Issuer {
	var out []ocsp.Issuer
	for _, g := range o.p.issuers.Load().list {
		out = append(out, ocsp.Issuer{KeyID: g.KeyID, Certificate: g.cert})
	}
	return out
}

// Delegate implements [ocsp.Source].
func (o *ocspSource) Delegate(ctx context.Context, keyID string, key crypto.PublicKey, end time.Time) (*x509.Certificate, error) {
	public, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	der, err := o.p.signer.Issue(ctx, signer.Order{KeyID: keyID, Kind: signer.OCSPLeaf, PublicKey: public, Subject: "Wardnet OCSP", NotAfter: end, RequestBy: "ocsp responder"})
	if err != nil {
		return nil, fmt.Errorf("certify the OCSP responder of issuer %.12s: %w", keyID, err)
	}
	return x509.ParseCertificate(der)
}

// Status implements [ocsp.Source].
func (o *ocspSource) Status(ctx context.Context, keyID, serial string) (ocsp.Status, error) {
	r, err := o.store.OCSPStatus(ctx, keyID, serial)
	switch {
	case errors.Is(err, inventory.ErrNotFound):
		return ocsp.Status{State: ocsp.Unknown}, nil
	case err != nil:
		return ocsp.Status{}, err
	case r.At.IsZero() && o.p.revoked.has(serial): // logged, and not yet in this read
		return ocsp.Status{}, errors.New("the revocation is being recorded")
	case r.At.IsZero():
		return ocsp.Status{State: ocsp.Good}, nil
	}
	return ocsp.Status{State: ocsp.Revoked, At: r.At, Reason: reasonCode(r.Reason)}, nil
}

// Epoch implements [ocsp.Source]: answers made in an earlier one are stale. It
// rises with every revocation this process knows of.
func (o *ocspSource) Epoch() uint64 { return o.p.revoked.count() }
