package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Plan says what revision n would change, as things stand now, with the proof of
// the revision and with what it newly lets pass and newly stops.
func (c *Controller) Plan(ctx context.Context, n intent.Number) (Plan, error) {
	if err := c.Load(ctx); err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	start := time.Now()
	p, err := c.plan(ctx, n)
	if err != nil {
		return Plan{}, err
	}
	p.Compiled = time.Since(start)
	proving := time.Now()
	if p.Proof, err = c.Prove(ctx, n); err != nil {
		return p, err
	}
	if err := c.between(ctx, &p); err != nil {
		return p, err
	}
	if p.Proof.Why == "" {
		if err := c.compare(ctx, &p); err != nil {
			p.Incomparable = err.Error()
		}
	}
	p.Proven, p.Took = time.Since(proving), time.Since(start)
	return p, nil
}

// plan is Plan once everything is loaded.
func (c *Controller) plan(ctx context.Context, n intent.Number) (Plan, error) {
	to, err := c.compile(ctx, n, false)
	if err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	c.mu.Lock()
	from, base := c.inForce(), c.base()
	c.mu.Unlock()
	p := MakePlan(from, to)
	p.Base = base
	if base != 0 {
		of, err := c.compile(ctx, base, false)
		if err != nil {
			return Plan{}, fmt.Errorf("plan: %w", err)
		}
		p.because(c.runs(of), to)
	}
	c.tellLimits(ctx, &p, to)
	p.Drifts = c.overwrites(p, to)
	return p, nil
}

// runs gives the revision that a device is to run now, where it is compiled, and
// base where it is not.
func (c *Controller) runs(base *Compiled) func(inventory.DeviceID) *Compiled {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := make(map[inventory.DeviceID]*Compiled, len(c.devices))
	for id, d := range c.devices {
		if to := c.compiled[d.status.Target.Revision]; to != nil {
			of[id] = to
		}
	}
	return func(id inventory.DeviceID) *Compiled { return cmp.Or(of[id], base) }
}

// between fills in what is true of the states between the waves of p: sites that
// are cut off meanwhile, and what boxes that hold the old beside the new must say
// and hear and do not, as counterexamples of the proof.
func (c *Controller) between(ctx context.Context, p *Plan) error {
	to, err := c.compile(ctx, p.Revision, false)
	if err != nil {
		return err
	}
	c.mu.Lock()
	from := c.inForce()
	c.mu.Unlock()
	p.Interims = interims(*p, from, to, func(id inventory.DeviceID) edge.Config {
		return keepOld(to.Devices[id].Config, from[id].Config)
	})
	found, err := stepFindings(*p, from, to)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		p.Proof.Unreached, p.Proof.Holds = slices.Concat(p.Proof.Unreached, found), false
	}
	return nil
}

// stepwise are the findings of a plan that was not proven but for its steps.
func stepwise(p Plan) (out []string) {
	for _, x := range p.Proof.Unreached {
		out = append(out, x.String())
	}
	return out
}

// StartRollout begins to bring revision n out. It wraps [ErrHeld] when the
// revision is not approved and [inventory.ErrConflict] when it is older than
// what is out already, or a return is under way; it is an [*UnprovenError] when
// the proof does not hold and no waiver covers it. An open rollout of an older
// revision is superseded.
func (c *Controller) StartRollout(ctx context.Context, n intent.Number, by string) (Rollout, error) {
	return c.startRollout(ctx, n, by, "")
}

// StartUrgent is StartRollout that waits for no maintenance window; why is told
// with the rollout.
func (c *Controller) StartUrgent(ctx context.Context, n intent.Number, by, why string) (Rollout, error) {
	if why == "" {
		return Rollout{}, fmt.Errorf("start rollout: %w: say why it cannot wait for the maintenance window", inventory.ErrInvalid)
	}
	return c.startRollout(ctx, n, by, why)
}

