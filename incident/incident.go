// Package incident turns findings into incidents: one cause, one incident, one
// ticket, with every symptom kept visible as its evidence. The stages are pure
// functions over findings and topology; [Book] is the shell around them.
package incident

import (
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// CauseKind says what sort of thing failed.
type CauseKind string

// Kinds of cause, from the most to the least general.
const (
	CauseHub     CauseKind = "hub"     // id: the hub's site
	CauseCarrier CauseKind = "carrier" // id: the carrier
	CauseSite    CauseKind = "site"    // id: the site; power, building, or its only way out
	CauseCircuit CauseKind = "circuit" // id: the circuit
	CauseDevice  CauseKind = "device"  // id: the device; its management, not its traffic
	CauseTunnel  CauseKind = "tunnel"  // id: the tunnel; neither its circuit nor its hub
	CauseUnknown CauseKind = "unknown" // id: the device that said so
)

// CauseKinds lists the closed set in order of generality.
var CauseKinds = []CauseKind{CauseHub, CauseCarrier, CauseSite, CauseCircuit, CauseDevice, CauseTunnel, CauseUnknown}

// rank is smaller for the more general kind.
func (k CauseKind) rank() int {
	for i, c := range CauseKinds {
		if c == k {
			return i
		}
	}
	return len(CauseKinds)
}

// Cause is the thing that failed, as inferred: no device ever names it.
type Cause struct {
	Kind CauseKind `json:"kind"`
	ID   string    `json:"id"`
}

// State is where an incident is in its life.
type State string

// States of an incident.
const (
	Open         State = "open"
	Acknowledged State = "acknowledged"
	Resolved     State = "resolved"
)

// Symptom is a finding as a member of an incident.
type Symptom struct {
	anomaly.Finding
	Site inventory.SiteID `json:"site"`
	// Consequence marks what follows from the cause without being part of it
	// (a management session that must find another path, a loaded backup); it
	// does not keep the incident open.
	Consequence bool `json:"consequence,omitempty"`
}

// Entry is one line of the ticket's timeline; lines are only ever added.
type Entry struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`  // user name, or "wardnet"
	What string    `json:"what"` // opened, refined, member, acknowledged, assigned, cleared, resolved, reopened, merged
	Text string    `json:"text"`
}

// Incident is one cause with its symptoms; it is its own ticket record.
type Incident struct {
	ID          string             `json:"id"` // ticket number, "INC-2026-000012"
	Cause       Cause              `json:"cause"`
	Confidence  float64            `json:"confidence"` // in [0,1): 1 - 2^-(witnesses-1), at least 0.3; a witness is a site, or a device that reports
	Title       map[string]string  `json:"title"`      // by language: vi, en
	Severity    anomaly.Severity   `json:"severity"`
	SeverityWhy string             `json:"severity_why"`
	State       State              `json:"state"`
	Owner       string             `json:"owner,omitempty"`
	Started     time.Time          `json:"started"` // first symptom
	Opened      time.Time          `json:"opened"`
	Resolved    time.Time          `json:"resolved,omitzero"`
	Reopened    int                `json:"reopened"`
	Members     []inventory.SiteID `json:"members"` // sites that suffer, sorted
	Evidence    []string           `json:"evidence"`
	Suggested   []string           `json:"suggested"`
	MergedInto  string             `json:"merged_into,omitempty"`
	ByHand      bool               `json:"by_hand,omitempty"` // resolved by a person
	Symptoms    []Symptom          `json:"-"`                 // stored apart: there may be thousands
	Timeline    []Entry            `json:"-"`                 // stored apart: append-only
}

func (i *Incident) log(at time.Time, who, what, text string) {
	i.Timeline = append(i.Timeline, Entry{At: at.UTC(), Who: who, What: what, Text: text})
}
