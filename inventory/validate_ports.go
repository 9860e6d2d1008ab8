package inventory

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
)

var (
	// portForm is a Linux interface name: at most 15 bytes (IFNAMSIZ), no
	// slash or space.
	portForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)
	// overlayForm are the interfaces that an edge makes itself.
	overlayForm = regexp.MustCompile(`^wn([0-9a-f]{8}|[0-9]{1,5})$`)
	macForm     = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)
	hostForm    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

// sitePort is a network interface of the device at a site.
type sitePort struct {
	site SiteID
	name string
}

// port checks the name of a network interface and that it has one purpose.
func (c *checker) port(bad report, field string, site SiteID, name, what string) {
	switch {
	case residue(name) != "":
		bad(field, "%q holds %q, which is left of a template; only fields of a profile take variables", name, residue(name))
		return
	case !portForm.MatchString(name):
		bad(field, "%q is not the name of a network interface (want up to 15 letters, digits, dots, underscores and hyphens)", name)
		return
	case name == "lo", overlayForm.MatchString(name):
		bad(field, "%q is an interface of the edge's own; name the port that the cable is in", name)
		return
	}
	key := sitePort{site, name}
	if other, taken := c.ports[key]; taken {
		bad(field, "port %s of site %q is %s already", name, site, other)
	}
	first(c.ports, key, what)
}

// hostAddress checks an address that one host has.
func hostAddress(bad report, field string, a netip.Addr) bool {
	if a.Zone() != "" {
		bad(field, "%s has a zone; leave out what is behind the %%", a)
		return false
	}
	return unicast(bad, field, netip.PrefixFrom(a, a.BitLen()))
}

// edgeOf says that a is the network or broadcast address of p.
func edgeOf(p netip.Prefix, a netip.Addr) bool {
	return a.Is4() && p.Bits() < 31 && (a == p.Masked().Addr() || a == lastOf(p))
}

// wanGateway checks the next hop of a circuit.
func wanGateway(bad report, k Circuit) {
	g := k.Gateway
	switch {
	case k.Addressing != Static && g.IsValid():
		bad("gateway", "a circuit with addressing %q learns its gateway; leave it out", k.Addressing)
	case k.Addressing != Static || !k.Address.IsValid():
	case !g.IsValid() && k.Port != "":
		bad("gateway", "a static circuit on a port needs its gateway, e.g. the first address of %s", k.Address.Masked())
	case g.IsValid():
		neighbour(bad, "gateway", k.Address, g)
	}
}

// neighbour checks the other host on the subnet of own.
func neighbour(bad report, field string, own netip.Prefix, a netip.Addr) {
	switch {
	case !hostAddress(bad, field, a):
	case !own.Contains(a):
		bad(field, "%s is not on the subnet %s", a, own.Masked())
	case a == own.Addr():
		bad(field, "%s is the address of this end", a)
	case edgeOf(own, a):
		bad(field, "%s is the network or broadcast address of %s", a, own.Masked())
	}
}

// attachments checks how the segments of a site are attached to its device.
func (c *checker) attachments(bad report, s Site) {
	for j, g := range s.Segments {
		at := fmt.Sprintf("segments[%d]", j)
		if g.Unused != "" && (g.Port != "" || g.DHCP != "" || g.Relay.IsValid() || len(g.Reservations) > 0) {
			bad(at, "segment %q is unused; it has no port and no addresses to assign", g.Kind)
			continue
		}
		if g.Port != "" {
			c.port(bad, at+".port", s.ID, g.Port, fmt.Sprintf("segment %q", g.Kind))
		}
		if g.DHCP != "" {
			enum(bad, at+".dhcp", g.DHCP, DHCPServer, DHCPRelay)
		}
		switch {
		case g.DHCP == DHCPRelay && !g.Relay.IsValid():
			bad(at+".dhcp_relay", "a relay names the DHCP server it asks")
		case g.DHCP != DHCPRelay && g.Relay.IsValid():
			bad(at+".dhcp_relay", "only dhcp: relay has a server to ask; leave it out")
		case g.Relay.IsValid() && !g.Relay.Is4():
			bad(at+".dhcp_relay", "%s is not an IPv4 address", g.Relay)
		case g.Relay.IsValid():
			hostAddress(bad, at+".dhcp_relay", g.Relay)
		}
		if len(g.Reservations) > 0 && g.DHCP != DHCPServer {
			bad(at+".reservations", "only dhcp: server reserves addresses")
			continue
		}
		if short(bad, at+".reservations", g.Reservations) {
			c.reservations(bad, at+".reservations", s, g)
		}
	}
}

