package simhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
)

// Host is the simulated data plane of one device.
type Host struct {
	under  *Underlay
	device inventory.DeviceID
	key    func() string
	ports  []inventory.CircuitID // in order of preference

	closed   bool
	config   edge.Config   // in force
	routes   []edge.Tunnel // of config, over which h decides where traffic goes
	watchers map[chan struct{}]struct{}
}

var _ agent.Host = (*Host)(nil)

// Host adds a device to the underlay. key returns its own WireGuard public key,
// which its peers must admit.
func (u *Underlay) Host(device inventory.DeviceID, key func() string) (*Host, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if old := u.hosts[device]; old != nil && !old.closed {
		return nil, fmt.Errorf("%w: device %q runs here already", inventory.ErrConflict, device)
	}
	h := &Host{under: u, device: device, key: key, ports: u.order[device], watchers: map[chan struct{}]struct{}{}}
	if len(h.ports) == 0 {
		return nil, fmt.Errorf("%w: device %q has no circuit in the simulator's file", inventory.ErrInvalid, device)
	}
	u.hosts[device] = h
	return h, nil
}

// Close takes the device off the underlay: its tunnels go down at the far ends.
func (h *Host) Close() {
	u := h.under
	u.mu.Lock()
	defer u.mu.Unlock()
	h.put(edge.Config{}, edge.Credentials{}, time.Now())
	h.closed = true
	for _, id := range h.ports {
		u.ports[id].blackhole(0)
	}
}

// Validate implements agent.Host.
func (h *Host) Validate(_ context.Context, c edge.Config) error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	circuits, tunnels := map[string]bool{}, map[string]bool{}
	for _, w := range c.Circuits {
		if !slices.Contains(h.ports, inventory.CircuitID(w.Name)) {
			fault("circuit %q is no port of %s", w.Name, h.device)
		}
		circuits[w.Name] = true
	}
	for _, t := range c.Tunnels {
		switch {
		case tunnels[t.Name]:
			fault("tunnel %q is listed twice", t.Name)
		case !circuits[t.Circuit]:
			fault("tunnel %q: circuit %q is not in the config", t.Name, t.Circuit)
		case !t.Local.IsValid() || !t.Remote.IsValid():
			fault("tunnel %q: local %v or remote %v is no address", t.Name, t.Local, t.Remote)
		case t.MTU < 576 || t.MTU > 9216:
			fault("tunnel %q: mtu %d is not in [576, 9216]", t.Name, t.MTU)
		}
		tunnels[t.Name] = true
	}
	for _, n := range c.BGP.Neighbours {
		if !tunnels[n.Tunnel] {
			fault("BGP neighbour %v: tunnel %q is not in the config", n.Addr, n.Tunnel)
		}
	}
	return errors.Join(errs...)
}

// Apply implements agent.Host.
func (h *Host) Apply(ctx context.Context, c edge.Config, k edge.Credentials) error {
	if err := h.Validate(ctx, c); err != nil {
		return err
	}
	h.under.mu.Lock()
	defer h.under.mu.Unlock()
	h.put(c, k, time.Now())
	h.wake()
	return nil
}

// put makes c with the keys of k what runs; the underlay is locked.
func (h *Host) put(c edge.Config, k edge.Credentials, now time.Time) {
	u := h.under
	kept := map[string]*end{}
	for _, t := range h.config.Tunnels {
		l := u.links[t.Name]
		u.settle(l, now)
		kept[t.Name] = l.ends[h.device]
		if i := slices.IndexFunc(c.Tunnels, func(n edge.Tunnel) bool { return same(n, t) }); i < 0 {
			h.detach(l, now)
			delete(kept, t.Name)
		}
	}
	h.config, h.routes = c, h.decides(c)
	for _, t := range c.Tunnels {
		l := u.links[t.Name]
		if l == nil {
			site := h.device
			if c.Role == inventory.RoleHub {
				site = t.Peer
			}
			l = newLink(u.cfg.Seed, t.Name, site, now)
			u.links[t.Name] = l
		}
		e := kept[t.Name]
		if e == nil {
			e = &end{host: h}
			e.taken[0], e.taken[1] = l.inOut(e)
			l.ends[h.device] = e
		}
		e.tun, e.key = t, k.Keys[t.Peer]
		u.judge(l, now)
	}
	h.reroute(now)
}

