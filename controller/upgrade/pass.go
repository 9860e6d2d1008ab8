package upgrade

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// callTimeout bounds one question or order to a device, transfers aside.
const callTimeout = 20 * time.Second

// pass brings one device as far as it goes now. It looks at what the device
// says, never at what was done before.
func (c *Conductor) pass(ctx context.Context, e *entry, id inventory.DeviceID, d *device) error {
	installed := false
	for {
		agent, err := c.deps.Dial(ctx, id)
		if err != nil {
			return err
		}
		row, act, err := c.look(ctx, e, d, agent, installed)
		if err != nil {
			return err
		}
		switch act {
		case Nothing:
			if row.Phase != Trying {
				return nil
			}
		case Install:
			if err := c.install(ctx, e, d, agent); err != nil {
				return err
			}
			installed = true
			continue
		case Activate, Confirm:
			if err := c.order(ctx, e, d, row, agent, act); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(c.cfg.Poll):
		}
	}
}

// look asks the device, decides, and stores what follows.
func (c *Conductor) look(ctx context.Context, e *entry, d *device, agent Agent, installed bool) (Device, Action, error) {
	fail := func(err error) (Device, Action, error) { return Device{}, Nothing, err }
	report, err := c.verify(ctx, agent)
	switch {
	case errors.Is(err, edge.ErrRejected):
		return fail(c.refused(ctx, e, d, err))
	case err != nil:
		return fail(err)
	}
	c.mu.Lock()
	d.online, d.answered = true, time.Now()
	row := d.Device
	s := Sight{Want: d.version, Report: report, Installed: installed, Accepted: d.accepted}
	c.mu.Unlock()
	if installed && report.Pending == "" || row.Phase == Trying && report.Pending == row.Commit && report.Version == d.version {
		if s.Health, err = c.health(ctx, row.Device); err != nil {
			return fail(err)
		}
	}
	fresh, err := uuid.NewV7()
	if err != nil {
		return fail(err)
	}
	s.Fresh = edge.CommitID(fresh.String())
	return c.decide(ctx, e, d, s)
}

func (c *Conductor) health(ctx context.Context, id inventory.DeviceID) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h, err := c.deps.Health(ctx, id)
	if err != nil {
		return h, fmt.Errorf("%s: read its health: %w", id, err)
	}
	return h, nil
}

func (c *Conductor) verify(ctx context.Context, agent Agent) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return agent.Verify(ctx)
}

// decide makes the row's next state durable before anything is done for it.
func (c *Conductor) decide(ctx context.Context, e *entry, d *device, s Sight) (Device, Action, error) {
	c.commands.Lock()
	defer c.commands.Unlock()
	if ctx.Err() != nil { // stopped while it asked
		return Device{}, Nothing, context.Cause(ctx)
	}
	c.mu.Lock()
	row, r := d.Device, e.Rollout
	s.Leave = r.Leave()
	c.mu.Unlock()
	next, act := row.Decide(time.Now().UTC(), s, c.cfg.limits())
	if next.differs(row) {
		if err := c.save(ctx, e, r, next); err != nil {
			return Device{}, Nothing, err
		}
		signal(c.kick)
	}
	return next, act, nil
}

// refused ends the device's part: it will say no the next time too. A try under
// way ends by itself, and is judged by how.
func (c *Conductor) refused(ctx context.Context, e *entry, d *device, why error) error {
	c.commands.Lock()
	defer c.commands.Unlock()
	c.mu.Lock()
	row, r := d.Device, e.Rollout
	c.mu.Unlock()
	if row.Phase.Final() || row.Phase == Trying || r.Leave() != Go {
		return why
	}
	row = row.end(time.Now().UTC(), Go, why.Error())
	signal(c.kick)
	return errors.Join(why, c.save(ctx, e, r, row))
}

// install brings the binary to the device, when it is its turn.
func (c *Conductor) install(ctx context.Context, e *entry, d *device, agent Agent) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	report, err := c.verify(ctx, agent) // it may have waited for long
	if err != nil {
		return err
	}
	b, err := c.binary(ctx, d.version, report.GOARCH)
	if err != nil {
		return c.refused(ctx, e, d, err)
	}
	f, err := c.deps.Shelf.Open(b.SHA256)
	if err != nil {
		return c.refused(ctx, e, d, err)
	}
	defer f.Close()
	err = agent.Install(ctx, b.Release, f, func(sent int64) {
		c.mu.Lock()
		if sent > d.sent && d.size != 0 {
			c.metrics.sent.Add(float64(sent - d.sent))
		}
		d.sent, d.size = sent, b.Size
		c.mu.Unlock()
	})
	if errors.Is(err, edge.ErrRejected) {
		return c.refused(ctx, e, d, err)
	}
	return err
}

// order sends what was decided, unless the rollout has ended or holds since. A
// device that refuses to try ends its part; one that refuses a confirmation has
// gone back, and says so when it is asked.
func (c *Conductor) order(ctx context.Context, e *entry, d *device, row Device, agent Agent, act Action) error {
	c.mu.Lock()
	leave := e.Leave()
	c.mu.Unlock()
	if leave == Stop || act == Activate && leave != Go {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if act == Confirm {
		err := agent.Confirm(call, row.Commit)
		if errors.Is(err, edge.ErrRejected) {
			return nil
		}
		return err
	}
	c.deps.Log.InfoContext(ctx, "trying agent", "device", row.Device, "from", row.From, "to", d.version, "commit", row.Commit)
	err := agent.Activate(call, d.version, row.Commit, c.cfg.Revert)
	c.commands.Lock()
	defer c.commands.Unlock()
	c.mu.Lock()
	r := e.Rollout
	if err == nil {
		d.accepted++
	}
	c.mu.Unlock()
	switch {
	case errors.Is(err, edge.ErrRejected):
		signal(c.kick)
		return errors.Join(err, c.save(ctx, e, r, row.end(time.Now().UTC(), r.Leave(), err.Error())))
	case errors.Is(err, ErrBusy):
		return errors.Join(err, c.save(ctx, e, r, row.shelve(err.Error())))
	}
	return err
}

// ended notes how a pass ended and when the next may begin.
func (c *Conductor) ended(ctx context.Context, d *device, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.busy, d.sent, d.size = false, 0, 0
	now := time.Now()
	switch {
	case err == nil, ctx.Err() != nil:
		d.fails, d.next = 0, now.Add(again)
		if ctx.Err() != nil {
			d.next = now
		}
	case errors.Is(err, edge.ErrUnreachable):
		d.fails, d.online, d.next = 0, false, now.Add(again)
		if d.Phase == Trying { // it is on its way back
			d.next = now.Add(c.cfg.Poll)
		}
	default:
		d.fails++
		d.next = now.Add(backoff(d.fails))
		if !d.Phase.Final() {
			c.deps.Log.WarnContext(ctx, "agent upgrade: pass failed", "device", d.Device.Device, "after", d.next.Sub(now), "err", err)
		}
	}
	signal(c.kick)
}

// backoff grows 1 s, 2 s, 4 s … up to a minute, spread by ±50 %.
func backoff(n int) time.Duration {
	d := min(time.Second<<min(n-1, 20), time.Minute)
	return d/2 + rand.N(d)
}
