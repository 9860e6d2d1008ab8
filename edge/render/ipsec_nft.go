package render

import (
	"fmt"
	"net/netip"
	"strings"
)

// IPsecTable is the nftables table of [IPsecNFT].
const IPsecTable = "wardnet_ipsec"

// IPsecNFT is one `nft -f` transaction that replaces table inet wardnet_ipsec,
// or removes it when there are no tunnels. It gives a VXLAN interface what
// WireGuard has of itself: VXLAN never leaves unencrypted, is taken out of IPsec
// only, and only with the peer's own VNI (RFC 7348 §6: the receiver has to check
// it), and a tunnel carries its allowed addresses only, both ways. What passes
// here is still subject to the box's own table.
//
// A tunnel that is not admitted takes no VXLAN at all.
//
// Userspace ESP shows as interface ipsec0, kernel ESP as a packet with a
// security path; the rules ask for either.
func IPsecNFT(tunnels []IPsecTunnel) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %[1]s\n", IPsecTable)
	if len(tunnels) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "table inet %s {\n", IPsecTable)
	for _, t := range tunnels {
		writeTunnelChains(&b, t)
	}
	b.WriteString("\tchain vxlan {\n\t\tiifname != \"ipsec0\" meta ipsec missing counter drop\n")
	writeDispatch(&b, "ip saddr", tunnels, func(t IPsecTunnel) (string, string) {
		if !t.Admitted {
			return "", ""
		}
		return t.PeerVTEP.String(), "vtep_"
	})
	b.WriteString("\t\tcounter drop\n\t}\n")
	b.WriteString("\tchain input {\n\t\ttype filter hook input priority -10; policy accept;\n")
	fmt.Fprintf(&b, "\t\tiifname \"ipsec0\" udp dport != %d counter drop\n", VXLANPort)
	b.WriteString("\t\tiifname \"ipsec0\" meta l4proto != udp counter drop\n")
	fmt.Fprintf(&b, "\t\tudp dport %d jump vxlan\n\t}\n", VXLANPort)
	b.WriteString("\tchain output {\n\t\ttype filter hook output priority -10; policy accept;\n")
	fmt.Fprintf(&b, "\t\tudp dport %d oifname != \"ipsec0\" rt ipsec missing counter drop\n\t}\n", VXLANPort)
	iface := func(prefix string) func(IPsecTunnel) (string, string) {
		return func(t IPsecTunnel) (string, string) { return `"` + t.Interface + `"`, prefix }
	}
	b.WriteString("\tchain prerouting {\n\t\ttype filter hook prerouting priority -310; policy accept;\n")
	writeDispatch(&b, "iifname", tunnels, iface("from_"))
	b.WriteString("\t}\n\tchain postrouting {\n\t\ttype filter hook postrouting priority 310; policy accept;\n")
	writeDispatch(&b, "oifname", tunnels, iface("to_"))
	b.WriteString("\t}\n}\n")
	return b.String()
}

// writeTunnelChains writes the three chains of a tunnel. Neighbour discovery
// (RFC 4861) has link-local and multicast addresses.
func writeTunnelChains(b *strings.Builder, t IPsecTunnel) {
	fmt.Fprintf(b, "\tchain vtep_%s {\n\t\tip daddr != %s counter drop\n\t\t@th,96,24 != 0x%06x counter drop\n\t}\n", t.Interface, t.VTEP, t.VNI)
	const discovery = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
	fmt.Fprintf(b, "\tchain from_%s {\n", t.Interface)
	writeAllowed(b, "saddr", t.AllowedIPs)
	fmt.Fprintf(b, "\t\tip6 saddr fe80::/10 %s\t\tcounter drop\n\t}\n", discovery)
	fmt.Fprintf(b, "\tchain to_%s {\n", t.Interface)
	writeAllowed(b, "daddr", t.AllowedIPs)
	fmt.Fprintf(b, "\t\tip6 daddr { fe80::/10, ff02::/16 } %s\t\tcounter drop\n\t}\n", discovery)
}

func writeAllowed(b *strings.Builder, field string, allowed []netip.Prefix) {
	var v4, v6 []string
	for _, p := range allowed {
		if p.Addr().Is4() {
			v4 = append(v4, p.String())
		} else {
			v6 = append(v6, p.String())
		}
	}
	if len(v4) > 0 {
		fmt.Fprintf(b, "\t\tip %s { %s } accept\n", field, strings.Join(v4, ", "))
	}
	if len(v6) > 0 {
		fmt.Fprintf(b, "\t\tip6 %s { %s } accept\n", field, strings.Join(v6, ", "))
	}
}

// writeDispatch sends packets to the tunnels' chains by field; a tunnel with an
// empty key has none.
func writeDispatch(b *strings.Builder, field string, tunnels []IPsecTunnel, key func(IPsecTunnel) (string, string)) {
	items := make([]string, 0, len(tunnels))
	for _, t := range tunnels {
		if k, prefix := key(t); k != "" {
			items = append(items, fmt.Sprintf("%s : goto %s%s", k, prefix, t.Interface))
		}
	}
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(b, "\t\t%s vmap { %s }\n", field, strings.Join(items, ", "))
}
