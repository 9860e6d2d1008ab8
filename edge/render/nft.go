package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
)

// ruleset writes the text of table inet wardnet. Chains are written as they
// come; prefix sets collect in sets, once per distinct list, and stand before
// them in the result.
type ruleset struct {
	sets   []string
	named  map[string]string // by content
	chains strings.Builder
	// What was found of a list before: a hub's rules name the same long ones again
	// and again.
	split map[listID][2][]netip.Prefix // its families
	refs  map[listID]string
}

// listID is a list of prefixes by where it is, which no rule changes.
type listID struct {
	first *netip.Prefix
	n     int
}

// families is [families], remembered.
func (r *ruleset) families(list []netip.Prefix) (v4, v6 []netip.Prefix) {
	if len(list) == 0 {
		return nil, nil
	}
	id := listID{&list[0], len(list)}
	known, ok := r.split[id]
	if !ok {
		known[0], known[1] = families(list)
		r.split[id] = known
	}
	return known[0], known[1]
}

// nft is the whole filter as one transaction. Both base policies are drop.
//
// Names of sets: overlay, circuits, segments, uplinks, remote (overlay and
// uplinks) and inside (all but circuits) of interfaces; peers (interface and address of each tunnel's far end), ours4 and ours6 (all
// the overlay may reach), own4 and own6 (this site), n4_1… and n6_1… (prefix
// lists of rules).
func (p *plan) nft() string {
	r := &ruleset{named: map[string]string{}, split: map[listID][2][]netip.Prefix{}, refs: map[listID]string{}}
	p.interfaceSets(r)
	for _, list := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"ours", slices.Concat(p.overlay, p.own)}, {"own", p.own}} {
		v4, v6 := families(list.prefixes)
		r.setText(list.name+"4", "ipv4_addr", true, joined(v4))
		r.setText(list.name+"6", "ipv6_addr", true, joined(v6))
	}
	p.guardChains(r)
	p.classifyChain(r)
	p.inputChain(r)
	p.forwardChains(r)
	p.outputChain(r)
	p.translateChains(r)
	var b strings.Builder
	b.WriteString("table inet wardnet {}\ndelete table inet wardnet\ntable inet wardnet {\n")
	for _, s := range r.sets {
		b.WriteString(s)
	}
	b.WriteString(r.chains.String())
	b.WriteString("}\n")
	return b.String()
}

// set adds a named set; without elements it matches nothing.
func (r *ruleset) set(name, typ string, interval bool, elements []string) {
	r.setText(name, typ, interval, strings.Join(elements, nextElement))
}

// nextElement stands between the elements of a set.
const nextElement = ",\n\t\t\t     "

