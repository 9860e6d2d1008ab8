package openconfig

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/edge"
)

// Names of what belongs to the whole BGP process.
const (
	setNetworks    = "wardnet-networks" // with -4 or -6: prefix sets
	setAccept      = "wardnet-accept"   // with -4 or -6: prefix sets
	policyNetworks = "wardnet-networks" // what may leave
	policyIn       = "wardnet-in-"      // with the tunnel: what comes in, and its preference
	dropIndex      = "wardnet"          // next hop of a static route that is ours
)

func (w *want) instance() path {
	return path{}.to("network-instances").list("network-instance", w.q.NetworkInstance)
}

func (w *want) bgp() path {
	return w.instance().to("protocols").list("protocol", "BGP", w.q.BGP)
}

func (w *want) routing() {
	b := w.BGP
	if b.ASN == 0 {
		if len(b.Neighbours)+len(b.Networks) > 0 {
			w.fault("BGP has neighbours or networks and no AS number")
		}
		return
	}
	p := &protocol{
		Identifier: "openconfig-policy-types:BGP", Name: w.q.BGP,
		Config: protocolConfig{"openconfig-policy-types:BGP", w.q.BGP}, BGP: &bgp{},
	}
	p.BGP.Global.Config.AS = num(b.ASN)
	if b.RouterID.IsValid() {
		p.BGP.Global.Config.RouterID = ipAddr(b.RouterID.String())
	}
	w.put(item{kind: edge.KindBGP, shared: true, path: w.bgp(), value: p})
	if !w.q.lacks("routing-policy") {
		w.networks()
		w.acceptance()
	}
	for _, n := range b.Neighbours {
		w.neighbour(n)
	}
}

// networks originates the prefixes: each is a static route to nowhere, which
// is less specific than what the device knows, goes into BGP by a policy, and
// is all that leaves.
func (w *want) networks() {
	policy := &policyDefinition{Name: policyNetworks}
	policy.Config.Name = policyNetworks
	for _, f := range families {
		set := &prefixSet{Name: setNetworks + f.suffix}
		set.Config.Name, set.Config.Mode = set.Name, f.mode
		for _, n := range w.BGP.Networks {
			if n.Addr().Is4() == f.v4 {
				set.Prefixes.List = append(set.Prefixes.List, exact(n))
				if !w.q.lacks("static-routes") {
					w.blackhole(n)
				}
			}
		}
		w.put(item{kind: edge.KindBGP, path: prefixSetPath(set.Name), value: set})
		if len(set.Prefixes.List) == 0 {
			continue
		}
		st := statement{Name: f.mode, Conditions: anyOf(set.Name)}
		st.Config.Name = st.Name
		st.Actions.Config.Result = "ACCEPT_ROUTE"
		policy.Statements.List = append(policy.Statements.List, st)
		if w.q.lacks("static-routes") {
			continue
		}
		c := &connection{Src: "openconfig-policy-types:STATIC", Dst: "openconfig-policy-types:BGP", Family: f.family}
		c.Config.Src, c.Config.Dst, c.Config.Family, c.Config.Import = c.Src, c.Dst, f.family, []string{policyNetworks}
		w.put(item{kind: edge.KindBGP, path: w.instance().to("table-connections").list("table-connection", "STATIC", "BGP", bare(string(f.family))), value: c})
	}
	policy.Statements.List = append(policy.Statements.List, refusal())
	w.put(item{kind: edge.KindBGP, path: policyPath(policyNetworks), value: policy})
}

func anyOf(set string) *conditions {
	c := &conditions{}
	c.PrefixSet.Config.Set, c.PrefixSet.Config.Options = set, "ANY"
	return c
}

// refusal is the last statement of a policy.
func refusal() statement {
	last := statement{Name: "rest"}
	last.Config.Name, last.Actions.Config.Result = "rest", "REJECT_ROUTE"
	return last
}

// acceptance is what neighbours may announce: those prefixes and what is within
// them. An empty list asks for no filter.
func (w *want) acceptance() {
	if len(w.BGP.Accept) == 0 {
		return
	}
	for _, f := range families {
		set := &prefixSet{Name: setAccept + f.suffix}
		set.Config.Name, set.Config.Mode = set.Name, f.mode
		for _, n := range w.BGP.Accept {
			if n.Addr().Is4() == f.v4 {
				set.Prefixes.List = append(set.Prefixes.List, within(n))
			}
		}
		w.put(item{kind: edge.KindBGP, path: prefixSetPath(set.Name), value: set})
	}
}

// families are the two of BGP and of prefix sets.
var families = []struct {
	v4                   bool
	suffix, mode         string
	family, afiSafi, acl identity
}{
	{true, "-4", "IPV4", "openconfig-types:IPV4", "openconfig-bgp-types:IPV4_UNICAST", "openconfig-acl:ACL_IPV4"},
	{false, "-6", "IPV6", "openconfig-types:IPV6", "openconfig-bgp-types:IPV6_UNICAST", "openconfig-acl:ACL_IPV6"},
}

func prefixSetPath(name string) path {
	return path{}.to("routing-policy", "defined-sets", "prefix-sets").list("prefix-set", name)
}

