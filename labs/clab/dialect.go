package clab

import (
	"fmt"
	"net/netip"
	"strings"
)

// notRun heads every text for a vendor's router.
const notRun = "Written by wardnet lab containerlab after the vendor's documentation. NOT RUN by Wardnet's makers."

// text writes lines.
type text struct{ strings.Builder }

func (b *text) line(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }

// cables are all of its ports.
func (r router) cables() []cable {
	var out []cable
	for _, h := range r.hubs {
		out = append(out, h.cable)
	}
	return append(out, r.servers)
}

// id is the router's id: its address towards the first hub.
func (r router) id() netip.Addr {
	if len(r.hubs) == 0 {
		return r.servers.v4.Addr()
	}
	return r.hubs[0].v4.Addr()
}

// via is the next hop to the servers in the family of p.
func (r router) via(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return r.via4
	}
	return r.via6
}

// eos is a startup configuration of Arista EOS. IPv6 routes travel in the
// sessions over IPv4, with the next hop that local-v6-addr names.
func eos(r router) string {
	var b text
	b.line("! %s\nhostname dc\n!\nservice routing protocols model multi-agent\n!\nip routing\nipv6 unicast-routing\n!", notRun)
	for _, c := range r.cables() {
		b.line("interface Ethernet%d\n   description %s\n   mtu 1500\n   no switchport\n   ip address %s\n   ipv6 enable\n   ipv6 address %s", c.number, c.to, c.v4, c.v6)
		if c.number != r.servers.number {
			b.line("   bfd interval %d min-rx %d multiplier %d", bfdMS, bfdMS, bfdMult)
		}
		b.line("!")
	}
	for _, p := range r.networks {
		family := "ip"
		if p.Addr().Is6() {
			family = "ipv6"
		}
		b.line("%s route %s %s", family, p, r.via(p))
	}
	b.line("!\nrouter bgp %d\n   router-id %s\n   no bgp default ipv4-unicast\n   bgp always-compare-med\n   timers bgp 3 9", r.asn, r.id())
	for _, h := range r.hubs {
		b.line("   neighbor %[1]s remote-as %[2]d\n   neighbor %[1]s description %[3]s\n   neighbor %[1]s bfd\n   neighbor %[1]s local-v6-addr %[4]s", h.hub, h.asn, h.to, h.v6.Addr())
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		b.line("   !\n   address-family %s", family)
		for _, h := range r.hubs {
			b.line("      neighbor %s activate", h.hub)
		}
		for _, p := range r.networks {
			if p.Addr().Is4() == (family == "ipv4") {
				b.line("      network %s", p)
			}
		}
	}
	b.line("!\nend")
	return b.String()
}

// srLinux is a list of Nokia SR Linux's set commands (releases from 24.3 on,
// where a statement matches a prefix-set below match prefix). Intervals of BFD
// are in microseconds there.
func srLinux(r router) string {
	var b text
	b.line("# %s\n# IPv6 routes are exchanged over IPv4 sessions; whether this router then names a next hop that the\n# hubs accept is not known. The hubs put their own in its place.", notRun)
	const instance = "set / network-instance default"
	b.line(instance + " type default\n" + instance + " admin-state enable")
	for _, c := range r.cables() {
		port := fmt.Sprintf("ethernet-1/%d", c.number)
		b.line("set / interface %[1]s description %[2]s\nset / interface %[1]s admin-state enable\nset / interface %[1]s subinterface 0 admin-state enable\nset / interface %[1]s subinterface 0 ip-mtu 1500", port, c.to)
		for _, p := range []netip.Prefix{c.v4, c.v6} {
			b.line("set / interface %[1]s subinterface 0 %[2]s admin-state enable\nset / interface %[1]s subinterface 0 %[2]s address %[3]s", port, family(p), p)
		}
		b.line("%s interface %s.0", instance, port)
		if c.number != r.servers.number {
			b.line("set / bfd subinterface %[1]s.0 admin-state enable\nset / bfd subinterface %[1]s.0 desired-minimum-transmit-interval %[2]d\nset / bfd subinterface %[1]s.0 required-minimum-receive %[2]d\nset / bfd subinterface %[1]s.0 detection-multiplier %[3]d", port, bfdMS*1000, bfdMult)
		}
	}
	for _, hop := range []netip.Addr{r.via4, r.via6} {
		b.line("%s next-hop-groups group servers-%s nexthop 1 ip-address %s", instance, family(netip.PrefixFrom(hop, hop.BitLen())), hop)
	}
	for _, p := range r.networks {
		b.line("%[1]s static-routes route %[2]s next-hop-group servers-%[3]s\nset / routing-policy prefix-set applications prefix %[2]s mask-length-range exact", instance, p, family(p))
	}
	b.line(`set / routing-policy policy applications default-action policy-result reject
set / routing-policy policy applications statement 10 match prefix prefix-set applications
set / routing-policy policy applications statement 10 action policy-result accept
set / routing-policy policy everything default-action policy-result accept`)
	bgp := instance + " protocols bgp"
	b.line("%[1]s admin-state enable\n%[1]s autonomous-system %[2]d\n%[1]s router-id %[3]s\n%[1]s afi-safi ipv4-unicast admin-state enable\n%[1]s afi-safi ipv6-unicast admin-state enable", bgp, r.asn, r.id())
	b.line("%[1]s group hubs export-policy [applications]\n%[1]s group hubs import-policy [everything]\n%[1]s group hubs failure-detection enable-bfd true\n%[1]s group hubs timers hold-time 9\n%[1]s group hubs timers keepalive-interval 3", bgp)
	for _, h := range r.hubs {
		b.line("%[1]s neighbor %[2]s description %[3]s\n%[1]s neighbor %[2]s peer-group hubs\n%[1]s neighbor %[2]s peer-as %[4]d", bgp, h.hub, h.to, h.asn)
	}
	return b.String()
}

// family is how SR Linux calls the address family of p.
func family(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// facts are what a configuration must hold, for a kind that we write none for.
func facts(r router) string {
	var b text
	b.line("# %s\n#\n# No configuration is rendered for the kind %s. Give the router one of your own that holds:\n#", notRun, r.Kind)
	b.line("# AS number %d, router id %s; MED compared between neighbours of different AS numbers, so that\n# answers return by the hub that asked", r.asn, r.id())
	for _, c := range r.cables() {
		b.line("# data port %d, to %s: MTU 1500, %s and %s", c.number, c.to, c.v4, c.v6)
	}
	for _, h := range r.hubs {
		b.line("# eBGP with %s, %s, AS %d: IPv4 and IPv6 unicast in the one session, IPv6 next hop %s;\n#   BFD %d ms x %d, keepalive 3 s, hold 9 s", h.to, h.hub, h.asn, h.v6.Addr(), bfdMS, bfdMult)
	}
	for _, p := range r.networks {
		b.line("# static route to %s via %s, announced to the hubs", p, r.via(p))
	}
	return b.String()
}
