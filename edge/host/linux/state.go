package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/host/frr"
	"github.com/wardnet/wardnet/edge/host/probe"
	"github.com/wardnet/wardnet/edge/host/wireguard"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// alive is how old a handshake may be: WireGuard makes one every two minutes
// and gives up a session after three.
const alive = 180 * time.Second

// observation is the box as it was seen at a time.
type observation struct {
	at    time.Time
	state agent.HostState
}

// total keeps a peer's counters rising over a restart of the process that
// counts them.
type total struct{ rx, tx, baseRx, baseTx uint64 }

// State implements [agent.Host].
func (h *Host) State(ctx context.Context) (agent.HostState, error) {
	h.viewMu.Lock()
	now, old := h.view, h.cached
	h.viewMu.Unlock()
	if old != nil && time.Since(old.at) < fresh {
		return old.state, nil
	}
	s, err := h.observe(ctx, now)
	if err != nil {
		return agent.HostState{}, fmt.Errorf("observe box: %w", err)
	}
	h.viewMu.Lock()
	h.cached = &observation{at: s.At, state: s}
	h.viewMu.Unlock()
	return s, nil
}

// sight is what an observation is made of.
type sight struct {
	links    map[string]*netlink.LinkAttrs
	sessions frr.Sessions
	devices  map[string]wireguard.Device
	silent   map[string]bool // ports whose gateway does not answer ARP
}

func (h *Host) observe(ctx context.Context, now inForce) (agent.HostState, error) {
	s := agent.HostState{At: time.Now(), Platform: inventory.LinuxEdge}
	h.viewMu.Lock()
	s.Mends, s.Mended = h.mends, h.mended
	h.viewMu.Unlock()
	list, err := netlink.LinkList()
	if err != nil {
		return s, fmt.Errorf("read interfaces: %w", err)
	}
	see := sight{links: map[string]*netlink.LinkAttrs{}}
	for _, l := range list {
		see.links[l.Attrs().Name] = l.Attrs()
	}
	if see.sessions, err = h.sessions(ctx, fresh); err != nil {
		return s, err
	}
	// A process that is down has no tunnel up.
	if see.devices, err = h.deps.Tunnels.State(ctx); err != nil && !errors.Is(err, edge.ErrUnreachable) {
		return s, err
	}
	see.silent = h.silentGateways()
	for _, t := range now.config.Tunnels {
		s.Tunnels = append(s.Tunnels, h.tunnel(t, now, see, s.At))
	}
	for _, c := range h.circuits(now.config) {
		s.Circuits = append(s.Circuits, h.circuit(c, now.config, see, s.Tunnels))
	}
	if h.deps.Leases != nil {
		if s.Leases, err = h.deps.Leases(ctx); err != nil {
			return s, err
		}
	}
	s.Holds, err = h.holds(now.config.Contract, s.Tunnels)
	return s, err
}

// circuit is up when its port has a carrier and an address, its gateway answers,
// and, at an edge, one of its tunnels is up: that alone shows that it passes
// traffic. A hub's tunnels are the wards' to keep up.
func (h *Host) circuit(c edge.Circuit, conf edge.Config, see sight, tunnels []agent.TunnelState) agent.CircuitState {
	out := agent.CircuitState{Name: c.Name}
	at := see.links[c.Port]
	if at == nil {
		return out
	}
	out.Counters = counters(at.Statistics)
	if h.deps.Upload != nil {
		out.UploadBPS = h.deps.Upload(c.Name)
	}
	address := c.Address
	if c.Addressing != inventory.Static {
		address = h.wan.learned([]edge.Circuit{c})[c.Name].Address
	}
	out.Up = at.RawFlags&unix.IFF_RUNNING != 0 && address.IsValid() && !see.silent[c.Port]
	if conf.Role == inventory.RoleHub || !out.Up {
		return out
	}
	any, up := false, false
	for i, t := range conf.Tunnels {
		if t.Circuit == c.Name {
			any, up = true, up || (tunnels[i].Up && (tunnels[i].BFD || !hasBFD(conf, t)))
		}
	}
	out.Up = up || !any
	return out
}

func hasBFD(conf edge.Config, t edge.Tunnel) bool {
	return slices.ContainsFunc(conf.BGP.Neighbours, func(n edge.Neighbour) bool { return n.Tunnel == t.Name && n.BFDMinMS > 0 })
}

