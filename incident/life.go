package incident

import (
	"context"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// age resolves incidents that stayed clear, lets go of consequences that
// outlived their reason, and forgets what cannot be reopened any more.
func (b *Book) age(topo *Topology) {
	kept := b.active[:0]
	for _, a := range b.active {
		if a.State == Resolved {
			if b.now.Sub(a.Resolved) <= b.cfg.Reopen || a.ByHand && a.openSymptoms(true) > 0 || a.changed || len(a.dirty) > 0 {
				kept = append(kept, a)
			}
			continue
		}
		kept = append(kept, a)
		for _, t := range a.symptoms {
			if t.conseq && t.f.To.IsZero() && t.f.Kind == anomaly.DeviceDown && b.now.Sub(t.f.From) > b.cfg.Consequence {
				b.release(a, t)
			}
		}
		switch {
		case a.openSymptoms(false) > 0:
			a.quiet = time.Time{}
		case a.quiet.IsZero():
			a.quiet = b.now
			a.log(b.now, "wardnet", "cleared", "all symptoms cleared")
			a.changed = true
		case b.now.Sub(a.quiet) >= b.cfg.Hold:
			for _, t := range a.symptoms {
				if t.f.To.IsZero() && t.f.Severity != anomaly.Info {
					b.release(a, t)
				}
			}
			a.finish(b.now, "wardnet", fmt.Sprintf("all symptoms clear for %s", b.cfg.Hold))
			b.m.resolved.WithLabelValues("clear").Inc()
		}
	}
	clear(b.active[len(kept):])
	b.active = kept
}

// openSymptoms counts what keeps the incident open; all also counts
// consequences and supporting evidence.
func (a *active) openSymptoms(all bool) int {
	n := 0
	for _, t := range a.symptoms {
		if t.f.To.IsZero() && (all || !t.conseq && t.f.Severity != anomaly.Info) {
			n++
		}
	}
	return n
}

// release lets a finding stand by itself again; the incident keeps a record.
func (b *Book) release(a *active, t *tracked) {
	record := *t
	record.f.To, record.f.Why = b.now.UTC(), "goes on without this cause and is judged by itself: "+t.f.Why
	a.symptoms[t.f.ID] = &record
	a.touch(&record)
	t.in, t.conseq, t.arrived = nil, false, b.now
}

func (a *active) finish(now time.Time, who, why string) {
	a.State, a.Resolved, a.changed = Resolved, now.UTC(), true
	a.log(now, who, "resolved", why)
}

// Ack takes note of an incident in by's name; it becomes the owner if there is
// none. Errors wrap [inventory.ErrNotFound] and [inventory.ErrConflict].
func (b *Book) Ack(ctx context.Context, id, by string) (Incident, error) {
	return b.change(ctx, id, func(a *active) error {
		if a.State != Open {
			return fmt.Errorf("%w: incident %s is %s already", inventory.ErrConflict, id, a.State)
		}
		a.State = Acknowledged
		if a.Owner == "" {
			a.Owner = by
		}
		a.log(b.now, by, "acknowledged", "")
		return nil
	})
}

// Assign gives an incident to owner. Errors as for Ack.
func (b *Book) Assign(ctx context.Context, id, owner, by string) (Incident, error) {
	return b.change(ctx, id, func(a *active) error {
		if a.State == Resolved {
			return fmt.Errorf("%w: incident %s is resolved", inventory.ErrConflict, id)
		}
		a.Owner = owner
		a.log(b.now, by, "assigned", "to "+owner)
		return nil
	})
}

// Resolve closes an incident by hand. Symptoms that are still open stay with
// it and do not raise another one; new ones of the same cause reopen it.
// Errors as for Ack.
func (b *Book) Resolve(ctx context.Context, id, by, reason string) (Incident, error) {
	return b.change(ctx, id, func(a *active) error {
		if a.State == Resolved {
			return fmt.Errorf("%w: incident %s is resolved already", inventory.ErrConflict, id)
		}
		a.ByHand = true
		a.finish(b.now, by, reason)
		b.m.resolved.WithLabelValues("hand").Inc()
		return nil
	})
}

// change applies fn and saves before it answers; if it cannot be saved nothing
// changed.
func (b *Book) change(ctx context.Context, id string, fn func(*active) error) (Incident, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	topo := b.deps.Topology()
	for _, a := range b.active {
		if a.ID != id || id == "" {
			continue
		}
		before := a.Incident
		if err := fn(a); err != nil {
			return Incident{}, err
		}
		if err := b.deps.Store.Save(ctx, []Change{{Incident: &a.Incident, Entries: a.Timeline[a.written:]}}); err != nil {
			a.Incident = before
			return Incident{}, fmt.Errorf("save incident %s: %w", id, err)
		}
		a.written = len(a.Timeline)
		snap := a.snapshot(topo)
		b.deps.Notify(snap)
		return snap, nil
	}
	if i, err := b.deps.Store.Get(ctx, id); err == nil {
		return Incident{}, fmt.Errorf("%w: incident %s is %s and closed for changes", inventory.ErrConflict, id, i.State)
	}
	return Incident{}, fmt.Errorf("%w: incident %s", inventory.ErrNotFound, id)
}
