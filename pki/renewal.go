package pki

import (
	"context"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// Renew gives a device that has proven cur in TLS its next certificate. The
// same CSR again gets the same certificate. A [Refusal] is final; other errors
// mean that trying again may help.
func (p *PKI) Renew(ctx context.Context, remote string, cur Peer, q enrol.RenewRequest) (Certificate, error) {
	device := inventory.DeviceID(cur.Name)
	no := func(reason Reason, err error) (Certificate, error) {
		return Certificate{}, p.refuse(ctx, &Refusal{Listener: CAListener, Reason: reason, Remote: remote, Device: device, Err: err})
	}
	csr, name, err := checkCSR(q.CSR, p.cfg.TrustDomain, enrol.DeviceKind)
	if err != nil {
		return no(BadCSR, err)
	}
	if name != cur.Name {
		return no(WrongDevice, fmt.Errorf("%s asks for a certificate of device %q", device, name))
	}
	if _, err := enrol.ParseWireGuardKey(q.WireGuardPublicKey); err != nil {
		return no(Malformed, err)
	}
	hash := enrol.CSRHash(csr)
	defer p.alone(hash)()
	switch have, err := p.deps.Store.CertificateByCSR(ctx, hash); {
	case err == nil && have.Device == device && have.Parent == cur.Serial && have.RevokedAt.IsZero():
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
	c, err := p.signDevice(ctx, csr, name, "renewal of "+cur.Serial)
	if err != nil {
		return Certificate{}, err
	}
	c.WireGuard, c.Parent = q.WireGuardPublicKey, cur.Serial
	kept, err := p.deps.Store.Renew(ctx, c)
	switch {
	case errors.Is(err, inventory.ErrConflict):
		return no(KeyInUse, err)
	case err != nil:
		return Certificate{}, fmt.Errorf("renew certificate of %s: %w", device, err)
	case kept.Serial != c.Serial:
		p.metrics.renewals.WithLabelValues("repeated").Inc()
		return kept, nil
	}
	p.metrics.renewals.WithLabelValues("new").Inc()
	p.metrics.issued.WithLabelValues(string(Devices)).Inc()
	p.peersChanged()
	e := Event{Actor: "device " + string(device), Remote: remote, Action: "renew", Object: "certificate " + c.Serial, Outcome: "done", Reason: "renews " + cur.Serial}
	if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
		p.deps.Log.ErrorContext(ctx, "renewal not audited", "device", device, "err", err)
	}
	return kept, nil
}
