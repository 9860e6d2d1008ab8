package render

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// New renders a box. The error lists all faults of the configuration and wraps
// [inventory.ErrInvalid]. The zero Config gives a box with no interfaces, no
// routing and a filter that denies everything.
func New(in Input) (Box, error) {
	p := plan{Config: in.Config, keys: in.Credentials.Keys}
	p.prepare(in.WAN)
	p.check()
	if len(p.faults) > 0 {
		slices.SortFunc(p.faults, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return Box{}, fmt.Errorf("render the configuration of %s: %w", cmp.Or(string(in.Config.Device), "a new device"), errors.Join(p.faults...))
	}
	return Box{
		Links: p.links(), Routes: p.routes(), Rules: p.policyRules(),
		WireGuard: p.wireGuard(), NFT: p.nft(), FRR: p.frr(),
	}, nil
}

// plan is a configuration made ready for rendering.
type plan struct {
	edge.Config
	keys     map[inventory.DeviceID]string
	circuits []circuit // best first
	overlay  []netip.Prefix
	own      []netip.Prefix // what lives at this site, as the overlay knows it
	bgps     []session      // see sessions
	faults   []error
}

// circuit is a WAN attachment with what is known of it now.
type circuit struct {
	edge.Circuit
	mark    uint32
	address netip.Prefix // invalid: none yet
	gateway netip.Addr   // invalid: none yet
	best    int          // preference of its best tunnel; 0: none
}

func (p *plan) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
}

