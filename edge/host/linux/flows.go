package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// cutFlows forgets the forwarded flows that c does not permit: the filter lets
// packets of known flows pass, and these became known under another filter. A
// flow that is forgotten by mistake is only judged again. It returns the permits
// of the contract's Keep of which a flow was cut.
func cutFlows(c edge.Config) (map[inventory.PermitID]bool, error) {
	own, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	f := flowFilter{config: c, own: own, cut: map[inventory.PermitID]bool{}}
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f); err != nil {
			errs = append(errs, fmt.Errorf("cut flows that are no longer permitted: %w", err))
		}
	}
	return f.cut, errors.Join(errs...)
}

func ownAddresses() (map[netip.Addr]bool, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read own addresses: %w", err)
	}
	own := map[netip.Addr]bool{}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if p, ok := fromNet(n); ok {
				own[p.Addr()] = true
			}
		}
	}
	return own, nil
}

// flowFilter matches the flows to forget.
type flowFilter struct {
	config edge.Config
	own    map[netip.Addr]bool
	cut    map[inventory.PermitID]bool // noted here
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	src, ok1 := netip.AddrFromSlice(flow.Forward.SrcIP)
	dst, ok2 := netip.AddrFromSlice(flow.Forward.DstIP)
	if !ok1 || !ok2 {
		return false
	}
	src, dst = src.Unmap(), dst.Unmap()
	if f.own[src] || f.own[dst] || dst.IsMulticast() || src.IsLoopback() {
		return false // the box's own
	}
	if permitted(f.config, f.config.Rules, src, dst, flow.Forward.Protocol, flow.Forward.DstPort) != "" {
		return false
	}
	if p := permitted(f.config, f.config.Contract.Keep, src, dst, flow.Forward.Protocol, flow.Forward.DstPort); p != "" {
		f.cut[p] = true
	}
	return true
}

// permitted is the permit by which rules let the first packet of a flow pass; "":
// they do not.
func permitted(c edge.Config, rules []edge.Rule, src, dst netip.Addr, proto uint8, port uint16) inventory.PermitID {
	src = outside(c.Legacy, src)
	for _, r := range rules {
		if !contains(r.Src, src) || !r.Internet && !contains(r.Dst, dst) {
			continue
		}
		if len(r.Ports) == 0 {
			return r.Permit
		}
		for _, p := range r.Ports {
			if number(p.Proto, src) == proto && (p.Proto == inventory.ICMP || p.From <= port && port <= p.To) {
				return r.Permit
			}
		}
	}
	return ""
}

// outside returns how a host behind a translation is known elsewhere.
func outside(legacy []edge.Translation, a netip.Addr) netip.Addr {
	for _, t := range legacy {
		if !t.Inside.Contains(a) {
			continue
		}
		out, host := t.Outside.Masked().Addr().AsSlice(), a.AsSlice()
		for i := range out {
			mask := byte(0xff)
			switch bits := t.Inside.Bits() - 8*i; {
			case bits >= 8:
				mask = 0
			case bits > 0:
				mask = 0xff >> bits
			}
			out[i] |= host[i] & mask
		}
		b, _ := netip.AddrFromSlice(out)
		return b
	}
	return a
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// number is the IP protocol number of a transport, by the family of a.
func number(p inventory.Proto, a netip.Addr) uint8 {
	switch {
	case p == inventory.TCP:
		return unix.IPPROTO_TCP
	case p == inventory.UDP:
		return unix.IPPROTO_UDP
	case a.Is6():
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}
