package render

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/wardnet/wardnet/edge"
)

// Dnsmasq is one dnsmasq process. Text is its configuration without the paths
// of its files, which the host adds.
type Dnsmasq struct {
	Name  string   // of a segment, or "relay"
	Ports []string // it serves, which have to exist before it starts
	Text  string
	// Leases says that it assigns addresses and keeps a file of them.
	Leases bool
}

// relayName is the process that relays for all segments: servers answer a
// relay on one address and port, so that there can be one only.
const relayName = "relay"

// DNSMasq lists the dnsmasq processes of a box: one per segment that is served
// addresses or names, for one process cannot tell its clients' segments apart
// when it asks a server, and one for all segments that are relayed. Each asks
// the servers of its segment from the segment's own address, which is what the
// filters on the way permit.
func DNSMasq(in Input) []Dnsmasq {
	var out []Dnsmasq
	relay := Dnsmasq{Name: relayName, Text: dnsmasqHead + "port=0\n"}
	for _, s := range in.Config.Segments {
		if s.DHCP.Relay.IsValid() && s.V4.IsValid() {
			relay.Ports = append(relay.Ports, s.Port)
			relay.Text += fmt.Sprintf("interface=%s\ndhcp-relay=%s,%s\n", s.Port, Gateway(s.V4).Addr(), s.DHCP.Relay)
		}
		if d := segmentDnsmasq(s); d.Text != "" {
			out = append(out, d)
		}
	}
	if len(relay.Ports) > 0 {
		out = append(out, relay)
	}
	return out
}

// dnsmasqHead keeps dnsmasq from everything of the system that is not ours,
// and takes no names from clients: who calls itself "portal" is not the portal.
const dnsmasqHead = `user=nobody
no-resolv
no-hosts
bind-dynamic
except-interface=lo
dhcp-ignore-names
quiet-dhcp
quiet-dhcp6
quiet-ra
`

func segmentDnsmasq(s edge.Segment) Dnsmasq {
	servers := upstream(s)
	lends := s.DHCP.From.IsValid() && s.V4.IsValid()
	announces := s.V6.IsValid() && (lends || s.DHCP.Relay.IsValid())
	if len(servers) == 0 && !lends && !announces {
		return Dnsmasq{}
	}
	d := Dnsmasq{Name: string(s.Kind), Ports: []string{s.Port}, Leases: lends}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(dnsmasqHead)
	line("interface=%s", s.Port)
	if len(servers) == 0 {
		line("port=0")
	} else {
		line("cache-size=1000")
	}
	for _, u := range servers {
		line("server=%s", u)
	}
	if lends {
		leases(line, s, len(servers) > 0)
	}
	if announces {
		line("enable-ra")
		line("dhcp-range=%s,ra-only,%d", s.V6.Masked().Addr(), s.V6.Bits())
		if len(servers) > 0 {
			line("dhcp-option=option6:dns-server,[%s]", Gateway(s.V6).Addr())
		}
	}
	d.Text = b.String()
	return d
}

// upstream are the segment's DNS servers, each asked from the gateway address
// of its family.
func upstream(s edge.Segment) []string {
	var out []string
	for _, a := range s.DNS {
		if own := gatewayFor(s, a); own.IsValid() {
			out = append(out, fmt.Sprintf("%s@%s", a, own))
		}
	}
	return out
}

// gatewayFor is the box's address in a segment of the family of a.
func gatewayFor(s edge.Segment, a netip.Addr) netip.Addr {
	p := s.V4
	if a.Is6() {
		p = s.V6
	}
	if !p.IsValid() {
		return netip.Addr{}
	}
	return Gateway(p).Addr()
}

func leases(line func(string, ...any), s edge.Segment, names bool) {
	gw := Gateway(s.V4).Addr()
	line("dhcp-authoritative")
	line("dhcp-range=%s,%s,%s,%d", s.DHCP.From, s.DHCP.To, mask(s.V4), max(s.DHCP.LeaseSeconds, minLease))
	line("dhcp-option=option:router,%s", gw)
	if names {
		line("dhcp-option=option:dns-server,%s", gw)
	}
	if ntpServed(s) {
		line("dhcp-option=option:ntp-server,%s", gw)
	}
	for _, r := range s.DHCP.Reservations {
		host := fmt.Sprintf("dhcp-host=%s,%s", r.MAC, r.Addr)
		if name := hostLabel(r.Name); name != "" {
			host += "," + name
		}
		line("%s", host)
	}
}

// minLease is the shortest lease dnsmasq gives, seconds.
const minLease = 120

// mask is the dotted netmask of an IPv4 prefix.
func mask(p netip.Prefix) netip.Addr {
	n := ^uint32(0) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// hostLabel makes a DNS label of a reservation's name; what cannot stand in one
// is left out.
func hostLabel(name string) string {
	name = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		case c == ' ', c == '_', c == '.':
			return '-'
		}
		return -1
	}, name)
	if len(name) > 63 {
		name = name[:63]
	}
	return strings.Trim(name, "-")
}
