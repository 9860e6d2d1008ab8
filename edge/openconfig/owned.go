package openconfig

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
)

// found is what is ours on a device.
type found struct {
	tree  *node
	q     Quirks
	items items
	err   error // the first fault; what follows it is not looked at
}

// owned picks what is ours out of a device's tree: what carries our mark, and
// of the ports that c names, which may carry somebody's own description, the
// leaves and addresses that c asks for. All else is left out.
func owned(tree *node, q Quirks, cs ...edge.Config) (items, error) {
	f := &found{tree: tree, q: q.withDefaults(), items: items{}}
	f.loopback()
	known := map[string]bool{}
	for _, c := range cs {
		for _, k := range c.Circuits {
			known[string(edge.KindCircuit)+" "+k.Name] = true
		}
		for _, s := range c.Segments {
			known[string(edge.KindSegment)+" "+string(s.Kind)] = true
		}
	}
	for _, i := range tree.at(path{}.to("interfaces")).entries("interface") {
		f.port(i, known)
	}
	for _, c := range cs {
		f.expected(c)
	}
	f.routing(cs)
	f.acl()
	return f.items, f.err
}

// read decodes what is at p into a new struct; false when nothing is there.
func read[T any](f *found, p path) (*T, bool) {
	v := new(T)
	if f.err != nil {
		return nil, false
	}
	ok, err := f.tree.into(p, v)
	if err != nil {
		f.err = err
		return nil, false
	}
	return v, ok
}

// ours splits a description that we wrote into its kind and name.
func ours(description, kind string) (name string, ok bool) {
	return strings.CutPrefix(description, mark+kind+" ")
}

func owner(description string) (kind edge.Kind, name string, ok bool) {
	for _, k := range []edge.Kind{edge.KindCircuit, edge.KindSegment} {
		if name, ok := ours(description, string(k)); ok {
			return k, name, true
		}
	}
	return "", "", false
}

func (f *found) put(it item) { f.items[it.path.String()] = it }

func (f *found) loopback() {
	p := loopbackPath(f.q)
	if v, ok := read[iface](f, p); ok && v.Config.Description == mark+"loopback" {
		if v.Config.Enabled == nil {
			v.Config.Enabled = ptr(true) // the model's default
		}
		f.put(item{kind: edge.KindLoopback, path: p, value: v})
	}
}

// port takes an interface's leaves if it carries our mark, and its VLANs that
// do. Its addresses may be somebody else's: ours are those that a config asks
// for (see expected), or, where no config knows the port any more, the only one.
func (f *found) port(n *node, known map[string]bool) {
	at := port{iface: n.elem.keys[0].value}
	cfg, ok := read[ifaceConfig](f, at.path().to("config"))
	if ok {
		if kind, name, ok := owner(cfg.Description); ok {
			f.config(kind, name, at, cfg)
			for _, family := range []string{"ipv4", "ipv6"} {
				list := f.tree.at(at.sub().to(family, "addresses")).entries("address")
				if len(list) == 1 && !known[string(kind)+" "+name] {
					f.addr(kind, name, at.sub().to(family, "addresses").list("address", list[0].elem.keys[0].value))
				}
			}
		}
	}
	for _, s := range f.tree.at(at.path().to("subinterfaces")).entries("subinterface") {
		p := at.path().to("subinterfaces").list("subinterface", s.elem.keys[0].value)
		v, ok := read[sub](f, p)
		if !ok || v.Index == 0 {
			continue
		}
		if kind, name, ok := owner(v.Config.Description); ok {
			f.put(item{kind: kind, name: name, path: p, value: v})
		}
	}
}

func (f *found) config(kind edge.Kind, name string, at port, cfg *ifaceConfig) {
	cfg.Name, cfg.Type = at.iface, ""
	if cfg.Enabled == nil {
		cfg.Enabled = ptr(true)
	}
	f.put(item{kind: kind, name: name, shared: true, path: at.path().to("config"), value: cfg})
}

func (f *found) addr(kind edge.Kind, name string, p path) {
	if v, ok := read[address](f, p); ok {
		f.put(item{kind: kind, name: name, path: p, value: v})
	}
}

// expected takes what c asks for on ports: addresses beside a foreign one, and
// the leaves of a port with a foreign description.
func (f *found) expected(c edge.Config) {
	for p, it := range render(c, f.q).items {
		if _, have := f.items[p]; have || f.err != nil {
			continue
		}
		switch it.value.(type) {
		case *address:
			f.addr(it.kind, it.name, it.path)
		case *ifaceConfig:
			cfg, ok := read[ifaceConfig](f, it.path)
			if ok && others(cfg.Description) {
				cfg.Description = ""
				f.config(it.kind, it.name, port{iface: cfg.Name}, cfg)
			}
		case *bfdInterface:
			f.intervals(it.name, it.path)
		}
	}
}

// others tells somebody else's description from ours and from none.
func others(description string) bool {
	return description != "" && !strings.HasPrefix(description, mark)
}

