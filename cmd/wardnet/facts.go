package main

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/policy"
)

// postureEvery is how often an unchanged posture is measured anew; it must stay
// well under the shortest maximum age of the policy (300 s).
const postureEvery = 30 * time.Second

// facts are the last facts given to the policy engine.
type facts struct {
	mu       sync.Mutex // one refresh at a time
	revision uint64
	at       time.Time
	standing map[inventory.DeviceID]standing
	postures map[inventory.DeviceID]policy.Posture // last measured; nil before the first load
}

// standing is what decides whether new facts are due.
type standing struct {
	site        inventory.SiteID
	certificate string
	quarantined bool
	connected   bool
	compliant   bool // means something while connected
}

// refreshFacts gives the engine everything a verdict may use, as it is now.
func (p *plane) refreshFacts(ctx context.Context) error {
	p.facts.mu.Lock()
	defer p.facts.mu.Unlock()
	now, err := p.standings(ctx)
	if err != nil {
		return err
	}
	return p.giveFacts(ctx, now)
}

// watchFacts refreshes the facts when a device's standing changed, or its
// posture grows old.
func (p *plane) watchFacts(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := p.refreshWhenChanged(ctx); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "policy facts not refreshed", "err", err)
		}
	}
}

func (p *plane) refreshWhenChanged(ctx context.Context) error {
	p.facts.mu.Lock()
	defer p.facts.mu.Unlock()
	now, err := p.standings(ctx)
	if err != nil {
		return err
	}
	if maps.Equal(now, p.facts.standing) && time.Since(p.facts.at) < postureEvery {
		return nil
	}
	return p.giveFacts(ctx, now)
}

func (p *plane) standings(ctx context.Context) (map[inventory.DeviceID]standing, error) {
	all, err := p.devices.Devices(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the devices' standing: %w", err)
	}
	out := make(map[inventory.DeviceID]standing, len(all))
	for _, d := range all {
		s := standing{site: d.Site, certificate: "none", quarantined: d.Quarantine != "", connected: d.Connected, compliant: d.Connected && d.InSync}
		if d.Enrolled {
			s.certificate = "valid"
		}
		out[d.ID] = s
	}
	return out, nil
}

// giveFacts measures the posture of every connected device; of the others the
// last measurement stands with its time, over a restart too, and the policy
// judges its age.
func (p *plane) giveFacts(ctx context.Context, now map[inventory.DeviceID]standing) error {
	subjects, err := p.subjects.Subjects(ctx)
	if err != nil {
		return fmt.Errorf("read the subjects: %w", err)
	}
	if p.facts.postures == nil {
		if p.facts.postures, err = p.subjects.Postures(ctx); err != nil {
			return err
		}
	}
	at := time.Now().UTC()
	measured := map[inventory.DeviceID]policy.Posture{}
	devices := make(map[inventory.DeviceID]policy.DeviceFact, len(now))
	for id, s := range now {
		if s.connected {
			measured[id] = policy.Posture{Compliant: s.compliant, Source: "controller", At: at}
			p.facts.postures[id] = measured[id]
		}
		f := policy.DeviceFact{Site: s.site, Certificate: s.certificate, Quarantined: s.quarantined, PostureSource: "none"}
		if m, ok := p.facts.postures[id]; ok {
			f.Compliant, f.PostureSource, f.PostureAtNS = m.Compliant, m.Source, m.At.UnixNano()
		}
		devices[id] = f
	}
	if err := p.subjects.SavePostures(ctx, measured); err != nil {
		return err
	}
	// Milliseconds keep the revision rising over restarts without a store.
	rev := max(p.facts.revision+1, uint64(at.UnixMilli()))
	err = p.engine.SetFacts(ctx, policy.Facts{
		Revision: rev, Subjects: policy.SubjectFacts(subjects), Devices: devices, Applications: policy.ApplicationFacts(p.declared.Load().inv),
	})
	if err != nil {
		return err
	}
	p.facts.revision, p.facts.at, p.facts.standing = rev, at, now
	return nil
}
