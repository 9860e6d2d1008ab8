package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// serveSigned serves [enrol.RenewSignedPath]: renewal by a device that cannot
// show its certificate in TLS, mostly because it has ended.
func (p *PKI) serveSigned(r *http.Request) (c Certificate, hostKey string, err error) {
	ctx, from := r.Context(), addressKey(r.RemoteAddr)
	limited := func(err error) error {
		return p.refuse(ctx, &Refusal{Listener: CAListener, Reason: RateLimited, Remote: r.RemoteAddr, Err: err})
	}
	if !p.failures.ready(from) {
		return Certificate{}, "", limited(errors.New("too many refused requests from this address; wait a minute"))
	}
	q, err := enrol.DecodeSignedRenewal(r.Body)
	if err != nil {
		err = p.refuse(ctx, &Refusal{Listener: CAListener, Reason: Malformed, Remote: r.RemoteAddr, Err: err})
		p.failures.take(from)
		return Certificate{}, "", err
	}
	c, err = p.RenewSigned(ctx, r.RemoteAddr, q)
	var refused *Refusal
	if errors.As(err, &refused) {
		p.failures.take(from)
	}
	return c, q.SSHHostKey, err
}

// errTooMany asks a device to come again in a moment.
var errTooMany = errors.New("too many renewals at once")

// RenewSigned renews the certificate in q for who proves to hold its key,
// also after its end, by the rules of [JudgeReturn]. A [Refusal] is final;
// other errors mean that trying again may help.
func (p *PKI) RenewSigned(ctx context.Context, remote string, q enrol.SignedRenewal) (Certificate, error) {
	start, peer := time.Now(), Peer{}
	no := func(reason Reason, err error) (Certificate, error) {
		return Certificate{}, p.refuse(ctx, &Refusal{Listener: CAListener, Reason: reason, Remote: remote, Device: claimed(peer), Err: err})
	}
	block, rest := pem.Decode([]byte(q.Certificate))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return no(Malformed, fmt.Errorf("%w: certificate is not one PEM certificate", inventory.ErrInvalid))
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return no(Malformed, fmt.Errorf("%w: certificate: %w", inventory.ErrInvalid, err))
	}
	// All that a handshake checks, but at a time when the certificate was good.
	peer, reason, err := p.checkAt(ctx, CAListener, []*x509.Certificate{leaf}, earlier(start, leaf.NotAfter))
	switch {
	case reason != "":
		return no(reason, err)
	case err != nil:
		return Certificate{}, fmt.Errorf("renew certificate of %s: %w", peer.Name, err)
	}
	csr, err := enrol.ParseCSR(q.CSR)
	if err != nil {
		return no(BadCSR, err)
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	sum := sha256.Sum256(enrol.SignedRenewalPayload(leaf, enrol.CSRHash(csr), q.WireGuardPublicKey, q.SSHHostKey))
	if !ok || !ecdsa.VerifyASN1(key, sum[:], q.Signature) {
		return no(BadProof, fmt.Errorf("the request is not signed by the key of certificate %s", peer.Serial))
	}
	if !p.returns.Allow() { // after the proof, so that no stranger uses it up
		// No refusal: after a long outage the whole city is told so.
		p.metrics.returnsDelayed.Inc()
		return Certificate{}, errTooMany
	}
	return p.renew(ctx, renewal{
		remote: remote, cur: peer, ended: start.After(leaf.NotAfter), leaf: leaf, start: start,
		q: enrol.RenewRequest{CSR: q.CSR, WireGuardPublicKey: q.WireGuardPublicKey, Time: q.Time, SSHHostKey: q.SSHHostKey},
	})
}

// admitReturn decides about a device whose certificate has ended. It goes into
// quarantine before it has a certificate that is good, so that it is no peer
// in between. The note is for the audit log.
func (p *PKI) admitReturn(ctx context.Context, r renewal) (note string, err error) {
	now, device := time.Now().UTC(), inventory.DeviceID(r.cur.Name)
	up, err := p.deps.Store.Stretches(ctx)
	if err != nil {
		return "", err
	}
	back := JudgeReturn(now, r.leaf.NotBefore, r.leaf.NotAfter, up)
	if back.Refused != "" {
		return "", p.refuse(ctx, &Refusal{Listener: CAListener, Reason: EndedTooLong, Remote: r.remote, Device: device, Err: errors.New(back.Refused)})
	}
	if back.Quarantine == "" {
		page, err := p.deps.Store.Search(ctx, Filter{Device: device, Limit: 1})
		if err != nil {
			return "", err
		}
		if len(page.Certificates) == 1 && page.Certificates[0].Serial != r.cur.Serial && page.Certificates[0].IssuedAt.After(r.leaf.NotBefore) {
			back.Quarantine = fmt.Sprintf("it showed certificate %s, which had ended, after %s was issued to it: a copy of its key, or its disk was set back", r.cur.Serial, page.Certificates[0].Serial)
		}
	}
	note = fmt.Sprintf("%s after its end", days(now.Sub(r.leaf.NotAfter)))
	if back.Quarantine == "" {
		p.metrics.returned.WithLabelValues("free").Inc()
		return note, nil
	}
	if err := p.quarantine(ctx, Quarantine{Device: device, Since: now, Reason: back.Quarantine}); err != nil {
		return "", err
	}
	p.metrics.returned.WithLabelValues("quarantined").Inc()
	return note + ", in quarantine", nil
}
