package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// checkCSR reads a CSR that asks for exactly one SPIFFE id of kind and nothing
// else, with a P-256 key, and gives the name in it. Errors wrap
// [inventory.ErrInvalid].
func checkCSR(text, domain, kind string) (*x509.CertificateRequest, string, error) {
	csr, err := enrol.ParseCSR(text)
	if err != nil {
		return nil, "", err
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, "", fmt.Errorf("%w: csr: the key must be ECDSA P-256", inventory.ErrInvalid)
	}
	if len(csr.URIs) != 1 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return nil, "", fmt.Errorf("%w: csr: exactly one name is allowed, the SPIFFE id", inventory.ErrInvalid)
	}
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			return nil, "", fmt.Errorf("%w: csr: extension %s is not allowed", inventory.ErrInvalid, e.Id)
		}
	}
	name, err := enrol.ParseSPIFFEID(csr.URIs[0], domain, kind)
	if err != nil {
		return nil, "", fmt.Errorf("csr: %w", err)
	}
	if cn := csr.Subject.CommonName; cn != "" && cn != name {
		return nil, "", fmt.Errorf("%w: csr: common name %q is not %q", inventory.ErrInvalid, cn, name)
	}
	return csr, name, nil
}

// Enrol exchanges a one-time token for a device's first certificate. The first
// valid presentation consumes the token and records the certificate in one
// transaction; the same request again gets the same certificate; everything
// else is a [Refusal]. Other errors mean that trying again may help.
func (p *PKI) Enrol(ctx context.Context, remote string, q enrol.Request) (Certificate, error) {
	no := func(device inventory.DeviceID, reason Reason, err error) (Certificate, error) {
		p.toldNo(ctx, device, remote, reason, err)
		return Certificate{}, p.refuse(ctx, &Refusal{Listener: EnrolListener, Reason: reason, Remote: remote, Device: device, Err: err})
	}
	csr, name, err := checkCSR(q.CSR, p.cfg.TrustDomain, enrol.DeviceKind)
	if err != nil {
		return no("", BadCSR, err)
	}
	if _, err := enrol.ParseWireGuardKey(q.WireGuardPublicKey); err != nil {
		return no("", Malformed, err)
	}
	start, device, hash := time.Now(), inventory.DeviceID(name), tokenHash(q.Token)
	defer p.alone(hash)()
	r, err := p.deps.Store.Token(ctx, hash)
	if errors.Is(err, inventory.ErrNotFound) {
		return no(device, UnknownToken, errors.New("the token is not of this controller; ask for a new one"))
	}
	if err != nil {
		return Certificate{}, fmt.Errorf("enrol %s: %w", device, err)
	}
	seen := presentation{serial: q.Serial, device: device, csrHash: enrol.CSRHash(csr), at: time.Now()}
	switch reason, err := judge(r, seen); {
	case errors.Is(err, errRetry):
		p.metrics.enrolments.WithLabelValues("repeated").Inc()
		return r.Certificate, nil
	case errors.Is(err, errUnconfirmed):
		return Certificate{}, p.wait(ctx, remote, r.Token, seen)
	case err != nil:
		return no(device, reason, err)
	}
	if err := clockFault(q.Time, seen.at); err != nil {
		return no(device, Clock, err)
	}
	switch _, err := p.declared(ctx, device); {
	case errors.Is(err, inventory.ErrNotFound):
		return no(device, UnknownDevice, err)
	case err != nil:
		return Certificate{}, fmt.Errorf("enrol %s: %w", device, err)
	}
	c, err := p.signDevice(ctx, order{csr: csr, subject: name, wireguard: q.WireGuardPublicKey}, TokenAuthor(r.Token.By))
	if err != nil {
		return Certificate{}, err
	}
	c.Lineage = c.Serial
	r, err = p.deps.Store.Redeem(ctx, hash, c)
	switch {
	case errors.Is(err, inventory.ErrConflict):
		return no(device, KeyInUse, err)
	case err != nil:
		return Certificate{}, fmt.Errorf("enrol %s: %w", device, err)
	case !r.First: // another replica was faster; what we signed was never shown
		if reason, err := judge(r, seen); !errors.Is(err, errRetry) {
			return no(device, reason, fmt.Errorf("token spent meanwhile: %w", err))
		}
		p.metrics.enrolments.WithLabelValues("repeated").Inc()
		return r.Certificate, nil
	}
	p.metrics.issuance.WithLabelValues("enrolment").Observe(time.Since(start).Seconds())
	p.enrolled(ctx, remote, r, p.clockNote(q.Time))
	p.deps.Boots.Add(ctx, device, append(enrol.Told(q.Timeline), Seen(enrol.StepToken, "", "from "+remote), Seen(enrol.StepCertificate, "", r.Certificate.Serial))...)
	return r.Certificate, nil
}

