package pki

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Listener names one of the controller's listeners by its purpose.
type Listener string

// Listeners that take their TLS from here.
const (
	ChannelListener Listener = "channel" // devices' management channel: client certificate of the devices issuer
	PEPListener     Listener = "pep"     // policy enforcement points: client certificate of the services issuer
	CAListener      Listener = "ca"      // CA API: a device's client certificate for renewal
	EnrolListener   Listener = "enrol"   // enrolment: no client certificate
	ConsoleListener Listener = "console" // people: no client certificate
)

// Reason says why somebody was refused; the list is closed.
type Reason string

// Reasons at a TLS handshake or when a peer is identified.
const (
	NoCertificate      Reason = "no-certificate"
	ForeignIssuer      Reason = "foreign-issuer"    // another CA's certificate
	WrongIssuer        Reason = "wrong-issuer"      // ours, but of an issuer that has no business here
	DistrustedIssuer   Reason = "distrusted-issuer" // ours, but its key may be in other hands
	ExpiredCertificate Reason = "expired-certificate"
	BadUsage           Reason = "bad-usage"
	BadSPIFFEID        Reason = "bad-spiffe-id"
	Revoked            Reason = "revoked"
	UnknownDevice      Reason = "unknown-device" // not in the inventory, or retired
)

// Reasons at enrolment and renewal.
const (
	Malformed    Reason = "malformed"
	BadCSR       Reason = "bad-csr"
	UnknownToken Reason = "unknown-token"
	ExpiredToken Reason = "expired-token"
	UsedToken    Reason = "used-token" // with another CSR; with the same one it is a retry
	WrongSerial  Reason = "wrong-serial"
	WrongDevice  Reason = "wrong-device" // the CSR or the certificate names another device
	KeyInUse     Reason = "key-in-use"   // WireGuard key or CSR of another certificate
	RateLimited  Reason = "rate-limited"
	Clock        Reason = "clock"          // the device's is too far off
	EndedTooLong Reason = "ended-too-long" // the certificate; a new enrolment is needed
	SameKey      Reason = "same-key"       // the old issuer is distrusted: the new certificate needs a new key
	BadProof     Reason = "bad-proof"      // not signed by the key of the certificate it renews
	NotConfirmed Reason = "not-confirmed"  // another device than the one a person confirmed
)

var (
	tlsReasons  = []Reason{NoCertificate, ForeignIssuer, WrongIssuer, DistrustedIssuer, ExpiredCertificate, BadUsage, BadSPIFFEID, Revoked, UnknownDevice}
	formReasons = []Reason{Malformed, BadCSR, WrongDevice, KeyInUse, RateLimited, Revoked, UnknownDevice}
	// reasonsOf is the closed label set of the refusal counter.
	reasonsOf = map[Listener][]Reason{
		ChannelListener: tlsReasons,
		PEPListener:     tlsReasons,
		CAListener:      append(tlsReasons[:len(tlsReasons):len(tlsReasons)], Malformed, BadCSR, WrongDevice, KeyInUse, RateLimited, Clock, EndedTooLong, BadProof),
		EnrolListener:   append(formReasons[:len(formReasons):len(formReasons)], UnknownToken, ExpiredToken, UsedToken, WrongSerial, Clock, NotConfirmed),
	}
)

// Refusal is an error that has been audited and counted where it arose: who
// gets one need not report it again.
type Refusal struct {
	Listener Listener
	Reason   Reason
	Remote   string             // address of the peer, "" when unknown
	Device   inventory.DeviceID // claimed or proven, "" when unknown
	Err      error              // detail; holds no secret
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("refused at %s (%s): %v", r.Listener, r.Reason, r.Err)
}

func (r *Refusal) Unwrap() error { return r.Err }

// Event is one line for the audit log.
type Event struct {
	At      time.Time
	Actor   string // user name, "device <id>", or "system"
	Remote  string
	Action  string // "token", "enrol", "renew", "issue", "revoke", "merge", "refuse", "pending", "confirm", "quarantine", "release", "rotate", "distrust"
	Object  string // device id, or "certificate <serial>"
	Outcome string // "done" or "refused"
	Reason  string
}

// maxReason bounds, in bytes, what a stranger can write into one audit entry.
const maxReason = 500

// refuse audits and counts r, and returns it. The count is complete; the audit
// is bounded, or a scanner could fill the disk; by address first, or one
// scanner could hide what another does.
func (p *PKI) refuse(ctx context.Context, r *Refusal) error {
	p.metrics.refusals.WithLabelValues(string(r.Listener), string(r.Reason)).Inc()
	from := "device " + string(r.Device) // seen again after its handshake: the certificate vouches for the name
	if r.Remote != "" {
		from = addressKey(r.Remote)
	}
	if !p.auditFrom.take(from) || !p.auditRate.Allow() {
		p.metrics.auditSuppressed.Inc()
		return r
	}
	// The peer may be gone already; the record is wanted all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	e := Event{Actor: "unknown", Remote: r.Remote, Action: "refuse", Object: string(r.Listener), Outcome: "refused", Reason: clip(string(r.Reason) + ": " + r.Err.Error())}
	if r.Device != "" {
		e.Actor = "device " + string(r.Device)
	}
	if err := p.audit(ctx, e); err != nil {
		p.deps.Log.ErrorContext(ctx, "refusal not audited", "reason", r.Reason, "err", err)
	}
	return r
}

func clip(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "…"
}

// audit stamps and records e.
func (p *PKI) audit(ctx context.Context, e Event) error {
	e.At = time.Now().UTC()
	if err := p.deps.Audit(ctx, e); err != nil {
		p.metrics.auditFailures.Inc()
		return fmt.Errorf("record in the audit log: %w", err)
	}
	return nil
}
