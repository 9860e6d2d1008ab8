package render

import (
	"net/netip"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr  { return netip.MustParseAddr(s) }

func pfxs(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = pfx(s)
	}
	return out
}

var (
	web  = []inventory.PortRange{{Proto: inventory.TCP, From: 443, To: 443}}
	dns  = []inventory.PortRange{{Proto: inventory.TCP, From: 53, To: 53}, {Proto: inventory.UDP, From: 53, To: 53}, {Proto: inventory.ICMP}}
	raw  = []inventory.PortRange{{Proto: inventory.TCP, From: 9100, To: 9100}}
	rtp  = []inventory.PortRange{{Proto: inventory.UDP, From: 16384, To: 32767}}
	pool = []string{"10.64.0.0/10", "fd5a:1::/48"}
)

// ward is a ward of three segments with two circuits to one hub.
func ward() Input {
	all := append(pfxs(pool...), pfx("172.16.0.0/16"), pfx("172.17.0.0/16"), pfx("198.51.100.0/24"))
	return Input{
		Config: edge.Config{
			Device: "d-1", Site: "s-1", Role: inventory.RoleEdge, Loopback: addr("172.16.0.7"),
			Circuits: []edge.Circuit{
				{Name: "c-1-a", Kind: inventory.FTTH, UpBPS: 100 * inventory.Mbps, MTU: 1492, Port: "wan0", Addressing: inventory.Static, Address: pfx("203.0.113.2/30"), Gateway: addr("203.0.113.1")},
				{Name: "c-1-b", Kind: inventory.LTE, UpBPS: 20 * inventory.Mbps, MTU: 1428, Port: "wan1", Addressing: inventory.CGNAT},
			},
			Tunnels: []edge.Tunnel{
				{Name: "c-1-a--d-hub", Kind: edge.WireGuard, Circuit: "c-1-a", Peer: "d-hub", Endpoint: netip.MustParseAddrPort("192.0.2.10:51820"), Local: pfx("172.17.0.0/31"), Remote: addr("172.17.0.1"), AllowedIPs: all, MTU: 1412, Preference: 1000},
				{Name: "c-1-b--d-hub", Kind: edge.WireGuard, Circuit: "c-1-b", Peer: "d-hub", Endpoint: netip.MustParseAddrPort("192.0.2.10:51821"), Local: pfx("172.17.0.2/31"), Remote: addr("172.17.0.3"), AllowedIPs: all, MTU: 1348, Preference: 999},
			},
			BGP: edge.BGP{
				ASN: 4200000007, RouterID: addr("172.16.0.7"), Networks: pfxs("10.64.16.0/20", "172.16.0.7/32", "fd5a:1:0:10::/60"),
				Neighbours: []edge.Neighbour{
					{Tunnel: "c-1-a--d-hub", Addr: addr("172.17.0.1"), ASN: 4200000001, Preference: 1000, BFDMinMS: 300, BFDMult: 3},
					{Tunnel: "c-1-b--d-hub", Addr: addr("172.17.0.3"), ASN: 4200000001, Preference: 999, BFDMinMS: 300, BFDMult: 3},
				},
			},
			Segments: []edge.Segment{
				{Kind: inventory.Mgmt, V4: pfx("10.64.30.0/23"), V6: pfx("fd5a:1:0:17::/64"), Port: "lan.mgmt", DHCP: edge.DHCP{Relay: addr("10.64.10.67")}},
				{Kind: inventory.Public, V4: pfx("10.64.18.0/23"), V6: pfx("fd5a:1:0:11::/64"), Port: "lan.public"},
				{
					Kind: inventory.Staff, V4: pfx("10.64.16.0/23"), V6: pfx("fd5a:1:0:10::/64"), Port: "lan.staff",
					DHCP: edge.DHCP{From: addr("10.64.16.128"), To: addr("10.64.16.254"), LeaseSeconds: 3600},
					DNS:  []netip.Addr{addr("10.64.10.53")}, NTP: []netip.Addr{addr("10.64.10.53")},
				},
				{Kind: inventory.Voice, V4: pfx("10.64.22.0/23"), V6: pfx("fd5a:1:0:13::/64"), Port: "lan.voice"},
			},
			Legacy: []edge.Translation{{Segment: inventory.Staff, Inside: pfx("192.168.1.0/24"), Outside: pfx("10.64.17.0/24")}},
			Classes: []edge.Class{
				{Name: "thoại", DSCP: 46, Share: 0.3, LossRatio: 0.01, LatencyMS: 150, JitterMS: 30},
				{Name: "nền", DSCP: 8, Share: 0.05, LossRatio: 0.05, LatencyMS: 1000, JitterMS: 500},
			},
			Rules: []edge.Rule{
				{Permit: "p-dns", From: inventory.Staff, Src: pfxs("10.64.16.0/23", "fd5a:1:0:10::/64"), Dst: pfxs("10.64.10.53/32", "fd5a:1:0:5::53/128"), Ports: dns, Class: "nền"},
				{Permit: "p-portal", From: inventory.Staff, Src: pfxs("10.64.16.0/23", "fd5a:1:0:10::/64"), Dst: pfxs("198.51.100.0/24"), Ports: web},
				{Permit: "p-print", Src: pfxs(pool...), Dst: pfxs("10.64.16.0/23", "fd5a:1:0:10::/64"), Ports: raw},
				{Permit: "p-voice", Src: pfxs(pool...), Dst: pfxs("10.64.22.0/23", "fd5a:1:0:13::/64"), Ports: rtp, Class: "thoại"},
				{Permit: "p-voice", From: inventory.Staff, Src: pfxs("10.64.16.0/23", "fd5a:1:0:10::/64"), Dst: pfxs(pool...), Ports: rtp, Class: "thoại"},
				{Permit: "p-voice", From: inventory.Voice, Src: pfxs("10.64.22.0/23", "fd5a:1:0:13::/64"), Dst: pfxs(pool...), Ports: rtp, Class: "thoại"},
				{Permit: "p-wifi", From: inventory.Public, Src: pfxs("10.64.18.0/23", "fd5a:1:0:11::/64"), Dst: []netip.Prefix{}, Internet: true},
			},
			Contract: edge.Contract{BFD: []string{"c-1-a--d-hub", "c-1-b--d-hub"}},
		},
		Credentials: edge.Credentials{Epoch: 3, Keys: map[inventory.DeviceID]string{"d-hub": "aHViaHViaHViaHViaHViaHViaHViaHViaHViaHViaHU="}},
		WAN:         map[string]WAN{"c-1-b": {Address: pfx("100.64.3.9/24"), Gateway: addr("100.64.3.1")}},
	}
}

