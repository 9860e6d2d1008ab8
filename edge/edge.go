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
	Segments []Segment            `json:"segments,omitempty"`
	Rules    []Rule               `json:"rules"` // what may pass; all else is denied
	Contract Contract             `json:"contract"`
}

// Circuit is a WAN port of the device.
type Circuit struct {
	Name  string                `json:"name"` // the inventory's circuit id
	Kind  inventory.CircuitKind `json:"kind"`
	UpBPS inventory.BitRate     `json:"up_bps"`
	MTU   int                   `json:"mtu"` // bytes
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
	ASN        uint32         `json:"asn"`
	RouterID   netip.Addr     `json:"router_id"`
	Networks   []netip.Prefix `json:"networks"` // originated
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
}

// Rule lets the first packet of matching flows pass; replies follow by state.
type Rule struct {
	Permit inventory.PermitID    `json:"permit"`
	From   inventory.SegmentKind `json:"from,omitempty"` // ingress segment; empty: from tunnels
	Src    []netip.Prefix        `json:"src"`
	Dst    []netip.Prefix        `json:"dst"`
	Ports  []inventory.PortRange `json:"ports"`
}

// Contract is the health contract: what must hold for the device to keep a
// config. An item that did not hold before a change is not asked for after it.
type Contract struct {
	BFD      []string       `json:"bfd"`      // tunnel names whose BFD session must be up
	Prefixes []netip.Prefix `json:"prefixes"` // that must be in the routing table
}

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
}

// TunnelState is one tunnel as observed.
type TunnelState struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
	BFD  bool   `json:"bfd"` // session up
	BGP  bool   `json:"bgp"` // session established
}
