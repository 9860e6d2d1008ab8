package openconfig

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// rules puts the rules together from the entries that are their own: those in
// the list of where the flow comes from.
func (b *rebuilt) rules() {
	have := map[string][]aclEntry{} // by rule
	var order []string
	for _, p := range sorted(b.have) {
		it := b.have[p]
		set, ok := it.value.(*aclSet)
		if !ok {
			continue
		}
		entries := slices.Clone(set.Entries.List)
		slices.SortFunc(entries, func(x, y aclEntry) int { return int(x.Sequence) - int(y.Sequence) })
		for _, e := range entries {
			if name, ok := strings.CutPrefix(e.Config.Description, mark+forPermit); ok {
				if _, seen := have[name]; !seen {
					order = append(order, name)
				}
				have[name] = append(have[name], e)
			}
		}
	}
	b.out.Rules = nil
	for _, r := range b.c.Rules {
		name := ruleName(r)
		got, ok := have[name]
		delete(have, name)
		switch {
		case r.Internet:
		case equalEntries(got, r):
			b.out.Rules = append(b.out.Rules, r)
		case ok:
			b.out.Rules = append(b.out.Rules, merged(r, got))
		}
	}
	for _, name := range order {
		if got, ok := have[name]; ok {
			permit, from, _ := strings.Cut(name, "/")
			r := edge.Rule{Permit: inventory.PermitID(permit)}
			if from != "tunnels" {
				r.From = inventory.SegmentKind(from)
			}
			b.out.Rules = append(b.out.Rules, merged(r, got))
		}
	}
}

// equalEntries tells whether the entries say what the rule says.
func equalEntries(got []aclEntry, r edge.Rule) bool {
	var l list
	l.permit(r, "")
	want := slices.Concat(l.entries[0], l.entries[1])
	return slices.EqualFunc(got, want, func(a, b aclEntry) bool { return reach(a) == reach(b) })
}

// reach is what an entry lets pass.
func reach(e aclEntry) string {
	m, t := e.IPv4, transport{}
	if m == nil {
		m = e.IPv6
	}
	if m == nil {
		m = &match{}
	}
	if e.Transport != nil {
		t = *e.Transport
	}
	return fmt.Sprint(m.Config, t.Config, bare(string(e.Actions.Config.Forwarding)), e.IPv4 != nil, e.Other)
}

// merged is r with the sources, destinations and ports of its entries.
func merged(r edge.Rule, entries []aclEntry) edge.Rule {
	r.Src, r.Dst, r.Ports = nil, nil, nil
	for _, e := range entries {
		s, d, p := e.flow()
		r.Src, r.Dst, r.Ports = once(r.Src, s), once(r.Dst, d), once(r.Ports, p)
	}
	return r
}

func once[T comparable](in []T, v T) []T {
	if slices.Contains(in, v) {
		return in
	}
	return append(in, v)
}

// flow reads an entry forwards; what it leaves open is everything.
func (e aclEntry) flow() (src, dst netip.Prefix, ports inventory.PortRange) {
	m, all := e.IPv4, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if m == nil && e.IPv6 != nil {
		m, all = e.IPv6, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if m == nil {
		return all, all, ports
	}
	read := func(p ipPrefix) netip.Prefix {
		if v, err := netip.ParsePrefix(string(p)); err == nil {
			return v
		}
		return all
	}
	switch m.Config.Protocol {
	case protoTCP:
		ports.Proto = inventory.TCP
	case protoUDP:
		ports.Proto = inventory.UDP
	case protoICMP, protoICMPv6:
		ports.Proto = inventory.ICMP
	default:
		ports.Proto = inventory.Proto(m.Config.Protocol)
	}
	if e.Transport != nil {
		ports.From, ports.To, _ = e.Transport.Config.Destination.ends()
	}
	return read(m.Config.Source), read(m.Config.Destination), ports
}

// oddRules tell of a list or a binding that is not as it must be: one rule for
// each entry that lets pass what no rule does, and one for the rest of it.
func oddRules(it, have item) []edge.Rule {
	from := inventory.SegmentKind("")
	if name, ok := strings.CutPrefix(it.name, aclIn); ok {
		from = inventory.SegmentKind(name[:max(0, len(name)-2)]) // less the family
	}
	out := []edge.Rule{{Permit: inventory.PermitID("drift:" + it.path.String()), From: from}}
	set, ok := have.value.(*aclSet)
	if !ok {
		return out
	}
	for _, e := range set.Entries.List {
		if strings.HasPrefix(e.Config.Description, mark) && len(e.Other) == 0 || !e.Actions.Config.Forwarding.is("ACCEPT") {
			continue
		}
		s, d, p := e.flow()
		out = append(out, edge.Rule{
			Permit: inventory.PermitID(fmt.Sprintf("drift:%s#%d", it.name, e.Sequence)), From: from,
			Src: []netip.Prefix{s}, Dst: []netip.Prefix{d}, Ports: []inventory.PortRange{p},
		})
	}
	return out
}