// reservations checks the fixed addresses of one segment, against its block
// when the site has one.
func (c *checker) reservations(bad report, at string, s Site, g Segment) {
	var block netip.Prefix
	for _, a := range c.alloc[s.ID] {
		if a.Prefix.Addr().Is4() && a.Prefix == a.Prefix.Masked() {
			block, _, _ = SegmentPrefixes(a.Prefix, netip.Prefix{}, g.Kind)
		}
	}
	macs, addrs, hosts := map[string]int{}, map[netip.Addr]int{}, map[string]int{}
	for j, r := range g.Reservations {
		field := fmt.Sprintf("%s[%d]", at, j)
		switch mac, err := net.ParseMAC(r.MAC); {
		case err != nil, !macForm.MatchString(r.MAC):
			bad(field+".mac", "%q is not a MAC address (want six pairs of lower-case hex digits with colons)", r.MAC)
		case mac[0]&1 == 1, r.MAC == "00:00:00:00:00:00": // IEEE 802: the group bit
			bad(field+".mac", "%s is not the address of one interface", r.MAC)
		}
		repeated(bad, field+".mac", macs, r.MAC, j)
		repeated(bad, field+".name", hosts, r.Name, j)
		if r.Name != "" && !hostForm.MatchString(r.Name) {
			bad(field+".name", "%q is not a host name (want letters, digits and hyphens)", r.Name)
		}
		switch {
		case !r.Address.Is4():
			bad(field+".address", "is not an IPv4 address")
		case !hostAddress(bad, field+".address", r.Address):
		case block.IsValid() && !block.Contains(r.Address):
			bad(field+".address", "%s is not in the segment's block %s", r.Address, block)
		case block.IsValid() && (edgeOf(block, r.Address) || r.Address == block.Addr().Next()):
			bad(field+".address", "%s is the network, broadcast or gateway address of %s", r.Address, block)
		default:
			repeated(bad, field+".address", addrs, r.Address, j)
		}
	}
}

// repeated reports a value that is not the zero one and was there before.
func repeated[T comparable](bad report, field string, seen map[T]int, v T, j int) {
	var zero T
	if v == zero {
		return
	}
	if i, dup := seen[v]; dup {
		bad(field, "entry %d has %v too", i+1, v)
	}
	first(seen, v, j)
}

// uplinks checks the sessions of a hub with routers of the data centre.
func (c *checker) uplinks(bad report, s Site) {
	if s.Kind != Hub && len(s.Uplinks) > 0 {
		bad("uplinks", "only a hub has uplinks; leave the list out")
		return
	}
	seen := map[string]int{}
	for j, u := range s.Uplinks {
		field := fmt.Sprintf("uplinks[%d]", j)
		if !isID(u.Name) {
			bad(field+".name", "%q: %s", u.Name, idRule)
		}
		repeated(bad, field+".name", seen, u.Name, j)
		c.port(bad, field+".port", s.ID, u.Port, fmt.Sprintf("uplink %q", u.Name))
		if !privateASN(u.PeerASN) {
			bad(field+".peer_asn", "%d is not a private AS number (want 64512 to 65534 or 4200000000 to 4294967294, RFC 6996)", u.PeerASN)
		}
		switch own := u.Address; {
		case !own.IsValid():
			bad(field+".address", "is missing (want the hub's own address and prefix length, e.g. 10.0.0.2/30)")
		case own.Bits() == 0:
			bad(field+".address", "%s has no prefix length", own)
		case !hostAddress(bad, field+".address", own.Addr()):
		case edgeOf(own, own.Addr()):
			bad(field+".address", "%s is the network or broadcast address of its subnet, not a host's", own)
		case slices.ContainsFunc(s.Uplinks[:j], func(o Uplink) bool { return o.Address.Addr() == own.Addr() }):
			bad(field+".address", "another uplink has the address %s too", own.Addr())
		case !u.Peer.IsValid():
			bad(field+".peer", "is missing (want the router's address)")
		default:
			neighbour(bad, field+".peer", own, u.Peer)
		}
	}
}

// privateASN says whether n is in a range of RFC 6996.
func privateASN(n uint32) bool {
	return n >= 64512 && n <= 65534 || n >= 4200000000 && n <= 4294967294
}
