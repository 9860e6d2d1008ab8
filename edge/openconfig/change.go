package openconfig

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"

	"github.com/wardnet/wardnet/edge"
)

// same tells whether the device holds it as wanted.
func same(want, have item) (bool, error) {
	w, err := canonical(want.path, want.value)
	if err != nil {
		return false, err
	}
	h := have.value
	if a, ok := w.(*ifaceConfig); ok && a.MTU == 0 { // then the device's own is right
		b := *h.(*ifaceConfig)
		b.MTU = 0
		h = &b
	}
	return reflect.DeepEqual(w, h), nil
}

// differ lists the paths at which have is not as wanted, sorted.
func differ(have, want items) ([]string, error) {
	var out []string
	for p := range have {
		if _, ok := want[p]; !ok {
			out = append(out, p)
		}
	}
	for p, w := range want {
		h, ok := have[p]
		if ok {
			var err error
			if ok, err = same(w, h); err != nil {
				return nil, err
			}
		}
		if !ok {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out, nil
}

// settle fits what is wanted to what is somebody else's on the device: a port
// keeps a foreign description, and one that is not there needs its type.
func settle(want items, tree *node) items {
	out := maps.Clone(want)
	for p, it := range want {
		cfg, ok := it.value.(*ifaceConfig)
		if !ok {
			continue
		}
		c := *cfg
		if there := tree.at(it.path[:len(it.path)-1]); there == nil || there.json() == nil {
			c.Type = "iana-if-type:ethernetCsmacd"
		}
		if n := tree.at(it.path.to("description")); n != nil {
			if s, ok := n.leaf.(string); ok && others(s) {
				c.Description = ""
			}
		}
		it.value = &c
		out[p] = it
	}
	return out
}

// conflicts says what the change would overwrite that is not ours.
func conflicts(tree *node, have, want items) error {
	var found []string
	for p, it := range want {
		if _, isOurs := have[p]; isOurs || it.shared {
			continue
		}
		if n := tree.at(it.path); n != nil && n.json() != nil {
			found = append(found, p)
		}
	}
	slices.Sort(found)
	if len(found) > 0 {
		return fmt.Errorf("%w: %s: on the device already and not written by Wardnet; take it away there, or name another (platform quirks, inventory)", edge.ErrRejected, strings.Join(found, ", "))
	}
	return asConflict(have, want)
}

// asConflict refuses to renumber a BGP process that somebody else runs: it is
// ours when our prefix sets or a neighbour of ours are there.
func asConflict(have, want items) error {
	for _, f := range families {
		if _, ok := have[prefixSetPath(setNetworks+f.suffix).String()]; ok {
			return nil
		}
	}
	for _, it := range have {
		if _, ok := it.value.(*neighbor); ok {
			return nil
		}
	}
	for p, it := range want {
		w, ok := it.value.(*protocol)
		if !ok {
			continue
		}
		if h, ok := have[p].value.(*protocol); ok && h.BGP.Global.Config.AS != w.BGP.Global.Config.AS {
			return fmt.Errorf("%w: BGP runs already as AS %d, which Wardnet did not write, and the config wants AS %d; correct the inventory, or take BGP away on the device", edge.ErrRejected, h.BGP.Global.Config.AS, w.BGP.Global.Config.AS)
		}
	}
	return nil
}

// request is the change from have to want as one transaction: deletions, then
// whole entries that are ours, then leaves of what is shared.
func request(tree *node, have, want items, q Quirks, wr wire, origin string) (*gnmi.SetRequest, error) {
	req := &gnmi.SetRequest{}
	if q.Target != "" {
		req.Prefix = &gnmi.Path{Target: q.Target}
	}
	made := map[string]bool{}
	for p := range want { // it makes itself
		made[p] = true
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		it := want[p]
		if h, ok := have[p]; ok {
			if eq, err := same(it, h); err != nil || eq {
				if err != nil {
					return nil, err
				}
				continue
			}
			for _, gone := range lost(it, h) {
				req.Delete = append(req.Delete, gone.proto(origin))
			}
		}
		if err := parents(req, tree, it.path, made, wr, origin); err != nil {
			return nil, err
		}
		v, err := wr.value(it.path, it.value)
		if err != nil {
			return nil, err
		}
		u := &gnmi.Update{Path: it.path.proto(origin), Val: v}
		if it.shared {
			req.Update = append(req.Update, u)
		} else {
			req.Replace = append(req.Replace, u)
		}
	}
	for _, p := range deletions(tree, have, want) {
		req.Delete = append(req.Delete, p.proto(origin))
	}
	return req, nil
}

// lost are the leaves that an update does not take away.
func lost(want, have item) []path {
	w, ok := want.value.(*protocol)
	if h, isP := have.value.(*protocol); ok && isP && w.BGP.Global.Config.RouterID == "" && h.BGP.Global.Config.RouterID != "" {
		return []path{want.path.to("bgp", "global", "config", "router-id")}
	}
	return nil
}

// parents creates the entries above p that the device lacks.
func parents(req *gnmi.SetRequest, tree *node, p path, made map[string]bool, wr wire, origin string) error {
	for i := 1; i < len(p); i++ {
		above := p[:i]
		if len(above[i-1].keys) == 0 || made[above.String()] || tree.at(above) != nil {
			continue
		}
		if above.schema() == "/network-instances/network-instance" {
			continue // the device's own, and read in parts only
		}
		made[above.String()] = true
		v, err := wr.value(above, shell(above))
		if err != nil {
			return err
		}
		req.Update = append(req.Update, &gnmi.Update{Path: above.proto(origin), Val: v})
	}
	return nil
}

// shell is an entry with nothing but its keys.
func shell(p path) map[string]any {
	keys, config := map[string]any{}, map[string]any{}
	for _, k := range p[len(p)-1].keys {
		var v any = k.value
		switch k.name {
		case "identifier":
			v = "openconfig-policy-types:" + k.value
		case "index":
			var n num
			if n.UnmarshalJSON([]byte(k.value)) == nil {
				v = n
			}
		}
		keys[k.name], config[k.name] = v, v
	}
	keys["config"] = config
	if p.schema() == "/acl/interfaces/interface" {
		at := portOf(p.last("id"))
		keys["interface-ref"] = map[string]any{"config": map[string]any{"interface": at.iface, "subinterface": at.vlan}}
	}
	return keys
}

// deletions are what is ours on the device and not wanted, sorted.
func deletions(tree *node, have, want items) []path {
	out := map[string]path{}
	add := func(p path) { out[p.String()] = p }
	for p, it := range have {
		if _, keep := want[p]; keep {
			continue
		}
		switch v := it.value.(type) {
		case *ifaceConfig:
			if v.Description != "" {
				add(it.path.to("description"))
				add(it.path.to("enabled")) // back to the default
			}
			if it.kind == edge.KindCircuit && v.MTU != 0 {
				add(it.path.to("mtu"))
			}
		case *protocol:
			if p := it.path; onlyOurs(tree.at(p), p, have) {
				add(p)
			} // else others need the process
		case *binding:
			above := it.path[:len(it.path)-2]
			if unbound(tree.at(above), above, have, want) {
				add(above)
			} else {
				add(it.path)
			}
		default:
			add(it.path)
		}
	}
	var list []path
	for _, p := range slices.Sorted(maps.Keys(out)) {
		list = append(list, out[p])
	}
	return list
}

// onlyOurs tells whether a BGP process has no neighbour or peer group but ours.
func onlyOurs(n *node, p path, have items) bool {
	b := n.at(path{}.to("bgp"))
	for _, e := range b.at(path{}.to("neighbors")).entries("neighbor") {
		if _, ok := have[p.to("bgp", "neighbors").list("neighbor", e.elem.keys[0].value).String()]; !ok {
			return false
		}
	}
	groups := b.at(path{}.to("peer-groups"))
	return groups == nil || groups.json() == nil
}

// unbound tells whether nothing stays bound to an interface.
func unbound(n *node, p path, have, want items) bool {
	for _, d := range []struct{ container, list string }{{"ingress-acl-sets", "ingress-acl-set"}, {"egress-acl-sets", "egress-acl-set"}} {
		for _, e := range n.at(path{}.to(d.container)).entries(d.list) {
			at := append(slices.Clone(p.to(d.container)), e.elem).String()
			if _, isOurs := have[at]; !isOurs {
				return false
			}
			if _, stays := want[at]; stays {
				return false
			}
		}
	}
	for w := range want {
		if strings.HasPrefix(w, p.String()+"/") {
			return false
		}
	}
	return true
}
