package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// notInternet4 and notInternet6 are destinations that no breakout reaches
// whatever a permit says: private, shared, link-local and multicast space.
var (
	notInternet4 = []string{"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"}
	notInternet6 = []string{"::/8", "fc00::/7", "fe80::/10", "ff00::/8"}
)

// inputChain says what may speak to the box itself.
func (p *plan) inputChain(r *ruleset) {
	r.chain("input", "type filter hook input priority filter; policy drop;", func() {
		r.rule("ct state established,related accept")
		r.rule("iifname \"lo\" accept")
		r.rule("ct state invalid counter drop comment \"invalid to the box\"")
		r.rule("iifname . ip saddr @peers tcp dport 179 accept comment \"BGP\"")
		r.rule("iifname . ip saddr @peers udp dport 3784 ip ttl 255 accept comment \"BFD\"")
		if isHub(p.Config) {
			r.rule("iifname . ip saddr @peers udp dport %d accept comment \"circuits are measured\"", MeasurePort)
		}
		r.rule("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept")
		r.rule("iifname @inside icmp type echo-request accept")
		r.rule("iifname @inside icmpv6 type echo-request accept")
		r.rule("iifname @circuits icmp type echo-request limit rate 50/second accept")
		r.rule("iifname @circuits icmpv6 type { echo-request, nd-router-advert } limit rate 50/second accept")
		r.rule("iifname @segments icmpv6 type { nd-router-solicit, mld-listener-report, mld2-listener-report } accept")
		p.circuitInput(r)
		for _, s := range p.Segments {
			p.segmentInput(r, s)
		}
		r.rule("counter drop comment \"to the box\"")
	})
}

// circuitInput opens a circuit for its tunnels and for its DHCP server.
func (p *plan) circuitInput(r *ruleset) {
	for _, c := range p.circuits {
		if c.Addressing != inventory.Static {
			r.rule("iifname %s udp sport 67 udp dport 68 accept comment \"DHCP\"", quote(c.Port))
		}
		var listen []uint16
		ipsec := false
		for _, t := range p.Tunnels {
			switch {
			case t.Circuit != c.Name:
			case t.Kind == edge.IPsec:
				ipsec = true
			case t.ListenPort != 0:
				listen = append(listen, t.ListenPort)
			}
		}
		slices.Sort(listen)
		if listen = slices.Compact(listen); len(listen) > 0 {
			to := ""
			if c.address.Addr().Is4() {
				to = fmt.Sprintf("ip daddr %s ", c.address.Addr())
			}
			r.rule("iifname %s %sudp dport { %s } accept comment \"WireGuard\"", quote(c.Port), to, numbers(listen))
		}
		if ipsec {
			r.rule("iifname %s udp dport { 500, %d } accept comment \"IKE and ESP\"", quote(c.Port), IPsecPort)
			r.rule("iifname \"ipsec0\" udp dport %d accept comment \"VXLAN out of userspace ESP\"", VXLANPort)
			r.rule("meta ipsec exists udp dport %d accept comment \"VXLAN out of kernel ESP\"", VXLANPort)
		}
	}
}

// segmentInput opens the services that the box has for a segment.
func (p *plan) segmentInput(r *ruleset, s edge.Segment) {
	port := quote(s.Port)
	switch {
	case s.DHCP.From.IsValid():
		r.rule("iifname %s udp sport 68 udp dport 67 accept comment \"DHCP\"", port)
	case s.DHCP.Relay.IsValid():
		r.rule("iifname %s udp sport 68 udp dport 67 accept comment \"DHCP\"", port)
		r.rule("iifname @inside ip saddr %s udp sport 67 udp dport 67 accept comment \"DHCP relay\"", s.DHCP.Relay)
	}
	for _, a := range some(s.V4, s.V6) {
		family, gw := "ip", Gateway(a).Addr()
		if gw.Is6() {
			family = "ip6"
		}
		if len(s.DNS) > 0 {
			r.rule("iifname %s %s daddr %s udp dport 53 accept comment \"DNS\"", port, family, gw)
			r.rule("iifname %s %s daddr %s tcp dport 53 accept comment \"DNS\"", port, family, gw)
		}
		if len(s.NTP) > 0 {
			r.rule("iifname %s %s daddr %s udp dport 123 accept comment \"NTP\"", port, family, gw)
		}
	}
}

