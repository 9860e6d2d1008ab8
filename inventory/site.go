package inventory

import "net/netip"

// UnitKind is the legal kind of a unit.
type UnitKind string

// Kinds of unit: phường, xã, đặc khu, sở/ban/ngành.
const (
	Ward        UnitKind = "ward"
	Commune     UnitKind = "commune"
	SpecialZone UnitKind = "special-zone"
	Department  UnitKind = "department"
)

// Unit is an organisation with a stable id; its official codes and names
// change by law and carry their validity.
type Unit struct {
	ID       UnitID     `yaml:"id" json:"id"`
	Kind     UnitKind   `yaml:"kind" json:"kind"`
	Codes    []UnitCode `yaml:"codes" json:"codes"` // newest last
	District string     `yaml:"district,omitempty" json:"district,omitempty"`
	// FormerProvince is the province the area belonged to before 1 July 2025.
	FormerProvince string   `yaml:"former_province,omitempty" json:"former_province,omitempty"`
	Lat            float64  `yaml:"lat" json:"lat"` // WGS 84 degrees, area centroid
	Lon            float64  `yaml:"lon" json:"lon"`
	Predecessors   []string `yaml:"predecessors,omitempty" json:"predecessors,omitempty"`
}

// UnitCode is one official code and name with its validity (RFC 3339 dates;
// ValidTo is the first day it no longer holds, empty: still valid). Source:
// NSO, Decision 19/2025/QĐ-TTg.
type UnitCode struct {
	Code      string `yaml:"code" json:"code"` // 5 digits for wards and communes
	Name      string `yaml:"name" json:"name"` // Vietnamese, NFC
	ValidFrom string `yaml:"valid_from" json:"valid_from"`
	ValidTo   string `yaml:"valid_to,omitempty" json:"valid_to,omitempty"`
}

// SiteKind says what a site is for.
type SiteKind string

// Kinds of site.
const (
	Hub           SiteKind = "hub"
	WardOffice    SiteKind = "ward-office"
	ServiceCentre SiteKind = "service-centre"
	Branch        SiteKind = "branch"
)

// Site is a place on the network and belongs to one unit.
type Site struct {
	ID   SiteID   `yaml:"id" json:"id"`
	Unit UnitID   `yaml:"unit" json:"unit"`
	Kind SiteKind `yaml:"kind" json:"kind"`
	Name string   `yaml:"name" json:"name"` // Vietnamese; for people, never a key
	// Profile gives what the site does not say itself; see [Expand].
	Profile ProfileID `yaml:"profile,omitempty" json:"profile,omitempty"`
	// Variables are the values of the profile's variables, by name.
	Variables map[string]VariableValue `yaml:"variables,omitempty" json:"variables,omitempty"`
	// Hubs in order of preference; empty only on a hub.
	Hubs     []SiteID  `yaml:"hubs,omitempty" json:"hubs,omitempty"`
	Lat      float64   `yaml:"lat" json:"lat"`
	Lon      float64   `yaml:"lon" json:"lon"`
	People   int       `yaml:"people,omitempty" json:"people,omitempty"` // head count, for the blast radius
	Segments []Segment `yaml:"segments,omitempty" json:"segments,omitempty"`
	// Legacy is a prefix kept behind 1:1 translation until renumbered; two
	// sites may share one.
	Legacy netip.Prefix `yaml:"legacy,omitzero" json:"legacy,omitzero"`
	// BFDIntervalMS is how often each end of the site's tunnels says that it is
	// there (RFC 5880), in milliseconds: the third one missed is a failure. Zero:
	// 300. Not on a hub, which follows its edges.
	BFDIntervalMS int `yaml:"bfd_interval_ms,omitempty" json:"bfd_interval_ms,omitempty"`
	// Opens are the permits that the filter of the site's box carries out; empty:
	// all of them. The intent is the permits, this is how a box is configured: the
	// proof refuses a revision where they differ. Not on a hub.
	Opens []Opening `yaml:"opens,omitempty" json:"opens,omitempty"`
	// Uplinks join a hub to routers of the data centre; hubs only.
	Uplinks []Uplink `yaml:"uplinks,omitempty" json:"uplinks,omitempty"`
	// Modelled marks a site that is our model and not an official fact.
	Modelled bool `yaml:"modelled,omitempty" json:"modelled,omitempty"`
}

// SegmentKind is a zone with its own trust.
type SegmentKind string

// The eight segments of a ward, in the fixed order of their address cut.
const (
	Staff   SegmentKind = "staff"
	Public  SegmentKind = "public"
	Kiosk   SegmentKind = "kiosk"
	Voice   SegmentKind = "voice"
	IoT     SegmentKind = "iot"
	Servers SegmentKind = "servers"
	DMZ     SegmentKind = "dmz"
	Mgmt    SegmentKind = "mgmt"
)

// SegmentKinds lists every kind in address-cut order.
var SegmentKinds = []SegmentKind{Staff, Public, Kiosk, Voice, IoT, Servers, DMZ, Mgmt}

// Segment is one zone at one site. Unused needs a reason; a segment in use has none.
type Segment struct {
	Kind   SegmentKind `yaml:"kind" json:"kind"`
	Unused string      `yaml:"unused,omitempty" json:"unused,omitempty"`
	// Port is the device's network interface for it, e.g. "eth3" or "eth1.20";
	// needed on a Linux edge only.
	Port string `yaml:"port,omitempty" json:"port,omitempty"`
	// DHCP is "server", "relay" or empty: hosts are static.
	DHCP  DHCPMode   `yaml:"dhcp,omitempty" json:"dhcp,omitempty"`
	Relay netip.Addr `yaml:"dhcp_relay,omitzero" json:"dhcp_relay,omitzero"`
	// Reservations bind addresses to hosts; with "server" only.
	Reservations []Reservation `yaml:"reservations,omitempty" json:"reservations,omitempty"`
}

