package pki

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// quarantine puts devices into quarantine: no peer, no grant, visible to
// people, until [PKI.Release] or a new enrolment. It is audited; one that is in
// stays in as it is.
func (p *PKI) quarantine(ctx context.Context, list ...Quarantine) error {
	fresh, err := p.deps.Store.Quarantine(ctx, list)
	if err != nil || len(fresh) == 0 {
		return err
	}
	p.metrics.quarantines.Add(float64(len(fresh)))
	p.peersChanged()
	for _, q := range fresh {
		e := Event{Actor: "system", Action: "quarantine", Object: string(q.Device), Outcome: "done", Reason: q.Reason}
		if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
			p.deps.Log.ErrorContext(ctx, "quarantine not audited", "device", q.Device, "err", err)
		}
	}
	return nil
}

// Quarantined lists the devices in quarantine.
func (p *PKI) Quarantined(ctx context.Context) ([]Quarantine, error) {
	return p.deps.Store.Quarantined(ctx)
}

// Release ends a device's quarantine by a person's word.
// [inventory.ErrNotFound]: it is in none; [inventory.ErrInvalid]: no reason
// given. It is in the audit log before it is in force.
func (p *PKI) Release(ctx context.Context, device inventory.DeviceID, reason, by string) error {
	if strings.TrimSpace(reason) == "" {
		return fmt.Errorf("release %s from quarantine: %w: give a reason", device, inventory.ErrInvalid)
	}
	in, err := p.Quarantined(ctx)
	if err != nil {
		return fmt.Errorf("release %s from quarantine: %w", device, err)
	}
	for _, q := range in {
		if q.Device != device {
			continue
		}
		if err := p.audit(ctx, Event{Actor: by, Action: "release", Object: string(device), Outcome: "done", Reason: clip(reason)}); err != nil {
			return fmt.Errorf("release %s from quarantine: %w", device, err)
		}
		if err := p.deps.Store.Release(ctx, Release{Device: device, At: time.Now().UTC(), By: by, Reason: reason}); err != nil {
			return err
		}
		p.peersChanged()
		return nil
	}
	return fmt.Errorf("release %s from quarantine: %w: it is in none", device, inventory.ErrNotFound)
}

// sweep puts devices into quarantine that would go there if they came back
// now: a box that is away for long must not be a peer until it says hello.
func (p *PKI) sweep(ctx context.Context, newest []Certificate, now time.Time) error {
	up, err := p.deps.Store.Stretches(ctx)
	if err != nil {
		return err
	}
	var list []Quarantine
	for _, c := range newest {
		if !now.After(c.NotAfter) {
			continue
		}
		d, err := p.declared(ctx, c.Device)
		if err != nil {
			continue // retired: refused everywhere already
		}
		if d.Role == inventory.RoleHub {
			continue // its peers are whole districts: it goes in when it calls, before a person's eyes
		}
		if back := JudgeReturn(now, c.NotBefore, c.NotAfter, up); back.Quarantine != "" || back.Refused != "" {
			reason := back.Quarantine
			if reason == "" {
				reason = back.Refused
			}
			list = append(list, Quarantine{Device: c.Device, Since: now, Reason: reason})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return p.quarantine(ctx, list...)
}
