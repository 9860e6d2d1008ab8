// Package policy decides who may reach what, and can say why afterwards. It is
// the policy engine and policy administrator of NIST SP 800-207: default deny,
// decided per request from resolved facts, logged durably before the answer.
package policy

import (
	"context"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Request is a question. It holds identifiers and what the PEP itself saw; the
// engine resolves the rest from its facts and never looks anything up elsewhere.
type Request struct {
	Subject     string                  `json:"subject"` // person or service id
	Device      inventory.DeviceID      `json:"device"`  // managed device the access comes through
	Segment     inventory.SegmentKind   `json:"segment"` // where the client sits, as the PEP saw it
	Application inventory.ApplicationID `json:"application"`
	Action      string                  `json:"action"` // "connect", "read", "write", "admin"
	PEP         string                  `json:"pep"`    // SPIFFE ID or common name of the asking PEP, from its certificate
	At          time.Time               `json:"at"`     // supplied, never time.Now inside: a decision can be replayed
}

// Code is a closed set of reasons; docs/policy.md lists them for people.
type Code string

// Reason codes. The last three are ours, not the bundle's: whatever goes wrong
// while deciding is a denial that can be told from a policy's denial.
const (
	CodeAllowed           Code = "allowed"
	CodeSubjectUnknown    Code = "subject_unknown"
	CodeSubjectInactive   Code = "subject_inactive"
	CodeDeviceUnknown     Code = "device_unknown"
	CodeCertificate       Code = "device_certificate"
	CodeQuarantined       Code = "device_quarantined"
	CodeApplication       Code = "application_unknown"
	CodeGroup             Code = "group_not_entitled"
	CodeAction            Code = "action_not_permitted"
	CodeSegment           Code = "segment_not_permitted"
	CodePostureStale      Code = "posture_stale"
	CodePostureFailed     Code = "posture_failed"
	CodeUndefined         Code = "policy_undefined"
	CodeEvaluationError   Code = "evaluation_error"
	CodeDeadline          Code = "evaluation_deadline"
	CodeLogUnavailable    Code = "log_unavailable"
	CodeFactsNotAvailable Code = "facts_unavailable"
)

// Reason is one failed check: which rule, which attribute, what it was, what
// it must be, and what would fix it (English and Vietnamese).
type Reason struct {
	Code      Code   `json:"code"`
	Rule      string `json:"rule"`
	Attribute string `json:"attribute"`
	Value     string `json:"value"`
	Want      string `json:"want"`
	Remedy    string `json:"remedy"`
	RemedyVI  string `json:"remedy_vi"`
}

// Decision is always complete: a failure to decide is a Deny with a reason.
type Decision struct {
	ID        string        `json:"id"` // UUIDv7, sortable
	Allow     bool          `json:"allow"`
	Rule      string        `json:"rule"`             // rule that settled it; "default-deny" when none did
	Code      Code          `json:"code"`             // of the first reason
	Reasons   []Reason      `json:"reasons"`          // every failed check, most fundamental first; empty when allowed
	TTL       time.Duration `json:"ttl_ns"`           // how long a PEP may keep the answer
	PolicyRev string        `json:"policy_revision"`  // bundle in force
	DataRev   uint64        `json:"data_revision"`    // facts in force
	Facts     any           `json:"facts,omitempty"`  // resolved facts the verdict used, for replay
	Detail    string        `json:"detail,omitempty"` // of an error, never shown to the subject
}

// Log keeps decisions. Append returns only when the record survives power loss.
type Log interface {
	Append(ctx context.Context, req Request, d Decision) error
}

// Subject is a person or service that asks for access.
type Subject struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
	Active bool     `json:"active"`
}

// Posture is what was last measured of a device, by whom and when.
type Posture struct {
	Compliant bool
	Source    string
	At        time.Time // UTC
}

// DeviceFact is what the verdict needs of a managed device.
type DeviceFact struct {
	Site        inventory.SiteID `json:"site"`
	Certificate string           `json:"certificate"` // valid, expired, revoked, none
	Quarantined bool             `json:"quarantined"`
	// Posture: what was measured of the device, by whom and when. Older than
	// the application's maximum age it counts as unknown.
	Compliant     bool   `json:"compliant"`
	PostureSource string `json:"posture_source"`
	PostureAtNS   int64  `json:"posture_at_ns"` // Unix nanoseconds
}

// ApplicationFact is an application with its permits folded in, so that the
// hot path is look-ups only.
type ApplicationFact struct {
	Sensitivity inventory.Sensitivity                        `json:"sensitivity"`
	Segments    map[inventory.SegmentKind]inventory.PermitID `json:"segments"` // permitted ingress segment → permit
	Prefixes    []string                                     `json:"prefixes"`
}

// Facts is one consistent view of everything a verdict may use.
type Facts struct {
	Revision     uint64                                      `json:"revision"`
	Subjects     map[string]SubjectFact                      `json:"subjects"`
	Devices      map[inventory.DeviceID]DeviceFact           `json:"devices"`
	Applications map[inventory.ApplicationID]ApplicationFact `json:"applications"`
}

// SubjectFact is a subject as the bundle sees it.
type SubjectFact struct {
	Active bool            `json:"active"`
	Groups map[string]bool `json:"groups"`
}

// ApplicationFacts folds an inventory's applications and permits into the
// shape the bundle reads.
func ApplicationFacts(inv inventory.Inventory) map[inventory.ApplicationID]ApplicationFact {
	out := make(map[inventory.ApplicationID]ApplicationFact, len(inv.Applications))
	for _, a := range inv.Applications {
		f := ApplicationFact{Sensitivity: a.Sensitivity, Segments: map[inventory.SegmentKind]inventory.PermitID{}}
		for _, p := range a.Prefixes {
			f.Prefixes = append(f.Prefixes, p.String())
		}
		out[a.ID] = f
	}
	for _, p := range inv.Permits {
		if a, ok := out[p.ToApp]; ok {
			for _, s := range p.From {
				a.Segments[s] = p.ID
			}
		}
	}
	return out
}

// SubjectFacts turns subjects into the shape the bundle reads.
func SubjectFacts(subjects []Subject) map[string]SubjectFact {
	out := make(map[string]SubjectFact, len(subjects))
	for _, s := range subjects {
		g := make(map[string]bool, len(s.Groups))
		for _, n := range s.Groups {
			g[n] = true
		}
		out[s.ID] = SubjectFact{Active: s.Active, Groups: g}
	}
	return out
}
