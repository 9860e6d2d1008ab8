package openconfig

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// kinds are the parts of a config that the device's models can hold.
func (q Quirks) kinds() []edge.Kind {
	out := []edge.Kind{edge.KindLoopback, edge.KindCircuit, edge.KindSegment}
	if !q.lacks("bgp") {
		out = append(out, edge.KindBGP, edge.KindNeighbour)
	}
	if !q.lacks("acl") {
		out = append(out, edge.KindRule)
	}
	return out
}

// readBack returns c with the parts that the models hold as the device has
// them: c itself when the device is as c wants it. What a part has beyond the
// models (a circuit's rate, a segment's DHCP) stays c's. It is pure.
func readBack(tree *node, q Quirks, c edge.Config) (edge.Config, error) {
	have, err := owned(tree, q, c)
	if err != nil {
		return edge.Config{}, err
	}
	off, err := differ(have, settle(render(c, q).items, tree))
	if err != nil || len(off) == 0 {
		return c, err
	}
	b := &rebuilt{c: c, q: q.withDefaults(), have: have, tree: tree}
	b.out = c
	b.loopback()
	b.circuits()
	b.segments()
	if !q.lacks("bgp") {
		b.bgp()
		b.neighbours()
	}
	if !q.lacks("acl") {
		b.rules()
	}
	return b.rest()
}

// rebuilt puts a config together from what the device holds.
type rebuilt struct {
	c, out edge.Config
	q      Quirks
	have   items
	tree   *node
}

func (b *rebuilt) loopback() {
	b.out.Loopback = netip.Addr{}
	it, ok := b.have[loopbackPath(b.q).String()]
	if !ok {
		return
	}
	if v := it.value.(*iface); v.Subs != nil {
		for _, s := range v.Subs.List {
			if a := s.prefixes(); len(a) > 0 {
				b.out.Loopback = a[0].Addr()
				return
			}
		}
	}
}

