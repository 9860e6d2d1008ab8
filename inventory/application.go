package inventory

import "net/netip"

// Proto is a transport protocol.
type Proto string

// Transport protocols of an application.
const (
	TCP  Proto = "tcp"
	UDP  Proto = "udp"
	ICMP Proto = "icmp" // no ports
)

// PortRange is an inclusive range; ICMP has 0-0.
type PortRange struct {
	Proto Proto  `yaml:"proto" json:"proto"`
	From  uint16 `yaml:"from" json:"from"`
	To    uint16 `yaml:"to" json:"to"`
}

// Sensitivity orders applications by what a breach costs.
type Sensitivity string

// Levels of sensitivity.
const (
	Low      Sensitivity = "low"
	Medium   Sensitivity = "medium"
	High     Sensitivity = "high"
	Critical Sensitivity = "critical"
)

// FailMode says what a PEP does when it cannot ask.
type FailMode string

// Fail modes.
const (
	FailClosed FailMode = "closed" // deny at once
	FailStatic FailMode = "static" // keep what was granted, up to its TTL
)

// ServiceClass is the path quality an application needs. Loss is a ratio in
// [0,1]; latency and jitter are milliseconds, one way and peak to peak.
type ServiceClass struct {
	Name      string  `yaml:"name" json:"name"`
	LossRatio float64 `yaml:"loss_ratio" json:"loss_ratio"`
	LatencyMS int     `yaml:"latency_ms" json:"latency_ms"`
	JitterMS  int     `yaml:"jitter_ms" json:"jitter_ms"`
}

// Application is what people reach: where it lives and how sensitive it is.
type Application struct {
	ID          ApplicationID  `yaml:"id" json:"id"`
	Name        string         `yaml:"name" json:"name"` // Vietnamese
	Site        SiteID         `yaml:"site,omitempty" json:"site,omitempty"`
	Prefixes    []netip.Prefix `yaml:"prefixes" json:"prefixes"`
	Ports       []PortRange    `yaml:"ports" json:"ports"`
	Sensitivity Sensitivity    `yaml:"sensitivity" json:"sensitivity"`
	Class       ServiceClass   `yaml:"class" json:"class"`
	FailMode    FailMode       `yaml:"fail_mode" json:"fail_mode"`
}

// Permit is one line of the intent: these segments may open flows to this
// application, to that segment of every site, or to the internet. All else is
// denied.
type Permit struct {
	ID    PermitID      `yaml:"id" json:"id"`
	From  []SegmentKind `yaml:"from" json:"from"`
	ToApp ApplicationID `yaml:"to_app,omitempty" json:"to_app,omitempty"`
	ToSeg SegmentKind   `yaml:"to_segment,omitempty" json:"to_segment,omitempty"`
	// ToInternet lets them out by the site's own circuits, translated there.
	ToInternet bool `yaml:"to_internet,omitempty" json:"to_internet,omitempty"`
	// Ports go with ToSeg, and with ToInternet, where none means all. An
	// application brings its own.
	Ports []PortRange `yaml:"ports,omitempty" json:"ports,omitempty"`
	// Resilience names the single failures that the permit must survive at every
	// site; empty: those that a site's circuits allow, and what they do not allow
	// is listed in the plan as accepted.
	Resilience []Resilience `yaml:"resilience,omitempty" json:"resilience,omitempty"`
	Reason     string       `yaml:"reason" json:"reason"`
}

// Resilience is a kind of failure that a permit must survive.
type Resilience string

// Kinds of failures. Single stands alone: the normal state is enough.
const (
	SurvivesNone    Resilience = "single"
	SurvivesCircuit Resilience = "circuit" // all circuits of one kind
	SurvivesCarrier Resilience = "carrier"
	SurvivesHub     Resilience = "hub" // or the district that it is in
)

// Resiliences are all of them.
var Resiliences = []Resilience{SurvivesNone, SurvivesCircuit, SurvivesCarrier, SurvivesHub}
