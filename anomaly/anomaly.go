// Package anomaly turns samples into findings. Detectors are state machines:
// no clock, no I/O, no goroutine; time is the sample's own, or told by Advance.
package anomaly

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/telemetry"
)

// Kind names what a finding claims; the set is closed, docs/findings.md
// explains each.
type Kind string

// Kinds of finding.
const (
	CircuitDown   Kind = "circuit-down"
	TunnelDown    Kind = "tunnel-down"
	BGPDown       Kind = "bgp-down"
	BFDDown       Kind = "bfd-down"
	DeviceDown    Kind = "device-down"
	TunnelLoss    Kind = "tunnel-loss"
	TunnelLatency Kind = "tunnel-latency"
	LatencyShift  Kind = "latency-shift"
	TrafficShift  Kind = "traffic-shift"
)

// Kinds lists the closed set.
var Kinds = []Kind{CircuitDown, TunnelDown, BGPDown, BFDDown, DeviceDown, TunnelLoss, TunnelLatency, LatencyShift, TrafficShift}

// Severity orders findings by what they cost.
type Severity string

// Severities. Info is evidence only: it never makes an incident by itself.
const (
	Critical Severity = "critical"
	Major    Severity = "major"
	Minor    Severity = "minor"
	Info     Severity = "info"
)

// Finding is a claim about one series, with its evidence. A detector sends it
// twice: when the claim opens and, with To set, when it clears.
type Finding struct {
	ID       string             `json:"id"` // see [Finding.Identify]
	Device   inventory.DeviceID `json:"device"`
	Object   string             `json:"object"`
	Metric   string             `json:"metric"`
	Kind     Kind               `json:"kind"`
	Severity Severity           `json:"severity"`
	// Score is how far from normal in the detector's own measure; 1 is the
	// least that makes a finding.
	Score    float64   `json:"score"`
	Expected float64   `json:"expected"` // in the metric's unit
	Actual   float64   `json:"actual"`   // in the metric's unit
	Why      string    `json:"why"`
	From     time.Time `json:"from"`        // first sample that was wrong
	To       time.Time `json:"to,omitzero"` // first sample that was right again; zero: still open
}

// Key is equal for all findings that claim the same of the same thing.
func (f Finding) Key() string { return fmt.Sprintf("%s/%s/%s", f.Kind, f.Device, f.Object) }

// Identify returns f with its id, which follows from what it claims and since
// when: the same claim made again after a restart has the same id.
func (f Finding) Identify() Finding {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", f.Key(), f.From.UnixNano()))
	f.ID = "f-" + hex.EncodeToString(sum[:8])
	return f
}

// Detector watches one series.
type Detector interface {
	// Observe takes the next sample; found says that a claim opened or cleared.
	Observe(s telemetry.Sample) (f Finding, found bool)
	// Advance says that it is now at least now and nothing came.
	Advance(now time.Time) (f Finding, found bool)
	// Waiting says that time alone may change the claim: call Advance.
	Waiting() bool
	// Reopen puts the detector where it was when it made f, if f is its kind.
	Reopen(f Finding) bool
}