// toldNo puts a refused attempt on the timeline of the device it named, when
// that is one of ours. Nobody has proven to be that device: what else the
// request says of its boot is not believed.
func (p *PKI) toldNo(ctx context.Context, device inventory.DeviceID, remote string, reason Reason, why error) {
	if p.deps.Boots == nil || device == "" {
		return
	}
	if _, err := p.declared(ctx, device); err != nil {
		return
	}
	step := enrol.StepToken
	if reason == Clock {
		step = enrol.StepClock
	}
	p.deps.Boots.Add(ctx, device, Seen(step, enrol.CauseOfRefusal(string(reason)), fmt.Sprintf("%v (%s, from %s)", why, reason, remote)))
}

// TokenAuthor is what is kept as the issuer of a certificate that a user's
// enrolment token was exchanged for.
func TokenAuthor(user string) string { return "enrolment token of " + user }

// enrolled does what follows a recorded enrolment.
func (p *PKI) enrolled(ctx context.Context, remote string, r Redemption, note string) {
	p.metrics.enrolments.WithLabelValues("new").Inc()
	p.metrics.issued.WithLabelValues(string(Devices)).Inc()
	p.enforce(r.Revoked)
	p.peersChanged()
	e := Event{Actor: "device " + string(r.Token.Device), Remote: remote, Action: "enrol", Object: "certificate " + r.Certificate.Serial, Outcome: "done", Reason: "token of " + r.Token.By}
	if r.Token.Offline {
		e.Reason += ", confirmed by " + r.Token.ConfirmedBy
	}
	if note != "" {
		e.Reason += ", " + note
	}
	if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
		// The certificate is in the database with its token: nothing is lost.
		p.deps.Log.ErrorContext(ctx, "enrolment not audited", "device", r.Token.Device, "err", err)
	}
}

// signDevice signs a device's certificate and makes its row.
func (p *PKI) signDevice(ctx context.Context, o order, by string) (Certificate, error) {
	start := time.Now()
	// Straight to the signer, which checks the CSR once more: the way over the
	// embedded authority costs several times the signature and adds nothing to
	// checkCSR.
	chain, err := p.issue(ctx, Devices, signer.Order{
		Kind: signer.DeviceLeaf, CSR: o.csr.Raw, Subject: o.subject, NotAfter: start.Add(p.cfg.DeviceTTL), WireGuard: o.wireguard, RequestBy: by,
	})
	if err != nil {
		return Certificate{}, err
	}
	p.metrics.signing.Observe(time.Since(start).Seconds())
	c, err := p.record(chain, o.csr, by)
	if err != nil {
		return Certificate{}, err
	}
	c.Device, c.WireGuard = inventory.DeviceID(o.subject), o.wireguard
	return c, nil
}

// alone keeps others with the same hash out until the returned function runs.
func (p *PKI) alone(hash string) (release func()) {
	h := fnv.New32a()
	h.Write([]byte(hash))
	m := &p.tokens[h.Sum32()%uint32(len(p.tokens))]
	m.Lock()
	return m.Unlock
}

// response is the answer that carries c.
func (p *PKI) response(c Certificate) (enrol.Response, error) {
	now := time.Now().UTC()
	key := p.keys[CheckpointKey]
	sig, err := key.Sign(enrol.TimePayload(c.CSRHash, now))
	if err != nil {
		return enrol.Response{}, err
	}
	pins := p.issuers.Load().pins()
	pinsSig, err := key.Sign(enrol.PinsPayload(c.CSRHash, pins))
	if err != nil {
		return enrol.Response{}, err
	}
	return enrol.Response{
		Certificate: c.Chain, Root: p.RootPEM(), HubPins: pins, PinsSignature: pinsSig, Keys: p.pinned,
		Channel: p.cfg.Channel, CAURL: p.cfg.CAURL,
		Time: now, TimeKey: key.ID, TimeSignature: sig,
	}, nil
}
