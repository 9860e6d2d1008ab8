package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// conduct moves the open rollout on whenever a pass has ended, and once a
// second for its deadlines.
func (c *Controller) conduct(ctx context.Context) {
	said := ""
	for {
		err := c.advance(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != said {
			c.deps.Log.ErrorContext(ctx, "rollout cannot go on", "err", err)
		}
		said = fmt.Sprint(err)
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
			if err != nil { // not in a circle with what fails
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Second):
				}
			}
		case <-time.After(time.Second):
		}
	}
}

// advance does all the steps that can be done now.
func (c *Controller) advance(ctx context.Context) error {
	c.commands.Lock()
	defer c.commands.Unlock()
	if err := c.load(ctx); err != nil {
		return err
	}
	c.tellOwed(ctx)
	if err := c.returning(ctx); err != nil {
		return err
	}
	for {
		c.mu.Lock()
		open := c.open()
		if open == nil {
			c.mu.Unlock()
			c.driftsDue(time.Now())
			return errors.Join(c.overdue(ctx), c.waiverEnded(ctx))
		}
		now := time.Now().UTC()
		next := open.Step(now, c.seen, c.limits())
		c.mu.Unlock()
		if started := startedWave(*open, next); started >= 0 {
			held, err := c.admitted(ctx, next)
			if err != nil {
				return err
			}
			switch closed := c.outside(next, now); {
			case closed != "" && held == nil:
				next = *open
				next.Reason, next.ETA = closed, time.Time{}
			case strings.HasPrefix(next.Reason, waitsForWindow):
				next.Reason = ""
			}
			if held != nil {
				next = *open
				next.State, next.Reason = RolloutPaused, held.Error()
			}
		}
		moved, counted := next.moved(*open), next.counted(*open)
		if !moved {
			if counted {
				c.replace(next)
			}
			return nil
		}
		if err := c.commit(ctx, next); err != nil {
			return err
		}
		c.observeWaves(*open, next)
		if next.State != open.State {
			c.stateReached(ctx, next)
		}
		if next.State == RolloutReturning {
			return c.returning(ctx)
		}
	}
}

// moved says whether r must be stored, o being what is.
func (r Rollout) moved(o Rollout) bool {
	return r.State != o.State || r.Overdue != o.Overdue || r.Reason != o.Reason ||
		!slices.EqualFunc(r.Waves, o.Waves, func(a, b Wave) bool { return a.State == b.State && a.Accepted == b.Accepted })
}

// counted says whether only the counts differ.
func (r Rollout) counted(o Rollout) bool {
	return !slices.EqualFunc(r.Waves, o.Waves, func(a, b Wave) bool { return a.Done == b.Done && a.Pending == b.Pending })
}

// observeWaves measures the waves that ended.
func (c *Controller) observeWaves(before, after Rollout) {
	for i, w := range after.Waves {
		if w.State == WaveDone && before.Waves[i].State != WaveDone {
			c.metrics.waves.Observe(w.Ended.Sub(w.Started).Seconds())
		}
	}
}

// startedWave is the index of the wave that after starts, or -1.
func startedWave(before, after Rollout) int {
	for i := range after.Waves {
		if after.Waves[i].State == WaveRunning && before.Waves[i].State == WaveWaiting {
			return i
		}
	}
	return -1
}

// commit stores r with the targets that follow from it, puts both in force and
// wakes whom it concerns. c.commands is held.
func (c *Controller) commit(ctx context.Context, r Rollout) error {
	c.mu.Lock()
	assign := c.assignments(r)
	c.mu.Unlock()
	if err := c.deps.Store.SaveRollout(ctx, r, assign); err != nil {
		if !c.kept(ctx, r) {
			return fmt.Errorf("store rollout %s: %w", r.ID, err)
		}
		c.deps.Log.WarnContext(ctx, "the store reported an error and kept the rollout all the same", "rollout", r.ID, "rev", r.Revision, "err", err)
	}
	c.mu.Lock()
	c.put(r)
	for _, a := range assign {
		d := c.ensure(a.Device)
		c.assign(d, a.Target)
		signal(d.wake)
	}
	if r.State == RolloutDone {
		c.forget()
	}
	c.mu.Unlock()
	c.emit(Event{Rollout: &r})
	return nil
}

