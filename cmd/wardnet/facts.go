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

// postureEvery is how often postures that say the same are measured anew. It is
// only their time that this renews, and the shortest maximum age of the policy is
// 300 s: five measurements may fail before one verdict calls a posture stale.
// More often costs much: all facts are swapped whole, for thousands of devices a
// second of processor. A device that ceases to comply, is revoked or is put in
// quarantine does not wait for this: see [facts.news].
const postureEvery = time.Minute

// Beyond this age a connected device's posture is measured at once, for
// instance when it comes back after an hour; in between all are measured
// together.
const postureOld = 2 * postureEvery

// postureSaved is how often a posture that says the same is stored again: what
// a crash loses is its time, and the policy takes it for older than it was.
const postureSaved = 2 * time.Minute

// facts are the last facts given to the policy engine.
type facts struct {
	// look says whether a device has a session, and whether it runs what is
	// assigned to it.
	look func(inventory.DeviceID) (connected, compliant bool)

	mu       sync.Mutex // one refresh at a time
	revision uint64
	at       time.Time
	took     time.Duration // the last refresh
	standing map[inventory.DeviceID]standing
	postures map[inventory.DeviceID]policy.Posture // last measured; nil before the first load
	saved    map[inventory.DeviceID]policy.Posture // last stored
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

// factsEvery is how soon news reach the verdicts.
const factsEvery = time.Second

// watchFacts refreshes the facts when a device's standing changed, or its
// posture grows old.
func (p *plane) watchFacts(ctx context.Context) error {
	tick := time.NewTicker(factsEvery)
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
	since := time.Since(p.facts.at)
	due := since >= postureEvery
	if !due {
		at, n, most := time.Now(), 0, noNews
		err := p.eachStanding(ctx, func(id inventory.DeviceID, s standing) {
			n++
			most = max(most, p.facts.news(id, s, at))
		})
		if err != nil {
			return err
		}
		due = most == badNews || n != len(p.facts.standing) || most == goodNews && since >= goodNewsAfter*p.facts.took
	}
	if !due {
		return nil
	}
	start := time.Now()
	now, err := p.standings(ctx)
	if err != nil {
		return err
	}
	err = p.giveFacts(ctx, now)
	p.facts.took = time.Since(start)
	return err
}

// tidings say how soon a verdict must know of a change.
type tidings int

// Bad news cannot wait: somebody may have an access that must end. Good ones may
// come a moment later where there are thousands, as in a rollout: see
// [goodNewsAfter].
const (
	noNews tidings = iota
	goodNews
	badNews
)

// goodNewsAfter is how many times as long as the last refresh took must have
// passed since: of a city's devices that is at once, of ten thousand some seconds.
const goodNewsAfter = 10

// news says whether s holds something that a verdict must know. That a device
// came or went is none: its posture stands with its time.
func (f *facts) news(id inventory.DeviceID, s standing, at time.Time) tidings {
	was, ok := f.standing[id]
	p := f.postures[id]
	switch {
	case !ok, s.site != was.site,
		s.certificate != was.certificate && s.certificate != "valid",
		s.quarantined && !was.quarantined,
		s.connected && p.Compliant && !s.compliant:
		return badNews
	case s.certificate != was.certificate, s.quarantined != was.quarantined,
		s.connected && (p.Compliant != s.compliant || at.Sub(p.At) > postureOld):
		return goodNews
	}
	return noNews
}

func (p *plane) standings(ctx context.Context) (map[inventory.DeviceID]standing, error) {
	out := make(map[inventory.DeviceID]standing, len(p.declared.Load().inv.Devices))
	err := p.eachStanding(ctx, func(id inventory.DeviceID, s standing) { out[id] = s })
	return out, err
}

// eachStanding joins what is declared with what is seen. It runs every second
// over thousands of devices, and so keeps nothing and makes no view of them.
func (p *plane) eachStanding(ctx context.Context, visit func(inventory.DeviceID, standing)) error {
	until, err := p.devices.Certified(ctx)
	if err != nil {
		return fmt.Errorf("read the devices' standing: %w", err)
	}
	at := time.Now()
	for _, d := range p.declared.Load().inv.Devices {
		if d.Intended == inventory.Retired {
			continue
		}
		s := standing{site: d.Site, certificate: "none", quarantined: p.devices.Quarantine(d.ID) != ""}
		s.connected, s.compliant = p.facts.look(d.ID)
		if at.Before(until(d.ID)) {
			s.certificate = "valid"
		}
		visit(d.ID, s)
	}
	return nil
}

// look says whether a device has a session, and whether it runs what is assigned
// to it, which means something while it has one.
func (p *plane) look(id inventory.DeviceID) (connected, compliant bool) {
	if !p.channel.Connected(id) {
		return false, false
	}
	st, err := p.ctl.Status(id)
	return true, err == nil && st.InSync()
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
		p.facts.saved = maps.Clone(p.facts.postures)
	}
	at := time.Now().UTC()
	due := map[inventory.DeviceID]policy.Posture{} // to be stored
	devices := make(map[inventory.DeviceID]policy.DeviceFact, len(now))
	for id, s := range now {
		if s.connected {
			p.facts.postures[id] = policy.Posture{Compliant: s.compliant, Source: "controller", At: at}
		}
		if m, ok := p.facts.postures[id]; ok {
			if old := p.facts.saved[id]; old.Compliant != m.Compliant || old.Source != m.Source || m.At.Sub(old.At) >= postureSaved || !s.connected && !m.At.Equal(old.At) {
				due[id] = m
			}
		}
		f := policy.DeviceFact{Site: s.site, Certificate: s.certificate, Quarantined: s.quarantined, PostureSource: "none"}
		if m, ok := p.facts.postures[id]; ok {
			f.Compliant, f.PostureSource, f.PostureAtNS = m.Compliant, m.Source, m.At.UnixNano()
		}
		devices[id] = f
	}
	if len(due) > 0 {
		if err := p.subjects.SavePostures(ctx, due); err != nil {
			return err
		}
		maps.Copy(p.facts.saved, due)
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
