package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// renewal is one request for the next certificate, its sender known.
type renewal struct {
	remote string
	cur    Peer // who asks, by the certificate that it renews
	q      enrol.RenewRequest
	start  time.Time
	ended  bool              // cur has ended; leaf is it then
	leaf   *x509.Certificate // nil when shown in TLS
}

// Renew gives a device that has proven cur in TLS its next certificate. The
// same CSR again gets the same certificate. A [Refusal] is final; other errors
// mean that trying again may help.
func (p *PKI) Renew(ctx context.Context, remote string, cur Peer, q enrol.RenewRequest) (Certificate, error) {
	return p.renew(ctx, renewal{remote: remote, cur: cur, q: q, start: time.Now()})
}

func (p *PKI) renew(ctx context.Context, r renewal) (Certificate, error) {
	device, q := inventory.DeviceID(r.cur.Name), r.q
	no := func(reason Reason, err error) (Certificate, error) {
		return Certificate{}, p.refuse(ctx, &Refusal{Listener: CAListener, Reason: reason, Remote: r.remote, Device: device, Err: err})
	}
	csr, name, err := checkCSR(q.CSR, p.cfg.TrustDomain, enrol.DeviceKind)
	if err != nil {
		return no(BadCSR, err)
	}
	if name != r.cur.Name {
		return no(WrongDevice, fmt.Errorf("%s asks for a certificate of device %q", device, name))
	}
	if _, err := enrol.ParseWireGuardKey(q.WireGuardPublicKey); err != nil {
		return no(Malformed, err)
	}
	hash := enrol.CSRHash(csr)
	defer p.alone(hash)()
	switch have, err := p.deps.Store.CertificateByCSR(ctx, hash); {
	case err == nil && have.Device == device && have.Parent == r.cur.Serial && have.RevokedAt.IsZero():
		p.metrics.renewals.WithLabelValues("repeated").Inc()
		return have, nil
	case err == nil:
		return no(KeyInUse, errors.New("this CSR was used for another certificate; make a new key"))
	case !errors.Is(err, inventory.ErrNotFound):
		return Certificate{}, fmt.Errorf("renew certificate of %s: %w", device, err)
	}
	if !p.renewals.take(string(device)) {
		return no(RateLimited, errors.New("too many renewals; a device renews once in its certificate's life"))
	}
	switch fresh, err := p.rekeyed(ctx, r.cur.Serial, csr); {
	case err != nil:
		return Certificate{}, fmt.Errorf("renew certificate of %s: %w", device, err)
	case !fresh:
		return no(SameKey, errors.New("the issuer of the old certificate is distrusted; make a new key"))
	}
	note := ""
	if r.ended {
		if note, err = p.admitReturn(ctx, r); err != nil {
			return Certificate{}, fmt.Errorf("renew certificate of %s: %w", device, err)
		}
	}
	c, err := p.signDevice(ctx, order{csr: csr, subject: name, wireguard: q.WireGuardPublicKey}, "renewal of "+r.cur.Serial)
	if err != nil {
		return Certificate{}, err
	}
	c.Parent = r.cur.Serial
	kept, err := p.deps.Store.Renew(ctx, c)
	switch {
	case errors.Is(err, ErrLineageRevoked):
		return no(Revoked, fmt.Errorf("%w; enrol the device again with a new token", err))
	case errors.Is(err, inventory.ErrConflict):
		return no(KeyInUse, err)
	case err != nil:
		return Certificate{}, fmt.Errorf("renew certificate of %s: %w", device, err)
	case kept.Serial != c.Serial:
		p.metrics.renewals.WithLabelValues("repeated").Inc()
		return kept, nil
	}
	p.renewed(ctx, r, kept, note)
	return kept, nil
}

// renewed does what follows a recorded renewal.
func (p *PKI) renewed(ctx context.Context, r renewal, c Certificate, note string) {
	p.metrics.renewals.WithLabelValues("new").Inc()
	p.metrics.issued.WithLabelValues(string(Devices)).Inc()
	p.metrics.issuance.WithLabelValues("renewal").Observe(time.Since(r.start).Seconds())
	p.peersChanged()
	reason := "renews " + r.cur.Serial
	for _, more := range []string{note, p.clockNote(r.q.Time)} {
		if more != "" {
			reason += ", " + more
		}
	}
	e := Event{Actor: "device " + r.cur.Name, Remote: r.remote, Action: "renew", Object: "certificate " + c.Serial, Outcome: "done", Reason: reason}
	if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
		p.deps.Log.ErrorContext(ctx, "renewal not audited", "device", r.cur.Name, "err", err)
	}
}
