package netlab

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// createBatch is the input of one "ip -batch" that makes the namespaces which
// are missing and all links.
func (t Topology) createBatch(missing map[string]bool) string {
	var b strings.Builder
	for _, n := range t.Namespaces {
		if missing[n.Name] {
			fmt.Fprintf(&b, "netns add %s\n", n.Name)
		}
	}
	for _, l := range t.Links {
		fmt.Fprintf(&b, "link add name %s address %s mtu %d netns %s type veth peer name %s address %s mtu %d netns %s\n",
			l.A.Port, l.A.MAC, l.MTU, l.A.NS, l.B.Port, l.B.MAC, l.MTU, l.B.NS)
	}
	return b.String()
}

// deleteBatch is the input of one "ip -batch -force" that removes namespaces.
func deleteBatch(names []string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "netns delete %s\n", n)
	}
	return b.String()
}

// addressBatches are, by namespace, the inputs of an "ip -batch" that sets
// addresses and brings the links up. A box gets its cables only.
func (t Topology) addressBatches() map[string]string {
	out := map[string]string{}
	for _, n := range t.Namespaces {
		text := "link set lo up\n"
		for _, p := range n.Loopbacks {
			text += addAddress("lo", p)
		}
		out[n.Name] = text
	}
	for _, l := range t.Links {
		for _, e := range []End{l.A, l.B} {
			text := out[e.NS]
			for _, p := range e.Addresses {
				text += addAddress(e.Port, p)
			}
			out[e.NS] = text + fmt.Sprintf("link set %s up\n", e.Port)
		}
	}
	return out
}

// addAddress is a line of ip; an IPv6 address is usable at once.
func addAddress(dev string, p netip.Prefix) string {
	if p.Addr().Is6() {
		return fmt.Sprintf("addr add %s dev %s nodad\n", p, dev)
	}
	return fmt.Sprintf("addr add %s dev %s\n", p, dev)
}

// routeBatches are, by namespace, the inputs of an "ip -batch" that adds
// routes, once all links are up.
func (t Topology) routeBatches() map[string]string {
	out := map[string]string{}
	for _, n := range t.Namespaces {
		var b strings.Builder
		for _, r := range n.Routes {
			fmt.Fprintf(&b, "route replace %s via %s\n", r.Dst, r.Via)
		}
		if b.Len() > 0 {
			out[n.Name] = b.String()
		}
	}
	return out
}

// natText is the ruleset of a public carrier: customers behind CGNAT leave
// with the carrier's address (RFC 6888).
func (c Carrier) natText() string {
	return fmt.Sprintf(`table ip wardnet-lab {
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %s snat to %s
	}
}
`, cgnatPool, c.NAT)
}

// dhcpText is the configuration of the carrier's DHCP server: one address on
// every customer's own link, bound to the port's fixed address, so that a box
// built anew gets it again.
func (c Carrier) dhcpText(pidFile string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `port=0
user=root
keep-in-foreground
pid-file=%s
no-ping
no-resolv
no-hosts
leasefile-ro
bind-dynamic
dhcp-authoritative
dhcp-ignore-clid
`, pidFile)
	for _, l := range c.Leases {
		a := l.Address
		fmt.Fprintf(&b, "interface=%s\ndhcp-range=set:%s,%s,static,%s,1h\n", l.Port, l.Circuit, a.Masked().Addr(), netmask(a))
		fmt.Fprintf(&b, "dhcp-host=%s,%s,1h\n", l.MAC, a.Addr())
		fmt.Fprintf(&b, "dhcp-option=tag:%s,option:router,%s\ndhcp-option=tag:%s,option:mtu,%d\n", l.Circuit, l.Gateway, l.Circuit, l.MTU)
	}
	return b.String()
}

// netmask writes a prefix length as a mask.
func netmask(p netip.Prefix) netip.Addr {
	return plus(netip.AddrFrom4([4]byte{}), int(^uint32(0)<<(32-p.Bits())))
}

// frrText is the configuration of the data centre's router: eBGP with BFD to
// every hub, the applications announced, the hubs' MED compared although their
// AS numbers differ, so that answers return by the hub that asked. It tells a hub
// its routes within 100 ms, not FRR's second: a hub that has come back draws the
// answers at once, and passes them only when it knows the way to who answers.
func (t Topology) frrText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "frr version 8.4\nfrr defaults datacenter\nhostname %s\nip forwarding\nipv6 forwarding\n!\n", t.DC)
	dc, _ := t.Namespace(t.DC)
	hubs := t.hubEnds()
	id := netip.AddrFrom4([4]byte{})
	if len(hubs) > 0 {
		id = hubs[0].own
	}
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n bgp always-compare-med\n coalesce-time 100\n", dcASN, id)
	for _, h := range hubs {
		fmt.Fprintf(&b, " neighbor %[1]s remote-as external\n neighbor %[1]s bfd\n neighbor %[1]s bfd profile hub\n neighbor %[1]s timers 3 9\n neighbor %[1]s timers connect 1\n neighbor %[1]s advertisement-interval 0\n", h.hub)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&b, " !\n address-family %s unicast\n", family)
		for _, p := range dc.Loopbacks {
			if p.Addr().Is4() == (family == "ipv4") {
				fmt.Fprintf(&b, "  network %s\n", p)
			}
		}
		for _, h := range hubs {
			fmt.Fprintf(&b, "  neighbor %s activate\n", h.hub)
		}
		b.WriteString(" exit-address-family\n")
	}
	b.WriteString("exit\n!\nbfd\n profile hub\n  detect-multiplier 3\n  transmit-interval 300\n  receive-interval 300\n exit\n exit\n!\n")
	return b.String()
}

// hubEnd is an uplink as the data centre sees it.
type hubEnd struct {
	site     inventory.SiteID
	own, hub netip.Addr
}

func (t Topology) hubEnds() []hubEnd {
	var out []hubEnd
	for _, l := range t.Links {
		if l.Kind == LinkUplink {
			at := l.B.Addresses[0]
			hub := at.Masked().Addr().Next()
			if hub == at.Addr() {
				hub = hub.Next()
			}
			out = append(out, hubEnd{inventory.SiteID(l.B.Port), at.Addr(), hub})
		}
	}
	return out
}
