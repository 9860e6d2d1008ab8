package controller

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// leaseSeconds is how long a host keeps a leased address: long enough for the
// loss of a box, short enough for a citizens' Wi-Fi.
const leaseSeconds = 3600

// circuit gives a circuit as its device has it. Without a port there is nothing
// to configure an address on.
func circuit(c *inventory.Circuit) edge.Circuit {
	out := edge.Circuit{Name: string(c.ID), Kind: c.Kind, UpBPS: c.UpBPS, MTU: c.MTU}
	if c.Port != "" {
		out.Port, out.Addressing, out.Address, out.Gateway = c.Port, c.Addressing, c.Address, c.Gateway
	}
	return out
}

// legacy maps a site's old prefix onto the last block of the same length in its
// staff segment; the lower half of the segment stays for renumbered hosts.
func legacy(site *inventory.Site, segs []edge.Segment) ([]edge.Translation, error) {
	if !site.Legacy.IsValid() {
		return nil, nil
	}
	i := slices.IndexFunc(segs, func(s edge.Segment) bool { return s.Kind == inventory.Staff })
	switch {
	case i < 0:
		return nil, fmt.Errorf("%w: site %s: legacy prefix %s needs a staff segment to be translated to; it has none in use", inventory.ErrInvalid, site.ID, site.Legacy)
	case !site.Legacy.Addr().Is4():
		return nil, fmt.Errorf("%w: site %s: legacy prefix %s: only IPv4 prefixes are translated; renumber it", inventory.ErrInvalid, site.ID, site.Legacy)
	case site.Legacy.Bits() < segs[i].V4.Bits():
		return nil, fmt.Errorf("%w: site %s: legacy prefix %s does not fit into its staff segment %s; renumber a part of it first", inventory.ErrInvalid, site.ID, site.Legacy, segs[i].V4)
	}
	last := lastAddr(segs[i].V4)
	return []edge.Translation{{Segment: inventory.Staff, Inside: site.Legacy.Masked(), Outside: netip.PrefixFrom(last, site.Legacy.Bits()).Masked()}}, nil
}

// attach gives segs with what a box on ports needs: addresses to assign, and
// the name and time servers that the segment may ask.
func (ix *index) attach(site *inventory.Site, segs []edge.Segment, legacies []edge.Translation) ([]edge.Segment, error) {
	var errs []error
	out := slices.Clone(segs)
	for i := range out {
		s := &out[i]
		at := slices.IndexFunc(site.Segments, func(g inventory.Segment) bool { return g.Kind == s.Kind })
		g := site.Segments[at]
		if g.Port == "" {
			continue
		}
		s.Port, s.DNS, s.NTP = g.Port, ix.dns[s.Kind], ix.ntp[s.Kind]
		var outside netip.Prefix
		for _, l := range legacies {
			if l.Segment == s.Kind {
				outside = l.Outside
			}
		}
		dhcp, err := addressing(g, s.V4, outside)
		if err != nil {
			errs = append(errs, fmt.Errorf("site %s: segment %s: %w", site.ID, s.Kind, err))
		}
		s.DHCP = dhcp
	}
	return out, errors.Join(errs...)
}

// addressing says how the hosts of a segment get addresses. A server leases the
// upper half of the block, or of its lower half where the rest belongs to
// translated hosts (outside).
func addressing(g inventory.Segment, v4, outside netip.Prefix) (edge.DHCP, error) {
	switch g.DHCP {
	case inventory.DHCPRelay:
		return edge.DHCP{Relay: g.Relay}, nil
	case inventory.DHCPServer:
	default:
		return edge.DHCP{}, nil
	}
	if outside == v4 {
		return edge.DHCP{}, fmt.Errorf("%w: the legacy prefix takes all of %s and leaves no address to lease; drop dhcp until it is renumbered", inventory.ErrInvalid, v4)
	}
	free := v4
	if outside.IsValid() {
		free = netip.PrefixFrom(v4.Addr(), v4.Bits()+1)
	}
	last := lastAddr(free)
	d := edge.DHCP{From: netip.PrefixFrom(last, free.Bits()+1).Masked().Addr(), To: last.Prev(), LeaseSeconds: leaseSeconds}
	var errs []error
	for _, r := range g.Reservations {
		if !v4.Contains(r.Address) || outside.IsValid() && outside.Contains(r.Address) {
			errs = append(errs, fmt.Errorf("%w: %s is reserved for %s and is not free in %s", inventory.ErrInvalid, r.Address, r.MAC, v4))
		}
		d.Reservations = append(d.Reservations, edge.Reservation{MAC: r.MAC, Addr: r.Address, Name: r.Name})
	}
	slices.SortFunc(d.Reservations, func(a, b edge.Reservation) int { return a.Addr.Compare(b.Addr) })
	return d, errors.Join(errs...)
}

