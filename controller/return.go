package controller

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// returning brings a failed rollout's old content back as a new revision, and
// closes the failed one when that has ended. It works from what is stored, so
// it goes on after a crash at any point; c.commands is held.
func (c *Controller) returning(ctx context.Context) error {
	c.mu.Lock()
	var failed, back *Rollout
	for _, r := range c.rollouts {
		if r.State == RolloutReturning {
			failed = r
		}
	}
	if failed != nil {
		for _, r := range slices.Backward(c.rollouts) {
			if r.Returns == failed.ID {
				back = r
				break
			}
		}
	}
	c.mu.Unlock()
	switch {
	case failed == nil || back != nil && back.Open():
		return nil
	case back == nil:
		n, err := c.deps.Return(ctx, failed.Revision, failed.Base, failed.Reason)
		if err != nil {
			return fmt.Errorf("make the revision that returns %d to %d: %w", failed.Revision, failed.Base, err)
		}
		if _, err := c.begin(ctx, n, systemName, failed.ID, ""); err != nil {
			return fmt.Errorf("return revision %d to the content of %d: %w", failed.Revision, failed.Base, err)
		}
		return nil
	}
	end := *failed
	end.State, end.Ended = RolloutHalted, time.Now().UTC()
	if back.State == RolloutDone {
		end.Returned = true
		end.Reason += fmt.Sprintf("; the content of revision %d is back as revision %d", failed.Base, back.Revision)
	} else {
		end.Reason += fmt.Sprintf("; the return as revision %d is %s: %s", back.Revision, back.State, back.Reason)
	}
	if err := c.commit(ctx, end); err != nil {
		return err
	}
	c.metrics.rollouts.WithLabelValues(string(end.State)).Inc()
	c.audit(ctx, "rollout.returned", end.ID, end.Reason)
	return nil
}

// overdue reports, once, the devices that the last rollout still misses after
// its deadline; c.commands is held.
func (c *Controller) overdue(ctx context.Context) error {
	c.mu.Lock()
	if len(c.rollouts) == 0 {
		c.mu.Unlock()
		return nil
	}
	r := *c.rollouts[len(c.rollouts)-1]
	if r.State != RolloutDone || r.Overdue || r.Deadline.IsZero() || time.Now().Before(r.Deadline) {
		c.mu.Unlock()
		return nil
	}
	missing := 0
	list := ""
	for _, w := range r.Waves {
		for _, id := range w.Devices {
			if d := c.devices[id]; d != nil && d.declared && !d.status.InSync() {
				missing++
				if missing <= 5 {
					list += " " + string(id)
				}
			}
		}
	}
	c.mu.Unlock()
	r.Overdue = true
	if missing > 0 {
		c.audit(ctx, "rollout.overdue", r.ID, fmt.Sprintf("%d devices have not taken revision %d by the deadline:%s", missing, r.Revision, list))
	}
	return c.commit(ctx, r)
}