func policyPath(name string) path {
	return path{}.to("routing-policy", "policy-definitions").list("policy-definition", name)
}

func exact(n netip.Prefix) setPrefix {
	s := setPrefix{Prefix: ipPrefix(n.String()), Range: "exact"}
	s.Config.Prefix, s.Config.Range = s.Prefix, s.Range
	return s
}

// within is a prefix with all that is more specific.
func within(n netip.Prefix) setPrefix {
	s := exact(n)
	if most := n.Addr().BitLen(); n.Bits() < most {
		s.Range = fmt.Sprintf("%d..%d", n.Bits(), most)
		s.Config.Range = s.Range
	}
	return s
}

func (w *want) blackhole(n netip.Prefix) {
	s := &static{Prefix: ipPrefix(n.String())}
	s.Config.Prefix = s.Prefix
	h := nextHop{Index: dropIndex}
	h.Config.Index, h.Config.NextHop = dropIndex, "openconfig-local-routing:DROP"
	s.NextHops.List = []nextHop{h}
	w.put(item{
		kind: edge.KindBGP, value: s,
		path: w.instance().to("protocols").list("protocol", "STATIC", w.q.Static).to("static-routes").list("static", n.String()),
	})
}

func (w *want) neighbour(n edge.Neighbour) {
	if !n.Addr.IsValid() {
		w.fault("neighbour %s has no address", n.Tunnel)
		return
	}
	addr := ipAddr(n.Addr.String())
	v := &neighbor{Address: addr, Config: neighborConfig{Address: addr, PeerAS: num(n.ASN), Description: mark + "tunnel " + n.Tunnel}, AFs: &afiSafis{}}
	v.BFD = &enableBFD{}
	v.BFD.Config.Enabled = n.BFDMinMS > 0
	f := families[0]
	if n.Addr.Is6() {
		f = families[1]
	}
	af := afiSafi{Name: f.afiSafi}
	af.Config.Name, af.Config.Enabled = f.afiSafi, true
	if !w.q.lacks("routing-policy") {
		af.Policy.Config.Import, af.Policy.Config.Export = []string{policyIn + n.Tunnel}, []string{policyNetworks}
		w.preference(n, f.suffix)
	}
	v.AFs.List = []afiSafi{af}
	w.put(item{kind: edge.KindNeighbour, name: n.Tunnel, path: w.bgp().to("bgp", "neighbors").list("neighbor", n.Addr.String()), value: v})
	if at := portTo(w.Config, n.Addr); at != "" && n.BFDMinMS > 0 && !w.q.lacks("bfd") {
		w.bfd(n, portOf(at))
	}
}

// preference is the policy by which the neighbour's routes come in; suffix is
// that of the session's family.
func (w *want) preference(n edge.Neighbour, suffix string) {
	policy := &policyDefinition{Name: policyIn + n.Tunnel}
	policy.Config.Name = policy.Name
	st := statement{Name: "preference", Actions: actions{BGP: &bgpActions{}}}
	st.Config.Name, st.Actions.Config.Result = st.Name, "ACCEPT_ROUTE"
	st.Actions.BGP.Config.LocalPref = num(max(n.Preference, 0))
	policy.Statements.List = []statement{st}
	if len(w.BGP.Accept) > 0 {
		policy.Statements.List[0].Conditions = anyOf(setAccept + suffix)
		policy.Statements.List = append(policy.Statements.List, refusal())
	}
	w.put(item{kind: edge.KindNeighbour, name: n.Tunnel, path: policyPath(policy.Name), value: policy})
}

// bfd sets the intervals, which the models have for an interface: the
// strictest neighbour's on it.
func (w *want) bfd(n edge.Neighbour, p port) {
	at := bfdPath(p)
	b := &bfdInterface{ID: p.String()}
	b.Config.ID, b.Config.Enabled = b.ID, true
	b.Config.TX = num(n.BFDMinMS) * 1000
	b.Config.RX, b.Config.Multiplier = b.Config.TX, num(n.BFDMult)
	b.Ref = &interfaceRef{}
	b.Ref.Config.Interface, b.Ref.Config.Subinterface = p.iface, num(p.vlan)
	if old, ok := w.items[at.String()]; ok && old.value.(*bfdInterface).Config.TX <= b.Config.TX {
		return
	}
	w.items[at.String()] = item{kind: edge.KindNeighbour, name: n.Tunnel, path: at, value: b}
}

func bfdPath(p port) path {
	return path{}.to("bfd", "interfaces").list("interface", p.String())
}

// portTo is the port of c whose own network holds a; "": none.
func portTo(c edge.Config, a netip.Addr) string {
	if i := slices.IndexFunc(c.Circuits, func(k edge.Circuit) bool {
		return k.Port != "" && k.Address.IsValid() && k.Address.Masked().Contains(a)
	}); i >= 0 {
		return c.Circuits[i].Port
	}
	if i := slices.IndexFunc(c.Segments, func(s edge.Segment) bool {
		return s.Port != "" && (s.V4.IsValid() && s.V4.Contains(a) || s.V6.IsValid() && s.V6.Contains(a))
	}); i >= 0 {
		return c.Segments[i].Port
	}
	return ""
}
