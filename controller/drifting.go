package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// adrift compares what a device runs with what it had confirmed, records what
// came of it, and says in an [ErrHeld] when it is to be left as it is. pending
// changes of our own are no drift.
func (c *Controller) adrift(ctx context.Context, d *device, dev Driver, want *Want, st Status, have edge.Signed) error {
	if err := c.settle(ctx, d); err != nil {
		return err
	}
	c.mu.Lock()
	old, doubt := c.drifts[d.id], d.doubt
	c.mu.Unlock()
	if old != nil && !old.Active() {
		old = nil
	}
	isNew := old == nil
	if isNew && doubt != nil && doubt.Active() { // on record, or never: one and the same from now on
		old = doubt
	}
	// Changed before a newer revision came, and seen only now that it is to be
	// pushed. A push of ours that is in doubt is no such change, and neither is a
	// device that lost everything.
	strayed := st.Hash != "" && st.Commit == "" && have.Revision != 0 && have.Hash != st.Hash
	next, stored := old.next(want.Hash, have.Hash, st.Hash == want.Hash || strayed, editable(dev), old != nil && c.writesOver(st.Target.Revision, old.ID), time.Now().UTC())
	if again := isNew && old != nil; !stored && !again {
		return next.Held()
	}
	if old == nil || old.Have != next.Have {
		next.Device, next.Revision, next.Changes = d.id, st.Target.Revision, driftLines(want.Config, have.Config)
		next.How = "read back from the device"
		if w, ok := dev.(Witness); ok {
			next.Who = w.LastEditor(ctx)
		}
	}
	if isNew {
		err := c.found(ctx, d, &next, func(s *Status) { s.Drifts++; s.Hash = have.Hash; s.Online = true },
			Entry{Revision: st.Target.Revision, Hash: have.Hash, Step: StepDrift, Error: next.first()})
		if err != nil {
			return err
		}
	} else if err := c.saveDrift(ctx, &next); err != nil {
		return err
	}
	if err := c.settle(ctx, d); err != nil { // its line first, then what is done about it
		return err
	}
	return next.Held()
}

// Witness is a driver whose device tells who changed it last.
type Witness interface {
	// LastEditor names who, as the device knows them; "" when it does not.
	LastEditor(ctx context.Context) string
}

// writesOver says whether the plan of revision n's rollout named a drift.
func (c *Controller) writesOver(n intent.Number, drift string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.rollouts, func(r *Rollout) bool { return r.Revision == n && slices.Contains(r.Over, drift) })
}

// restored closes the drift of a device that runs what it should.
func (c *Controller) restored(ctx context.Context, d *device, want string) error {
	c.mu.Lock()
	old := c.drifts[d.id]
	isNew := d.doubt != nil && d.doubt.Active()
	if isNew {
		old = d.doubt
	}
	c.mu.Unlock()
	if old == nil || !old.Active() {
		return nil
	}
	next, stored := old.next(want, want, true, false, false, time.Now().UTC())
	switch {
	case !stored:
		return nil
	case isNew:
		return c.found(ctx, d, &next, func(s *Status) { s.Drifts++ }, Entry{Revision: next.Revision, Hash: next.Have, Step: StepDrift, Error: next.first()})
	}
	return c.saveDrift(ctx, &next)
}

// mended records differences that a device found on itself beside its document
// and put back; at is the device's time. The same report again is no news.
func (c *Controller) mended(ctx context.Context, d *device, st Status, reports []edge.Mend) error {
	for _, m := range reports {
		c.mu.Lock()
		known := !m.At.After(d.mendedAt)
		if old := c.drifts[d.id]; old != nil && !m.At.After(old.Found) {
			known = true
		}
		c.mu.Unlock()
		if known {
			continue
		}
		drift := Drift{
			Device: d.id, Found: m.At.UTC(), Revision: st.Revision, Want: st.Hash, Have: st.Hash, Changes: m.What, Who: m.Who,
			How: "noticed on the device", State: DriftReturned, By: string(d.id), Reason: "the device keeps what was signed", Decided: m.At.UTC(),
		}
		c.mu.Lock()
		if d.doubt != nil && d.doubt.Found.Equal(drift.Found) {
			drift.ID = d.doubt.ID
		}
		c.mu.Unlock()
		err := c.found(ctx, d, &drift, func(s *Status) { s.Drifts++ }, Entry{Revision: st.Revision, Hash: st.Hash, Step: StepDrift, Error: drift.first()})
		if err != nil {
			return err
		}
		c.mu.Lock()
		d.mendedAt = m.At
		c.mu.Unlock()
	}
	return nil
}

