package linux

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/render"
)

// Protocol marks the routes and rules that are ours in the kernel ("W"); no
// other is ever changed. Source: 0x57 is free in rtnetlink(7) and iproute2's
// rt_protos.
const Protocol = 0x57

// routePlace is what the kernel tells routes apart by.
type routePlace struct {
	table, metric int
	dst           netip.Prefix
}

// defaultMetric6 is the metric that IPv6 gives a route without one.
const defaultMetric6 = 1024

// routeOps plans the static routes of want, in all tables.
func routeOps(want []render.Route) ([]op, error) {
	have, err := routes()
	if err != nil {
		return nil, err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("read interfaces: %w", err)
	}
	index, name := map[string]int{}, map[int]string{}
	for _, l := range links {
		index[l.Attrs().Name], name[l.Attrs().Index] = l.Attrs().Index, l.Attrs().Name
	}
	running := map[routePlace]render.Route{}
	for _, r := range have {
		n := fromKernel(r, name)
		running[placeOf(n)] = n
	}
	var ops []op
	for _, w := range want {
		w = normal(w)
		place := placeOf(w)
		if h, ok := running[place]; ok && h == w {
			delete(running, place)
			continue
		}
		delete(running, place) // replaced in place
		o := op{what: describe(w)}
		if w.Blackhole || index[w.Dev] != 0 {
			r := toKernel(w, index[w.Dev])
			o.do = func() error { return netlink.RouteReplace(r) }
		}
		ops = append(ops, o)
	}
	for _, r := range have {
		n := fromKernel(r, name)
		if _, extra := running[placeOf(n)]; !extra {
			continue
		}
		ops = append(ops, op{"no " + describe(n), func() error {
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			return nil
		}})
	}
	return ops, nil
}

// routes are ours as the kernel has them.
func routes() ([]netlink.Route, error) {
	var out []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_UNSPEC},
			netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("read routes: %w", err)
		}
		for i := range list {
			list[i].Family = family
		}
		out = append(out, list...)
	}
	return out, nil
}

func placeOf(r render.Route) routePlace { return routePlace{r.Table, r.Metric, r.Dst} }

// normal writes a wanted route as the kernel reports it.
func normal(r render.Route) render.Route {
	r.Dst = r.Dst.Masked()
	if r.Table == 0 {
		r.Table = unix.RT_TABLE_MAIN
	}
	if r.Metric == 0 && r.Dst.Addr().Is6() {
		r.Metric = defaultMetric6
	}
	if r.Blackhole {
		r.Dev, r.Via = "", netip.Addr{}
	}
	return r
}

func fromKernel(r netlink.Route, name map[int]string) render.Route {
	out := render.Route{Table: r.Table, Metric: r.Priority, Blackhole: r.Type == unix.RTN_BLACKHOLE}
	out.Dst, _ = fromNet(r.Dst)
	if !out.Dst.IsValid() {
		any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
		if r.Family == netlink.FAMILY_V6 {
			any4 = any6
		}
		out.Dst = netip.PrefixFrom(any4, 0)
	}
	if !out.Blackhole {
		out.Dev = name[r.LinkIndex]
		if via, ok := netip.AddrFromSlice(r.Gw); ok {
			out.Via = via.Unmap()
		}
	}
	return out
}

func toKernel(r render.Route, index int) *netlink.Route {
	k := &netlink.Route{Table: r.Table, Dst: toNet(r.Dst), Priority: r.Metric, Protocol: Protocol, Family: netlink.FAMILY_V4}
	if r.Dst.Addr().Is6() {
		k.Family = netlink.FAMILY_V6
	}
	if r.Blackhole {
		k.Type = unix.RTN_BLACKHOLE
		return k
	}
	k.LinkIndex = index
	switch {
	case r.Via.IsValid():
		k.Gw = r.Via.AsSlice()
		// A carrier's gateway may be outside of the prefix it gives us.
		k.Flags = int(netlink.FLAG_ONLINK)
	case r.Dst.Addr().Is4():
		k.Scope = netlink.SCOPE_LINK
	}
	return k
}

func describe(r render.Route) string {
	s := fmt.Sprintf("route %s table %d metric %d", r.Dst, r.Table, r.Metric)
	switch {
	case r.Blackhole:
		return s + " blackhole"
	case r.Via.IsValid():
		return s + " via " + r.Via.String() + " dev " + r.Dev
	}
	return s + " dev " + r.Dev
}

// ruleOps plans the policy rules of want.
func ruleOps(want []render.PolicyRule) ([]op, error) {
	var have []netlink.Rule
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RuleList(family)
		if err != nil {
			return nil, fmt.Errorf("read policy rules: %w", err)
		}
		for _, r := range list {
			if r.Protocol == Protocol {
				r.Family = family
				have = append(have, r)
			}
		}
	}
	running := map[render.PolicyRule]bool{}
	for _, r := range have {
		running[ruleOf(r)] = true
	}
	wanted := map[render.PolicyRule]bool{}
	var ops []op
	for _, w := range want {
		if w.Src.IsValid() {
			w.Src = w.Src.Masked()
		}
		if wanted[w] {
			continue
		}
		wanted[w] = true
		if !running[w] {
			ops = append(ops, op{describeRule(w), func() error { return netlink.RuleAdd(toRule(w)) }})
		}
	}
	for _, r := range have {
		if !wanted[ruleOf(r)] {
			ops = append(ops, op{"no " + describeRule(ruleOf(r)), func() error { return netlink.RuleDel(&r) }})
		}
	}
	return ops, nil
}

func ruleOf(r netlink.Rule) render.PolicyRule {
	out := render.PolicyRule{Priority: r.Priority, V6: r.Family == netlink.FAMILY_V6, Mark: r.Mark, Table: r.Table}
	if r.Mask != nil && (r.Mark != 0 || *r.Mask != 0xffffffff) {
		out.Mask = *r.Mask
	}
	out.Src, _ = fromNet(r.Src)
	return out
}

func toRule(r render.PolicyRule) *netlink.Rule {
	k := netlink.NewRule()
	k.Priority, k.Table, k.Protocol, k.Family = r.Priority, r.Table, Protocol, netlink.FAMILY_V4
	if r.V6 {
		k.Family = netlink.FAMILY_V6
	}
	if r.Mark != 0 || r.Mask != 0 {
		mask := r.Mask
		k.Mark, k.Mask = r.Mark, &mask
	}
	if r.Src.IsValid() {
		k.Src = toNet(r.Src)
	}
	return k
}

func describeRule(r render.PolicyRule) string {
	s := fmt.Sprintf("rule %d table %d", r.Priority, r.Table)
	if r.Mark != 0 || r.Mask != 0 {
		s += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.Src.IsValid() {
		s += " from " + r.Src.String()
	}
	if r.V6 {
		s += " (IPv6)"
	}
	return s
}
