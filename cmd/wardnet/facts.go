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
	devices  map[inventory.DeviceID]policy.DeviceFact // without the time of the posture
}

// refreshFacts gives the engine everything a verdict may use, as it is now.
func (p *plane) refreshFacts(ctx context.Context) error {
	p.facts.mu.Lock()
	defer p.facts.mu.Unlock()
	devices, err := p.deviceFacts(ctx)
	if err != nil {
		return err
	}
	return p.giveFacts(ctx, devices)
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
	devices, err := p.deviceFacts(ctx)
	if err != nil {
		return err
	}
	if maps.Equal(devices, p.facts.devices) && time.Since(p.facts.at) < postureEvery {
		return nil
	}
	return p.giveFacts(ctx, devices)
}

// deviceFacts reads what is known of every device; the posture's time is left
// out, so that equal standings compare equal.
func (p *plane) deviceFacts(ctx context.Context) (map[inventory.DeviceID]policy.DeviceFact, error) {
	all, err := p.devices.Devices(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the devices' standing: %w", err)
	}
	out := make(map[inventory.DeviceID]policy.DeviceFact, len(all))
	for _, d := range all {
		f := policy.DeviceFact{Site: d.Site, Certificate: "none", Quarantined: d.Quarantine != "", PostureSource: "none"}
		if d.Enrolled {
			f.Certificate = "valid"
		}
		if d.Connected { // measured over the live management channel; otherwise unknown
			f.Compliant, f.PostureSource = d.InSync, "controller"
		}
		out[d.ID] = f
	}
	return out, nil
}

func (p *plane) giveFacts(ctx context.Context, devices map[inventory.DeviceID]policy.DeviceFact) error {
	subjects, err := p.subjects.Subjects(ctx)
	if err != nil {
		return fmt.Errorf("read the subjects: %w", err)
	}
	now := time.Now()
	stamped := make(map[inventory.DeviceID]policy.DeviceFact, len(devices))
	for id, f := range devices {
		if f.PostureSource != "none" {
			f.PostureAtNS = now.UnixNano()
		}
		stamped[id] = f
	}
	// Milliseconds keep the revision rising over restarts without a store.
	rev := max(p.facts.revision+1, uint64(now.UnixMilli()))
	err = p.engine.SetFacts(ctx, policy.Facts{
		Revision: rev, Subjects: policy.SubjectFacts(subjects), Devices: stamped, Applications: policy.ApplicationFacts(p.declared.Load().inv),
	})
	if err != nil {
		return err
	}
	p.facts.revision, p.facts.at, p.facts.devices = rev, now, devices
	return nil
}
