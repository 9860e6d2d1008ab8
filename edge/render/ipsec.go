package render

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// An IPsec tunnel is an IKE SA with one CHILD SA between two /32 addresses, the
// VTEPs, that carries nothing but VXLAN (RFC 7348); the VXLAN interface is the
// tunnel that routing sees.
const (
	// IPsecPort is the UDP port of IKE and of ESP, at both ends: always
	// encapsulated (RFC 3948), for carriers drop bare ESP.
	IPsecPort = 4500
	// VXLANPort is VXLAN's UDP port, source and destination, so that the CHILD
	// SA's selectors name it exactly.
	VXLANPort = 4789
	// IPsecOverhead is what a packet grows by at most, in bytes: VXLAN 50, and
	// ESP with AES-GCM in UDP 66, or 86 over IPv6; the rest is spare, so that 1428
	// of LTE leave 1280.
	IPsecOverhead = 148
	// IPsecMaxMTU is the largest inner MTU: with VXLAN it fills the 1400 bytes
	// of strongSwan's userspace ESP interface.
	IPsecMaxMTU = 1350
)

// TunnelBlock holds the addresses of tunnels, VTEPBlock those of the VTEPs
// under them: the two halves of 172.16.0.0/12. A VTEP is known to the two ends
// of its tunnel only; no routing protocol carries it.
var (
	TunnelBlock = netip.MustParsePrefix("172.16.0.0/13")
	VTEPBlock   = netip.MustParsePrefix("172.24.0.0/13")
)

// VTEP is the address under a tunnel's end: the same place in [VTEPBlock], so
// that it needs no allocation of its own.
func VTEP(end netip.Addr) (netip.Addr, error) {
	if !TunnelBlock.Contains(end) {
		return netip.Addr{}, fmt.Errorf("%w: an IPsec tunnel's addresses come from %s, %s does not", inventory.ErrInvalid, TunnelBlock, end)
	}
	b := end.As4()
	b[1] ^= 8
	return netip.AddrFrom4(b), nil
}

// IPsecTunnel is one IPsec tunnel of the box and the interface on it.
type IPsecTunnel struct {
	Name      string // the tunnel's
	Interface string // as [Interface] names it
	// Admitted says that the peer has credentials and the circuit an address.
	// Until then there is the interface, and nothing passes.
	Admitted   bool
	Hub        bool // answers; an edge asks
	Device     inventory.DeviceID
	Peer       inventory.DeviceID
	LocalAddr  netip.Addr // of the circuit
	RemoteAddr netip.Addr // the hub's; invalid at the hub: the edge may come from anywhere
	VTEP       netip.Addr // own /32
	PeerVTEP   netip.Addr
	VNI        uint32     // 24 bits, the same at both ends
	Neighbour  netip.Addr // the peer's end of the /31
	MTU        int        // bytes, inner
	AllowedIPs []netip.Prefix
}

// MAC is the interface's address, derived from the VTEP under it.
func (t IPsecTunnel) MAC() net.HardwareAddr { return vtepMAC(t.VTEP) }

// PeerMAC is the far interface's address.
func (t IPsecTunnel) PeerMAC() net.HardwareAddr { return vtepMAC(t.PeerVTEP) }

// vtepMAC is locally administered (IEEE 802 §8.4) and unique as the VTEP is.
func vtepMAC(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x57, b[0], b[1], b[2], b[3]}
}