// prefixes are the addresses of a subinterface that are well-formed.
func (s sub) prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, f := range []*ip{s.IPv4, s.IPv6} {
		if f == nil || f.Addresses == nil {
			continue
		}
		for _, a := range f.Addresses.List {
			if p, ok := a.prefix(); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

func (a address) prefix() (netip.Prefix, bool) {
	ip, err := netip.ParseAddr(string(a.IP))
	if err != nil {
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(ip, int(min(a.Config.Length, 255)))
	return p, p.IsValid()
}

// attached is a port of ours as it is on the device.
type attached struct {
	port  string
	mtu   int
	addrs []netip.Prefix
}

// ports are the attachments of a kind by the names they are marked with.
func (b *rebuilt) ports(kind edge.Kind) map[string]attached {
	out := map[string]attached{}
	for _, p := range sorted(b.have) {
		it := b.have[p]
		if it.kind != kind {
			continue
		}
		a := out[it.name]
		switch v := it.value.(type) {
		case *ifaceConfig:
			a.port = it.path[1].keys[0].value
			if v.MTU > 0 {
				a.mtu = int(min(v.MTU, 1<<16)) - b.q.MTUOverhead
			}
		case *sub:
			a.port = port{it.path[1].keys[0].value, uint64(v.Index)}.String()
			a.addrs = v.prefixes()
			if v.IPv4 != nil && v.IPv4.Config != nil {
				a.mtu = int(min(v.IPv4.Config.MTU, 1<<16))
			}
		case *address:
			if p, ok := v.prefix(); ok {
				a.addrs = append(a.addrs, p)
			}
		}
		out[it.name] = a
	}
	return out
}

func (b *rebuilt) circuits() {
	have := b.ports(edge.KindCircuit)
	b.out.Circuits = nil
	for _, k := range b.c.Circuits {
		a, ok := have[k.Name]
		delete(have, k.Name)
		if k.Port != "" {
			if !ok {
				continue
			}
			k = a.circuit(k)
		}
		b.out.Circuits = append(b.out.Circuits, k)
	}
	for _, name := range sorted(have) {
		b.out.Circuits = append(b.out.Circuits, have[name].circuit(edge.Circuit{Name: name}))
	}
}

func (a attached) circuit(k edge.Circuit) edge.Circuit {
	k.Port = a.port
	if k.MTU > 0 || a.mtu > 0 {
		k.MTU = a.mtu
	}
	if k.Addressing == inventory.Static || k.Addressing == "" {
		k.Address = netip.Prefix{}
		if len(a.addrs) > 0 {
			k.Address, k.Addressing = a.addrs[0], inventory.Static
		}
	}
	return k
}

func (b *rebuilt) segments() {
	have := b.ports(edge.KindSegment)
	b.out.Segments = nil
	for _, s := range b.c.Segments {
		a, ok := have[string(s.Kind)]
		delete(have, string(s.Kind))
		if s.Port != "" {
			if !ok {
				continue
			}
			s = a.segment(s)
		}
		b.out.Segments = append(b.out.Segments, s)
	}
	for _, name := range sorted(have) {
		b.out.Segments = append(b.out.Segments, have[name].segment(edge.Segment{Kind: inventory.SegmentKind(name)}))
	}
}

func (a attached) segment(s edge.Segment) edge.Segment {
	s.Port, s.V4, s.V6 = a.port, netip.Prefix{}, netip.Prefix{}
	for _, p := range a.addrs {
		if p == gateway(p) {
			p = p.Masked()
		} // else it shows as an address inside, which no intent has
		if p.Addr().Is4() {
			s.V4 = p
		} else {
			s.V6 = p
		}
	}
	return s
}

func (b *rebuilt) bgp() {
	w := &want{q: b.q}
	b.out.BGP = edge.BGP{}
	if it, ok := b.have[w.bgp().String()]; ok {
		g := it.value.(*protocol).BGP.Global.Config
		b.out.BGP.ASN = uint32(min(g.AS, 1<<32-1))
		b.out.BGP.RouterID, _ = netip.ParseAddr(string(g.RouterID))
	}
	if b.q.lacks("routing-policy") {
		b.out.BGP.Networks, b.out.BGP.Accept = b.c.BGP.Networks, b.c.BGP.Accept
		return
	}
	b.out.BGP.Networks = b.prefixes(setNetworks, b.c.BGP.Networks)
	b.out.BGP.Accept = b.prefixes(setAccept, b.c.BGP.Accept)
}

// prefixes are those of a set of both families, in the order of wanted, and then
// what is there beside it.
func (b *rebuilt) prefixes(set string, wanted []netip.Prefix) (out []netip.Prefix) {
	there := map[netip.Prefix]bool{}
	for _, f := range families {
		if it, ok := b.have[prefixSetPath(set+f.suffix).String()]; ok {
			for _, p := range it.value.(*prefixSet).Prefixes.List {
				if n, err := netip.ParsePrefix(string(p.Prefix)); err == nil {
					there[n] = true
				}
			}
		}
	}
	for _, n := range wanted {
		if there[n] {
			out = append(out, n)
			delete(there, n)
		}
	}
	return append(out, slices.SortedFunc(maps.Keys(there), netip.Prefix.Compare)...)
}

func (b *rebuilt) neighbours() {
	have := map[string]*neighbor{}
	for _, it := range b.have {
		if v, ok := it.value.(*neighbor); ok {
			have[it.name] = v
		}
	}
	for _, n := range b.c.BGP.Neighbours {
		v, ok := have[n.Tunnel]
		delete(have, n.Tunnel)
		if ok {
			b.out.BGP.Neighbours = append(b.out.BGP.Neighbours, b.neighbour(n, v))
		}
	}
	for _, name := range sorted(have) {
		b.out.BGP.Neighbours = append(b.out.BGP.Neighbours, b.neighbour(edge.Neighbour{Tunnel: name}, have[name]))
	}
}

func (b *rebuilt) neighbour(n edge.Neighbour, v *neighbor) edge.Neighbour {
	n.Addr, _ = netip.ParseAddr(string(v.Address))
	n.ASN = uint32(min(v.Config.PeerAS, 1<<32-1))
	if !b.q.lacks("routing-policy") {
		n.Preference = 0
	}
	if it, ok := b.have[policyPath(policyIn+n.Tunnel).String()]; ok {
		for _, st := range it.value.(*policyDefinition).Statements.List {
			if st.Actions.BGP != nil {
				n.Preference = int(min(st.Actions.BGP.Config.LocalPref, 1<<32-1))
			}
		}
	}
	at := portTo(b.out, n.Addr)
	it, ok := b.have[bfdPath(portOf(at)).String()]
	switch {
	case !v.BFD.Config.Enabled:
		n.BFDMinMS = 0
	case at != "" && ok && it.name == n.Tunnel: // of several on a port it is the strictest one's
		cfg := it.value.(*bfdInterface).Config
		n.BFDMinMS, n.BFDMult = int(min(cfg.TX, 1<<32-1)/1000), int(min(cfg.Multiplier, 255))
	case at != "" && !ok && !b.q.lacks("bfd"):
		n.BFDMinMS, n.BFDMult = 0, 0
	case n.BFDMinMS == 0:
		n.BFDMinMS, n.BFDMult = 1000, 3 // on, with intervals that are nobody's
	}
	return n
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// rest accounts for what on the device is not as the rebuilt config would have
// it: the part that it belongs to counts as not held, and an access list that
// is not as it must be shows as a rule, for it may let anything pass.
func (b *rebuilt) rest() (edge.Config, error) {
	have, err := owned(b.tree, b.q, b.c, b.out)
	if err != nil {
		return edge.Config{}, err
	}
	want := settle(render(b.out, b.q).items, b.tree)
	off, err := differ(have, want)
	if err != nil {
		return edge.Config{}, err
	}
	for _, p := range off {
		it, ok := have[p]
		if !ok {
			it = want[p]
		}
		b.blame(it, have[p])
	}
	return b.out, nil
}

func (b *rebuilt) blame(it, have item) {
	switch it.kind {
	case edge.KindLoopback:
		b.out.Loopback = netip.Addr{}
	case edge.KindCircuit:
		b.out.Circuits = without(b.out.Circuits, func(k edge.Circuit) bool { return k.Name == it.name && k.Port != "" })
	case edge.KindSegment:
		b.out.Segments = without(b.out.Segments, func(s edge.Segment) bool { return string(s.Kind) == it.name && s.Port != "" })
	case edge.KindBGP:
		if strings.HasPrefix(it.path.String(), prefixSetPath(setAccept+"-4").String()) || strings.HasPrefix(it.path.String(), prefixSetPath(setAccept+"-6").String()) {
			if len(b.c.BGP.Accept) > 0 { // else what is there shows
				b.out.BGP.Accept = nil
			}
			return
		}
		b.out.BGP.Networks = nil
		if len(b.c.BGP.Networks) == 0 { // then their absence shows nothing
			b.out.BGP.RouterID = netip.Addr{}
		}
	case edge.KindNeighbour:
		b.out.BGP.Neighbours = without(b.out.BGP.Neighbours, func(n edge.Neighbour) bool { return n.Tunnel == it.name })
	case edge.KindRule:
		b.out.Rules = append(b.out.Rules, oddRules(it, have)...)
	}
}

// without copies: the lists are shared with the caller's config.
func without[T any](in []T, is func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(in), is)
}