// assignments lists the targets that r changes: those of the waves started so
// far and, when it is done, every device's; c.mu is held.
func (c *Controller) assignments(r Rollout) []Assignment {
	var out []Assignment
	put := func(id inventory.DeviceID, t Target) {
		if d := c.devices[id]; d == nil || !d.status.Target.equal(t) {
			a := Assignment{Device: id, Target: t}
			if w := c.wantOf(id, t); w != nil {
				a.Want = w.Hash
			}
			out = append(out, a)
		}
	}
	if r.State == RolloutDone {
		to := c.compiled[r.Revision]
		for id := range union(to.Devices, c.devices) {
			if _, ok := to.Devices[id]; ok {
				put(id, Target{Revision: r.Revision})
			} else {
				put(id, Target{})
			}
		}
		return out
	}
	if r.State != RolloutRunning {
		return nil
	}
	for id, t := range r.targets() {
		put(id, t)
	}
	return out
}

// seen tells the step function of one device of the running wave, which is to
// run t; c.mu is held.
func (c *Controller) seen(t Target, id inventory.DeviceID) Seen {
	d := c.devices[id]
	switch {
	case d == nil || !d.declared:
		return Seen{Phase: PhaseOffline}
	case !d.status.Target.equal(t):
		return Seen{}
	case d.status.InSync() && d.looked:
		return Seen{Phase: PhaseDone}
	case c.adriftIn(d):
		return Seen{PhaseFailed, fmt.Sprintf("%s: changed by somebody else meanwhile, drift %s", id, c.drifts[id].ID)}
	case d.failed != "":
		return Seen{PhaseFailed, fmt.Sprintf("%s: %s", id, d.failed)}
	case d.looked && !d.status.Online && d.status.Commit == "":
		return Seen{Phase: PhaseOffline}
	}
	return Seen{} // a device that is gone after a push is in doubt, not offline
}

func (c *Controller) limits() Limits {
	return Limits{Wave: c.cfg.Wave, Grace: c.cfg.Grace, Pending: c.cfg.Pending}
}

// open returns the rollout under way or nil; c.mu is held.
func (c *Controller) open() *Rollout {
	for _, r := range c.rollouts {
		if r.Open() {
			return r
		}
	}
	return nil
}

// put replaces or appends r; c.mu is held.
func (c *Controller) put(r Rollout) {
	for i, o := range c.rollouts {
		if o.ID == r.ID {
			c.rollouts[i] = &r
			return
		}
	}
	c.rollouts = append(c.rollouts, &r)
}

// replace shows new counts without storing them: they follow from the rows.
func (c *Controller) replace(r Rollout) {
	c.mu.Lock()
	c.put(r)
	c.mu.Unlock()
	c.emit(Event{Rollout: &r})
}

// approved says whether revision r.Revision may go out. A return needs no
// approval of its own: its content had one.
func (c *Controller) approved(ctx context.Context, r Rollout) error {
	if c.cfg.NoApproval || r.Returns != "" {
		return nil
	}
	rev, err := c.deps.Revisions.Get(ctx, r.Revision)
	if err != nil {
		return fmt.Errorf("read revision %d: %w", r.Revision, err)
	}
	approvals, err := c.deps.Approvals.ApprovalsOf(ctx, r.Revision)
	if err != nil {
		return fmt.Errorf("read the approvals of revision %d: %w", r.Revision, err)
	}
	why := fmt.Errorf("revision %d is not approved; another person than %s must approve it", r.Revision, rev.Author)
	for _, a := range approvals {
		if why = a.Valid(rev, time.Now()); why == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", ErrHeld, why)
}

// inForce gives what is assigned to each device; c.mu is held.
func (c *Controller) inForce() map[inventory.DeviceID]Want {
	out := make(map[inventory.DeviceID]Want, len(c.devices))
	for id, d := range c.devices {
		if d.want != nil {
			out[id] = *d.want
		}
	}
	return out
}

// newRollout makes the rollout of a plan.
func (c *Controller) newRollout(p Plan, author string) (Rollout, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Rollout{}, fmt.Errorf("make a rollout id: %w", err)
	}
	r := Rollout{ID: id.String(), Revision: p.Revision, Author: author, State: RolloutRunning, Started: time.Now().UTC()}
	for _, w := range p.Waves {
		r.Waves = append(r.Waves, Wave{Name: w.Name, Devices: w.Devices, Additions: w.Additions, State: WaveWaiting})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Base = c.base()
	for _, d := range p.Devices {
		if d.Staged {
			if r.Keep == nil {
				r.Keep = map[inventory.DeviceID][]intent.Number{}
			}
			r.Keep[d.Device] = c.devices[d.Device].status.Target.revisions()
		}
	}
	return r, nil
}

// base is the revision that was last in force everywhere; c.mu is held.
func (c *Controller) base() intent.Number {
	for _, r := range slices.Backward(c.rollouts) {
		if r.State == RolloutDone {
			return r.Revision
		}
	}
	return 0
}
