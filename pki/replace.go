package pki

import (
	"context"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// Handover is what the replacement of a device changes here. It is stored in
// one step with the rest of the replacement, or not at all.
type Handover struct {
	Old    inventory.DeviceID // its certificates are revoked, its unused tokens ended
	Revoke Revocation         // reason, author and time of each
	Token  Token              // for the device that takes its place
}

// HandOver makes the token for a device that takes the place of old, lets
// commit store everything, and then refuses old everywhere. An error of commit
// leaves old as it is. commit gives what it revoked; it may be none, for a
// broken box may have lost its certificate long ago.
func (p *PKI) HandOver(ctx context.Context, old, next inventory.Device, by string, commit func(context.Context, Handover) ([]Revocation, error)) (token string, expires time.Time, err error) {
	if _, err := enrol.SPIFFEID(p.cfg.TrustDomain, enrol.DeviceKind, string(next.ID)); err != nil {
		return "", time.Time{}, fmt.Errorf("replace device %s: %w", old.ID, err)
	}
	token, t := p.newToken(next.ID, next.Serial, by)
	h := Handover{
		Old: old.ID, Token: t,
		Revoke: Revocation{Reason: "cessation-of-operation: replaced by " + string(next.ID), By: by, At: t.At},
	}
	if err := p.audit(ctx, Event{Actor: by, Action: "token", Object: string(next.ID), Outcome: "done", Reason: "in place of " + string(old.ID)}); err != nil {
		return "", time.Time{}, fmt.Errorf("replace device %s: %w", old.ID, err)
	}
	revoked, err := commit(ctx, h)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("replace device %s: %w", old.ID, err)
	}
	p.enforce(revoked)
	p.peersChanged()
	p.metrics.tokens.Inc()
	e := Event{Actor: by, Action: "revoke", Object: "device " + string(old.ID), Outcome: "done", Reason: fmt.Sprintf("%s; %d certificates", h.Revoke.Reason, len(revoked))}
	if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
		// It is done and in the revocation log; an error now would say it was not.
		p.deps.Log.ErrorContext(ctx, "revocation not audited", "device", old.ID, "err", err)
	}
	return token, t.Expires, nil
}
