package inventory

import "net/netip"

// ProfileID names a profile, e.g. "ward-standard".
type ProfileID string

// Profile is what sites have in common. A site names its profile and gives the
// variables their values; [Expand] writes the profile out at the site. A field
// that the site has itself wins over the profile's, and a profile's over that
// of the one it extends. A segment that is listed is in use unless it says
// itself why not: that reason is not taken over. A list of openings is taken
// over as a whole or not at all.
type Profile struct {
	ID          ProfileID  `yaml:"id" json:"id"`
	Description string     `yaml:"description,omitempty" json:"description,omitempty"`
	Extends     ProfileID  `yaml:"extends,omitempty" json:"extends,omitempty"`
	Variables   []Variable `yaml:"variables,omitempty" json:"variables,omitempty"`
	// BFDIntervalMS is [Site.BFDIntervalMS].
	BFDIntervalMS Value[int]       `yaml:"bfd_interval_ms,omitempty" json:"bfd_interval_ms,omitzero"`
	Segments      []ProfileSegment `yaml:"segments,omitempty" json:"segments,omitempty"`
	Circuits      []ProfileCircuit `yaml:"circuits,omitempty" json:"circuits,omitempty"`
	Uplinks       []ProfileUplink  `yaml:"uplinks,omitempty" json:"uplinks,omitempty"`
	// Opens is [Site.Opens].
	Opens []Opening `yaml:"opens,omitempty" json:"opens,omitempty"`
}

// ProfileSegment is a [Segment] at every site of a profile. The server that a
// relay asks is taken where the site's hosts are to be relayed.
type ProfileSegment struct {
	Kind   SegmentKind       `yaml:"kind" json:"kind"`
	Unused Value[string]     `yaml:"unused,omitempty" json:"unused,omitzero"`
	Port   Value[string]     `yaml:"port,omitempty" json:"port,omitzero"`
	DHCP   Value[DHCPMode]   `yaml:"dhcp,omitempty" json:"dhcp,omitzero"`
	Relay  Value[netip.Addr] `yaml:"dhcp_relay,omitempty" json:"dhcp_relay,omitzero"`
}

// ProfileCircuit fills in what the circuits of a kind leave out; without a kind,
// what all circuits leave out that have none of their kind.
type ProfileCircuit struct {
	Kind    CircuitKind    `yaml:"kind,omitempty" json:"kind,omitempty"`
	MTU     Value[int]     `yaml:"mtu,omitempty" json:"mtu,omitzero"` // bytes
	Overlay Value[Overlay] `yaml:"overlay,omitempty" json:"overlay,omitzero"`
}

// ProfileUplink is an [Uplink] at every hub of a profile.
type ProfileUplink struct {
	Name    string              `yaml:"name" json:"name"`
	Port    Value[string]       `yaml:"port,omitempty" json:"port,omitzero"`
	Address Value[netip.Prefix] `yaml:"address,omitempty" json:"address,omitzero"`
	Peer    Value[netip.Addr]   `yaml:"peer,omitempty" json:"peer,omitzero"`
	PeerASN Value[uint32]       `yaml:"peer_asn,omitempty" json:"peer_asn,omitzero"`
	Router  Value[DeviceID]     `yaml:"router,omitempty" json:"router,omitzero"`
}

// Opening names a permit that the filter of a site's box carries out.
type Opening struct {
	Permit PermitID `yaml:"permit" json:"permit"`
	// From are the segments of the site that it is opened for, out of those of
	// the permit; empty: all of them.
	From []SegmentKind `yaml:"from,omitempty" json:"from,omitempty"`
}