// DHCPMode says how hosts of a segment get addresses (RFC 2131).
type DHCPMode string

// Ways of assigning addresses.
const (
	DHCPServer DHCPMode = "server"
	DHCPRelay  DHCPMode = "relay"
)

// Reservation binds an address of the segment to a host's interface.
type Reservation struct {
	MAC     string     `yaml:"mac" json:"mac"` // EUI-48, lower-case, colons
	Address netip.Addr `yaml:"address" json:"address"`
	Name    string     `yaml:"name,omitempty" json:"name,omitempty"`
}

// Uplink is a hub's eBGP session with a router of the data centre.
type Uplink struct {
	Name    string       `yaml:"name" json:"name"`
	Port    string       `yaml:"port" json:"port"`
	Address netip.Prefix `yaml:"address" json:"address"` // the hub's own
	Peer    netip.Addr   `yaml:"peer" json:"peer"`
	PeerASN uint32       `yaml:"peer_asn" json:"peer_asn"` // RFC 6996 private range
	// Router is the peer where it is one that we configure; empty: it is not.
	Router DeviceID `yaml:"router,omitempty" json:"router,omitempty"`
}

// Platform is what a device is built on; it chooses the driver.
type Platform string

// Known platforms.
const (
	LinuxEdge     Platform = "linux-edge"
	SimulatedEdge Platform = "simulated-edge" // labs only, labelled so
)

// DeviceRole is the device's part in the overlay.
type DeviceRole string

// Roles of a device.
const (
	RoleHub  DeviceRole = "hub"
	RoleEdge DeviceRole = "edge"
)

// IntendedState is what we want of a device.
type IntendedState string

// Intended states.
const (
	Planned   IntendedState = "planned"
	InService IntendedState = "in-service"
	Retired   IntendedState = "retired"
)

// Device is declared here; what is observed of it is DeviceStatus, never imported.
type Device struct {
	ID       DeviceID      `yaml:"id" json:"id"` // never reused
	Serial   string        `yaml:"serial" json:"serial"`
	Site     SiteID        `yaml:"site" json:"site"`
	Platform Platform      `yaml:"platform" json:"platform"`
	Role     DeviceRole    `yaml:"role" json:"role"`
	Intended IntendedState `yaml:"intended" json:"intended"`
	// Override is a change beside what the rest of the inventory asks of the
	// device, as JSON text of steps (edge.Change): an adopted drift. It stays
	// until it is taken out here.
	Override       string `yaml:"override,omitempty" json:"override,omitempty"`
	OverrideReason string `yaml:"override_reason,omitempty" json:"override_reason,omitempty"`
}

// CircuitKind is the technology of a circuit.
type CircuitKind string

// Kinds of circuit. Metronet is the state's private data network (TSLCD).
const (
	FTTH     CircuitKind = "ftth"
	Metronet CircuitKind = "metronet"
	LTE      CircuitKind = "lte"
	FiveG    CircuitKind = "5g"
)

// Addressing says how a circuit gets its address.
type Addressing string

// Ways of addressing.
const (
	Static Addressing = "static"
	DHCP   Addressing = "dhcp"
	PPPoE  Addressing = "pppoe"
	CGNAT  Addressing = "cgnat"
)

// CircuitRole orders circuits of a site.
type CircuitRole string

// Roles of a circuit.
const (
	Primary CircuitRole = "primary"
	Backup  CircuitRole = "backup"
)

// Carrier sells circuits.
type Carrier struct {
	ID   CarrierID `yaml:"id" json:"id"`
	Name string    `yaml:"name" json:"name"`
}

// Circuit is one WAN attachment of a site.
type Circuit struct {
	ID      CircuitID   `yaml:"id" json:"id"`
	Site    SiteID      `yaml:"site" json:"site"`
	Kind    CircuitKind `yaml:"kind" json:"kind"`
	Carrier CarrierID   `yaml:"carrier" json:"carrier"`
	Role    CircuitRole `yaml:"role" json:"role"`
	// DownBPS and UpBPS are contracted rates in bit/s, typed in by an
	// operator; they are not measured. Zero means unknown.
	DownBPS    BitRate    `yaml:"down_bps" json:"down_bps"`
	UpBPS      BitRate    `yaml:"up_bps" json:"up_bps"`
	Addressing Addressing `yaml:"addressing" json:"addressing"`
	// Address is the WAN address and prefix length of a static circuit; a
	// hub's circuits need one, for they are dialled.
	Address netip.Prefix `yaml:"address,omitzero" json:"address,omitzero"`
	Gateway netip.Addr   `yaml:"gateway,omitzero" json:"gateway,omitzero"` // static only
	// MTU is in bytes; zero: the profile of the site gives it.
	MTU  int `yaml:"mtu,omitempty" json:"mtu,omitempty"`
	Cost int `yaml:"cost,omitempty" json:"cost,omitempty"` // relative, lower is preferred
	// Port is the device's network interface, e.g. "eth0"; needed on a Linux
	// edge only.
	Port string `yaml:"port,omitempty" json:"port,omitempty"`
	// Overlay is the tunnels' technology; empty: the profile's, else wireguard.
	Overlay Overlay `yaml:"overlay,omitempty" json:"overlay,omitempty"`
}

// Overlay is the technology of a circuit's tunnels.
type Overlay string

// Kinds of overlay.
const (
	OverlayWireGuard Overlay = "wireguard"
	OverlayIPsec     Overlay = "ipsec" // IKEv2 with the device certificate
)