// forwardChains say what may pass through the box.
//
// An edge keeps state: the first packet of a flow needs a rule, the rest
// follows. A hub looks at every packet, for a flow may change hubs: rules for
// what comes from tunnels also hold backwards, with the ports as sources, for
// what comes from tunnels and the data centre. Flows of a hub's own segments are
// kept by state there, both ways: a rule backwards would let a server open flows
// from the port it answers by.
func (p *plan) forwardChains(r *ruleset) {
	hub := isHub(p.Config)
	r.chain("forward_mangle", "type filter hook forward priority mangle; policy accept;", func() {
		r.rule("oifname @overlay tcp flags syn tcp option maxseg size set rt mtu")
		for i, c := range p.Classes {
			r.rule("meta mark and 0x%08x == 0x%08x ip dscp set 0x%02x", uint32(ClassMask), ClassMark(i), c.DSCP)
			r.rule("meta mark and 0x%08x == 0x%08x ip6 dscp set 0x%02x", uint32(ClassMask), ClassMark(i), c.DSCP)
		}
		r.rule("iifname @segments meta mark and 0x%08x == 0 ip dscp set 0x00", uint32(ClassMask))
		r.rule("iifname @segments meta mark and 0x%08x == 0 ip6 dscp set 0x00", uint32(ClassMask))
	})
	r.chain("forward", "type filter hook forward priority filter; policy drop;", func() {
		if hub {
			r.rule("iifname @segments ct state established,related accept")
			r.rule("oifname @segments ct state established,related accept")
		} else {
			r.rule("ct state established,related accept")
			r.rule("ct state invalid counter drop comment \"invalid\"")
		}
		for _, s := range p.Segments {
			r.rule("iifname %s jump from_%s", quote(s.Port), s.Kind)
		}
		r.rule("iifname @overlay jump from_overlay")
		if hub {
			r.rule("oifname @overlay jump back_to_overlay")
			p.errorsFromBoxes(r)
		}
		r.rule("counter drop comment \"not permitted\"")
	})
	for _, s := range p.Segments {
		r.chain("from_"+string(s.Kind), "", func() { p.fromSegment(r, s) })
	}
	r.chain("from_overlay", "", func() {
		out := "oifname @segments"
		if hub {
			out = "oifname @inside"
		}
		for _, rule := range p.Rules {
			if rule.From == "" {
				r.permit(rule, out, rule.Src, p.withInside(rule.Dst), false, "accept")
			}
		}
	})
	if hub {
		r.chain("back_to_overlay", "", func() {
			for _, rule := range p.Rules {
				if rule.From == "" {
					r.permit(rule, "iifname @remote", rule.Dst, rule.Src, true, "accept")
				}
			}
		})
	}
}

// fromSegment: to other sites by the segment's own rules; inside this site to
// just what its rules for traffic from outside name, for no hub is on that path;
// to the internet by the circuits.
func (p *plan) fromSegment(r *ruleset, s edge.Segment) {
	for _, rule := range p.Rules {
		if rule.From != s.Kind {
			continue
		}
		src := p.withInside(rule.Src)
		if rule.Internet {
			r.internet(rule, src)
			continue
		}
		r.permit(rule, "oifname @remote", src, rule.Dst, false, "accept")
		for _, in := range p.Rules {
			if in.From == "" && in.Permit == rule.Permit {
				in.From = rule.From
				r.permit(in, "oifname @segments", src, p.withInside(in.Dst), false, "accept")
			}
		}
	}
}

// internet lets src out by the circuits to all that is not ours or private.
func (r *ruleset) internet(rule edge.Rule, src []netip.Prefix) {
	v4, v6 := families(src)
	for _, f := range []struct {
		family, ours, not string
		src               []netip.Prefix
	}{{"ip", "@ours4", strings.Join(notInternet4, ", "), v4}, {"ip6", "@ours6", strings.Join(notInternet6, ", "), v6}} {
		if len(f.src) == 0 {
			continue
		}
		head := fmt.Sprintf("oifname @circuits %s saddr %s %s daddr != %s %s daddr != { %s }", f.family, r.prefixes(f.src, f.family == "ip6"), f.family, f.ours, f.family, f.not)
		if len(rule.Ports) == 0 {
			r.rule("%s accept comment %s", head, comment(rule))
		}
		for _, m := range matches(rule.Ports, f.family == "ip6", false) {
			r.rule("%s %s accept comment %s", head, m, comment(rule))
		}
	}
}

