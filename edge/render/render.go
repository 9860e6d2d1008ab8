// Package render turns a device's configuration and its runtime sets into what
// a Linux box runs: interfaces, routes, WireGuard devices, and the texts for
// nftables and FRR. It is pure: equal input gives equal bytes. The same texts
// are what the controller's proof reads.
package render

import (
	"net/netip"

	"github.com/wardnet/wardnet/edge"
)

// Input is all a box depends on.
type Input struct {
	Config      edge.Config
	Credentials edge.Credentials
	// WAN is what is known of the circuits at run time: addresses and gateways
	// from DHCP. Static circuits need no entry.
	WAN map[string]WAN // by circuit name
}

// WAN is a circuit's attachment as learned.
type WAN struct {
	Address netip.Prefix
	Gateway netip.Addr
}

// Box is everything a Linux box runs for an [Input]. All lists are sorted.
type Box struct {
	Links     []Link
	Routes    []Route
	Rules     []PolicyRule
	WireGuard []WireGuard
	NFT       string // one `nft -f` transaction that replaces table inet wardnet
	FRR       string // whole configuration, in the order of `show running-config`
}

// Link is an interface of the box and what it carries. Ports exist already;
// overlay interfaces are made by their driver.
type Link struct {
	Name      string // at most 15 bytes
	Alias     string // what it is, for people: the circuit, tunnel or segment
	MTU       int    // bytes; 0: as it is
	Addresses []netip.Prefix
	Overlay   bool // made by us: WireGuard or IPsec
}

// Route is a static route.
type Route struct {
	Table int // routing table
	Dst   netip.Prefix
	Via   netip.Addr // invalid: on link
	Dev   string     // empty with Blackhole
	// Blackhole drops what no better route takes.
	Blackhole bool
	Metric    int
}

// PolicyRule chooses a routing table: by mark, or by source.
type PolicyRule struct {
	Priority int
	V6       bool
	Mark     uint32
	Mask     uint32
	Src      netip.Prefix
	Table    int
}

// WireGuard is one WireGuard interface. At an edge it has one peer; at a hub
// all tunnels that listen on one port share it, for WireGuard knows a peer's key
// once per interface.
type WireGuard struct {
	Name       string
	ListenPort uint16 // 0: any
	Mark       uint32 // SO_MARK of the outer packets: binds them to a circuit
	MTU        int
	Peers      []Peer
}

// Peer is the far end of a tunnel.
type Peer struct {
	Tunnel           string // name, for state
	PublicKey        string // base64
	Endpoint         netip.AddrPort
	AllowedIPs       []netip.Prefix
	KeepaliveSeconds int // 0: off
}