// same says whether a tunnel keeps its interface, and so its session.
func same(a, b edge.Tunnel) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Circuit == b.Circuit && a.Peer == b.Peer && a.Local == b.Local && a.Remote == b.Remote
}

// detach removes h's end of l; what it carried stays counted on the circuit.
func (h *Host) detach(l *link, now time.Time) {
	u, e := h.under, l.ends[h.device]
	if p := u.ports[inventory.CircuitID(e.tun.Circuit)]; p != nil {
		in, out := l.carried(e)
		p.gone[0], p.gone[1] = p.gone[0].plus(in, 1), p.gone[1].plus(out, 1)
	}
	delete(l.ends, h.device)
	if len(l.ends) == 0 {
		delete(u.links, l.name)
		return
	}
	u.judge(l, now)
}

// decides gives the tunnels of c over which h decides where traffic goes: the
// edge's end does, and a hub does for edges that are not in this process.
func (h *Host) decides(c edge.Config) []edge.Tunnel {
	if c.Role != inventory.RoleHub {
		return c.Tunnels
	}
	var out []edge.Tunnel
	for _, t := range c.Tunnels {
		if h.under.order[t.Peer] == nil {
			out = append(out, t)
		}
	}
	return out
}

// reroute moves each site's traffic to its best tunnel that is up.
func (h *Host) reroute(now time.Time) {
	u := h.under
	best := map[inventory.DeviceID]edge.Tunnel{} // by edge
	site := func(t edge.Tunnel) inventory.DeviceID {
		if h.config.Role == inventory.RoleHub {
			return t.Peer
		}
		return h.device
	}
	for _, t := range h.routes {
		b, ok := best[site(t)]
		if u.links[t.Name].bfd(now) && (!ok || t.Preference > b.Preference) {
			best[site(t)] = t
		}
	}
	for _, t := range h.routes {
		l := u.links[t.Name]
		u.settle(l, now)
		l.active = best[site(t)].Name == t.Name
	}
}

// State implements agent.Host.
func (h *Host) State(context.Context) (agent.HostState, error) {
	u := h.under
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	st := agent.HostState{
		At:       now,
		Platform: inventory.SimulatedEdge,
		Circuits: make([]agent.CircuitState, 0, len(h.config.Circuits)),
		Tunnels:  make([]agent.TunnelState, 0, len(h.config.Tunnels)),
	}
	st.Holds = h.holds(now)
	in, out := map[string]totals{}, map[string]totals{}
	for _, t := range h.config.Tunnels {
		l := u.links[t.Name]
		e := l.ends[h.device]
		st.Tunnels = append(st.Tunnels, u.tunnelState(l, e, now))
		i, o := l.carried(e)
		in[t.Circuit], out[t.Circuit] = in[t.Circuit].plus(i, overhead), out[t.Circuit].plus(o, overhead)
	}
	for _, c := range h.config.Circuits {
		p := u.ports[inventory.CircuitID(c.Name)]
		st.Circuits = append(st.Circuits, agent.CircuitState{
			Name:     c.Name,
			Up:       p.up(now),
			Counters: counters(in[c.Name].plus(p.gone[0], overhead), out[c.Name].plus(p.gone[1], overhead)),
		})
	}
	return st, nil
}

// holds are the items of the contract in force that hold: BFD as its link is,
// and all that lies beyond the tunnels while any of them routes. The underlay
// is locked.
func (h *Host) holds(now time.Time) []string {
	far, up := false, map[string]bool{}
	for _, t := range h.config.Tunnels {
		l := h.under.links[t.Name]
		up["bfd/"+t.Name] = l.bfd(now)
		far = far || l.bgp(now)
	}
	return slices.DeleteFunc(h.config.Contract.Items(), func(item string) bool {
		if strings.HasPrefix(item, "bfd/") {
			return !up[item]
		}
		return !far
	})
}

// Watch implements agent.Host.
func (h *Host) Watch(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	u := h.under
	u.mu.Lock()
	defer u.mu.Unlock()
	h.watchers[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(h.watchers, c)
		close(c)
	})
	return c
}

// wake tells the watchers; the underlay is locked.
func (h *Host) wake() {
	for c := range h.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
