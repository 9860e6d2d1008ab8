package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

// The two faces of the CA listener towards services, for metrics and audit.
const (
	StepListener Listener = "step" // step-ca's API
	ACMEListener Listener = "acme"
)

// RefusedRequest is the reason of a request that smallstep's handlers turned
// down; the audit entry says why.
const RefusedRequest Reason = "refused-request"

// RefuseService audits and counts a refused request of a service.
func (p *PKI) RefuseService(ctx context.Context, l Listener, remote string, err error) {
	_ = p.refuse(ctx, &Refusal{Listener: l, Reason: RefusedRequest, Remote: remote, Err: err})
}

// OpenToServices lets services show their certificates at the CA listener: the
// step API, which renews by them, is served there. Before, only devices may.
func (p *PKI) OpenToServices() { p.services.Store(true) }

// serviceIssuer finds the services issuer that a certificate names as its own.
func (p *PKI) serviceIssuer(leaf *x509.Certificate) *x509.Certificate {
	for _, c := range p.ServiceIssuers() {
		if bytes.Equal(c.RawSubject, leaf.RawIssuer) && leaf.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

// AdmitService checks the client certificate of a service at the CA listener, by
// which step renews, complete with revocation, and audits a refusal, which is a
// [Refusal].
func (p *PKI) AdmitService(remote string, certs []*x509.Certificate) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	no := func(reason Reason, err error) error {
		return p.refuse(ctx, &Refusal{Listener: CAListener, Reason: reason, Remote: remote, Err: err})
	}
	if len(certs) == 0 {
		return no(NoCertificate, errors.New("no client certificate was presented"))
	}
	leaf := certs[0]
	serial := enrol.SerialOf(leaf)
	issuer := p.serviceIssuer(leaf)
	now := time.Now()
	switch {
	case issuer == nil:
		return no(WrongIssuer, fmt.Errorf("certificate %.40s is not of the %s CA", serial, Services))
	case now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) || now.After(issuer.NotAfter):
		return no(ExpiredCertificate, fmt.Errorf("certificate %s is valid from %s to %s", serial, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339)))
	case leaf.IsCA || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || len(leaf.UnhandledCriticalExtensions) > 0:
		return no(BadUsage, fmt.Errorf("certificate %s is not for TLS clients", serial))
	case p.revoked.has(serial):
		return no(Revoked, fmt.Errorf("certificate %s is revoked", serial))
	}
	return nil
}

// ServiceCRL is the revocation list of the services issuer in force, DER.
func (p *PKI) ServiceCRL(ctx context.Context) ([]byte, error) { return p.CRL(ctx, Services) }

// tokenKey is the file of the key that signs tokens for the step CLI.
const tokenKey = "step-tokens"

// TokenKey is the key that signs one-time tokens for the step CLI, made at first
// use. Replicas that share the CA directory share it; a token outlives its loss
// by no more than its ten minutes.
func (p *PKI) TokenKey() (*ecdsa.PrivateKey, error) {
	dir := filepath.Join(p.deps.Dir, "ca")
	if !signer.HasKey(dir, tokenKey) {
		if err := signer.MakeKey(dir, tokenKey); err != nil {
			return nil, fmt.Errorf("make the key of service tokens: %w", err)
		}
	}
	return signer.LoadKey(dir, tokenKey)
}

// RootCertificate is the trust anchor, see [PKI.RootPEM].
func (p *PKI) RootCertificate() (*x509.Certificate, error) {
	block, _ := pem.Decode(p.root)
	if block == nil {
		return nil, errors.New("the root certificate is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