func (h *Host) tunnel(t edge.Tunnel, now inForce, see sight, at time.Time) agent.TunnelState {
	out := agent.TunnelState{TunnelState: edge.TunnelState{Name: t.Name}, Probe: h.deps.Prober.Quality(t.Name)}
	out.BFD, out.BGP = see.sessions.BFD[t.Remote], see.sessions.BGP[t.Remote]
	out.Up = out.BFD
	if link := see.links[render.Interface(t)]; link != nil && t.Kind == edge.IPsec {
		out.Counters = counters(link.Statistics)
	}
	for _, d := range now.box.WireGuard {
		for _, p := range d.Peers {
			if p.Tunnel != t.Name {
				continue
			}
			peer, ok := see.devices[d.Name].Peers[p.PublicKey]
			out.Up = out.Up || ok && !peer.LastHandshake.IsZero() && at.Sub(peer.LastHandshake) < alive
			if link := see.links[d.Name]; len(d.Peers) == 1 && d.ListenPort == 0 && link != nil {
				out.Counters = counters(link.Statistics) // its own interface
			} else {
				out.Counters = h.rising(t.Name, peer)
			}
		}
	}
	return out
}

// rising returns a peer's totals, which start again with the process.
func (h *Host) rising(tunnel string, p wireguard.Peer) agent.Counters {
	h.viewMu.Lock()
	defer h.viewMu.Unlock()
	t := h.totals[tunnel]
	if p.RxBytes < t.rx || p.TxBytes < t.tx {
		t.baseRx, t.baseTx = t.baseRx+t.rx, t.baseTx+t.tx
	}
	t.rx, t.tx = p.RxBytes, p.TxBytes
	h.totals[tunnel] = t
	return agent.Counters{InOctets: t.baseRx + t.rx, OutOctets: t.baseTx + t.tx}
}

func counters(s *netlink.LinkStatistics) agent.Counters {
	if s == nil {
		return agent.Counters{}
	}
	return agent.Counters{
		InOctets: s.RxBytes, OutOctets: s.TxBytes, InPkts: s.RxPackets, OutPkts: s.TxPackets,
		InErrors: s.RxErrors, OutDiscards: s.TxDropped,
	}
}

// silentGateways are the ports on which the kernel asked a neighbour in vain;
// unknown is not silent.
func (h *Host) silentGateways() map[string]bool {
	out := map[string]bool{}
	gateways, err := h.tables.gateways()
	if err != nil {
		return out
	}
	for _, g := range gateways {
		neighbours, err := netlink.NeighList(g.link, g.family)
		if err != nil {
			continue
		}
		for _, n := range neighbours {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && addr.Unmap() == g.addr && n.State&netlink.NUD_FAILED != 0 {
				if link, err := netlink.LinkByIndex(g.link); err == nil {
					out[link.Attrs().Name] = true
				}
			}
		}
	}
	return out
}

// holds are the items of the contract that hold.
func (h *Host) holds(c edge.Contract, tunnels []agent.TunnelState) ([]string, error) {
	have := map[string]bool{}
	for _, item := range h.deps.Prober.Holds() {
		have[item] = true
	}
	for _, t := range tunnels {
		have["bfd/"+t.Name] = t.BFD
	}
	h.viewMu.Lock()
	for _, r := range c.Keep {
		have[edge.FlowsItem(r.Permit)] = !h.cut[r.Permit]
	}
	h.viewMu.Unlock()
	if len(c.Prefixes) > 0 {
		known, err := h.tables.main()
		if err != nil {
			return nil, err
		}
		for _, p := range c.Prefixes {
			have["prefix/"+p.String()] = known[p.Masked()]
		}
	}
	var out []string
	for _, item := range c.Items() {
		if have[item] {
			out = append(out, item)
		}
	}
	return out, nil
}

// targets are the tunnels to measure: those whose peer is admitted.
func targets(w inForce) []probe.Target {
	pace := map[string]time.Duration{} // as quick as the site wants to know of a dead path
	for _, n := range w.config.BGP.Neighbours {
		pace[n.Tunnel] = time.Duration(n.BFDMinMS) * time.Millisecond * 2 / 3
	}
	var out []probe.Target
	for _, t := range w.config.Tunnels {
		if _, admitted := w.keys.Keys[t.Peer]; admitted {
			out = append(out, probe.Target{Tunnel: t.Name, Dev: render.Interface(t), Local: t.Local.Addr(), Remote: t.Remote, Every: pace[t.Name]})
		}
	}
	return out
}
