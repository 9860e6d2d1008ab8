package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// loadDrifts reads what was found changed; c.commands is held.
func (c *Controller) loadDrifts(ctx context.Context) error {
	if c.deps.Drifts == nil {
		return nil
	}
	all, err := c.deps.Drifts.Drifts(ctx)
	if err != nil {
		return fmt.Errorf("load drifts: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range all {
		c.drifts[d.Device] = &d
	}
	return nil
}

// found records a new drift of d: its record, the device's row and the journal's
// entry in one step, so that a process that dies leaves all of it or nothing, and
// then its line in the audit log, which a process that dies owes: see tellOwed.
func (c *Controller) found(ctx context.Context, d *device, drift *Drift, change func(*Status), entry Entry) error {
	d.record.Lock()
	defer d.record.Unlock()
	if err := c.owing(ctx, d); err != nil {
		return err
	}
	if drift.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make a drift id: %w", err)
		}
		drift.ID = id.String()
	}
	drift.Untold = true
	kept := *drift
	save := func(ctx context.Context, s Status, entries ...Entry) error {
		if c.deps.Drifts == nil {
			return c.deps.Store.Save(ctx, s, entries...)
		}
		if err := c.deps.Drifts.SaveDrift(ctx, kept, &s, entries...); err != nil {
			return fmt.Errorf("store drift %s: %w", kept.ID, err)
		}
		return nil
	}
	if err := c.observeBy(ctx, d, save, change, entry); err != nil {
		c.mu.Lock()
		d.doubt = &kept
		c.mu.Unlock()
		return err
	}
	c.metrics.drift.Inc()
	c.know(d, kept)
	_ = c.tell(ctx, d, kept) // where it cannot, it is owed
	return nil
}

// saveDrift writes what became of a drift that is on record, and audits it as
// found does.
func (c *Controller) saveDrift(ctx context.Context, drift *Drift) error {
	c.mu.Lock()
	d := c.ensure(drift.Device)
	c.mu.Unlock()
	d.record.Lock()
	defer d.record.Unlock()
	if err := c.owing(ctx, d); err != nil {
		return err
	}
	drift.Untold = true
	if c.deps.Drifts != nil {
		if err := c.deps.Drifts.SaveDrift(ctx, *drift, nil); err != nil {
			return fmt.Errorf("store drift %s of %s: %w", drift.ID, drift.Device, err)
		}
	}
	c.know(d, *drift)
	_ = c.tell(ctx, d, *drift)
	return nil
}

// know keeps a drift that is stored.
func (c *Controller) know(d *device, drift Drift) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drifts[d.id], d.doubt = &drift, nil
	open := 0
	for _, x := range c.drifts {
		if x.State == DriftOpen {
			open++
		}
	}
	c.metrics.driftOpen.Set(float64(open))
}

// settle tells what the audit log lacks of d's drift: before that nothing is
// decided of it and nothing written over it.
func (c *Controller) settle(ctx context.Context, d *device) error {
	d.record.Lock()
	defer d.record.Unlock()
	return c.owing(ctx, d)
}

// owing is settle with d.record held.
func (c *Controller) owing(ctx context.Context, d *device) error {
	c.mu.Lock()
	old := c.drifts[d.id]
	c.mu.Unlock()
	if old == nil || !old.Untold {
		return nil
	}
	if err := c.tell(ctx, d, *old); err != nil {
		return fmt.Errorf("drift %s is on record, but not in the audit log, and waits for that: %w", old.ID, err)
	}
	return nil
}

// tell writes the audit log's line about a drift that is on record, and notes
// that it did. A process that dies in between tells it once more: the line is
// there at least once. d.record is held.
func (c *Controller) tell(ctx context.Context, d *device, drift Drift) error {
	what := "drift"
	if drift.State != DriftOpen {
		what = "drift." + string(drift.State)
	}
	text := drift.first()
	if drift.Who != "" {
		text += "; by " + drift.Who
	}
	if drift.Reason != "" {
		text += "; " + drift.Reason
	}
	text += fmt.Sprintf(" (drift %s)", drift.ID)
	if err := c.deps.Audit(ctx, what, string(drift.Device), text); err != nil {
		return err
	}
	drift.Untold = false
	c.know(d, drift)
	if c.deps.Drifts == nil {
		return nil
	}
	if err := c.deps.Drifts.SaveDrift(ctx, drift, nil); err != nil {
		c.deps.Log.WarnContext(ctx, "the line about a drift may come twice in the audit log: that it is there was not noted", "device", d.id, "err", err)
	}
	return nil
}

// tellOwed writes the lines about drifts that a process which died, or a store
// that could not take them, left out.
func (c *Controller) tellOwed(ctx context.Context) {
	c.mu.Lock()
	var owed []*device
	for id, x := range c.drifts {
		if x.Untold {
			owed = append(owed, c.ensure(id))
		}
	}
	c.mu.Unlock()
	slices.SortFunc(owed, func(a, b *device) int { return cmp.Compare(a.id, b.id) })
	for _, d := range owed {
		if !d.record.TryLock() {
			continue // its pass is at it
		}
		err := c.owing(ctx, d)
		d.record.Unlock()
		if err != nil {
			c.deps.Log.ErrorContext(ctx, "audit entry not kept; it is tried again", "device", d.id, "err", err)
			return // the others would fail as well
		}
	}
}
