// Package edge is the neutral device model: what we want on a device (Config),
// what is on it (State), and the difference (Change). Vendor and YANG shapes
// stay inside the driver packages below it.
package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Errors every driver maps its own failures to.
var (
	ErrUnreachable = errors.New("device unreachable")                // retry later
	ErrRejected    = errors.New("device rejected the configuration") // retrying cannot help
)

// CommitID is chosen by the caller of a push; repeating a call under the same
// id is a no-op (gNMI Commit Confirmed extension).
type CommitID string

// TunnelKind is the technology of a tunnel.
type TunnelKind string

// Kinds of tunnel.
const (
	WireGuard TunnelKind = "wireguard"
	IPsec     TunnelKind = "ipsec"
)

// Config is the part of a device that Wardnet owns; what is outside is never
// touched. It holds no keys: runtime sets (Credentials) fill the peers. Slices
// are sorted by name, so that equal intents give equal bytes.
type Config struct {
	Device   inventory.DeviceID   `json:"device"`
	Site     inventory.SiteID     `json:"site"`
	Role     inventory.DeviceRole `json:"role"`
	Loopback netip.Addr           `json:"loopback"`
	Circuits []Circuit            `json:"circuits"`
	Tunnels  []Tunnel             `json:"tunnels"`
	BGP      BGP                  `json:"bgp"`
	Uplinks  []Uplink             `json:"uplinks,omitempty"`
	Segments []Segment            `json:"segments,omitempty"`
	// Legacy are prefixes kept behind 1:1 translation until renumbered.
	Legacy   []Translation `json:"legacy,omitempty"`
	Classes  []Class       `json:"classes,omitempty"` // strictest latency first
	Rules    []Rule        `json:"rules"`             // what may pass; all else is denied
	Contract Contract      `json:"contract"`
}

// Circuit is a WAN port of the device.
type Circuit struct {
	Name  string                `json:"name"` // the inventory's circuit id
	Kind  inventory.CircuitKind `json:"kind"`
	UpBPS inventory.BitRate     `json:"up_bps"`
	MTU   int                   `json:"mtu"` // bytes
	// Port is the box's network interface; empty where the host has none of
	// its own (a simulated one).
	Port       string               `json:"port,omitempty"`
	Addressing inventory.Addressing `json:"addressing,omitempty"` // static, or else the box asks by DHCP
	Address    netip.Prefix         `json:"address,omitzero"`     // static only
	Gateway    netip.Addr           `json:"gateway,omitzero"`     // static only
}

// Uplink is a hub's eBGP session with a router of the data centre, over a
// port of its own and with BFD. The hub takes only Accept from it and announces
// the sites' routes with a MED that is lower where its tunnel is preferred, so
// that answers come back by the hub the question came by.
type Uplink struct {
	Name    string         `json:"name"`
	Port    string         `json:"port"`
	Local   netip.Prefix   `json:"local"`
	Peer    netip.Addr     `json:"peer"`
	PeerASN uint32         `json:"peer_asn"`
	Accept  []netip.Prefix `json:"accept"`
}

// Translation maps Outside onto Inside one to one, both ways; the prefix
// lengths are equal. Inside is what the hosts are configured with and is known
// at this site only.
type Translation struct {
	Segment inventory.SegmentKind `json:"segment"`
	Inside  netip.Prefix          `json:"inside"`
	Outside netip.Prefix          `json:"outside"`
}

// Class is a service class: how its packets are marked and what path they need.
type Class struct {
	Name      string  `json:"name"`
	DSCP      uint8   `json:"dscp"`       // RFC 2474 code point
	Share     float64 `json:"share"`      // of the circuit's rate, guaranteed; ratio in (0,1]
	LossRatio float64 `json:"loss_ratio"` // tolerable, in [0,1]
	LatencyMS int     `json:"latency_ms"` // tolerable, one way
	JitterMS  int     `json:"jitter_ms"`  // tolerable, peak to peak
}

// Tunnel is one overlay tunnel over one circuit. The hub's side has no
// Endpoint: it learns it from the peer's first authentic packet.
type Tunnel struct {
	Name       string             `json:"name"` // "<edge circuit>--<hub device>", the same at both ends
	Kind       TunnelKind         `json:"kind"`
	Circuit    string             `json:"circuit"` // own circuit
	Peer       inventory.DeviceID `json:"peer"`
	Endpoint   netip.AddrPort     `json:"endpoint,omitzero"`
	ListenPort uint16             `json:"listen_port,omitzero"` // UDP port of the hub's end; 0 at the edge
	Local      netip.Prefix       `json:"local"`                // own /31 end
	Remote     netip.Addr         `json:"remote"`               // the peer's end
	AllowedIPs []netip.Prefix     `json:"allowed_ips"`          // anti-spoofing
	MTU        int                `json:"mtu"`                  // bytes, inner
	Preference int                `json:"preference"`           // higher is better: hub order, then circuit order
}

