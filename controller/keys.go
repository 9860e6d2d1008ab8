package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

const (
	keysEvery = 5 * time.Second // look at the epoch even when nobody tells of a change
	keysPause = time.Second     // at most one set per device within it
	// keysAgain is when a set that has not changed is said again: a hub takes
	// one that it has not heard of for 24 h for old.
	keysAgain = 8 * time.Hour
)

// KeysChanged says that the epoch of the WireGuard keys has risen. It never
// blocks; a burst of calls costs each device one set a second.
func (c *Controller) KeysChanged() { signal(c.keyed) }

// keysLoop spreads the public keys to the devices they concern.
func (c *Controller) keysLoop(ctx context.Context) {
	if c.deps.Keys == nil {
		return
	}
	failing := ""
	for {
		epoch, keys, err := c.deps.Keys(ctx)
		switch {
		case err != nil && ctx.Err() == nil && err.Error() != failing:
			failing = err.Error()
			c.deps.Log.WarnContext(ctx, "cannot read the WireGuard keys", "err", err)
		case err == nil:
			failing = ""
			c.mu.Lock()
			if epoch != c.keyEpoch {
				c.keyEpoch, c.keys = epoch, keys
				c.spreadKeys()
			}
			c.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(keysPause):
		}
		select {
		case <-ctx.Done():
			return
		case <-c.keyed:
		case <-time.After(keysEvery):
		}
	}
}

// spreadKeys works out what each device should hold and wakes those that lack
// it: a hub gets every other device's key, an edge the hubs' keys. c.mu is
// held.
func (c *Controller) spreadKeys() {
	if c.keyEpoch == 0 {
		return
	}
	hubs := map[inventory.DeviceID]string{}
	for id, k := range c.keys {
		if d := c.devices[id]; d != nil && d.role == inventory.RoleHub {
			hubs[id] = k
		}
	}
	for id, d := range c.devices {
		due := hubs // one for all edges: it is never written to
		if d.role == inventory.RoleHub {
			due = maps.Clone(c.keys)
			delete(due, id)
		}
		if d.due != nil && maps.Equal(due, d.due) {
			continue
		}
		d.due, d.dueEpoch = due, c.keyEpoch
		signal(d.wake)
	}
}

// setCredentials fills the device's set of peers when this session has not
// seen it yet. It passes no gate: the set stays inside what the device's
// config names, and shrinking it never waits (design §1).
func (c *Controller) setCredentials(ctx context.Context, d *device, dev Driver) error {
	c.mu.Lock()
	if d.fresh { // a new session may be of a device that lost its disk
		d.fresh, d.set, d.refused = false, nil, 0
	}
	due, epoch := d.due, d.dueEpoch
	done := due == nil || d.refused == epoch || d.set != nil && maps.Equal(d.set, due) && time.Since(d.setAt) < keysAgain
	c.mu.Unlock()
	to, ok := dev.(Credentialer)
	if !ok || done {
		return nil
	}
	err := to.SetCredentials(ctx, edge.Credentials{Epoch: epoch, At: time.Now().UTC(), Keys: due})
	if errors.Is(err, edge.ErrRejected) { // the next epoch may do; the config does not wait for it
		c.deps.Log.ErrorContext(ctx, "credentials refused", "device", d.id, "epoch", epoch, "err", err)
		c.mu.Lock()
		d.refused = epoch
		c.mu.Unlock()
		return nil
	}
	if err != nil {
		return fmt.Errorf("set credentials of epoch %d: %w", epoch, err)
	}
	c.metrics.credentials.Inc()
	c.mu.Lock()
	d.set, d.setAt, d.status.Epoch = due, time.Now(), epoch
	c.mu.Unlock()
	return nil
}
