package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// hubTolerance is the ratio of a hub's demanded tunnels that may stay down
// after the settling time: among hundreds of wards some circuit always fails.
const hubTolerance = 0.02

// verify reads back what is in force and waits until the tunnels, and a router's
// BGP sessions, that can be up are up, or ctx ends.
func (c *Controller) verify(ctx context.Context, d *device, dev Driver, p push) error {
	got, err := dev.Running(ctx)
	if err != nil {
		return err
	}
	if h := got.Config.Hash(); got.Hash != p.want.Hash || h != p.want.Hash {
		// The device may have taken it back before we looked: then it says why.
		if state, err := dev.State(ctx); err == nil && took(state, p.commit, "") != "" {
			return fmt.Errorf("the device has reverted by itself: %s (it runs %.12s)", took(state, p.commit, ""), state.Hash)
		}
		return fmt.Errorf("read-back: the device runs %.12s (says %.12s), wanted is %.12s: %s", h, got.Hash, p.want.Hash, Drift{Changes: driftLines(p.want.Config, got.Config), Have: h, Want: p.want.Hash}.first())
	}
	c.archive(ctx, d, dev, got, p.commit)
	tick := time.NewTicker(c.cfg.Poll)
	defer tick.Stop()
	start, woken := time.Now(), false
	defer func() {
		if woken { // whatever woke us is still to be looked at
			signal(d.wake)
		}
	}()
	var down map[string]edge.Tunnel
	var silent map[string]bool
	for {
		state, err := c.look(ctx, d, dev)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil && state.Pending != p.commit:
			return fmt.Errorf("the device has reverted by itself: %s (it runs %.12s)", took(state, p.commit, "its health contract failed"), state.Hash)
		}
		if err == nil || down == nil { // where time ran out while asking, the last answer counts
			down, silent = c.demanded(d, p), c.sessions(p)
			judge(down, state.Tunnels)
			established(silent, state.Tunnels)
		}
		if len(silent) == 0 && (len(down) == 0 || err == nil && time.Since(start) >= c.cfg.Settle && tolerable(p.want.Config, state, down)) {
			return nil
		}
		select {
		case <-ctx.Done():
			if len(silent) > 0 {
				return fmt.Errorf("%d BGP sessions are not established (%s); see whether the link to the hub is up and both ends have each other's address and AS number: %w", len(silent), some(silent), context.Cause(ctx))
			}
			return fmt.Errorf("%d tunnels do not come up (%s): %w", len(down), some(down), context.Cause(ctx))
		case <-d.wake: // credentials must not wait for a slow verification
			woken = true
			if err := c.setCredentials(ctx, d, dev); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
}

// took says why the device took the commit back, with the failed checks of its
// health contract; or else, when it says nothing of this commit.
func took(state edge.State, commit edge.CommitID, otherwise string) string {
	if r := state.LastRevert; r != nil && r.Commit == commit {
		return r.String()
	}
	return otherwise
}

// carries says whether a tunnel carries traffic: keys agreed, BFD up, routes
// exchanged.
func carries(t edge.TunnelState) bool { return t.Up && t.BFD && t.BGP }

// judge takes the tunnels that carry traffic out of down.
func judge(down map[string]edge.Tunnel, seen []edge.TunnelState) {
	for _, t := range seen {
		if carries(t) {
			delete(down, t.Name)
		}
	}
}

// demanded lists the tunnels of a push that must be up: those whose peer is in
// sync, has the other end in its own config, and where both ends have each
// other's key. What was there and down before the push is not asked for.
func (c *Controller) demanded(d *device, p push) map[string]edge.Tunnel {
	had := make(map[string]bool, len(p.have.Tunnels))
	for _, t := range p.have.Tunnels {
		had[t.Name] = true
	}
	out := make(map[string]edge.Tunnel, len(p.want.Config.Tunnels))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range p.want.Config.Tunnels {
		if had[t.Name] && p.before != nil && !p.before[t.Name] {
			continue
		}
		peer := c.devices[t.Peer]
		if peer == nil || !peer.status.Online || !peer.status.InSync() || !mirrored(t, peer.want) || !c.acquainted(d, peer) {
			continue
		}
		out[t.Name] = t
	}
	return out
}

// mirrored says whether peer's config holds the other end of t.
func mirrored(t edge.Tunnel, peer *Want) bool {
	i, ok := slices.BinarySearchFunc(peer.Config.Tunnels, t.Name, func(e edge.Tunnel, name string) int {
		return strings.Compare(e.Name, name)
	})
	if !ok {
		return false
	}
	o := peer.Config.Tunnels[i]
	return o.Remote == t.Local.Addr() && o.Local.Addr() == t.Remote
}

// acquainted says whether both ends hold each other's current key; c.mu is
// held. Without a source of keys there is nothing to ask for.
func (c *Controller) acquainted(a, b *device) bool {
	if c.deps.Keys == nil {
		return true
	}
	has := func(at, of *device) bool { return c.keys[of.id] != "" && at.set[of.id] == c.keys[of.id] }
	return has(a, b) && has(b, a)
}

// tolerable judges what is still down after the settling time. An edge may
// lack circuits that are dead altogether, as long as it reaches every peer by
// another; a hub may lack a few.
func tolerable(want edge.Config, state edge.State, down map[string]edge.Tunnel) bool {
	if want.Role == inventory.RoleHub {
		return float64(len(down)) <= max(1, hubTolerance*float64(len(want.Tunnels)))
	}
	up := map[string]bool{}
	for _, t := range state.Tunnels {
		up[t.Name] = carries(t)
	}
	circuit, peer := map[string]bool{}, map[inventory.DeviceID]bool{}
	for _, t := range want.Tunnels {
		if up[t.Name] {
			circuit[t.Circuit], peer[t.Peer] = true, true
		}
	}
	for _, t := range down {
		if circuit[t.Circuit] || !peer[t.Peer] {
			return false
		}
	}
	return true
}

// some names a few tunnels or sessions.
func some[V any](down map[string]V) string {
	list := slices.Sorted(maps.Keys(down))
	if len(list) > 3 {
		return fmt.Sprintf("%s, %s, %s and %d more", list[0], list[1], list[2], len(list)-3)
	}
	return strings.Join(list, ", ")
}