// BGP is the device's routing.
type BGP struct {
	ASN      uint32         `json:"asn"`
	RouterID netip.Addr     `json:"router_id"`
	Networks []netip.Prefix `json:"networks"` // originated
	// Accept is what neighbours may announce, beside what tunnels allow.
	Accept     []netip.Prefix `json:"accept,omitempty"`
	Neighbours []Neighbour    `json:"neighbours"`
}

// Neighbour is one eBGP session over one tunnel, with BFD.
type Neighbour struct {
	Tunnel     string     `json:"tunnel"`
	Addr       netip.Addr `json:"addr"`
	ASN        uint32     `json:"asn"`
	Preference int        `json:"preference"` // local preference, RFC 4271 §5.1.5
	BFDMinMS   int        `json:"bfd_min_ms"` // RFC 5880 desired min TX/RX interval
	BFDMult    int        `json:"bfd_mult"`   // detect multiplier
}

// Segment is a zone's attachment at this site.
type Segment struct {
	Kind inventory.SegmentKind `json:"kind"`
	V4   netip.Prefix          `json:"v4"`
	V6   netip.Prefix          `json:"v6"`
	// Port is the box's network interface; empty where the host has none. The
	// box is the first address of each prefix there.
	Port string `json:"port,omitempty"`
	// DHCP says how hosts get addresses; the zero value: they are static.
	DHCP DHCP         `json:"dhcp,omitzero"`
	DNS  []netip.Addr `json:"dns,omitempty"` // where the box forwards this segment's queries
	NTP  []netip.Addr `json:"ntp,omitempty"` // where the box takes the time it serves
}

// DHCP is address assignment in one segment: a server with a range, or a relay.
type DHCP struct {
	From         netip.Addr    `json:"from,omitzero"` // first dynamic address
	To           netip.Addr    `json:"to,omitzero"`
	LeaseSeconds int           `json:"lease_seconds,omitempty"`
	Relay        netip.Addr    `json:"relay,omitzero"` // the server; then there is no range
	Reservations []Reservation `json:"reservations,omitempty"`
}

// Reservation binds an address to a host's interface.
type Reservation struct {
	MAC  string     `json:"mac"` // lower-case, colons
	Addr netip.Addr `json:"addr"`
	Name string     `json:"name,omitempty"`
}

// Rule lets the first packet of matching flows pass; replies follow by state.
type Rule struct {
	Permit inventory.PermitID    `json:"permit"`
	From   inventory.SegmentKind `json:"from,omitempty"` // ingress segment; empty: from tunnels
	Src    []netip.Prefix        `json:"src"`
	Dst    []netip.Prefix        `json:"dst"`
	Ports  []inventory.PortRange `json:"ports"`
	Class  string                `json:"class,omitempty"` // service class of the flow
	// Internet lets the segment out by the box's own circuits, translated;
	// Dst is then empty and means all that is not ours.
	Internet bool `json:"internet,omitempty"`
}

// Contract is the health contract: what must hold for the device to keep a
// config. An item that did not hold before a change is not asked for after it.
type Contract struct {
	BFD      []string         `json:"bfd"`                // tunnel names whose BFD session must be up
	Prefixes []netip.Prefix   `json:"prefixes"`           // that must be in the routing table
	DNS      []netip.Addr     `json:"dns,omitempty"`      // servers that must answer
	Services []netip.AddrPort `json:"services,omitempty"` // TCP services that must accept
	// Keep are flows that the intent permits and the rules leave out: a change
	// that cuts one in use is no good.
	Keep []Rule `json:"keep,omitempty"`
}