func (c *Controller) startRollout(ctx context.Context, n intent.Number, by, urgent string) (Rollout, error) {
	if _, err := c.Prove(ctx, n); err != nil { // it takes seconds: not with commands held
		return Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	c.commands.Lock()
	defer c.commands.Unlock()
	if err := c.load(ctx); err != nil {
		return Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	c.mu.Lock()
	err := c.mayStart(n)
	c.mu.Unlock()
	if err != nil {
		return Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	p, err := c.plan(ctx, n)
	if err == nil {
		err = c.between(ctx, &p)
	}
	if err != nil {
		return Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	if err := errors.Join(c.cleared(ctx, Rollout{Revision: n}, stepwise(p)...), c.approved(ctx, Rollout{Revision: n})); err != nil {
		return Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	r, err := c.begin(ctx, n, by, "", urgent)
	if err != nil {
		return Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	return r, nil
}

// mayStart checks the order of revisions; c.mu is held.
func (c *Controller) mayStart(n intent.Number) error {
	for _, r := range c.rollouts {
		switch {
		case r.State == RolloutReturning:
			return fmt.Errorf("%w: rollout %s is being taken back; wait for it or abort the return", inventory.ErrConflict, r.ID)
		case r.Revision > n, r.Revision == n && r.Open():
			return fmt.Errorf("%w: revision %d is out already (%s); make a new revision", inventory.ErrConflict, r.Revision, r.State)
		case r.Revision == n && r.State == RolloutDone:
			return fmt.Errorf("%w: revision %d is in force", inventory.ErrConflict, n)
		}
	}
	return nil
}

// begin plans and stores a new rollout; c.commands is held.
func (c *Controller) begin(ctx context.Context, n intent.Number, by, returns, urgent string) (Rollout, error) {
	if _, err := c.compile(ctx, n, true); err != nil {
		return Rollout{}, err
	}
	plan, err := c.plan(ctx, n)
	if err != nil {
		return Rollout{}, err
	}
	r, err := c.newRollout(plan, by)
	if err != nil {
		return Rollout{}, err
	}
	r.Returns, r.Urgent = returns, urgent
	for _, d := range plan.Drifts {
		if returns == "" { // nobody looked at the plan of a return
			r.Over = append(r.Over, d.ID)
		}
	}
	c.mu.Lock()
	old := c.open()
	c.mu.Unlock()
	if old != nil {
		o := *old
		o.State, o.Reason, o.Ended, o.ETA = RolloutAborted, fmt.Sprintf("superseded by revision %d", n), r.Started, time.Time{}
		if err := c.commit(ctx, o); err != nil {
			return Rollout{}, err
		}
		c.stateReached(ctx, o)
	}
	if err := c.commit(ctx, r); err != nil {
		return Rollout{}, err
	}
	c.budget()
	c.stateReached(ctx, r)
	signal(c.kick)
	return r, nil
}

// Pause stops the open rollout from admitting or pushing to more devices.
func (c *Controller) Pause(ctx context.Context, id, by string) (Rollout, error) {
	return c.command(ctx, id, "pause", []RolloutState{RolloutRunning}, func(r *Rollout) {
		r.State, r.Reason, r.ETA = RolloutPaused, "paused by "+by, time.Time{}
	})
}

// Resume lets a paused rollout go on. A wave none of whose devices is
// reachable is then passed over; they get the revision when they return.
func (c *Controller) Resume(ctx context.Context, id, by string) (Rollout, error) {
	return c.command(ctx, id, "resume", []RolloutState{RolloutPaused}, func(r *Rollout) {
		r.State, r.Reason = RolloutRunning, "resumed by "+by
		r.Waves = slices.Clone(r.Waves)
		for i := range r.Waves {
			if w := &r.Waves[i]; w.State == WaveRunning {
				w.Accepted = w.Done == 0 && w.Pending > 0
				w.Started = time.Now().UTC() // its time limits begin anew
			}
		}
	})
}

// Abort ends an open rollout for good. What is confirmed stays; what is not
// reverts by itself.
func (c *Controller) Abort(ctx context.Context, id, by string) (Rollout, error) {
	return c.command(ctx, id, "abort", []RolloutState{RolloutRunning, RolloutPaused}, func(r *Rollout) {
		r.State, r.Reason, r.Ended, r.ETA = RolloutAborted, "aborted by "+by, time.Now().UTC(), time.Time{}
	})
}

func (c *Controller) command(ctx context.Context, id, verb string, from []RolloutState, change func(*Rollout)) (Rollout, error) {
	c.commands.Lock()
	defer c.commands.Unlock()
	if err := c.load(ctx); err != nil {
		return Rollout{}, fmt.Errorf("%s rollout: %w", verb, err)
	}
	r, err := c.Rollout(id)
	if err != nil {
		return Rollout{}, fmt.Errorf("%s rollout: %w", verb, err)
	}
	if !slices.Contains(from, r.State) {
		return Rollout{}, fmt.Errorf("%s rollout %s: %w: it is %s", verb, id, inventory.ErrConflict, r.State)
	}
	change(&r)
	if err := c.commit(ctx, r); err != nil {
		return Rollout{}, fmt.Errorf("%s rollout: %w", verb, err)
	}
	c.stateReached(ctx, r)
	c.wakeAll(r)
	signal(c.kick)
	return r, nil
}

// wakeAll wakes the devices of r that may have been held.
func (c *Controller) wakeAll(r Rollout) {
	for _, w := range r.Waves {
		if w.State == WaveRunning {
			for _, id := range w.Devices {
				c.poke(id)
			}
		}
	}
}

// Look asks for a pass over id now, for what it runs may have changed.
func (c *Controller) Look(id inventory.DeviceID) { c.poke(id) }

// poke wakes a device without taking its session for a new one.
func (c *Controller) poke(id inventory.DeviceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.devices[id]; d != nil {
		signal(d.wake)
	}
}

// Journal returns what was pushed in a rollout, oldest first.
func (c *Controller) Journal(ctx context.Context, id string) ([]Entry, error) {
	entries, err := c.deps.Store.Entries(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("journal of rollout %s: %w", id, err)
	}
	return entries, nil
}

// Rollout returns one rollout, or wraps [inventory.ErrNotFound].
func (c *Controller) Rollout(id string) (Rollout, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rollouts {
		if r.ID == id {
			return *r, nil
		}
	}
	return Rollout{}, fmt.Errorf("rollout %q: %w", id, inventory.ErrNotFound)
}

// Rollouts returns all rollouts, newest first.
func (c *Controller) Rollouts() []Rollout {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Rollout, 0, len(c.rollouts))
	for _, r := range slices.Backward(c.rollouts) {
		out = append(out, *r)
	}
	return out
}

// InForce returns the revision last rolled out everywhere; 0: none.
func (c *Controller) InForce() intent.Number {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base()
}

// stateReached counts and, where nobody asked for it, records a new state.
func (c *Controller) stateReached(ctx context.Context, r Rollout) {
	c.metrics.rollouts.WithLabelValues(string(r.State)).Inc()
	done, total := r.Progress()
	c.deps.Log.InfoContext(ctx, "rollout", "rollout", r.ID, "rev", r.Revision, "state", r.State, "done", done, "total", total, "reason", r.Reason)
	switch r.State {
	case RolloutHalted, RolloutReturning:
		c.audit(ctx, "rollout.halted", r.ID, r.Reason)
	case RolloutPaused:
		c.audit(ctx, "rollout.paused", r.ID, r.Reason)
	}
}

// audit records what the controller did; that it cannot is said.
func (c *Controller) audit(ctx context.Context, what, object, reason string) {
	if err := c.deps.Audit(ctx, what, object, reason); err != nil {
		c.deps.Log.ErrorContext(ctx, "audit entry not kept", "step", what, "object", object, "err", err)
	}
}