func (p *plan) prepare(wan map[string]WAN) {
	best := map[string]int{}
	for _, t := range p.Tunnels {
		best[t.Circuit] = max(best[t.Circuit], t.Preference)
		p.overlay = append(p.overlay, t.AllowedIPs...)
	}
	for _, c := range p.Circuits {
		k := circuit{Circuit: c, mark: CircuitMark(c.Name), address: c.Address, gateway: c.Gateway, best: best[c.Name]}
		if w := wan[c.Name]; c.Addressing != inventory.Static {
			k.address, k.gateway = w.Address, w.Gateway
		}
		p.circuits = append(p.circuits, k)
	}
	slices.SortFunc(p.circuits, func(a, b circuit) int {
		return cmp.Or(cmp.Compare(b.best, a.best), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range p.Segments {
		p.own = append(p.own, s.V4, s.V6)
	}
	p.own = append(p.own, p.BGP.Networks...)
	for _, u := range p.Uplinks {
		p.overlay = append(p.overlay, u.Accept...)
	}
	p.overlay = disjoint(append(p.overlay, p.own...))
	p.own = disjoint(p.own)
}

// check collects what no box can run.
func (p *plan) check() {
	ports := map[string]string{}
	use := func(port, what string) {
		if port == "" {
			p.fault("%s has no port; name the box's network interface in the inventory", what)
			return
		}
		if len(port) > 15 || strings.ContainsAny(port, "/\" \t\n") {
			p.fault("%s: %q is no interface name of at most 15 bytes", what, port)
		}
		if other, taken := ports[port]; taken {
			p.fault("%s and %s share port %s", other, what, port)
		}
		ports[port] = what
	}
	marks := map[uint32]string{}
	for _, c := range p.Circuits {
		use(c.Port, "circuit "+c.Name)
		mark := CircuitMark(c.Name)
		if other, taken := marks[mark]; taken {
			p.fault("circuits %s and %s get the same mark 0x%06x; rename one", other, c.Name, mark)
		}
		marks[mark] = c.Name
		if c.Addressing == inventory.Static && (!c.Address.IsValid() || !c.Gateway.IsValid()) {
			p.fault("circuit %s is static and lacks its address or gateway", c.Name)
		}
	}
	for _, s := range p.Segments {
		use(s.Port, "segment "+string(s.Kind))
		if !s.V4.IsValid() && !s.V6.IsValid() {
			p.fault("segment %s has no prefix", s.Kind)
		}
	}
	for _, u := range p.Uplinks {
		use(u.Port, "uplink "+u.Name)
		if !u.Local.IsValid() || !u.Local.Addr().Is4() || !u.Local.Contains(u.Peer) || u.Local.Addr() == u.Peer {
			p.fault("uplink %s: %s and %s are not two IPv4 hosts of one subnet", u.Name, u.Local, u.Peer)
		}
	}
	p.checkTunnels(ports)
	p.checkLegacy()
	p.checkRules()
	for _, a := range p.overlay {
		if a.Overlaps(InnerBlock) {
			p.fault("prefix %s overlaps %s, which numbers the tunnels", a, InnerBlock)
		}
	}
	if p.Device != "" && !p.Loopback.IsValid() {
		p.fault("the device has no loopback address")
	}
	if len(p.Classes) > 250 {
		p.fault("%d service classes; a packet mark tells 250 apart", len(p.Classes))
	}
}

func (p *plan) checkTunnels(ports map[string]string) {
	names, kinds := map[string]string{}, map[string]edge.TunnelKind{}
	keyed := map[string]string{}
	far := make(map[string]netip.Addr, len(p.Tunnels))
	for _, t := range p.Tunnels {
		if _, twice := far[t.Name]; !twice {
			far[t.Name] = t.Remote
		}
		dev := Interface(t)
		if !slices.ContainsFunc(p.Circuits, func(c edge.Circuit) bool { return c.Name == t.Circuit }) {
			p.fault("tunnel %s: no circuit %q", t.Name, t.Circuit)
		}
		if what, taken := ports[dev]; taken {
			p.fault("tunnel %s: its interface %s is the port of %s", t.Name, dev, what)
		}
		if other, taken := names[dev]; taken && (t.ListenPort == 0 || t.Kind == edge.IPsec) {
			p.fault("tunnels %s and %s get the same interface %s; rename a circuit", other, t.Name, dev)
		}
		names[dev], kinds[dev] = t.Name, t.Kind
		if t.Local.Bits() != 31 || !t.Local.Addr().Is4() || !t.Local.Contains(t.Remote) || t.Local.Addr() == t.Remote {
			p.fault("tunnel %s: %s and %s are not the two ends of a /31", t.Name, t.Local, t.Remote)
		}
		if t.Kind == edge.WireGuard && t.ListenPort == 0 && !t.Endpoint.IsValid() {
			p.fault("tunnel %s has neither an endpoint to dial nor a port to listen on", t.Name)
		}
		if other, twice := keyed[dev+" "+string(t.Peer)]; twice && t.Kind == edge.WireGuard {
			p.fault("tunnels %s and %s lead to %s on one interface; WireGuard knows a key once", other, t.Name, t.Peer)
		}
		keyed[dev+" "+string(t.Peer)] = t.Name
	}
	for _, n := range p.BGP.Neighbours {
		if remote, ok := far[n.Tunnel]; !ok || remote != n.Addr {
			p.fault("BGP neighbour %s: no tunnel %q leads there", n.Addr, n.Tunnel)
		}
		if n.BFDMinMS < 50 || n.BFDMinMS > 60000 || n.BFDMult < 2 || n.BFDMult > 255 {
			p.fault("BGP neighbour %s: BFD of %d ms × %d is out of range", n.Addr, n.BFDMinMS, n.BFDMult)
		}
	}
}

func (p *plan) checkLegacy() {
	for _, l := range p.Legacy {
		s, ok := p.segment(l.Segment)
		switch {
		case !ok:
			p.fault("legacy prefix %s: no segment %s", l.Inside, l.Segment)
		case l.Inside.Bits() != l.Outside.Bits() || !l.Inside.Addr().Is4() || !l.Outside.Addr().Is4():
			p.fault("legacy prefix %s cannot be mapped onto %s: want IPv4 prefixes of one length", l.Inside, l.Outside)
		case !s.V4.Contains(l.Outside.Addr()) || s.V4.Bits() > l.Outside.Bits():
			p.fault("legacy prefix %s: %s is not in segment %s (%s)", l.Inside, l.Outside, s.Kind, s.V4)
		}
	}
}

func (p *plan) checkRules() {
	for _, r := range p.Rules {
		if _, ok := p.segment(r.From); r.From != "" && !ok {
			p.fault("rule %s: no segment %s", r.Permit, r.From)
		}
		if r.Internet == (len(r.Dst) > 0) || r.Internet && r.From == "" {
			p.fault("rule %s: a rule has destinations, or goes from a segment to the internet", r.Permit)
		}
		if len(r.Src) == 0 {
			p.fault("rule %s has no source", r.Permit)
		}
		if len(r.Ports) == 0 && !r.Internet {
			p.fault("rule %s has no ports", r.Permit)
		}
		if r.Class != "" && p.class(r.Class) < 0 {
			p.fault("rule %s: no class %q", r.Permit, r.Class)
		}
	}
}

func (p *plan) segment(kind inventory.SegmentKind) (edge.Segment, bool) {
	for _, s := range p.Segments {
		if s.Kind == kind {
			return s, true
		}
	}
	return edge.Segment{}, false
}

func (p *plan) class(name string) int {
	return slices.IndexFunc(p.Classes, func(c edge.Class) bool { return c.Name == name })
}
