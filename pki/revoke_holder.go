package pki

import (
	"context"
	"fmt"
	"time"
)

// holderGrace is how much longer the connections of a certificate stay open
// that its holder revokes over one of them: the answer has to get through. No
// other request on them passes, each is checked by itself.
const holderGrace = 500 * time.Millisecond

// RevokeByHolder is [PKI.Revoke] by whoever holds the certificate's key and asks
// over a connection that shows it.
func (p *PKI) RevokeByHolder(ctx context.Context, serial, reason, by string) error {
	fresh, err := p.deps.Store.Revoke(ctx, Revocation{Serial: serial, Reason: reason, By: by, At: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("revoke certificate %s: %w", serial, err)
	}
	fresh = p.revoked.add(fresh) // refused from now on
	p.crls.forget()
	p.metrics.revocations.Add(float64(len(fresh)))
	p.peersChanged()
	time.AfterFunc(holderGrace, func() {
		p.mu.RLock()
		closers := p.closers
		p.mu.RUnlock()
		for _, r := range fresh {
			for _, c := range closers {
				p.metrics.closed.Add(float64(c.CloseSerial(r.Serial, "certificate revoked: "+r.Reason)))
			}
		}
	})
	e := Event{Actor: by, Action: "revoke", Object: "certificate " + serial, Outcome: "done", Reason: clip(reason)}
	if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
		return fmt.Errorf("certificate %s is revoked, but: %w", serial, err)
	}
	return nil
}
