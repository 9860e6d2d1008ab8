package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// again is the pause before a device that had nothing to do is looked at again.
const again = 10 * time.Second

// Run works until ctx ends and returns its cause. It adopts what an earlier
// process left under way.
func (c *Conductor) Run(ctx context.Context) error {
	if err := c.Load(ctx); err != nil {
		return err
	}
	defer c.wg.Wait()
	c.mu.Lock()
	c.started = time.Now()
	c.mu.Unlock()
	said := ""
	for {
		err := c.advance(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != said {
			c.deps.Log.ErrorContext(ctx, "agent rollout cannot go on", "err", err)
		}
		said = fmt.Sprint(err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.kick:
		case <-time.After(time.Second):
		}
	}
}

// Wake says that the device's session came up.
func (c *Conductor) Wake(id inventory.DeviceID) { c.news(id, func(d *device) { d.next = time.Time{} }) }

// Down says that the device's session has ended.
func (c *Conductor) Down(id inventory.DeviceID) { c.news(id, func(d *device) { d.online = false }) }

func (c *Conductor) news(id inventory.DeviceID, note func(*device)) {
	c.mu.Lock()
	concerned := false
	for _, e := range c.rollouts {
		if d := e.devices[id]; d != nil && !d.Phase.Final() {
			note(d)
			concerned = true
		}
	}
	c.mu.Unlock()
	if concerned {
		signal(c.kick)
	}
}

// advance does all that can be done now.
func (c *Conductor) advance(ctx context.Context) error {
	c.commands.Lock()
	defer c.commands.Unlock()
	var errs []error
	for _, e := range c.entries() {
		errs = append(errs, c.settle(ctx, e), c.step(ctx, e))
	}
	c.admit(ctx)
	c.gauge()
	return errors.Join(errs...)
}

// entries lists the rollouts with something left to do, newest first.
func (c *Conductor) entries() []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*entry
	for _, e := range slices.Backward(c.rollouts) {
		if e.Open() || e.trying() != "" {
			out = append(out, e)
		}
	}
	return out
}

// trying is a device of e that is on trial, or "".
func (e *entry) trying() inventory.DeviceID {
	for id, d := range e.devices {
		if d.Phase == Trying {
			return id
		}
	}
	return ""
}

// settle ends the parts of devices that were not heard of again or that a newer
// rollout has; c.commands is held.
func (c *Conductor) settle(ctx context.Context, e *entry) error {
	now := time.Now().UTC()
	c.mu.Lock()
	var rows []Device
	for id, d := range e.devices {
		row := d.Device
		switch {
		case row.Phase.Final() || d.busy && d.online:
			continue
		case row.Phase != Trying && c.newer(e, id):
			row.Phase, row.Ended, row.Error = Superseded, now, "a newer rollout has the device"
		default:
			row = row.missing(now, later(c.started, d.answered), Sight{Want: e.Version, Leave: e.Leave()}, c.cfg.limits())
		}
		if row.differs(d.Device) {
			rows = append(rows, row)
		}
	}
	r := e.Rollout
	c.mu.Unlock()
	if rows == nil {
		return nil
	}
	return c.save(ctx, e, r, rows...)
}

// newer says whether a rollout after e has the device; c.mu is held.
func (c *Conductor) newer(e *entry, id inventory.DeviceID) bool {
	for _, o := range slices.Backward(c.rollouts) {
		if o == e {
			return false
		}
		if o.devices[id] != nil {
			return true
		}
	}
	return false
}

// step moves one rollout on as far as it goes; c.commands is held.
func (c *Conductor) step(ctx context.Context, e *entry) error {
	for {
		now := time.Now().UTC()
		c.mu.Lock()
		was := e.Rollout
		next := was.Step(now, e.seen, c.cfg.limits())
		if !next.moved(was) {
			e.Rollout = next // the counts follow from the rows
			c.mu.Unlock()
			return nil
		}
		rows := e.closing(now, next)
		c.mu.Unlock()
		if err := c.save(ctx, e, next, rows...); err != nil {
			return err
		}
	}
}

func (e *entry) seen(id inventory.DeviceID) Seen {
	d := e.devices[id]
	if d == nil {
		return Seen{Phase: Skipped}
	}
	return Seen{Phase: d.Phase, Online: d.online, Began: d.Began, Error: d.Error}
}