// setText is set with the elements joined.
func (r *ruleset) setText(name, typ string, interval bool, elements string) {
	var b strings.Builder
	b.Grow(len(elements) + 100)
	fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", name, typ)
	if interval {
		b.WriteString("\t\tflags interval\n")
	}
	if len(elements) > 0 {
		b.WriteString("\t\telements = { ")
		b.WriteString(elements)
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n")
	r.sets = append(r.sets, b.String())
}

// prefixes returns a reference to the set of a prefix list.
func (r *ruleset) prefixes(list []netip.Prefix, v6 bool) string {
	typ, prefix := "ipv4_addr", "n4_"
	if v6 {
		typ, prefix = "ipv6_addr", "n6_"
	}
	id := listID{n: len(list)}
	if id.n > 0 {
		id.first = &list[0]
	}
	if ref, known := r.refs[id]; known {
		return ref
	}
	elements := joined(list)
	name, known := r.named[elements]
	if !known {
		n := 1
		for _, other := range r.named {
			if strings.HasPrefix(other, prefix) {
				n++
			}
		}
		name = fmt.Sprintf("%s%d", prefix, n)
		r.named[elements] = name
		r.setText(name, typ, true, elements)
	}
	r.refs[id] = "@" + name
	return r.refs[id]
}

// chain opens a base chain, or a plain one where hook is empty.
func (r *ruleset) chain(name, hook string, rules func()) {
	fmt.Fprintf(&r.chains, "\tchain %s {\n", name)
	if hook != "" {
		fmt.Fprintf(&r.chains, "\t\t%s\n", hook)
	}
	rules()
	r.chains.WriteString("\t}\n")
}

// rule writes one rule of the chain that is open.
func (r *ruleset) rule(format string, args ...any) {
	fmt.Fprintf(&r.chains, "\t\t"+format+"\n", args...)
}

func (p *plan) interfaceSets(r *ruleset) {
	var overlay, circuits, segments, uplinks, peers []string
	for _, t := range p.Tunnels {
		overlay = append(overlay, quote(Interface(t)))
		peers = append(peers, quote(Interface(t))+" . "+t.Remote.String())
	}
	for _, c := range p.circuits {
		circuits = append(circuits, quote(c.Port))
	}
	for _, s := range p.Segments {
		segments = append(segments, quote(s.Port))
	}
	for _, u := range p.Uplinks {
		uplinks = append(uplinks, quote(u.Port))
		peers = append(peers, quote(u.Port)+" . "+u.Peer.String())
	}
	r.set("overlay", "ifname", false, distinct(overlay))
	r.set("circuits", "ifname", false, distinct(circuits))
	r.set("segments", "ifname", false, distinct(segments))
	r.set("uplinks", "ifname", false, distinct(uplinks))
	r.set("remote", "ifname", false, distinct(slices.Concat(overlay, uplinks)))
	r.set("inside", "ifname", false, distinct(slices.Concat(overlay, segments, uplinks)))
	r.set("peers", "ifname . ipv4_addr", false, distinct(peers))
}

// guardChains drop what cannot be true before anything else looks at it:
// sources of another segment or of nobody, overlay addresses on a circuit, own
// addresses coming back, and router advertisements from hosts.
func (p *plan) guardChains(r *ruleset) {
	r.chain("guard", "type filter hook prerouting priority raw; policy accept;", func() {
		for _, s := range p.Segments {
			r.rule("iifname %s goto guard_%s", quote(s.Port), s.Kind)
		}
		for _, u := range p.Uplinks {
			r.rule("iifname %s goto guard_uplink_%s", quote(u.Port), word(u.Name))
		}
		r.rule("iifname @overlay goto guard_overlay")
		r.rule("iifname @circuits goto guard_circuits")
	})
	for _, s := range p.Segments {
		r.chain("guard_"+string(s.Kind), "", func() { p.guardSegment(r, s) })
	}
	for _, u := range p.Uplinks {
		r.chain("guard_uplink_"+word(u.Name), "", func() {
			from := append([]netip.Prefix{u.Local.Masked(), innerPrefix(u.Local).Masked()}, u.Accept...)
			v4, v6 := families(from)
			r.rule("ip saddr %s accept", r.prefixes(v4, false))
			r.rule("ip6 saddr %s accept", r.prefixes(v6, true))
			r.rule("ip6 saddr fe80::/10 accept")
			r.rule("ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld2-listener-report } accept")
			r.rule("counter drop comment \"source not behind uplink %s\"", word(u.Name))
		})
	}
	r.chain("guard_overlay", "", func() {
		r.rule("ip saddr @own4 counter drop comment \"own source from a tunnel\"")
		r.rule("ip6 saddr @own6 counter drop comment \"own source from a tunnel\"")
		for _, l := range p.Legacy {
			r.rule("ip daddr %s counter drop comment \"untranslated\"", l.Inside)
		}
	})
	r.chain("guard_circuits", "", func() {
		for _, a := range []string{"saddr", "daddr"} {
			r.rule("ip %s @ours4 counter drop comment \"overlay address on a circuit\"", a)
			r.rule("ip6 %s @ours6 counter drop comment \"overlay address on a circuit\"", a)
		}
	})
}

func (p *plan) guardSegment(r *ruleset, s edge.Segment) {
	r.rule("icmpv6 type { nd-router-advert, nd-redirect } counter drop comment \"router advertisement in %s\"", s.Kind)
	r.rule("icmp type { redirect, router-advertisement } counter drop comment \"router advertisement in %s\"", s.Kind)
	if s.DHCP.From.IsValid() || s.DHCP.Relay.IsValid() {
		r.rule("ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept")
	}
	inside := some(s.V4)
	for _, l := range p.Legacy {
		if l.Segment == s.Kind {
			r.rule("ip saddr %s counter drop comment \"address of translated hosts in %s\"", l.Outside, s.Kind)
			inside = append(inside, l.Inside)
		}
	}
	if len(inside) > 0 {
		r.rule("ip saddr %s accept", r.prefixes(disjoint(inside), false))
	}
	if s.V6.IsValid() {
		r.rule("ip6 saddr %s accept", r.prefixes(some(s.V6), true))
		r.rule("ip6 saddr fe80::/10 ip6 daddr { fe80::/10, ff02::/16, %s } accept", Gateway(s.V6).Addr())
		r.rule("ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } accept")
	}
	r.rule("counter drop comment \"source not of %s\"", s.Kind)
}

// outputChain keeps overlay traffic of the box itself out of the circuits; the
// rest of what the box says is its own.
func (p *plan) outputChain(r *ruleset) {
	r.chain("output", "type filter hook output priority filter; policy accept;", func() {
		for _, a := range []string{"saddr", "daddr"} {
			r.rule("oifname @circuits ip %s @ours4 counter drop comment \"overlay in clear\"", a)
			r.rule("oifname @circuits ip6 %s @ours6 counter drop comment \"overlay in clear\"", a)
		}
	})
}

// translateChains map legacy prefixes one to one, and hide what goes to the
// internet behind the circuit's address.
func (p *plan) translateChains(r *ruleset) {
	if len(p.Legacy) > 0 {
		r.chain("translate_in", "type nat hook prerouting priority dstnat; policy accept;", func() {
			for _, l := range p.Legacy {
				r.rule("iifname != @circuits dnat ip prefix to ip daddr map { %s : %s }", l.Outside, l.Inside)
			}
		})
	}
	r.chain("translate_out", "type nat hook postrouting priority srcnat; policy accept;", func() {
		for _, rule := range p.Rules {
			if !rule.Internet {
				continue
			}
			v4, v6 := families(p.withInside(rule.Src))
			if len(v4) > 0 {
				r.rule("oifname @circuits ip saddr %s masquerade comment %s", r.prefixes(v4, false), comment(rule))
			}
			if len(v6) > 0 {
				r.rule("oifname @circuits ip6 saddr %s masquerade comment %s", r.prefixes(v6, true), comment(rule))
			}
		}
		for _, l := range p.Legacy {
			s, _ := p.segment(l.Segment)
			r.rule("oifname != @circuits oifname != %s snat ip prefix to ip saddr map { %s : %s }", quote(s.Port), l.Inside, l.Outside)
		}
	})
}

// withInside adds to a prefix list what it means inside this site: where it
// holds translated addresses, those that the hosts are configured with.
func (p *plan) withInside(list []netip.Prefix) []netip.Prefix {
	if len(p.Legacy) == 0 {
		return list
	}
	out := slices.Clone(list)
	for _, l := range p.Legacy {
		if slices.ContainsFunc(list, func(q netip.Prefix) bool { return inside(l.Outside, q) }) {
			out = append(out, l.Inside)
		}
	}
	return out
}

// families sorts and splits a prefix list, dropping what lies in another one.
func families(list []netip.Prefix) (v4, v6 []netip.Prefix) {
	all := disjoint(list) // IPv4 first
	n := 0
	for i, a := range all {
		all[i] = a.Masked()
		if a.Addr().Is4() {
			n++
		}
	}
	return all[:n:n], all[n:]
}

// joined writes a list as elements of a set.
func joined(list []netip.Prefix) string {
	out := make([]byte, 0, 24*len(list))
	for i, a := range list {
		if i > 0 {
			out = append(out, nextElement...)
		}
		if a.IsSingleIP() {
			out = a.Addr().AppendTo(out)
		} else {
			out = a.AppendTo(out)
		}
	}
	return string(out)
}

// distinct sorts and drops repetitions.
func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func quote(name string) string { return `"` + name + `"` }

// word keeps of a name what may stand in a chain's name and in a comment.
func word(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~' {
			return c
		}
		return '_'
	}, name)
}

// comment names the permit that a line comes from, and its segment.
func comment(r edge.Rule) string {
	return quote(word(strings.Trim(string(r.Permit)+"/"+string(r.From), "/")))
}
