package edge

import (
	"fmt"
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

// setDifference names what goes and what comes; a few, then a number.
func setDifference[T comparable](have, want []T) string {
	same := 0 // a hub's lists have thousands, and begin and end alike
	for same < min(len(have), len(want)) && have[same] == want[same] {
		same++
	}
	h, w := len(have), len(want)
	for h > same && w > same && have[h-1] == want[w-1] {
		h, w = h-1, w-1
	}
	var parts []string
	lacks := func(some, all []T) func(T) bool { // all may hold some elsewhere, too
		in := make(map[T]bool, len(some))
		for _, e := range some {
			in[e] = false
		}
		for _, e := range all {
			if _, asked := in[e]; asked {
				in[e] = true
			}
		}
		return func(e T) bool { return !in[e] }
	}
	gone, added := lacks(have[same:h], want), lacks(want[same:w], have)
	for _, e := range have[same:h] {
		if gone(e) {
			parts = append(parts, fmt.Sprint("−", e))
		}
	}
	for _, e := range want[same:w] {
		if added(e) {
			parts = append(parts, fmt.Sprint("+", e))
		}
	}
	if len(parts) == 0 {
		return "order or repetition"
	}
	return some(parts)
}
