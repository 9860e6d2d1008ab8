package openconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// mark begins every name and description that we write; what has it is ours.
const mark = "wardnet "

// item is one thing of ours on the device: an entry of a list, or the leaves
// of a container that is not ours alone (then it is updated, never replaced).
type item struct {
	path   path
	value  any // pointer to a model struct
	shared bool
	kind   edge.Kind // whose part of a config it is
	name   string
}

// items go by path.
type items map[string]item

// want is what a config asks of a device.
type want struct {
	edge.Config
	q     Quirks
	items items
	errs  []error
}

// Render says what the device must hold for c: the JSON of every entry that is
// ours, by path. It is pure. The error names, all at once, what the models
// cannot express and must not be left out silently; it wraps
// [edge.ErrRejected]. What c has beyond that is listed by [Left].
func Render(c edge.Config, q Quirks) (map[string]any, error) {
	w := render(c, q)
	out := make(map[string]any, len(w.items))
	for p, it := range w.items {
		out[p] = it.value
	}
	return out, errors.Join(w.errs...)
}

func render(c edge.Config, q Quirks) *want {
	w := &want{Config: c, q: q.withDefaults(), items: items{}}
	w.loopback()
	for _, k := range c.Circuits {
		w.circuit(k)
	}
	for _, s := range c.Segments {
		w.segment(s)
	}
	if !w.q.lacks("bgp") {
		w.routing()
	}
	if !w.q.lacks("acl") {
		w.acl()
	}
	return w
}

func (w *want) fault(format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf("%w: %s", edge.ErrRejected, fmt.Sprintf(format, args...)))
}

func (w *want) put(it item) {
	p := it.path.String()
	if other, taken := w.items[p]; taken {
		w.fault("%s %s and %s %s both need %s; give each its own port or address", other.kind, other.name, it.kind, it.name, it.path)
		return
	}
	w.items[p] = it
}

func ptr[T any](v T) *T { return &v }

func (w *want) loopback() {
	if !w.Loopback.IsValid() {
		return
	}
	s := sub{}
	s.address(netip.PrefixFrom(w.Loopback, w.Loopback.BitLen()))
	w.put(item{kind: edge.KindLoopback, path: loopbackPath(w.q), value: &iface{
		Name:   w.q.Loopback,
		Config: ifaceConfig{Name: w.q.Loopback, Type: "iana-if-type:softwareLoopback", Description: mark + "loopback", Enabled: ptr(true)},
		Subs:   &subs{List: []sub{s}},
	}})
}

func loopbackPath(q Quirks) path {
	return path{}.to("interfaces").list("interface", q.Loopback)
}

func (s *sub) address(p netip.Prefix) {
	a := ipAddr(p.Addr().String())
	list := &addresses{List: []address{{IP: a, Config: addressConfig{IP: a, Length: num(p.Bits())}}}}
	if p.Addr().Is4() {
		s.IPv4 = &ip{Addresses: list}
	} else {
		s.IPv6 = &ip{Addresses: list}
	}
}

// port is where a part of a config meets the device: an interface, or a VLAN
// of it where the name ends in ".N".
type port struct {
	iface string
	vlan  uint64 // 0: the interface itself
}

func portOf(name string) port {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		if n, err := strconv.ParseUint(name[i+1:], 10, 12); err == nil && n > 0 && n < 4095 {
			return port{name[:i], n}
		}
	}
	return port{iface: name}
}

func (p port) String() string {
	if p.vlan == 0 {
		return p.iface
	}
	return fmt.Sprintf("%s.%d", p.iface, p.vlan)
}

func (p port) path() path {
	return path{}.to("interfaces").list("interface", p.iface)
}

func (p port) sub() path {
	return p.path().to("subinterfaces").list("subinterface", strconv.FormatUint(p.vlan, 10))
}

func (w *want) circuit(c edge.Circuit) {
	if c.Port == "" {
		return
	}
	var addrs []netip.Prefix
	if c.Addressing == inventory.Static && c.Address.IsValid() {
		addrs = append(addrs, c.Address)
	}
	mtu := c.MTU
	if mtu > 0 && portOf(c.Port).vlan == 0 {
		mtu += w.q.MTUOverhead
	}
	w.attach(edge.KindCircuit, c.Name, c.Port, mtu, addrs)
}