func (f *found) routing(cs []edge.Config) {
	w := &want{q: f.q}
	speaks := false // the process is ours
	for _, c := range cs {
		speaks = speaks || c.BGP.ASN != 0
	}
	for _, fam := range families {
		for _, set := range []string{setNetworks, setAccept} {
			p := prefixSetPath(set + fam.suffix)
			if v, ok := read[prefixSet](f, p); ok {
				speaks = true
				f.put(item{kind: edge.KindBGP, path: p, value: v})
			}
		}
	}
	for _, n := range f.tree.at(path{}.to("routing-policy", "policy-definitions")).entries("policy-definition") {
		name := n.elem.keys[0].value
		it := item{kind: edge.KindBGP, path: policyPath(name)}
		if tunnel, ok := strings.CutPrefix(name, policyIn); ok {
			it.kind, it.name = edge.KindNeighbour, tunnel
		} else if name != policyNetworks {
			continue
		}
		if v, ok := read[policyDefinition](f, it.path); ok {
			it.value = v
			f.put(it)
		}
	}
	neighbors := w.bgp().to("bgp", "neighbors")
	for _, n := range f.tree.at(neighbors).entries("neighbor") {
		p := neighbors.list("neighbor", n.elem.keys[0].value)
		v, ok := read[neighbor](f, p)
		if !ok {
			continue
		}
		if tunnel, ok := ours(v.Config.Description, "tunnel"); ok {
			if v.Config.Enabled != nil && *v.Config.Enabled {
				v.Config.Enabled = nil // the model's default
			}
			if v.BFD == nil {
				v.BFD = &enableBFD{}
			}
			speaks = true
			f.put(item{kind: edge.KindNeighbour, name: tunnel, path: p, value: v})
		}
	}
	if speaks {
		if v, ok := read[protocol](f, w.bgp()); ok && v.BGP != nil && v.BGP.Global.Config.AS != 0 {
			v.Config = protocolConfig{v.Identifier, v.Name}
			f.put(item{kind: edge.KindBGP, shared: true, path: w.bgp(), value: v})
		}
	}
	f.origination(w)
	for _, b := range f.tree.at(path{}.to("bfd", "interfaces")).entries("interface") {
		at := portOf(b.elem.keys[0].value)
		if tunnel, ok := f.reaches(at); ok {
			f.intervals(tunnel, bfdPath(at))
		}
	}
}

// intervals takes BFD's of a port; they have no description, the port is ours.
func (f *found) intervals(tunnel string, p path) {
	if v, ok := read[bfdInterface](f, p); ok {
		f.put(item{kind: edge.KindNeighbour, name: tunnel, path: p, value: v})
	}
}

// reaches names a neighbour of ours on a port of ours.
func (f *found) reaches(at port) (tunnel string, ok bool) {
	var nets []netip.Prefix
	for _, it := range f.items {
		switch v := it.value.(type) {
		case *address:
			if p, ok := v.prefix(); ok && strings.HasPrefix(it.path.String(), port{iface: at.iface}.sub().String()+"/") && at.vlan == 0 {
				nets = append(nets, p.Masked())
			}
		case *sub:
			if it.path.String() == at.sub().String() {
				for _, p := range v.prefixes() {
					nets = append(nets, p.Masked())
				}
			}
		}
	}
	for _, k := range sorted(f.items) {
		n, ok := f.items[k].value.(*neighbor)
		if !ok {
			continue
		}
		a, err := netip.ParseAddr(string(n.Address))
		if err == nil && slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return f.items[k].name, true
		}
	}
	return "", false
}

func (f *found) origination(w *want) {
	statics := w.instance().to("protocols").list("protocol", "STATIC", f.q.Static).to("static-routes")
	for _, n := range f.tree.at(statics).entries("static") {
		p := statics.list("static", n.elem.keys[0].value)
		if f.tree.at(p.to("next-hops").list("next-hop", dropIndex)) == nil {
			continue
		}
		if v, ok := read[static](f, p); ok {
			f.put(item{kind: edge.KindBGP, path: p, value: v})
		}
	}
	for _, fam := range families {
		p := w.instance().to("table-connections").list("table-connection", "STATIC", "BGP", bare(string(fam.family)))
		if v, ok := read[connection](f, p); ok && len(v.Config.Import) == 1 && v.Config.Import[0] == policyNetworks {
			f.put(item{kind: edge.KindBGP, path: p, value: v})
		}
	}
}

func (f *found) acl() {
	sets := path{}.to("acl", "acl-sets")
	for _, n := range f.tree.at(sets).entries("acl-set") {
		if name := n.elem.keys[0].value; ourSet(name) {
			p := sets.list("acl-set", name, n.elem.keys[1].value)
			if v, ok := read[aclSet](f, p); ok {
				f.put(item{kind: edge.KindRule, name: name, path: p, value: v})
			}
		}
	}
	interfaces := path{}.to("acl", "interfaces")
	for _, n := range f.tree.at(interfaces).entries("interface") {
		for _, d := range []struct{ container, list string }{{"ingress-acl-sets", "ingress-acl-set"}, {"egress-acl-sets", "egress-acl-set"}} {
			at := interfaces.list("interface", n.elem.keys[0].value).to(d.container)
			for _, b := range f.tree.at(at).entries(d.list) {
				if name := b.elem.keys[0].value; ourSet(name) {
					p := at.list(d.list, name, b.elem.keys[1].value)
					if v, ok := read[binding](f, p); ok {
						f.put(item{kind: edge.KindRule, name: name, path: p, value: v})
					}
				}
			}
		}
	}
}

func ourSet(name string) bool {
	return strings.HasPrefix(name, aclIn) || name == aclOut+"-4" || name == aclOut+"-6"
}
