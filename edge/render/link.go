package render

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/edge"
)

// Priorities of policy rules. The kernel's own local table is 0, main 32766.
const (
	prioritySource = 1000 // answers leave by the circuit they are asked at
	priorityMark   = 1001 // what is bound to a circuit
	priorityClass  = 1002 // a service class on another path than routing's
)

// Metrics of routes.
const (
	// metricDefault is the best circuit's; the next ones follow.
	metricDefault = 1024
	// metricLast loses to every other route. Its top byte is what zebra takes
	// for the administrative distance of a kernel route: 255, never chosen.
	metricLast = 255<<24 + 8192
)

const mainTable = 254 // RT_TABLE_MAIN

var (
	default4 = netip.MustParsePrefix("0.0.0.0/0")
	default6 = netip.MustParsePrefix("::/0")
)

// links lists the interfaces and their addresses.
func (p *plan) links() []Link {
	var out []Link
	for _, c := range p.circuits {
		out = append(out, Link{Name: c.Port, Alias: "circuit " + c.Name, MTU: c.MTU, Addresses: some(c.address)})
	}
	for _, s := range p.Segments {
		l := Link{Name: s.Port, Alias: "segment " + string(s.Kind)}
		for _, a := range some(s.V4, s.V6) {
			l.Addresses = append(l.Addresses, Gateway(a))
		}
		for _, t := range p.Legacy {
			if t.Segment == s.Kind {
				l.Addresses = append(l.Addresses, Gateway(t.Inside))
			}
		}
		out = append(out, l)
	}
	for _, u := range p.Uplinks {
		out = append(out, Link{Name: u.Port, Alias: "uplink " + u.Name, Addresses: []netip.Prefix{u.Local, innerPrefix(u.Local)}})
	}
	if p.Loopback.IsValid() {
		out = append(out, Link{Name: "lo", Alias: "loopback", Addresses: []netip.Prefix{hostPrefix(p.Loopback)}})
	}
	tunnels := map[string]Link{}
	for _, t := range p.Tunnels {
		name := Interface(t)
		l, known := tunnels[name]
		if !known {
			l = Link{Name: name, Alias: "tunnel " + t.Name, MTU: t.MTU, Overlay: true}
			if t.ListenPort != 0 && t.Kind == edge.WireGuard {
				l.Alias = fmt.Sprintf("hub port %d", t.ListenPort)
			}
		}
		l.MTU = min(l.MTU, t.MTU)
		l.Addresses = append(l.Addresses, t.Local, innerPrefix(t.Local))
		tunnels[name] = l
	}
	for _, l := range tunnels {
		out = append(out, l)
	}
	for i := range out {
		slices.SortFunc(out[i].Addresses, comparePrefix)
	}
	slices.SortFunc(out, func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// routes lists the static routes. What the overlay may reach and no session has
// announced is dropped, not sent to the internet in clear.
func (p *plan) routes() []Route {
	var out []Route
	for i, c := range p.circuits {
		table := int(c.mark)
		if c.address.IsValid() {
			out = append(out, Route{Table: table, Dst: c.address.Masked(), Dev: c.Port})
		}
		if c.gateway.IsValid() {
			dst := default4
			if c.gateway.Is6() {
				dst = default6
			}
			out = append(out,
				Route{Table: table, Dst: dst, Via: c.gateway, Dev: c.Port},
				Route{Table: mainTable, Dst: dst, Via: c.gateway, Dev: c.Port, Metric: metricDefault + i})
		}
		// What is bound to a circuit waits for it and takes no other.
		for _, dst := range []netip.Prefix{default4, default6} {
			out = append(out, Route{Table: table, Dst: dst, Blackhole: true, Metric: metricLast})
		}
	}
	connected := map[netip.Prefix]bool{hostPrefix(p.Loopback): true}
	for _, t := range p.Tunnels {
		connected[t.Local.Masked()], connected[hostPrefix(t.Local.Addr())], connected[hostPrefix(t.Remote)] = true, true, true
	}
	for _, dst := range slices.Concat(p.overlay, p.own) { // own: more specific than the pools around it
		if !connected[dst] {
			out = append(out, Route{Table: mainTable, Dst: dst, Blackhole: true, Metric: metricLast})
		}
	}
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), comparePrefix(a.Dst, b.Dst), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Dev, b.Dev))
	})
	return slices.Compact(out)
}

// policyRules lists what chooses a routing table.
func (p *plan) policyRules() []PolicyRule {
	var out []PolicyRule
	for _, c := range p.circuits {
		if a := c.address.Addr(); a.IsValid() {
			out = append(out, PolicyRule{Priority: prioritySource, V6: a.Is6(), Src: hostPrefix(a), Table: int(c.mark)})
		}
		for _, v6 := range []bool{false, true} {
			out = append(out, PolicyRule{Priority: priorityMark, V6: v6, Mark: c.mark, Mask: CircuitMask, Table: int(c.mark)})
		}
	}
	for i := range p.Classes {
		for _, v6 := range []bool{false, true} {
			out = append(out, PolicyRule{Priority: priorityClass, V6: v6, Mark: ClassMark(i), Mask: ClassMask, Table: ClassTable(i)})
		}
	}
	slices.SortFunc(out, func(a, b PolicyRule) int {
		v6 := func(r PolicyRule) int {
			if r.V6 {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(v6(a), v6(b)), cmp.Compare(a.Mark, b.Mark), comparePrefix(a.Src, b.Src))
	})
	return out
}

// wireGuard lists the WireGuard interfaces. A peer whose key is not among the
// credentials is not admitted: it is left out.
func (p *plan) wireGuard() []WireGuard {
	devices := map[string]*WireGuard{}
	for _, t := range p.Tunnels {
		if t.Kind != edge.WireGuard {
			continue
		}
		name := Interface(t)
		d := devices[name]
		if d == nil {
			d = &WireGuard{Name: name, ListenPort: t.ListenPort, MTU: t.MTU}
			devices[name] = d
		}
		d.MTU = min(d.MTU, t.MTU)
		peer := Peer{Tunnel: t.Name, PublicKey: p.keys[t.Peer], AllowedIPs: append(slices.Clone(t.AllowedIPs), hostPrefix(t.Remote), hostPrefix(Inner(t.Remote)))}
		peer.AllowedIPs = disjoint(peer.AllowedIPs)
		d.Mark = CircuitMark(t.Circuit)
		if !isHub(p.Config) {
			peer.Endpoint, peer.KeepaliveSeconds = t.Endpoint, 25
		}
		if peer.PublicKey != "" {
			d.Peers = append(d.Peers, peer)
		}
	}
	out := make([]WireGuard, 0, len(devices))
	for _, d := range devices {
		slices.SortFunc(d.Peers, func(a, b Peer) int { return cmp.Compare(a.Tunnel, b.Tunnel) })
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b WireGuard) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// some keeps the prefixes that are set.
func some(list ...netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(list, func(p netip.Prefix) bool { return !p.IsValid() })
}

// disjoint sorts prefixes and drops those inside another one. Prefixes nest or
// are apart, so that the last one kept tells.
func disjoint(list []netip.Prefix) []netip.Prefix {
	list = some(slices.Clone(list)...)
	slices.SortFunc(list, comparePrefix)
	out := list[:0]
	for _, p := range list {
		if len(out) == 0 || !inside(p, out[len(out)-1]) {
			out = append(out, p)
		}
	}
	return slices.Clip(out)
}

// inside says whether p lies in outer.
func inside(p, outer netip.Prefix) bool {
	return outer.IsValid() && outer.Bits() <= p.Bits() && outer.Contains(p.Addr())
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
