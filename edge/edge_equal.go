package edge

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
)

// Equal says whether c and o are the same, and then their hashes are. It is much
// quicker than a hash and than reflection where a hub has thousands of tunnels.
// A nil list is not an empty one here, as in the JSON that is hashed.
func (c Config) Equal(o Config) bool {
	if !equalLists(c.Tunnels, o.Tunnels, equalTunnels) || !equalLists(c.Rules, o.Rules, equalRules) ||
		!equal(c.BGP.Networks, o.BGP.Networks) || !equal(c.BGP.Neighbours, o.BGP.Neighbours) {
		return false
	}
	for _, x := range []*Config{&c, &o} { // the rest is small
		x.Tunnels, x.Rules, x.BGP.Networks, x.BGP.Neighbours = nil, nil, nil, nil
	}
	return reflect.DeepEqual(c, o)
}

func equalTunnels(a, b Tunnel) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Circuit == b.Circuit && a.Peer == b.Peer && a.Endpoint == b.Endpoint &&
		a.ListenPort == b.ListenPort && a.Local == b.Local && a.Remote == b.Remote && equal(a.AllowedIPs, b.AllowedIPs) &&
		a.MTU == b.MTU && a.Preference == b.Preference
}

func equalRules(a, b Rule) bool {
	return a.Permit == b.Permit && a.From == b.From && equal(a.Src, b.Src) && equal(a.Dst, b.Dst) && equal(a.Ports, b.Ports) &&
		a.Class == b.Class && a.Internet == b.Internet
}

func equal[T comparable](a, b []T) bool {
	return (a == nil) == (b == nil) && slices.Equal(a, b)
}

func equalLists[T any](a, b []T, same func(a, b T) bool) bool {
	return (a == nil) == (b == nil) && slices.EqualFunc(a, b, same)
}

// lacking are the elements of some that are not in all, in their order.
func lacking[T comparable](some, all []T) (out []T) {
	if a, ok := any(some).([]netip.Prefix); ok { // a hub's lists have thousands, sorted
		b, _ := any(all).([]netip.Prefix)
		if slices.IsSortedFunc(a, netip.Prefix.Compare) && slices.IsSortedFunc(b, netip.Prefix.Compare) {
			for i, p := range a {
				for len(b) > 0 && b[0].Compare(p) < 0 {
					b = b[1:]
				}
				if len(b) == 0 || b[0] != p {
					out = append(out, some[i])
				}
			}
			return out
		}
	}
	in := make(map[T]bool, len(all))
	for _, e := range all {
		in[e] = true
	}
	for _, e := range some {
		if !in[e] {
			out = append(out, e)
		}
	}
	return out
}

// setDifference names what goes and what comes; a few, then a number.
func setDifference[T comparable](have, want []T) string {
	var parts []string
	for _, e := range lacking(have, want) {
		parts = append(parts, fmt.Sprint("−", e))
	}
	for _, e := range lacking(want, have) {
		parts = append(parts, fmt.Sprint("+", e))
	}
	if len(parts) == 0 {
		return "order or repetition"
	}
	return some(parts)
}
