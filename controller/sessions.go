package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Limited is a driver that knows what its device lacks of what the controller
// relies on.
type Limited interface {
	// Limits says so of a device that is to run c, a sentence each, as far as is
	// known now. It asks nobody.
	Limits(c edge.Config) []string
}

// look asks a device for its state, and notes what it cannot do or tell.
func (c *Controller) look(ctx context.Context, d *device, dev Driver) (edge.State, error) {
	state, err := dev.State(ctx)
	if err != nil {
		return state, err
	}
	var limits []string
	if l, ok := dev.(Limited); ok {
		var cfg edge.Config
		if want, _ := c.assigned(d); want != nil {
			cfg = want.Config
		}
		limits = slices.Clone(l.Limits(cfg))
	}
	var mute []string
	for _, t := range state.Tunnels {
		if t.Unknown {
			mute = append(mute, t.Name)
		}
	}
	if len(mute) > 0 {
		limits = append(limits, fmt.Sprintf("the device does not tell whether its BGP sessions are established (%s): a change is confirmed without them", strings.Join(mute, ", ")))
	}
	return state, c.observe(ctx, d, func(s *Status) { s.Limits = limits })
}

// tellLimits adds to the plan of each device that is pushed what that device
// cannot do or tell of what it is to run, as far as is known.
func (c *Controller) tellLimits(ctx context.Context, p *Plan, to *Compiled) {
	for i := range p.Devices {
		x := &p.Devices[i]
		if x.Action == Remove {
			continue
		}
		c.mu.Lock()
		d := c.devices[x.Device]
		var known []string
		if d != nil {
			known = d.status.Limits
		}
		c.mu.Unlock()
		if d == nil || !c.dialled(d) {
			continue
		}
		var limits []string
		if dev, err := c.deps.Dial(ctx, x.Device); err == nil {
			if l, ok := dev.(Limited); ok {
				limits = slices.Clone(l.Limits(to.Devices[x.Device].Config))
			}
		}
		for _, s := range known {
			if !slices.Contains(limits, s) {
				limits = append(limits, s)
			}
		}
		x.Reasons = append(x.Reasons, limits...)
	}
}

// sessions lists the BGP sessions of a router that must be established before a
// push to it is confirmed: those with hubs that are in sync and have the other
// end in their own config. What was there and down before the push is not asked
// for, as with tunnels.
func (c *Controller) sessions(p push) map[string]bool {
	if p.want.Config.Role != inventory.RoleRouter {
		return nil
	}
	had := make(map[string]bool, len(p.have.BGP.Neighbours))
	for _, n := range p.have.BGP.Neighbours {
		had[n.Tunnel] = true
	}
	out := map[string]bool{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range p.want.Config.BGP.Neighbours {
		if had[n.Tunnel] && p.before != nil && !p.before[n.Tunnel] {
			continue
		}
		hub, uplink, _ := strings.Cut(n.Tunnel, "/") // see compile_router.go
		peer := c.devices[inventory.DeviceID(hub)]
		if peer == nil || !peer.status.Online || !peer.status.InSync() || peer.want == nil {
			continue
		}
		if slices.ContainsFunc(peer.want.Config.Uplinks, func(u edge.Uplink) bool { return u.Name == uplink && u.Local.Addr() == n.Addr }) {
			out[n.Tunnel] = true
		}
	}
	return out
}

// established takes out of down the sessions that are established, and those of
// which the device says nothing: nobody could wait for them.
func established(down map[string]bool, seen []edge.TunnelState) {
	for _, t := range seen {
		if t.BGP || t.Unknown {
			delete(down, t.Name)
		}
	}
}

// worked says of what was there before a push whether it is to be there after it.
func worked(role inventory.DeviceRole, t edge.TunnelState) bool {
	if role == inventory.RoleRouter {
		return t.BGP || t.Unknown
	}
	return carries(t)
}