// Drifts lists what was found changed, newest first.
func (c *Controller) Drifts(ctx context.Context) ([]Drift, error) {
	if c.deps.Drifts == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		var out []Drift
		for _, d := range c.drifts {
			out = append(out, *d)
		}
		slices.SortFunc(out, func(a, b Drift) int { return cmp.Compare(b.ID, a.ID) })
		return out, nil
	}
	all, err := c.deps.Drifts.Drifts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list drifts: %w", err)
	}
	slices.Reverse(all)
	return all, nil
}

// RevertDrift has the device put back to what was assigned to it.
func (c *Controller) RevertDrift(ctx context.Context, id, by, reason string) (Drift, error) {
	return c.decide(ctx, id, func(d *Drift) {
		d.State, d.By, d.Reason = DriftReturning, by, reason
	})
}

// WaiveDrift leaves the device as it is until a time, at most [MaxDriftWaiver]
// from now.
func (c *Controller) WaiveDrift(ctx context.Context, id, by, reason string, until time.Time) (Drift, error) {
	now := time.Now()
	switch {
	case reason == "":
		return Drift{}, fmt.Errorf("waive drift %s: %w: say why", id, inventory.ErrInvalid)
	case !until.After(now) || until.After(now.Add(MaxDriftWaiver)):
		return Drift{}, fmt.Errorf("waive drift %s: %w: the end %s is not within the next %d days", id, inventory.ErrInvalid, until.UTC().Format(time.RFC3339), int(MaxDriftWaiver.Hours()/24))
	}
	return c.decide(ctx, id, func(d *Drift) {
		d.State, d.By, d.Reason, d.Until = DriftWaived, by, reason, until.UTC()
	})
}

// MaxDriftWaiver is how long a device may be left changed.
const MaxDriftWaiver = 90 * 24 * time.Hour

// AdoptDrift notes that revision n says what the device runs.
func (c *Controller) AdoptDrift(ctx context.Context, id, by, reason string, n intent.Number) (Drift, error) {
	return c.decide(ctx, id, func(d *Drift) {
		d.State, d.By, d.Reason, d.Adopts = DriftAdopting, by, reason, n
	})
}

// Adrift returns an active drift by id, with what its device is to run; it wraps
// [inventory.ErrNotFound], and [inventory.ErrConflict] for one that is over.
func (c *Controller) Adrift(id string) (Drift, Want, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.drifts {
		if d.ID != id {
			continue
		}
		if !d.Active() {
			return *d, Want{}, fmt.Errorf("drift %s: %w: it is %s", id, inventory.ErrConflict, d.State)
		}
		if dev := c.devices[d.Device]; dev != nil && dev.want != nil {
			return *d, *dev.want, nil
		}
		return *d, Want{}, fmt.Errorf("drift %s: %w: nothing is assigned to %s", id, inventory.ErrConflict, d.Device)
	}
	return Drift{}, Want{}, fmt.Errorf("drift %q: %w; 'wardnet drift list' shows them", id, inventory.ErrNotFound)
}

// decide changes an active drift and wakes its device.
func (c *Controller) decide(ctx context.Context, id string, change func(*Drift)) (Drift, error) {
	if err := c.Load(ctx); err != nil {
		return Drift{}, err
	}
	c.commands.Lock()
	defer c.commands.Unlock()
	d, _, err := c.Adrift(id)
	if err != nil {
		return d, err
	}
	change(&d)
	d.Decided = time.Now().UTC()
	if err := c.saveDrift(ctx, &d); err != nil {
		return Drift{}, err
	}
	c.poke(d.Device)
	return d, nil
}

// driftsDue wakes devices whose waiver has ended, so that they are open again.
func (c *Controller) driftsDue(now time.Time) {
	c.mu.Lock()
	var due []inventory.DeviceID
	for id, d := range c.drifts {
		if d.State == DriftWaived && !now.Before(d.Until) && now.Sub(d.Until) < time.Minute {
			due = append(due, id)
		}
	}
	c.mu.Unlock()
	for _, id := range due {
		c.poke(id)
	}
}

// adriftIn says whether d was changed past us under its present target; c.mu is
// held.
func (c *Controller) adriftIn(d *device) bool {
	x := c.drifts[d.id]
	return x != nil && d.want != nil && x.Want == d.want.Hash && x.Held() != nil
}

// overwrites lists the active drifts that p writes over, by device.
func (c *Controller) overwrites(p Plan, to *Compiled) []Drift {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Drift
	for _, d := range p.Devices {
		if x := c.drifts[d.Device]; x != nil && x.Active() && to.Devices[d.Device].Hash != x.Have {
			out = append(out, *x)
		}
	}
	return out
}