func (w *want) segment(s edge.Segment) {
	if s.Port == "" {
		return
	}
	var addrs []netip.Prefix
	for _, p := range []netip.Prefix{s.V4, s.V6} {
		if p.IsValid() {
			addrs = append(addrs, gateway(p))
		}
	}
	w.attach(edge.KindSegment, string(s.Kind), s.Port, 0, addrs)
}

// gateway is the box's address in a segment: the first one.
func gateway(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits())
}

// attach writes a port: a VLAN's subinterface is ours as a whole, of a port we
// have some leaves and the addresses.
func (w *want) attach(kind edge.Kind, name, portName string, mtu int, addrs []netip.Prefix) {
	p := portOf(portName)
	about := mark + string(kind) + " " + name
	if p.vlan == 0 {
		w.put(item{kind: kind, name: name, shared: true, path: p.path().to("config"), value: &ifaceConfig{
			Name: p.iface, Description: about, MTU: num(max(mtu, 0)), Enabled: ptr(true),
		}})
		for _, a := range addrs {
			addr := ipAddr(a.Addr().String())
			w.put(item{kind: kind, name: name, path: addressPath(p, a.Addr()), value: &address{
				IP: addr, Config: addressConfig{IP: addr, Length: num(a.Bits())},
			}})
		}
		return
	}
	s := sub{Index: num(p.vlan), Config: subConfig{Index: num(p.vlan), Description: about}, VLAN: &vlan{}}
	s.VLAN.Match.Single.Config.ID = num(p.vlan)
	for _, a := range addrs {
		s.address(a)
	}
	if mtu > 0 {
		if s.IPv4 == nil {
			s.IPv4 = &ip{}
		}
		s.IPv4.Config = &ipConfig{MTU: num(mtu)}
	}
	w.put(item{kind: kind, name: name, path: p.sub(), value: &s})
}

func addressPath(p port, a netip.Addr) path {
	family := "ipv4"
	if a.Is6() {
		family = "ipv6"
	}
	return p.sub().to(family, "addresses").list("address", a.String())
}

// Left lists what of c this driver does not bring to a device, for the person
// who plans: it is the device's own, or another's, to provide. Kinds that are
// not held at all are not in it.
func Left(c edge.Config, q Quirks) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, k := range c.Circuits {
		switch {
		case k.Port == "":
			add("circuit %s: it has no port", k.Name)
		case k.Addressing != inventory.Static:
			add("circuit %s: its address is left to the device (%s)", k.Name, k.Addressing)
		case k.Gateway.IsValid():
			add("circuit %s: the route to gateway %s", k.Name, k.Gateway)
		}
		if k.UpBPS > 0 && k.Port != "" {
			add("circuit %s: its rate is not shaped", k.Name)
		}
	}
	for _, s := range c.Segments {
		if s.DHCP.From.IsValid() || s.DHCP.Relay.IsValid() || len(s.DNS)+len(s.NTP) > 0 {
			add("segment %s: DHCP, DNS and NTP", s.Kind)
		}
	}
	if q.lacks("routing-policy") && !q.lacks("bgp") && c.BGP.ASN != 0 {
		add("BGP's networks and preferences, and the filter of what neighbours announce: the device has no openconfig-routing-policy")
	} else if q.lacks("static-routes") && len(c.BGP.Networks) > 0 {
		add("BGP's networks are announced where the device knows them: it has no static routes of OpenConfig")
	}
	for _, n := range c.BGP.Neighbours {
		switch {
		case q.lacks("bgp") || n.BFDMinMS == 0:
		case q.lacks("bfd"):
			add("neighbour %s: BFD is on with the device's own intervals: it has no openconfig-bfd", n.Tunnel)
		case portTo(c, n.Addr) == "":
			add("neighbour %s: BFD is on with the device's own intervals, for no port of ours leads to %s", n.Tunnel, n.Addr)
		}
	}
	return out
}
