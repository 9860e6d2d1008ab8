package client

import (
	"net/netip"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// DeviceChange is what a revision changes on one device.
type DeviceChange struct {
	Device inventory.DeviceID `json:"device"`
	Site   inventory.SiteID   `json:"site"`
	Op     string             `json:"op"` // create, change, remove
	Wave   string             `json:"wave,omitempty"`
	Reason string             `json:"reason"`
	Flaps  []string           `json:"flaps"`           // sessions that it resets
	Lines  []string           `json:"lines,omitempty"` // one each, "+", "~" or "-" first
}

// PlanCounts count the devices of a plan.
type PlanCounts struct {
	Create    int `json:"create"`
	Change    int `json:"change"`
	Remove    int `json:"remove"`
	Unchanged int `json:"unchanged"`
}

// Plan says what a revision changes, where, in which order.
type Plan struct {
	Revision intent.Number  `json:"revision"`
	Base     intent.Number  `json:"base"` // in force everywhere; 0: none
	Hash     string         `json:"hash"`
	Devices  PlanCounts     `json:"devices"`
	Changes  []DeviceChange `json:"changes"` // without the devices that stay as they are
	Waves    []Wave         `json:"waves"`
	Sites    int            `json:"sites"`  // that it touches
	People   int            `json:"people"` // blast radius: head count at those sites
	// Reachability is what the revision newly lets pass and newly stops.
	Reachability Reachability   `json:"reachability"`
	Proof        Proof          `json:"proof"`
	Waiver       *intent.Waiver `json:"waiver,omitempty"` // that lets it out unproven
	Drifts       []Drift        `json:"drifts"`           // devices changed past the controller that it writes over
	Interims     []Interim      `json:"interims"`         // states between its waves in which sites are cut off
	Seconds      PlanSeconds    `json:"seconds"`
}

// Interim is a state between two waves in which sites have no tunnel that both
// ends agree about; they are managed by their circuits alone.
type Interim struct {
	After string             `json:"after"` // wave
	Sites []inventory.SiteID `json:"sites"`
}

// Reachability is how two states of the network differ in what may open a flow.
type Reachability struct {
	Allows []FlowChange `json:"allows"`
	Denies []FlowChange `json:"denies"`
	Why    string       `json:"why,omitempty"` // why they could not be compared
}

// FlowChange is a kind of flow that is newly let pass, or newly stopped.
type FlowChange struct {
	From      inventory.SegmentKind `json:"from"` // empty: from outside of the sites
	To        string                `json:"to"`
	Services  string                `json:"services"` // "TCP 443, UDP 5060-5061"
	FromSites int                   `json:"from_sites"`
	ToSites   int                   `json:"to_sites"` // 0: the target is not at a site, or at the same
	Src       netip.Addr            `json:"src"`      // an example
	Dst       netip.Addr            `json:"dst"`
}

// PlanSeconds say how long a plan took to make.
type PlanSeconds struct {
	Compile float64 `json:"compile"` // and compare; 0: it was compiled before
	Prove   float64 `json:"prove"`   // rendering and reading included; 0: proven before
	Total   float64 `json:"total"`
}

// Proof says whether a revision lets nothing pass that its permits do not name,
// in any state, whatever is down, and whether what they name does pass in the
// states that they must survive: for all packets, read off the texts that the
// devices would run.
type Proof struct {
	Holds           bool             `json:"holds"`
	Why             string           `json:"why,omitempty"` // why nothing could be proven
	Intents         int              `json:"intents"`       // permits; all else is to be denied
	States          int              `json:"states"`        // normal, and single failures
	Pairs           int              `json:"pairs"`         // of sites, IPv4 and IPv6
	Seconds         float64          `json:"seconds"`
	Counterexamples []Counterexample `json:"counterexamples"` // a few of those there are
	Risks           []ProofRisk      `json:"risks"`           // accepted: circuits allow no better
}

// Counterexample is a packet that passes and should not, or one that should and
// does not.
type Counterexample struct {
	Intent string       `json:"intent"`           // that it breaks
	Passes bool         `json:"passes"`           // false: it is stopped, or no route is left
	Packet *ProofPacket `json:"packet,omitempty"` // none, where no packet is to blame
	Path   []ProofStep  `json:"path"`             // what decided about it, box by box
	Line   string       `json:"line"`             // the last of them: device, part, line
}

// ProofRisk is a failure that cuts sites off because they have no other circuit.
type ProofRisk struct {
	Failure string             `json:"failure"`
	From    string             `json:"from"` // what they are cut off from
	Sites   []inventory.SiteID `json:"sites"`
}

// ProofPacket is the first packet of a flow.
type ProofPacket struct {
	Src   netip.Addr `json:"src"`
	Dst   netip.Addr `json:"dst"`
	Proto uint8      `json:"proto"` // IANA's number
	SPort uint16     `json:"sport,omitempty"`
	DPort uint16     `json:"dport,omitempty"`
	Type  uint8      `json:"type,omitempty"` // ICMP
}

// ProofStep is a line that decided about a packet or a route at one device.
type ProofStep struct {
	Device inventory.DeviceID `json:"device"`
	Part   string             `json:"part"`           // of what it runs: nft, frr, wireguard
	Line   int                `json:"line,omitempty"` // of that text
	Text   string             `json:"text"`
}