// Items names every item, "bfd/<tunnel>", "prefix/<p>", "dns/<addr>",
// "service/<addr:port>", "flows/<permit>", in this order.
func (c Contract) Items() []string {
	items := make([]string, 0, len(c.BFD)+len(c.Prefixes)+len(c.DNS)+len(c.Services))
	for _, t := range c.BFD {
		items = append(items, "bfd/"+t)
	}
	for _, p := range c.Prefixes {
		items = append(items, "prefix/"+p.String())
	}
	for _, a := range c.DNS {
		items = append(items, "dns/"+a.String())
	}
	for _, a := range c.Services {
		items = append(items, "service/"+a.String())
	}
	said := ""
	for _, r := range c.Keep { // sorted by permit
		if item := FlowsItem(r.Permit); item != said {
			items = append(items, item)
			said = item
		}
	}
	return items
}

// FlowsItem is the contract's item of the flows of a permit: the change cut none
// that was in use. It holds before every change.
func FlowsItem(p inventory.PermitID) string { return flowsPrefix + string(p) }

// IsFlowsItem says whether an item is one of [FlowsItem].
func IsFlowsItem(item string) bool { return strings.HasPrefix(item, flowsPrefix) }

const flowsPrefix = "flows/"

// Hash is the config hash: lower-case hex SHA-256 of the canonical JSON.
func (c Config) Hash() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("edge: Config does not marshal: %v", err)) // plain values only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Signed is a config as it travels and as the edge keeps it: bound to its
// device and revision, signed by the controller's revision key.
type Signed struct {
	Device    inventory.DeviceID `json:"device"`
	Revision  uint64             `json:"revision"`
	Hash      string             `json:"hash"` // of Config
	Config    Config             `json:"config"`
	KeyID     string             `json:"key_id"`
	Signature []byte             `json:"signature"` // ASN.1 ECDSA P-256 over SHA-256 of [Signed.Payload]
}

// Payload is what the signature covers.
func (s Signed) Payload() []byte {
	return fmt.Appendf(nil, "wardnet-config/1\n%s\n%d\n%s\n", s.Device, s.Revision, s.Hash)
}

// Credentials is the runtime set of tunnel peers (origin wardnet-credentials).
// The epoch only rises; the set is not part of the config hash and is never
// rolled back. A peer of the config that is missing here is not admitted.
type Credentials struct {
	Epoch uint64                        `json:"epoch"`
	At    time.Time                     `json:"at"`
	Keys  map[inventory.DeviceID]string `json:"keys"` // WireGuard public key, base64
}

// State is what the device says of itself, at most a second old.
type State struct {
	At       time.Time     `json:"at"`
	Revision uint64        `json:"revision"` // in force; 0: none
	Hash     string        `json:"hash"`     // of the config in force
	Pending  CommitID      `json:"pending,omitempty"`
	Epoch    uint64        `json:"epoch"` // credentials in force
	Tunnels  []TunnelState `json:"tunnels"`
	// LastRevert is the latest commit the device took back; nil: none.
	LastRevert *Reverted `json:"last_revert,omitempty"`
	Protocol   int       `json:"protocol,omitempty"` // the agent's [Protocol]
	Version    string    `json:"version,omitempty"`  // the agent's build; "": unknown
	Alarms     []string  `json:"alarms,omitempty"`   // what somebody should look at, sorted
	Mends      []Mend    `json:"mends,omitempty"`    // the newest, oldest first
}

// Mend is one time that a device found itself changed past its agent, and put
// back what was signed.
type Mend struct {
	At   time.Time `json:"at"`
	What []string  `json:"what"`          // the differences, at most [MostMended]
	Who  string    `json:"who,omitempty"` // as far as the box knows: process, user
}

// Bounds of what a device tells of its repairs.
const (
	MostMends  = 8
	MostMended = 20
)

// Reverted is a commit that the device took back after it was in force.
type Reverted struct {
	Commit   CommitID  `json:"commit"`
	Revision uint64    `json:"revision"` // that was on trial
	At       time.Time `json:"at"`
	Why      string    `json:"why"`
	// Failed are the items of the health contract that failed then, named as
	// in [Contract.Items], and [ChannelItem].
	Failed []string `json:"failed,omitempty"`
}

// ChannelItem is the device's own item of every contract: its management
// channel is up, or was established anew since the change.
const ChannelItem = "channel"

func (r Reverted) String() string {
	if len(r.Failed) == 0 {
		return r.Why
	}
	return r.Why + ": " + strings.Join(r.Failed, ", ")
}

// TunnelState is one tunnel as observed.
type TunnelState struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
	BFD  bool   `json:"bfd"` // session up
	BGP  bool   `json:"bgp"` // session established
	// Unknown: the device does not tell; the others mean nothing then. Only of
	// devices without our agent.
	Unknown bool `json:"unknown,omitempty"`
}
