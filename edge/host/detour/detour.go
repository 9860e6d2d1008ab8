// Package detour puts the routes of the service classes into the kernel: those
// by which a class leaves the path that routing would use. They have a route
// protocol number of their own, so that they and the configured routes never
// touch each other.
package detour

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/render"
)

// Protocol marks our routes in the kernel (rtnetlink(7), rtm_protocol); no
// routing daemon known to iproute2 has this number.
const Protocol = 0x58

// defaultMetric6 is what the kernel gives an IPv6 route without a metric.
const defaultMetric6 = 1024

// Tables holds the class tables of the network namespace it was opened in. Its
// methods are for one caller at a time.
type Tables struct{ kernel *netlink.Handle }

// Open connects to the kernel.
func Open() (*Tables, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open class tables: %w", err)
	}
	return &Tables{h}, nil
}

// Close leaves the routes as they are.
func (t *Tables) Close() { t.kernel.Close() }

// Set makes routes all that we have in the kernel; what is right is left
// alone. The error lists all routes that could not be set or removed.
func (t *Tables) Set(routes []render.Route) error {
	have, err := t.list()
	if err != nil {
		return fmt.Errorf("read class tables: %w", err)
	}
	names, indexes := map[int]string{}, map[string]int{}
	var errs []error
	want := map[render.Route]int{}
	for _, r := range routes {
		index, known := indexes[r.Dev]
		if !known {
			link, err := t.kernel.LinkByName(r.Dev)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: interface %s: %w", describe(r), r.Dev, err))
				continue
			}
			index = link.Attrs().Index
			names[index], indexes[r.Dev] = r.Dev, index
		}
		want[normal(r)] = index
	}
	there := make(map[render.Route]bool, len(have))
	for _, k := range have {
		there[read(k, names)] = true
	}
	// Set first: a class whose route only changes never falls back meanwhile.
	for _, r := range routes {
		index, ok := want[normal(r)]
		if !ok || there[normal(r)] {
			continue
		}
		if err := t.kernel.RouteReplace(write(r, index)); err != nil {
			errs = append(errs, fmt.Errorf("set %s: %w", describe(r), err))
		}
	}
	for _, k := range have {
		r := read(k, names)
		_, wanted := want[r]
		replaced := slices.ContainsFunc(routes, func(w render.Route) bool {
			return w.Table == r.Table && w.Dst.Masked() == r.Dst && r.Dst.Addr().Is4() // IPv6 keeps both next hops
		})
		if wanted || replaced {
			continue
		}
		if err := t.kernel.RouteDel(&k); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove %s: %w", describe(r), err))
		}
	}
	return errors.Join(errs...)
}

// Main is the main table: where its routes go and by which interface, each of
// several next hops by itself.
func (t *Tables) Main() ([]render.Route, error) {
	links, err := t.kernel.LinkList()
	if err != nil {
		return nil, fmt.Errorf("read main table: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var out []render.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := t.kernel.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("read main table: %w", err)
		}
		for _, k := range list {
			r := read(k, names)
			if !r.Dst.IsValid() || r.Dst.Bits() == 0 {
				continue // a default route, which leads nowhere in particular
			}
			if r.Dev != "" {
				out = append(out, r)
			}
			for _, hop := range k.MultiPath {
				r.Dev = names[hop.LinkIndex]
				out = append(out, r)
			}
		}
	}
	return out, nil
}

func (t *Tables) list() ([]netlink.Route, error) {
	var out []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := t.kernel.RouteListFiltered(family, &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_UNSPEC},
			netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// normal writes a route as read does.
func normal(r render.Route) render.Route {
	r.Dst = r.Dst.Masked()
	if r.Dst.Addr().Is6() {
		r.Metric = cmp.Or(r.Metric, defaultMetric6)
	}
	return r
}

// read is a route of the kernel; an interface that no wanted route uses has no
// name.
func read(k netlink.Route, names map[int]string) render.Route {
	r := render.Route{Table: k.Table, Metric: k.Priority, Dev: names[k.LinkIndex]}
	if k.Dst != nil {
		addr, _ := netip.AddrFromSlice(k.Dst.IP)
		bits, _ := k.Dst.Mask.Size()
		r.Dst = netip.PrefixFrom(addr.Unmap(), bits)
	}
	if via, ok := netip.AddrFromSlice(k.Gw); ok {
		r.Via = via.Unmap()
	}
	return r
}

func write(r render.Route, index int) *netlink.Route {
	dst := r.Dst.Masked()
	k := &netlink.Route{
		Table: r.Table, Priority: r.Metric, Protocol: Protocol, LinkIndex: index, Family: netlink.FAMILY_V4,
		Dst: &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())},
	}
	if dst.Addr().Is6() {
		k.Family = netlink.FAMILY_V6
	}
	switch {
	case r.Via.IsValid():
		k.Gw = r.Via.AsSlice()
		k.Flags = int(netlink.FLAG_ONLINK)
	case dst.Addr().Is4():
		k.Scope = netlink.SCOPE_LINK
	}
	return k
}

func describe(r render.Route) string {
	return fmt.Sprintf("route %s via %s dev %s table %d", r.Dst, r.Via, r.Dev, r.Table)
}
