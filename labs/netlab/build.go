package netlab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// Addresses of the lab's underlay. Customers of public carriers get theirs out
// of RFC 2544's benchmark range, for the documentation ranges are too small to
// give every customer a link of its own; customers behind CGNAT out of RFC
// 6598's.
var (
	controllerAddr = netip.MustParseAddr("203.0.113.10")
	internetAddr   = netip.MustParseAddr("203.0.113.80")
	publicPool     = netip.MustParsePrefix("198.19.64.0/18")
	cgnatPool      = netip.MustParsePrefix("100.64.0.0/18")
	transitPool    = netip.MustParsePrefix("198.19.240.0/24") // a /30 per link between the lab's routers
	natPool        = netip.MustParsePrefix("198.19.241.0/24") // a /32 per carrier with CGNAT
	anywhere4      = netip.MustParsePrefix("0.0.0.0/0")
	anywhere6      = netip.MustParsePrefix("::/0")
)

// builder collects a topology.
type builder struct {
	inv      inventory.Inventory
	x        *inventory.Index
	prefix   string
	spaces   map[string]*Namespace
	links    []Link
	carriers map[inventory.CarrierID]*Carrier
	sites    []Site
	hosts    []Host
	services []Service
	errs     []error
}

// Build gives the topology of an inventory that [City] made. It is pure. The
// error lists all faults and wraps [inventory.ErrInvalid].
func Build(inv inventory.Inventory, prefix string) (Topology, error) {
	b := &builder{inv: inv, x: inv.Index(), prefix: prefix, spaces: map[string]*Namespace{}, carriers: map[inventory.CarrierID]*Carrier{}}
	b.core()
	for i, c := range inv.Carriers {
		b.carrier(i, c.ID)
	}
	for _, d := range inv.Devices {
		if d.Intended == inventory.InService {
			b.site(d)
		}
	}
	b.servers()
	if err := errors.Join(b.errs...); err != nil {
		return Topology{}, fmt.Errorf("topology of the lab: %w", err)
	}
	t := Topology{
		Prefix: prefix, Links: b.links, Sites: b.sites, Hosts: b.hosts, Services: b.services,
		Controller: controllerAddr, Internet: internetAddr, DC: b.name("dc"),
	}
	for _, n := range b.spaces {
		t.Namespaces = append(t.Namespaces, *n)
	}
	for _, c := range b.carriers {
		slices.SortFunc(c.Leases, func(a, b Lease) int { return cmp.Compare(a.Circuit, b.Circuit) })
		t.Carriers = append(t.Carriers, *c)
	}
	slices.SortFunc(t.Namespaces, func(a, b Namespace) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Carriers, func(a, b Carrier) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(t.Links, func(a, b Link) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return t, nil
}

func (b *builder) bad(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
}

func (b *builder) name(parts ...string) string { return Name(b.prefix, parts...) }

func (b *builder) space(name string, role Role) *Namespace {
	n := b.spaces[name]
	if n == nil {
		n = &Namespace{Name: name, Role: role}
		b.spaces[name] = n
	}
	return n
}

func (b *builder) link(l Link) {
	for _, e := range []*End{&l.A, &l.B} {
		if _, err := port(e.Port); err != nil {
			b.errs = append(b.errs, fmt.Errorf("link %s: %w", l.Name, err))
		}
		if e.MAC == "" {
			e.MAC = MAC(e.NS[len(b.prefix):] + "/" + e.Port)
		}
	}
	b.links = append(b.links, l)
}

// transit joins two of the lab's own routers and returns their addresses; n
// chooses the block.
func (b *builder) transit(n int, from, fromPort, to, toPort string) (netip.Addr, netip.Addr) {
	block := netip.PrefixFrom(nth(transitPool, 4*n).Addr(), 30)
	p, q := nth(block, 1), nth(block, 2)
	b.link(Link{
		Name: from + "/" + fromPort, Kind: LinkTransit, MTU: ethernetMTU,
		A: End{NS: from, Port: fromPort, Addresses: []netip.Prefix{p}},
		B: End{NS: to, Port: toPort, Addresses: []netip.Prefix{q}},
	})
	return p.Addr(), q.Addr()
}

// core makes the exchange with the internet host, the controller and the data
// centre.
func (b *builder) core() {
	ix, ctl := b.space(b.name("ix"), RoleExchange), b.space(b.name("ctl"), RoleController)
	b.space(b.name("dc"), RoleDC)
	ix.Loopbacks = append(ix.Loopbacks, netip.PrefixFrom(internetAddr, 32))
	ctl.Loopbacks = append(ctl.Loopbacks, netip.PrefixFrom(controllerAddr, 32))
	at, gw := b.transit(0, ctl.Name, "ix", ix.Name, "ctl")
	ctl.Routes = append(ctl.Routes, Route{anywhere4, gw})
	ix.Routes = append(ix.Routes, Route{netip.PrefixFrom(controllerAddr, 32), at})
	b.services = append(b.services,
		Service{ix.Name, "internet", ServiceHTTP, inventory.TCP, netip.AddrPortFrom(internetAddr, 80)},
		Service{ix.Name, "internet", ServiceEcho, inventory.UDP, netip.AddrPortFrom(internetAddr, 7)},
	)
}

// carrier makes a carrier's router. One that sells nothing but the state's own
// network is private: the exchange does not know it.
func (b *builder) carrier(i int, id inventory.CarrierID) {
	c := &Carrier{ID: id, NS: b.name("c", string(id))}
	sold := kept(b.inv.Circuits, func(k inventory.Circuit) bool { return k.Carrier == id })
	c.Private = len(sold) > 0 && !slices.ContainsFunc(sold, func(k inventory.Circuit) bool { return k.Kind != inventory.Metronet })
	b.carriers[id] = c
	n := b.space(c.NS, RoleCarrier)
	if c.Private {
		_, at := b.transit(i+1, c.NS, "ctl", b.name("ctl"), string(id))
		n.Routes = append(n.Routes, Route{netip.PrefixFrom(controllerAddr, 32), at})
		return
	}
	at, gw := b.transit(i+1, c.NS, "ix", b.name("ix"), string(id))
	n.Routes = append(n.Routes, Route{anywhere4, gw})
	c.NAT = nth(natPool, i+1).Addr()
	n.Loopbacks = append(n.Loopbacks, netip.PrefixFrom(c.NAT, 32))
	b.reach(c, netip.PrefixFrom(c.NAT, 32), at)
}

// reach makes a network behind a carrier known to the exchange, or to the
// controller when the carrier is private. at is the carrier's address there.
func (b *builder) reach(c *Carrier, dst netip.Prefix, at netip.Addr) {
	from := b.name("ix")
	if c.Private {
		from = b.name("ctl")
	}
	n := b.spaces[from]
	n.Routes = append(n.Routes, Route{dst, at})
}

// towards is a carrier's address on its transit link.
func (b *builder) towards(c *Carrier) netip.Addr {
	l, _ := find(b.links, func(l Link) bool { return l.Kind == LinkTransit && l.A.NS == c.NS })
	return l.A.Addresses[0].Addr()
}

// site makes a box with its circuits, its segments' hosts and its uplinks.
func (b *builder) site(d inventory.Device) {
	s, _ := b.x.Site(d.Site)
	site := Site{ID: s.ID, Device: d.ID, Role: d.Role, NS: b.name(string(s.ID))}
	b.space(site.NS, RoleBox)
	circuits := b.x.SiteCircuits(s.ID)
	if len(circuits) > portsPerSite {
		b.bad("site %s has %d circuits; a lab attaches %d", s.ID, len(circuits), portsPerSite)
		return
	}
	for i, c := range circuits {
		b.circuit(site, i, c)
		site.Circuits = append(site.Circuits, c.ID)
	}
	b.segments(site, s)
	dc := b.spaces[b.name("dc")]
	for _, u := range s.Uplinks {
		// IPv6 routes travel in the session over IPv4 and need next hops.
		peer6 := netip.PrefixFrom(render.Inner(u.Peer), render.InnerBlock.Bits()+u.Address.Bits())
		b.link(Link{
			Name: string(s.ID) + "/" + u.Name, Kind: LinkUplink, MTU: ethernetMTU,
			A: End{NS: site.NS, Port: u.Port},
			B: End{NS: dc.Name, Port: string(s.ID), Addresses: []netip.Prefix{netip.PrefixFrom(u.Peer, u.Address.Bits()), peer6}},
		})
	}
	b.sites = append(b.sites, site)
}

// circuit joins a box to its carrier. A circuit that asks by DHCP gets a link
// out of the carrier's customers; which one follows from the site's own block
// of the address plan, so that it stays when other sites come.
func (b *builder) circuit(site Site, i int, c inventory.Circuit) {
	by := b.carriers[c.Carrier]
	l := Link{
		Name: string(c.ID), Kind: LinkCircuit, MTU: c.MTU,
		A: End{NS: site.NS, Port: c.Port, MAC: MAC("circuit/" + string(c.ID))},
		B: End{NS: by.NS, Port: fmt.Sprintf("%s-%d", site.ID, i)},
	}
	block, gateway := c.Address.Masked(), c.Gateway
	if c.Addressing != inventory.Static {
		pool := publicPool
		if c.Addressing == inventory.CGNAT {
			pool = cgnatPool
		}
		n, ok := b.number(site.ID)
		if !ok {
			return
		}
		block = netip.PrefixFrom(plus(pool.Addr(), 4*(portsPerSite*n+i)), 30)
		gateway = nth(block, 1).Addr()
		by.Leases = append(by.Leases, Lease{Circuit: c.ID, Port: l.B.Port, MAC: l.A.MAC, Address: nth(block, 2), Gateway: gateway, MTU: c.MTU})
	}
	if !block.IsValid() || !gateway.IsValid() {
		b.bad("circuit %s is static and lacks its address or gateway", c.ID)
		return
	}
	l.B.Addresses = []netip.Prefix{netip.PrefixFrom(gateway, block.Bits())}
	b.link(l)
	if c.Addressing != inventory.CGNAT {
		b.reach(by, block, b.towards(by))
	}
}

// number is the site's number in the address plan, below 1024.
func (b *builder) number(id inventory.SiteID) (int, bool) {
	block, ok := b.x.Allocation(inventory.SiteOwner(id), inventory.PoolSite4)
	for _, p := range b.inv.Pools {
		if ok && p.Kind == inventory.PoolSite4 && p.Prefix.Contains(block.Addr()) {
			if n := distance(p.Prefix.Addr(), block.Addr()) >> (32 - block.Bits()); n < 1024 {
				return n, true
			}
		}
	}
	b.bad("site %s has no block among the first 1024 of a site4 pool", id)
	return 0, false
}

// segments makes one host per segment in use.
func (b *builder) segments(site Site, s inventory.Site) {
	blocks, err := b.x.SegmentBlocks(s.ID)
	if err != nil {
		b.errs = append(b.errs, err)
		return
	}
	for _, g := range blocks {
		seg, _ := find(s.Segments, func(x inventory.Segment) bool { return x.Kind == g.Kind })
		h := Host{
			Site: s.ID, Segment: g.Kind, NS: b.name(string(s.ID), string(g.Kind)), Port: "eth0", MAC: HostMAC(s.ID, g.Kind),
			GW4: nth(g.V4, 1).Addr(), GW6: nth(g.V6, 1).Addr(), DHCP: seg.DHCP != "",
		}
		h.V4, h.V6 = HostAddresses(g.V4, g.V6)
		h.Seen4 = h.V4.Addr()
		if s.Legacy.IsValid() && g.Kind == inventory.Staff {
			h.V4, h.GW4 = nth(s.Legacy, hostNumber), nth(s.Legacy, 1).Addr()
			h.Seen4 = plus(lastBlock(g.V4, s.Legacy.Bits()).Addr(), hostNumber)
		}
		n := b.space(h.NS, RoleHost)
		own := []netip.Prefix{h.V6}
		n.Routes = append(n.Routes, Route{anywhere6, h.GW6})
		if !h.DHCP {
			own = append(own, h.V4)
			n.Routes = append(n.Routes, Route{anywhere4, h.GW4})
		}
		b.link(Link{
			Name: string(s.ID) + "/" + string(g.Kind), Kind: LinkSegment, MTU: ethernetMTU,
			A: End{NS: site.NS, Port: seg.Port},
			B: End{NS: h.NS, Port: h.Port, MAC: h.MAC, Addresses: own},
		})
		b.hosts = append(b.hosts, h)
	}
}

// servers gives the applications their addresses in the data centre and all
// that listens its place. A segment's host listens on whatever any permit to a
// segment names, permitted there or not: a probe that is denied must not fail
// for want of a listener.
func (b *builder) servers() {
	dc := b.spaces[b.name("dc")]
	for _, a := range b.inv.Applications {
		for _, p := range a.Prefixes {
			dc.Loopbacks = append(dc.Loopbacks, p)
			for _, r := range a.Ports {
				b.listen(dc.Name, string(a.ID), p.Addr(), r)
			}
		}
	}
	between := []inventory.PortRange{{Proto: inventory.TCP, From: 80, To: 80}, {Proto: inventory.UDP, From: 7, To: 7}}
	for _, p := range b.inv.Permits {
		if p.ToSeg != "" {
			between = append(between, p.Ports...)
		}
	}
	slices.SortFunc(between, func(a, b inventory.PortRange) int {
		return cmp.Or(strings.Compare(string(a.Proto), string(b.Proto)), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	for _, h := range b.hosts {
		for _, r := range slices.Compact(between) {
			b.listen(h.NS, string(h.Site)+"/"+string(h.Segment), netip.IPv6Unspecified(), r)
		}
	}
}

// listen adds the sockets of a port range: its ends stand for the range.
func (b *builder) listen(ns, name string, addr netip.Addr, r inventory.PortRange) {
	if r.Proto == inventory.ICMP {
		return // the kernel answers
	}
	for _, p := range slices.Compact([]uint16{r.From, r.To}) {
		kind := ServiceHTTP
		switch {
		case p == 53:
			kind = ServiceDNS
		case r.Proto == inventory.UDP && p == 123:
			kind = ServiceNTP
		case r.Proto == inventory.UDP:
			kind = ServiceEcho
		}
		s := Service{ns, name, kind, r.Proto, netip.AddrPortFrom(addr, p)}
		if !slices.Contains(b.services, s) {
			b.services = append(b.services, s)
		}
	}
}
