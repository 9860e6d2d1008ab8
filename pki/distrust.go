package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/inventory"
)

// outOfForce judges a certificate whose issuer is accepted no more. Whoever
// stole an issuer's key can make any certificate of it, so none is good to
// connect with; but a device whose very certificate is recorded here, and which
// holds its key, has nothing to do with the theft: it may fetch its next one.
// An error without a reason means that nobody could look.
func (p *PKI) outOfForce(ctx context.Context, l Listener, by *issuer, peer Peer, leaf *x509.Certificate) (Reason, error) {
	what := fmt.Sprintf("certificate %s is of generation %d of the %s issuer, which is %s", peer.Serial, by.Number, by.Issuer, by.State)
	if by.State != Distrusted && (by.State != Retired || l != CAListener) { // a ward that was dark for weeks may come with a retired one's
		return ForeignIssuer, errors.New(what)
	}
	if l != CAListener {
		return DistrustedIssuer, fmt.Errorf("%s; only a new certificate can be had with it", what)
	}
	switch recorded, err := p.recorded(ctx, peer.Serial, leaf); {
	case err != nil:
		return "", fmt.Errorf("%s, and whether it is recorded cannot be told: %w", what, err)
	case !recorded:
		p.metrics.forged.Inc()
		return DistrustedIssuer, fmt.Errorf("%s, and it is not the certificate that was issued here: it is forged", what)
	}
	return "", nil
}

// recorded says whether this very certificate was issued here.
func (p *PKI) recorded(ctx context.Context, serial string, leaf *x509.Certificate) (bool, error) {
	c, err := p.deps.Store.Certificate(ctx, serial)
	if errors.Is(err, inventory.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	block, _ := pem.Decode([]byte(c.Chain))
	return block != nil && bytes.Equal(block.Bytes, leaf.Raw) && c.RevokedAt.IsZero(), nil
}

// rekeyed refuses a renewal that keeps the key of a certificate whose issuer is
// distrusted: the key is what the new certificate stands on.
func (p *PKI) rekeyed(ctx context.Context, serial string, csr *x509.CertificateRequest) (bool, error) {
	cur, err := p.deps.Store.Certificate(ctx, serial)
	if errors.Is(err, inventory.ErrNotFound) {
		return true, nil // forgotten by a restore; the handshake has judged it
	}
	if err != nil {
		return false, err
	}
	g, ok := p.issuers.Load().byKey[cur.IssuerKey]
	if !ok || g.State != Distrusted {
		return true, nil
	}
	block, _ := pem.Decode([]byte(cur.Chain))
	if block == nil {
		return false, fmt.Errorf("certificate %s is kept without its PEM", serial)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false, err
	}
	if bytes.Equal(leaf.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) {
		return false, nil
	}
	p.metrics.rekeyed.Inc()
	return true, nil
}
