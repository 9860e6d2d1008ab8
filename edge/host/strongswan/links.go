package strongswan

import (
	"errors"
	"fmt"
	"net"
	"regexp"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/render"
)

// ours is the form of our VXLAN interfaces' names.
var ours = regexp.MustCompile(`^wn[0-9a-f]{8}$`)

// makeLinks brings the VTEP addresses and VXLAN interfaces of the tunnels about.
// An interface that is as wanted is not touched.
func makeLinks(tunnels []render.IPsecTunnel) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find interface lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set interface lo up: %w", err)
	}
	for _, t := range tunnels {
		if err := netlink.AddrReplace(lo, &netlink.Addr{IPNet: host(t.VTEP.AsSlice())}); err != nil {
			return fmt.Errorf("tunnel %s: add %s to lo: %w", t.Name, t.VTEP, err)
		}
		if err := makeLink(t); err != nil {
			return fmt.Errorf("tunnel %s: interface %s: %w", t.Name, t.Interface, err)
		}
	}
	return nil
}

func makeLink(t render.IPsecTunnel) error {
	want := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: t.Interface, MTU: t.MTU, HardwareAddr: t.MAC()},
		VxlanId:   int(t.VNI), SrcAddr: t.VTEP.AsSlice(), Port: render.VXLANPort,
		PortLow: render.VXLANPort, PortHigh: render.VXLANPort + 1, // the kernel excludes the upper one
		Learning: false,
	}
	have, err := netlink.LinkByName(t.Interface)
	switch {
	case errors.As(err, &netlink.LinkNotFoundError{}):
		have = nil
	case err != nil:
		return err
	case !sameVXLAN(have, want):
		if err := netlink.LinkDel(have); err != nil {
			return fmt.Errorf("remove the one that was: %w", err)
		}
		have = nil
	}
	if have == nil {
		if err := netlink.LinkAdd(want); err != nil {
			return fmt.Errorf("add: %w", err)
		}
		if have, err = netlink.LinkByName(t.Interface); err != nil {
			return err
		}
	}
	if have.Attrs().MTU != t.MTU {
		if err := netlink.LinkSetMTU(have, t.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", t.MTU, err)
		}
	}
	if have.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(have); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	return setNeighbours(have.Attrs().Index, t)
}

// setNeighbours names the one station there is: the peer, by address, by MAC,
// and for everything else (the default entry).
func setNeighbours(index int, t render.IPsecTunnel) error {
	station := func(mac net.HardwareAddr) *netlink.Neigh {
		return &netlink.Neigh{
			LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP | netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
			IP: t.PeerVTEP.AsSlice(), HardwareAddr: mac,
		}
	}
	// Of the default entry there may be several, so the kernel replaces none;
	// to append what is there is no error.
	if err := netlink.NeighAppend(station(make(net.HardwareAddr, 6))); err != nil {
		return fmt.Errorf("set default station: %w", err)
	}
	for _, n := range []*netlink.Neigh{
		station(t.PeerMAC()),
		{LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: t.Neighbour.AsSlice(), HardwareAddr: t.PeerMAC()},
		{LinkIndex: index, Family: unix.AF_INET6, State: netlink.NUD_PERMANENT, IP: render.Inner(t.Neighbour).AsSlice(), HardwareAddr: t.PeerMAC()},
	} {
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("set neighbour %s: %w", n.HardwareAddr, err)
		}
	}
	return nil
}

func sameVXLAN(l netlink.Link, want *netlink.Vxlan) bool {
	have, ok := l.(*netlink.Vxlan)
	return ok && have.VxlanId == want.VxlanId && have.SrcAddr.Equal(want.SrcAddr) && have.Port == want.Port &&
		have.PortLow == want.PortLow && have.PortHigh == want.PortHigh && !have.Learning &&
		have.HardwareAddr.String() == want.HardwareAddr.String()
}

// dropLinks removes our VXLAN interfaces and VTEP addresses that no tunnel has.
func dropLinks(tunnels []render.IPsecTunnel) error {
	interfaces, vteps := map[string]bool{}, map[string]bool{}
	for _, t := range tunnels {
		interfaces[t.Interface], vteps[t.VTEP.String()] = true, true
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() != "vxlan" || !ours.MatchString(name) || interfaces[name] {
			continue
		}
		if err := netlink.LinkDel(l); err != nil {
			errs = append(errs, fmt.Errorf("remove interface %s: %w", name, err))
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("find interface lo: %w", err))...)
	}
	addrs, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("list addresses of lo: %w", err))...)
	}
	for _, a := range addrs {
		if ones, _ := a.Mask.Size(); ones != 32 || !inVTEPBlock(a.IP) || vteps[a.IP.String()] {
			continue
		}
		if err := netlink.AddrDel(lo, &a); err != nil {
			errs = append(errs, fmt.Errorf("remove %s from lo: %w", a.IP, err))
		}
	}
	return errors.Join(errs...)
}

func inVTEPBlock(ip net.IP) bool {
	b := render.VTEPBlock
	return (&net.IPNet{IP: b.Addr().AsSlice(), Mask: net.CIDRMask(b.Bits(), 32)}).Contains(ip)
}

func host(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)} }