// errorsFromBoxes lets a hub pass on the ICMP errors of edges: they know no
// state here.
func (p *plan) errorsFromBoxes(r *ruleset) {
	r.rule("iifname . ip saddr @peers icmp type { destination-unreachable, time-exceeded, parameter-problem } accept")
}

// permit writes one line per family and protocol. Backwards is for answers:
// ports are those of the source, and an echo reply is meant.
func (r *ruleset) permit(rule edge.Rule, where string, src, dst []netip.Prefix, backwards bool, verdict string) {
	src4, src6 := r.families(src)
	dst4, dst6 := r.families(dst)
	for _, f := range []struct {
		family   string
		src, dst []netip.Prefix
	}{{"ip", src4, dst4}, {"ip6", src6, dst6}} {
		if len(f.src) == 0 || len(f.dst) == 0 {
			continue
		}
		v6 := f.family == "ip6"
		for _, m := range matches(rule.Ports, v6, backwards) {
			r.rule("%s %s saddr %s %s daddr %s %s %s comment %s", where, f.family, r.prefixes(f.src, v6), f.family, r.prefixes(f.dst, v6), m, verdict, comment(rule))
		}
	}
}

// matches are the protocol parts of a rule, one per protocol.
func matches(ports []inventory.PortRange, v6, backwards bool) []string {
	byProto := map[inventory.Proto][]inventory.PortRange{}
	for _, p := range ports {
		byProto[p.Proto] = append(byProto[p.Proto], p)
	}
	side := "dport"
	if backwards {
		side = "sport"
	}
	var out []string
	for _, proto := range []inventory.Proto{inventory.TCP, inventory.UDP} {
		if list := byProto[proto]; len(list) > 0 {
			out = append(out, fmt.Sprintf("%s %s { %s }", proto, side, strings.Join(ranges(list), ", ")))
		}
	}
	if len(byProto[inventory.ICMP]) > 0 {
		name, typ := "icmp", "echo-request"
		if v6 {
			name = "icmpv6"
		}
		if backwards {
			typ = "echo-reply"
		}
		out = append(out, name+" type "+typ)
	}
	return out
}

// ranges joins overlapping and adjacent port ranges, which a set refuses.
func ranges(list []inventory.PortRange) []string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b inventory.PortRange) int { return int(a.From) - int(b.From) })
	var merged []inventory.PortRange
	for _, p := range list {
		if n := len(merged); n > 0 && int(p.From) <= int(merged[n-1].To)+1 {
			merged[n-1].To = max(merged[n-1].To, p.To)
			continue
		}
		merged = append(merged, p)
	}
	out := make([]string, len(merged))
	for i, p := range merged {
		if out[i] = fmt.Sprint(p.From); p.From != p.To {
			out[i] = fmt.Sprintf("%d-%d", p.From, p.To)
		}
	}
	return out
}

func numbers(list []uint16) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = fmt.Sprint(n)
	}
	return strings.Join(out, ", ")
}

// classifyChain marks packets with their service class before routing looks at
// them, and remembers it for the whole flow. It lets nothing pass. What comes on
// a circuit and begins no flow of a class, as the tunnels' own packets do, and
// what the tunnels' far ends say themselves passes it by: the list is long.
func (p *plan) classifyChain(r *ruleset) {
	if len(p.Classes) == 0 {
		return
	}
	r.chain("classify", "type filter hook prerouting priority mangle; policy accept;", func() {
		r.rule("ct mark and 0x%08x != 0 meta mark set ct mark and 0x%08x return", uint32(ClassMask), uint32(ClassMask))
		r.rule("iifname @circuits return")
		r.rule("iifname . ip saddr @peers return")
		for _, rule := range p.Rules {
			i := p.class(rule.Class)
			if i < 0 || rule.Internet {
				continue
			}
			verdict := fmt.Sprintf("meta mark set 0x%08x ct mark set 0x%08x return", ClassMark(i), ClassMark(i))
			if s, ok := p.segment(rule.From); ok {
				r.permit(rule, "iifname "+quote(s.Port), p.withInside(rule.Src), rule.Dst, false, verdict)
				continue
			}
			r.permit(rule, "iifname @overlay", rule.Src, rule.Dst, false, verdict)
			if isHub(p.Config) {
				r.permit(rule, "iifname @inside", rule.Dst, rule.Src, true, verdict)
			}
		}
	})
}