// IPsec gives the IPsec tunnels of a box, sorted by name. The error lists all
// faults.
func IPsec(in Input) ([]IPsecTunnel, error) {
	circuits := map[string]edge.Circuit{}
	for _, c := range in.Config.Circuits {
		circuits[c.Name] = c
	}
	var out []IPsecTunnel
	var errs []error
	seen := map[any]string{}
	for _, t := range in.Config.Tunnels {
		if t.Kind != edge.IPsec {
			continue
		}
		c, ok := circuits[t.Circuit]
		if !ok {
			errs = append(errs, fmt.Errorf("%w: tunnel %s: no circuit %q", inventory.ErrInvalid, t.Name, t.Circuit))
			continue
		}
		x, err := ipsecTunnel(in, t, c)
		if err == nil {
			err = errors.Join(ipsecCollisions(in, x), unique(seen, x))
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_, known := in.Credentials.Keys[t.Peer]
		x.Admitted = known && x.LocalAddr.IsValid()
		out = append(out, x)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(out, func(a, b IPsecTunnel) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func ipsecTunnel(in Input, t edge.Tunnel, c edge.Circuit) (IPsecTunnel, error) {
	x := IPsecTunnel{
		Name: t.Name, Interface: Interface(t), Hub: in.Config.Role == inventory.RoleHub,
		Device: in.Config.Device, Peer: t.Peer, RemoteAddr: t.Endpoint.Addr(), LocalAddr: c.Address.Addr(),
		Neighbour: t.Remote, MTU: t.MTU, AllowedIPs: outermost(append(slices.Clone(t.AllowedIPs), hostPrefix(t.Remote), innerHost(t.Remote))),
	}
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: tunnel %s: "+format, append([]any{inventory.ErrInvalid, t.Name}, args...)...))
	}
	if !x.LocalAddr.IsValid() {
		x.LocalAddr = in.WAN[c.Name].Address.Addr()
	}
	if x.Hub {
		x.RemoteAddr = netip.Addr{}
		if !c.Address.IsValid() {
			fault("hub circuit %s needs a static address", c.Name)
		}
	} else if !x.RemoteAddr.Is4() {
		fault("endpoint %s is no IPv4 address", t.Endpoint)
	}
	if limit := min(IPsecMaxMTU, c.MTU-IPsecOverhead); t.MTU < 1280 || t.MTU > limit { // RFC 8200 §5
		fault("MTU %d is not in [1280,%d]: IPsec and VXLAN take %d bytes of the circuit's %d, and at most %d are left", t.MTU, limit, IPsecOverhead, c.MTU, IPsecMaxMTU)
	}
	var err error
	if x.VTEP, err = VTEP(t.Local.Addr()); err != nil {
		fault("%w", err)
	}
	if x.PeerVTEP, err = VTEP(t.Remote); err != nil {
		fault("%w", err)
	}
	if len(errs) == 0 && (t.Local.Bits() != 31 || !t.Local.Contains(t.Remote) || t.Local.Addr() == t.Remote) {
		fault("%s and %s are not the two ends of a /31", t.Local, t.Remote)
	}
	if !ikeName(x.Device) || !ikeName(x.Peer) {
		fault("device %q or peer %q cannot stand in an IKE identity: use letters, digits, '.', '_', '-'", x.Device, x.Peer)
	}
	if len(errs) > 0 {
		return IPsecTunnel{}, errors.Join(errs...)
	}
	b := t.Local.Masked().Addr().As4() // the /31's place in its pool, 24 bits
	x.VNI = (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) >> 1 & 0xffffff
	return x, nil
}

// ipsecCollisions refuses a VTEP that something else of the box could mean. A
// default route means no address in particular.
func ipsecCollisions(in Input, x IPsecTunnel) error {
	var errs []error
	check := func(what string, p netip.Prefix) {
		for _, v := range []netip.Addr{x.VTEP, x.PeerVTEP} {
			if p.IsValid() && p.Bits() > 0 && p.Contains(v) {
				errs = append(errs, fmt.Errorf("%w: tunnel %s: its address %s under IPsec is in %s %s; keep %s free", inventory.ErrInvalid, x.Name, v, what, p, VTEPBlock))
			}
		}
	}
	cfg := in.Config
	check("loopback", hostPrefix(cfg.Loopback))
	for _, s := range cfg.Segments {
		check("segment "+string(s.Kind), s.V4)
	}
	for _, l := range cfg.Legacy {
		check("legacy prefix", l.Inside)
		check("legacy prefix", l.Outside)
	}
	for _, p := range cfg.BGP.Networks {
		check("network", p)
	}
	for _, u := range cfg.Uplinks {
		check("uplink "+u.Name, u.Local)
		for _, p := range u.Accept {
			check("what uplink "+u.Name+" accepts,", p)
		}
	}
	for _, t := range cfg.Tunnels {
		check("endpoint of "+t.Name, hostPrefix(t.Endpoint.Addr()))
		for _, p := range t.AllowedIPs {
			check("what tunnel "+t.Name+" carries,", p)
		}
	}
	for _, c := range cfg.Circuits {
		check("circuit "+c.Name, c.Address)
	}
	return errors.Join(errs...)
}

// unique refuses two tunnels that a box could not tell apart. Identities are
// compared without case, as X.520 compares names.
func unique(seen map[any]string, x IPsecTunnel) error {
	type peer string
	type vni uint32
	type name string
	var errs []error
	for _, k := range []any{name(x.Interface), x.VTEP, vni(x.VNI)} {
		if other, ok := seen[k]; ok {
			errs = append(errs, fmt.Errorf("%w: tunnels %s and %s collide in %v", inventory.ErrInvalid, other, x.Name, k))
		}
		seen[k] = x.Name
	}
	folded := peer(strings.ToLower(string(x.Peer)))
	if other, ok := seen[folded]; ok && other != string(x.Peer) {
		errs = append(errs, fmt.Errorf("%w: peers %s and %s differ in case only; IKE takes them for one", inventory.ErrInvalid, other, x.Peer))
	}
	seen[folded] = string(x.Peer)
	return errors.Join(errs...)
}

// ikeName reports whether id can stand in a distinguished name as it is.
func ikeName(id inventory.DeviceID) bool {
	return id != "" && strings.Trim(string(id), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// innerHost is the IPv6 address beside an IPv4 one, the next hop of IPv6.
func innerHost(a netip.Addr) netip.Prefix {
	if !a.Is4() {
		return netip.Prefix{}
	}
	return hostPrefix(Inner(a))
}

func hostPrefix(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// outermost sorts prefixes and drops those inside another.
func outermost(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range list {
		if !p.IsValid() || slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(p) }) {
			continue
		}
		out = append(out, p)
	}
	return out
}
