package main

import "github.com/wardnet/wardnet/inventory"

// The profiles of the sites that are no hub.
const (
	edgeProfile   inventory.ProfileID = "edge-standard"
	wardProfile   inventory.ProfileID = "ward-standard"
	branchProfile inventory.ProfileID = "branch-standard"
)

// profiles is what sites have in common: all have the same circuits and most of
// the segments, and branches have no servers.
func profiles() []inventory.Profile {
	mtu := func(kind inventory.CircuitKind, bytes int) inventory.ProfileCircuit {
		return inventory.ProfileCircuit{Kind: kind, MTU: inventory.Given(bytes)}
	}
	base := inventory.Profile{
		ID: edgeProfile, Description: "Phân vùng và đường truyền chung của mọi phường, xã và chi nhánh",
		Circuits: []inventory.ProfileCircuit{
			mtu(inventory.FTTH, 1492), // RFC 2516: PPPoE takes 8 bytes of header
			mtu(inventory.LTE, 1428), mtu(inventory.Metronet, 1500),
		},
	}
	for _, k := range []inventory.SegmentKind{inventory.Staff, inventory.Public, inventory.Kiosk, inventory.Voice, inventory.IoT, inventory.Mgmt} {
		base.Segments = append(base.Segments, inventory.ProfileSegment{Kind: k})
	}
	return []inventory.Profile{base, {
		ID: wardProfile, Extends: edgeProfile, Description: "Trụ sở Ủy ban nhân dân phường, xã, đặc khu",
		Segments: []inventory.ProfileSegment{{Kind: inventory.Servers}, {Kind: inventory.DMZ}},
	}, {
		ID: branchProfile, Extends: edgeProfile, Description: "Chi nhánh Trung tâm Phục vụ hành chính công",
		Segments: []inventory.ProfileSegment{
			{Kind: inventory.Servers, Unused: inventory.Given("chi nhánh không đặt máy chủ")},
			{Kind: inventory.DMZ, Unused: inventory.Given("chi nhánh không mở dịch vụ ra ngoài")},
		},
	}}
}
