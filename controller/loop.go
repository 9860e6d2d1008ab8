package controller

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// watch keeps one device in order until ctx ends.
func (c *Controller) watch(ctx context.Context, d *device) {
	fails, said := 0, ""
	for {
		start := time.Now()
		want, _ := c.assigned(d)
		res, err := c.reconcile(ctx, d)
		if ctx.Err() != nil {
			return
		}
		out, after := c.outcome(res, err, &fails)
		if c.dialled(d) {
			after = min(after, c.cfg.Look)
		}
		c.metrics.seconds.Observe(time.Since(start).Seconds())
		c.metrics.passes.WithLabelValues(out).Inc()
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && (out == "retry" || out == "terminal" || out == "held") {
			c.deps.Log.WarnContext(ctx, "pass failed", "device", d.id, "outcome", out, "after", after, "err", err)
		}
		said = text
		if out == "changed" {
			c.deps.Log.InfoContext(ctx, "converged", "device", d.id)
		}
		if err := c.concluded(ctx, d, want, out, text); err != nil && ctx.Err() == nil {
			c.deps.Log.ErrorContext(ctx, "cannot write the device row", "device", d.id, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-time.After(after):
		}
	}
}

// dialled says whether d is a router, which does not tell of what changes on it.
func (c *Controller) dialled(d *device) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return d.role == inventory.RoleRouter
}

// concluded records how a pass ended and tells the conductor.
func (c *Controller) concluded(ctx context.Context, d *device, want *Want, out, text string) error {
	err := c.observe(ctx, d, func(s *Status) {
		s.Outcome, s.Error = out, text
		s.Online = out != "offline"
	})
	c.mu.Lock()
	d.looked = true
	if out == "same" || out == "changed" {
		d.readAt = time.Now()
	}
	if out == "terminal" && d.failed == "" && d.want == want {
		d.failed = text
	}
	c.mu.Unlock()
	signal(c.kick)
	return err
}

// outcome is the only place where an error becomes a decision.
func (c *Controller) outcome(res Result, err error, fails *int) (string, time.Duration) {
	var step *StepError
	switch {
	case errors.Is(err, ErrHeld):
		*fails = 0
		return "held", c.resync() // until the rollout moves and wakes us
	case errors.Is(err, edge.ErrRejected), errors.Is(err, inventory.ErrInvalid):
		*fails = 0
		return "terminal", c.resync() // until the intent changes and wakes us
	case errors.Is(err, edge.ErrUnreachable) && errors.As(err, &step) && step.Step == "dial":
		*fails = 0
		return "offline", c.resync() // until its session comes up and wakes us
	case err != nil:
		*fails++
		return "retry", backoff(*fails, c.resync())
	}
	*fails = 0
	switch {
	case res.Idle:
		return "idle", c.resync()
	case res.Changed:
		return "changed", c.resync()
	}
	return "same", c.resync()
}

// resync is when a device is looked at again although nothing happened: no later
// than configured, and up to a fifth earlier, so that ten thousand devices that
// came back together are not read back together for ever.
func (c *Controller) resync() time.Duration { return c.cfg.Resync - rand.N(c.cfg.Resync/5+1) }

// backoff grows 1 s, 2 s, 4 s … up to most, spread by ±50 % so that a thousand
// devices behind one dead hub do not come back in step.
func backoff(n int, most time.Duration) time.Duration {
	d := min(time.Second<<min(n-1, 20), most)
	return d/2 + rand.N(d)
}

// oldestReadback is how long ago the device that was read back longest ago was,
// of those that have a session and something to run; 0: there are none.
func (c *Controller) oldestReadback() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, most := time.Now(), time.Duration(0)
	for _, d := range c.devices {
		if !d.declared || !d.status.Online || d.want == nil {
			continue
		}
		since := d.readAt
		if d.upAt.After(since) {
			since = d.upAt
		}
		most = max(most, now.Sub(since))
	}
	return most
}
