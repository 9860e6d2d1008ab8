package controller

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// unsureFor is how long after an error of the store the rollouts are read again
// before each step: a commit that was cut off may still be carried out.
const unsureFor = 30 * time.Second

// kept says whether the store holds r although it reported an error of writing
// it: where the connection breaks off at a commit, nobody is told that it was
// carried out. c.commands is held.
func (c *Controller) kept(ctx context.Context, r Rollout) bool {
	c.unsure = time.Now().Add(unsureFor)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // who asked may be gone
	defer cancel()
	all, err := c.deps.Store.Rollouts(ctx)
	if err != nil {
		return false // asked again before the next step: see recall
	}
	i := slices.IndexFunc(all, func(o Rollout) bool { return o.ID == r.ID })
	return i >= 0 && !all[i].moved(r)
}

// recall reads the rollouts and the targets again while it is not sure that the
// store holds what memory does, and goes on from what it holds. Nobody is told
// of a step twice: what memory knows already is passed over. c.commands is held.
func (c *Controller) recall(ctx context.Context) error {
	if c.unsure.IsZero() {
		return nil
	}
	over := !time.Now().Before(c.unsure)
	rows, rollouts, err := c.stored(ctx)
	if err != nil {
		return fmt.Errorf("the store reported an error of a rollout; read it again: %w", err)
	}
	var news []Rollout
	c.mu.Lock()
	for _, r := range rollouts {
		i := slices.IndexFunc(c.rollouts, func(o *Rollout) bool { return o.ID == r.ID })
		if i >= 0 && !c.rollouts[i].moved(r) {
			continue
		}
		if i < 0 || c.rollouts[i].State != r.State {
			news = append(news, r)
		}
		c.put(r)
	}
	for _, s := range rows {
		if d := c.ensure(s.Device); !d.status.Target.equal(s.Target) {
			c.take(ctx, d, s)
			signal(d.wake)
		}
	}
	if slices.ContainsFunc(news, func(r Rollout) bool { return r.State == RolloutDone }) {
		c.forget()
	}
	c.mu.Unlock()
	if len(news) > 0 {
		c.budget()
	}
	for _, r := range news {
		c.deps.Log.WarnContext(ctx, "the store holds a rollout that it reported an error of", "rollout", r.ID, "rev", r.Revision, "state", r.State)
		c.stateReached(ctx, r)
		c.emit(Event{Rollout: &r})
	}
	if over {
		c.unsure = time.Time{}
	}
	return nil
}

// budget bounds who may be pushed to at once by what devices share in the newest
// revision that went out; c.commands is held.
func (c *Controller) budget() {
	c.mu.Lock()
	var to *Compiled
	for _, r := range slices.Backward(c.rollouts) {
		if to = c.compiled[r.Revision]; to != nil {
			break
		}
	}
	c.mu.Unlock()
	if to != nil {
		c.turns.limit(c.cfg.Budget.fates(to.Content))
	}
}

// stored reads the device rows and the rollouts, and compiles what they need.
// c.commands is held.
func (c *Controller) stored(ctx context.Context) ([]Status, []Rollout, error) {
	rows, err := c.deps.Store.Statuses(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("load device rows: %w", err)
	}
	rollouts, err := c.deps.Store.Rollouts(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("load rollouts: %w", err)
	}
	for _, r := range rollouts {
		if !r.Open() {
			continue
		}
		if _, err := c.compile(ctx, r.Revision, true); err != nil {
			return nil, nil, fmt.Errorf("load the open rollout: %w", err)
		}
	}
	for _, s := range rows {
		for _, n := range s.Target.revisions() {
			if _, err := c.compile(ctx, n, true); err != nil {
				return nil, nil, fmt.Errorf("load what is in force: %w", err)
			}
		}
	}
	return rows, rollouts, nil
}

// take assigns to d what its row says; everything that it names is compiled;
// c.mu is held.
func (c *Controller) take(ctx context.Context, d *device, s Status) {
	c.assign(d, s.Target)
	if d.status.Want != s.Want { // another version of this program compiled it
		c.deps.Log.ErrorContext(ctx, "revision compiles differently now; the device is left as it is until a new revision is rolled out", "device", s.Device, "rev", s.Target.Revision)
		d.status.Want, d.want = s.Want, nil
	}
}
