package openconfig

import (
	"cmp"
	"net/netip"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// The access lists. OpenConfig's keep no state and are bound to interfaces, so
// a flow is let pass where it enters and where it leaves, and its answers are
// let pass backwards: TCP's only once established, UDP's and ICMP's by their
// ports and addresses. "wardnet-in-<segment>" holds what enters from a segment,
// "wardnet-out" what leaves to any segment; each ends in a denial of the rest.
// No list is bound to a circuit: the management path is never in one.
const (
	aclIn  = "wardnet-in-"
	aclOut = "wardnet-out"
)

// What an entry is for; the description says it after the mark.
const (
	forPermit = "permit " // a rule's own, in the list of where it comes from
	forAlso   = "also "   // the same where it leaves to a segment here
	forReply  = "reply "
	forND     = "neighbour discovery"
	forRest   = "rest"
)

// list is an access list in both families; entries get their numbers last.
type list struct {
	name    string
	entries [2][]aclEntry
}

func ruleName(r edge.Rule) string {
	return string(r.Permit) + "/" + string(cmp.Or(r.From, "tunnels"))
}

func homeOf(from inventory.SegmentKind) string {
	if from == "" {
		return aclOut
	}
	return aclIn + string(from)
}

func (w *want) acl() {
	if len(w.Segments)+len(w.Rules) == 0 {
		return
	}
	lists := map[string]*list{aclOut: {name: aclOut}}
	open := func(name string) *list {
		if lists[name] == nil {
			lists[name] = &list{name: name}
		}
		return lists[name]
	}
	for _, s := range w.Segments {
		w.discovery(open(aclIn + string(s.Kind)))
	}
	if len(w.Segments) > 0 {
		w.discovery(lists[aclOut])
	}
	for _, r := range w.Rules {
		if r.Internet {
			w.fault("rule %s lets segment %s out to the Internet by translation, which the OpenConfig driver cannot write; give that segment a gateway of its own or take the permit away", ruleName(r), r.From)
			continue
		}
		open(homeOf(r.From)).permit(r, forPermit+ruleName(r))
	}
	for _, r := range w.Rules {
		if r.Internet {
			continue
		}
		for _, s := range w.Segments {
			if overlaps(s, r.Dst) {
				open(aclIn + string(s.Kind)).reply(r)
			}
		}
		if r.From == "" {
			continue
		}
		lists[aclOut].reply(r)
		for _, s := range w.Segments {
			if overlaps(s, r.Dst) {
				lists[aclOut].permit(r, forAlso+ruleName(r))
				break
			}
		}
	}
	for _, l := range lists {
		w.write(l)
	}
	for _, s := range w.Segments {
		if s.Port != "" {
			w.bind(s)
		}
	}
}

func overlaps(s edge.Segment, dst []netip.Prefix) bool {
	for _, d := range dst {
		if s.V4.IsValid() && s.V4.Overlaps(d) || s.V6.IsValid() && s.V6.Overlaps(d) {
			return true
		}
	}
	return false
}

// write numbers the entries and appends the denial.
func (w *want) write(l *list) {
	for i, f := range families {
		rest := aclEntry{}
		rest.Config.Description = mark + forRest
		rest.Actions.Config.Forwarding = "openconfig-acl:DROP"
		set := &aclSet{Name: l.name + f.suffix, Type: f.acl}
		set.Config.Name, set.Config.Type = set.Name, f.acl
		set.Entries.List = append(l.entries[i], rest)
		for n := range set.Entries.List {
			e := &set.Entries.List[n]
			e.Sequence = num(10 * (n + 1))
			e.Config.Sequence = e.Sequence
		}
		w.put(item{kind: edge.KindRule, name: set.Name, path: aclSetPath(set.Name, f.acl), value: set})
	}
}

func aclSetPath(name string, t identity) path {
	return path{}.to("acl", "acl-sets").list("acl-set", name, bare(string(t)))
}

func (w *want) bind(s edge.Segment) {
	p := portOf(s.Port)
	for _, f := range families {
		for _, d := range []struct{ container, list, set string }{
			{"ingress-acl-sets", "ingress-acl-set", aclIn + string(s.Kind) + f.suffix},
			{"egress-acl-sets", "egress-acl-set", aclOut + f.suffix},
		} {
			b := &binding{Set: d.set, Type: f.acl}
			b.Config.Set, b.Config.Type = d.set, f.acl
			w.put(item{
				kind: edge.KindRule, name: d.set, value: b,
				path: aclInterfacePath(p).to(d.container).list(d.list, d.set, bare(string(f.acl))),
			})
		}
	}
}

func aclInterfacePath(p port) path {
	return path{}.to("acl", "interfaces").list("interface", p.String())
}

// discovery lets the segments find their gateway (RFC 4861): ICMPv6 that stays
// on the link or in the segment.
func (w *want) discovery(l *list) {
	add := func(src, dst string) {
		e := entry(forND, false, ipPrefix(src), ipPrefix(dst))
		e.IPv6.Config.Protocol = protoICMPv6
		l.entries[1] = append(l.entries[1], e)
	}
	add("fe80::/10", "")
	add("", "fe80::/10")
	add("", "ff02::/16")
	for _, s := range w.Segments {
		if s.V6.IsValid() && (l.name == aclOut || l.name == aclIn+string(s.Kind)) {
			add(s.V6.String(), s.V6.String())
		}
	}
}

func entry(purpose string, v4 bool, src, dst ipPrefix) aclEntry {
	var e aclEntry
	e.Config.Description = mark + purpose
	e.Actions.Config.Forwarding = "openconfig-acl:ACCEPT"
	m := &match{}
	m.Config.Source, m.Config.Destination = src, dst
	if v4 {
		e.IPv4 = m
	} else {
		e.IPv6 = m
	}
	return e
}

func (l *list) permit(r edge.Rule, purpose string) { l.product(r, purpose, false) }

func (l *list) reply(r edge.Rule) { l.product(r, forReply+ruleName(r), true) }

// product writes one entry for each source, destination of its family and
// port range; backwards for answers.
func (l *list) product(r edge.Rule, purpose string, back bool) {
	for _, s := range r.Src {
		for _, d := range r.Dst {
			if s.Addr().Is4() != d.Addr().Is4() {
				continue
			}
			for _, p := range r.Ports {
				l.add(s, d, p, purpose, back)
			}
		}
	}
}

func (l *list) add(s, d netip.Prefix, p inventory.PortRange, purpose string, back bool) {
	v4 := s.Addr().Is4()
	if back {
		s, d = d, s
	}
	e := entry(purpose, v4, ipPrefix(s.Masked().String()), ipPrefix(d.Masked().String()))
	m, i := e.IPv4, 0
	if !v4 {
		m, i = e.IPv6, 1
	}
	ports := span(p.From, p.To)
	var t transport
	switch p.Proto {
	case inventory.TCP:
		m.Config.Protocol = protoTCP
		if back {
			t.Config.Mode, t.Config.Builtin = "BUILTIN", "TCP_ESTABLISHED"
		}
	case inventory.UDP:
		m.Config.Protocol = protoUDP
	default:
		m.Config.Protocol, ports = protoICMP, ""
		if !v4 {
			m.Config.Protocol = protoICMPv6
		}
	}
	if back {
		t.Config.Source = ports
	} else {
		t.Config.Destination = ports
	}
	e.Transport = nonZero(&t)
	l.entries[i] = append(l.entries[i], e)
}