// closing are the rows that end with the rollout when it becomes next: those
// that are not on trial; c.mu is held.
func (e *entry) closing(now time.Time, next Rollout) (rows []Device) {
	if next.Open() {
		return nil
	}
	for _, d := range e.devices {
		row := d.Device
		if row.Phase.Final() || row.Phase == Trying {
			continue
		}
		row.Phase, row.Ended = Skipped, now
		if next.State == Complete {
			row.Phase, row.Error = Expired, "not reachable until the deadline"
		}
		rows = append(rows, row)
	}
	return rows
}

// save stores r with rows, puts them in force and tells of what they mean;
// c.commands is held.
func (c *Conductor) save(ctx context.Context, e *entry, r Rollout, rows ...Device) error {
	if err := c.deps.Store.Save(ctx, r, rows...); err != nil {
		return fmt.Errorf("store agent rollout %s: %w", r.ID, err)
	}
	c.mu.Lock()
	was := e.Rollout
	e.Rollout = r
	for _, row := range rows {
		e.devices[row.Device].Device = row
	}
	for _, d := range e.devices {
		if d.busy && (d.Phase.Final() || d.Phase != Trying && r.Leave() != Go) {
			d.stop(errOver)
		}
	}
	c.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // it may be that of a pass which has just ended
	for _, row := range rows {
		c.tell(ctx, r, row)
	}
	if r.State != was.State {
		c.stateReached(ctx, r)
	}
	return nil
}

// errOver stops a pass: the device's part has ended or is held.
var errOver = errors.New("the rollout holds or has ended")

// tell counts, logs and audits what became of one device.
func (c *Conductor) tell(ctx context.Context, r Rollout, d Device) {
	if !d.Phase.Final() {
		return
	}
	c.metrics.outcomes.WithLabelValues(string(d.Phase)).Inc()
	switch d.Phase {
	case Done:
		if d.Commit == "" {
			return // it ran the version before
		}
		c.metrics.tries.Observe(d.Ended.Sub(d.Tried).Seconds())
		c.deps.Log.InfoContext(ctx, "agent upgraded", "device", d.Device, "from", d.From, "to", r.Version)
		c.deps.Audit(ctx, "agent.upgraded", string(d.Device), fmt.Sprintf("from %s to %s (rollout %s)", d.From, r.Version, r.ID))
	case Failed, Returned:
		c.deps.Log.WarnContext(ctx, "agent not upgraded", "device", d.Device, "to", r.Version, "state", d.Phase, "reason", d.Error)
		c.deps.Audit(ctx, "agent."+string(d.Phase), string(d.Device), fmt.Sprintf("%s (rollout %s)", d.Error, r.ID))
	}
}

func (c *Conductor) stateReached(ctx context.Context, r Rollout) {
	c.metrics.rollouts.WithLabelValues(string(r.State)).Inc()
	done, total := r.Progress()
	c.deps.Log.InfoContext(ctx, "agent rollout", "rollout", r.ID, "version", r.Version, "state", r.State, "done", done, "total", total, "reason", r.Reason)
	c.deps.Audit(ctx, "agent.rollout."+string(r.State), r.ID, r.Reason)
}

// admit begins a pass for every device that may have one and has none;
// c.commands is held.
func (c *Conductor) admit(ctx context.Context) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	for _, e := range c.rollouts {
		for _, id := range e.begun() {
			d := e.devices[id]
			if d == nil || d.busy || d.Phase.Final() || now.Before(d.next) || d.Phase != Trying && (e.Leave() != Go || !c.free(d)) {
				continue
			}
			pass, stop := context.WithCancelCause(ctx)
			d.busy, d.stop = true, stop
			c.wg.Go(func() {
				err := c.pass(pass, e, id, d)
				c.ended(pass, d, err)
				stop(nil)
			})
		}
	}
}

// free says whether d may begin: a hub only while no other hub is under way, in
// any rollout; c.mu is held.
func (c *Conductor) free(d *device) bool {
	if !d.Hub {
		return true
	}
	for _, e := range c.rollouts {
		for _, o := range e.devices {
			if o.Hub && o.Device.Device != d.Device.Device && (o.busy || o.Phase == Trying) {
				return false
			}
		}
	}
	return true
}

// gauge shows where the devices of the newest rollout stand.
func (c *Conductor) gauge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := map[Phase]int{}
	if len(c.rollouts) > 0 {
		for _, d := range c.rollouts[len(c.rollouts)-1].devices {
			n[d.Phase]++
		}
	}
	for _, p := range Phases {
		c.metrics.devices.WithLabelValues(string(p)).Set(float64(n[p]))
	}
}