// uplinks gives a hub's sessions with the data centre. What they may bring is
// the same for all: the applications that belong to no site.
func (ix *index) uplinks(d *inventory.Device, site *inventory.Site) ([]edge.Uplink, error) {
	if d.Role != inventory.RoleHub {
		return nil, nil
	}
	var out []edge.Uplink
	var errs []error
	for _, u := range site.Uplinks {
		for _, other := range ix.edgeAt {
			if lo, ok := ix.loopback[other.ID]; ok && asn(lo) == u.PeerASN {
				errs = append(errs, fmt.Errorf("%w: uplink %s: AS number %d is that of %s; give the router another one", inventory.ErrInvalid, u.Name, u.PeerASN, other.ID))
			}
		}
		out = append(out, edge.Uplink{Name: u.Name, Port: u.Port, Local: u.Address, Peer: u.Peer, PeerASN: u.PeerASN, Accept: append([]netip.Prefix{}, ix.beyond...)})
	}
	slices.SortFunc(out, func(a, b edge.Uplink) int { return cmp.Compare(a.Name, b.Name) })
	return out, errors.Join(errs...)
}

// placeServers finds the name and time servers that each kind of segment may
// ask, and the critical services that the management segment may. Only
// addresses of single hosts count: in a wider prefix nobody knows who answers.
func (ix *index) placeServers() {
	type service struct {
		app inventory.ApplicationID
		at  netip.AddrPort
	}
	var critical []service
	for i := range ix.inv.Permits {
		p := &ix.inv.Permits[i]
		app := ix.apps[p.ToApp]
		if app == nil {
			continue
		}
		hosts := hostsOf(app)
		for _, kind := range p.From {
			if offers(app, inventory.UDP, 53) {
				ix.dns[kind] = append(ix.dns[kind], hosts...)
			}
			if offers(app, inventory.UDP, 123) {
				ix.ntp[kind] = append(ix.ntp[kind], hosts...)
			}
		}
		tcp := slices.IndexFunc(app.Ports, func(r inventory.PortRange) bool { return r.Proto == inventory.TCP })
		if app.Sensitivity == inventory.Critical && tcp >= 0 && len(hosts) > 0 && slices.Contains(p.From, inventory.Mgmt) {
			critical = append(critical, service{app.ID, netip.AddrPortFrom(hosts[0], app.Ports[tcp].From)})
		}
	}
	for _, servers := range []map[inventory.SegmentKind][]netip.Addr{ix.dns, ix.ntp} {
		for kind, list := range servers {
			slices.SortFunc(list, netip.Addr.Compare)
			servers[kind] = slices.Compact(list)
		}
	}
	slices.SortFunc(critical, func(a, b service) int { return cmp.Compare(string(a.app), string(b.app)) })
	for _, s := range slices.Compact(critical) {
		if len(ix.critical) < 2 {
			ix.critical = append(ix.critical, s.at)
		}
	}
	slices.SortFunc(ix.critical, netip.AddrPort.Compare)
}

// hostsOf lists the single hosts of an application, IPv4 first.
func hostsOf(app *inventory.Application) []netip.Addr {
	var out []netip.Addr
	for _, p := range app.Prefixes {
		if p.IsSingleIP() {
			out = append(out, p.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func offers(app *inventory.Application, proto inventory.Proto, port uint16) bool {
	return slices.ContainsFunc(app.Ports, func(r inventory.PortRange) bool {
		return r.Proto == proto && r.From <= port && port <= r.To
	})
}

// lastAddr is the highest IPv4 address of p.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|^uint32(0)>>p.Bits())
	return netip.AddrFrom4(b)
}
