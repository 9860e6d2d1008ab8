package render

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Packet marks. The low 24 bits bind a packet to a circuit; the top byte is the
// service class of a forwarded packet. The two never meet in one packet: what a
// tunnel sends out is a new packet.
const (
	CircuitMask = 0x00ffffff
	ClassMask   = 0xff000000
)

// MeasureMark is the packet mark of what measures a circuit: it passes beside the
// circuit's queue, which would be measured instead. No class has its top byte.
const MeasureMark = 0xff000000

// MeasurePort is the UDP port at which a hub tells edges when their packets
// arrived, and edges hear it.
const MeasurePort = 8622

// CircuitMark is the packet mark that binds to a circuit; the circuit's routing
// table has the same number.
func CircuitMark(name string) uint32 {
	sum := sha256.Sum256([]byte(name))
	return 0x100000 | binary.BigEndian.Uint32(sum[:4])>>12
}

// ClassMark is the packet mark of the i-th class of a configuration, from 0.
func ClassMark(i int) uint32 { return uint32(i+1) << 24 }

// ClassTable is the routing table that the i-th class is looked up in before
// the main one; what it does not have goes as routing says.
func ClassTable(i int) int { return 0x200000 + i }

// Interface is the network interface of a tunnel: "wn" and 8 hex digits of the
// SHA-256 of its name, or, where tunnels share a WireGuard port as at a hub,
// "wn" and the port.
func Interface(t edge.Tunnel) string {
	if t.ListenPort != 0 && t.Kind != edge.IPsec {
		return fmt.Sprintf("wn%d", t.ListenPort)
	}
	return "wn" + digest(t.Name)
}

// digest is 8 hex digits of the SHA-256 of a name.
func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x", sum[:4])
}

// InnerBlock holds the IPv6 addresses of tunnels' ends and of uplinks: the ULA
// fd77:6172:646e::/48 with the IPv4 address in the low 32 bits. IPv6 routes
// travel in the BGP sessions over IPv4 and need a next hop of their family.
var InnerBlock = netip.MustParsePrefix("fd77:6172:646e::/96")

// Inner is the IPv6 address beside an IPv4 address of a tunnel or an uplink.
func Inner(a netip.Addr) netip.Addr {
	b, v4 := InnerBlock.Addr().As16(), a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// innerPrefix is Inner with a prefix length: a /31 gives a /127.
func innerPrefix(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(Inner(p.Addr()), p.Bits()+96)
}

// Gateway is the box's own address in a segment: the first of the prefix.
func Gateway(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits())
}

// isHub says whether c is for a hub.
func isHub(c edge.Config) bool { return c.Role == inventory.RoleHub }