// hub is the other end: two wards, one of which has no key yet, a servers
// segment, and an uplink.
func hub() Input {
	return Input{
		Config: edge.Config{
			Device: "d-hub", Site: "hub", Role: inventory.RoleHub, Loopback: addr("172.16.0.1"),
			Circuits: []edge.Circuit{{Name: "c-hub", Kind: inventory.FTTH, UpBPS: inventory.Gbps, MTU: 1500, Port: "wan0", Addressing: inventory.Static, Address: pfx("192.0.2.10/28"), Gateway: addr("192.0.2.1")}},
			Tunnels: []edge.Tunnel{
				{Name: "c-1-a--d-hub", Kind: edge.WireGuard, Circuit: "c-hub", Peer: "d-1", ListenPort: 51820, Local: pfx("172.17.0.1/31"), Remote: addr("172.17.0.0"), AllowedIPs: pfxs("10.64.16.0/20", "172.16.0.7/32", "172.17.0.0/32", "fd5a:1:0:10::/60"), MTU: 1412, Preference: 1000},
				{Name: "c-1-b--d-hub", Kind: edge.WireGuard, Circuit: "c-hub", Peer: "d-1", ListenPort: 51821, Local: pfx("172.17.0.3/31"), Remote: addr("172.17.0.2"), AllowedIPs: pfxs("10.64.16.0/20", "172.16.0.7/32", "172.17.0.2/32", "fd5a:1:0:10::/60"), MTU: 1348, Preference: 999},
				{Name: "c-2-a--d-hub", Kind: edge.WireGuard, Circuit: "c-hub", Peer: "d-2", ListenPort: 51820, Local: pfx("172.17.0.5/31"), Remote: addr("172.17.0.4"), AllowedIPs: pfxs("10.64.32.0/20", "172.16.0.8/32", "172.17.0.4/32", "fd5a:1:0:20::/60"), MTU: 1400, Preference: 900},
			},
			BGP: edge.BGP{
				ASN: 4200000001, RouterID: addr("172.16.0.1"), Networks: pfxs("10.64.0.0/20", "172.16.0.1/32", "fd5a:1::/60"),
				Neighbours: []edge.Neighbour{
					{Tunnel: "c-1-a--d-hub", Addr: addr("172.17.0.0"), ASN: 4200000007, Preference: 1000, BFDMinMS: 300, BFDMult: 3},
					{Tunnel: "c-1-b--d-hub", Addr: addr("172.17.0.2"), ASN: 4200000007, Preference: 999, BFDMinMS: 300, BFDMult: 3},
					{Tunnel: "c-2-a--d-hub", Addr: addr("172.17.0.4"), ASN: 4200000008, Preference: 900, BFDMinMS: 1000, BFDMult: 5},
				},
			},
			Uplinks:  []edge.Uplink{{Name: "dc", Port: "up0", Local: pfx("198.18.0.2/30"), Peer: addr("198.18.0.1"), PeerASN: 65010, Accept: pfxs("198.51.100.0/24")}},
			Segments: []edge.Segment{{Kind: inventory.Servers, V4: pfx("10.64.10.0/23"), V6: pfx("fd5a:1:0:5::/64"), Port: "srv0"}},
			Classes: []edge.Class{
				{Name: "thoại", DSCP: 46, Share: 0.3, LossRatio: 0.01, LatencyMS: 150, JitterMS: 30},
				{Name: "nền", DSCP: 8, Share: 0.05, LossRatio: 0.05, LatencyMS: 1000, JitterMS: 500},
			},
			Rules: []edge.Rule{
				{Permit: "p-dns", Src: pfxs("10.64.16.0/23", "10.64.32.0/23", "fd5a:1:0:10::/64", "fd5a:1:0:20::/64"), Dst: pfxs("10.64.10.53/32", "fd5a:1:0:5::53/128"), Ports: dns, Class: "nền"},
				{Permit: "p-portal", Src: pfxs("10.64.16.0/23", "10.64.32.0/23"), Dst: pfxs("198.51.100.0/24"), Ports: web},
				{Permit: "p-print", Src: pfxs("10.64.10.0/23", "fd5a:1:0:5::/64"), Dst: pfxs("10.64.16.0/23", "10.64.32.0/23", "fd5a:1:0:10::/64", "fd5a:1:0:20::/64"), Ports: raw},
				{Permit: "p-print", From: inventory.Servers, Src: pfxs("10.64.10.0/23", "fd5a:1:0:5::/64"), Dst: pfxs(pool...), Ports: raw},
				{Permit: "p-voice", Src: pfxs("10.64.22.0/23", "fd5a:1:0:13::/64"), Dst: pfxs("10.64.22.0/23", "fd5a:1:0:13::/64"), Ports: rtp, Class: "thoại"},
			},
		},
		Credentials: edge.Credentials{Epoch: 3, Keys: map[inventory.DeviceID]string{"d-1": "d2FyZHdhcmR3YXJkd2FyZHdhcmR3YXJkd2FyZHdhcmQ="}},
	}
}

func mustNew(t testing.TB, in Input) Box {
	t.Helper()
	box, err := New(in)
	if err != nil {
		t.Fatal(err)
	}
	return box
}
