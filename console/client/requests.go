package client

import (
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Login is what a person signs in with.
type Login struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// Setup makes the first administrator from the one-time link's token.
type Setup struct {
	Token    string `json:"token"`
	Name     string `json:"name"`
	FullName string `json:"full_name"`
	Password string `json:"password"`
}

// PasswordChange is a person's own change of password.
type PasswordChange struct {
	Current string `json:"current"`
	New     string `json:"new"`
}

// NewUser is a user to create.
type NewUser struct {
	Name     string `json:"name"` // a-z, 0-9, dot, dash, underscore
	FullName string `json:"full_name"`
	Roles    []Role `json:"roles"`
	Password string `json:"password"`
}

// UserPatch changes what is set and leaves the rest.
type UserPatch struct {
	FullName *string `json:"full_name,omitempty"`
	Roles    []Role  `json:"roles,omitempty"`
	Disabled *bool   `json:"disabled,omitempty"`
	Password *string `json:"password,omitempty"`
}

// NewToken is an API token to create; Expires is not optional.
type NewToken struct {
	Name    string    `json:"name"`
	Scopes  []Role    `json:"scopes"`
	Expires time.Time `json:"expires"`
}

// EnrolmentRequest asks for one-time tokens; an empty list means every device
// in service that is not enrolled.
type EnrolmentRequest struct {
	Devices []inventory.DeviceID `json:"devices"`
}

// Revocation says why a certificate is revoked.
type Revocation struct {
	Reason string `json:"reason"`
}

// NewRevision makes a revision of the inventory in force, or, with ReturnTo, of
// the content of an earlier revision.
type NewRevision struct {
	Message  string        `json:"message"`
	ReturnTo intent.Number `json:"return_to,omitempty"`
}

// RevisionView is a revision with its content and where it stands.
type RevisionView struct {
	intent.Revision
	Approvals []intent.Approval `json:"approvals"`
	Waivers   []intent.Waiver   `json:"waivers"` // of its proof
	InForce   bool              `json:"in_force"`
}

// NewApproval names the revision's hash, so that nobody approves what they have
// not seen. Expires lies at most 24 h ahead; zero means that.
type NewApproval struct {
	Hash    string    `json:"hash"`
	Comment string    `json:"comment"`
	Expires time.Time `json:"expires,omitzero"`
}

// NewWaiver takes the risk of a revision whose proof does not hold. It names the
// revision's hash, so that nobody waives what they have not seen.
type NewWaiver struct {
	Hash   string    `json:"hash"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until"`
}

// NewRollout starts the rollout of a revision.
type NewRollout struct {
	Revision intent.Number `json:"revision"`
	// Urgent is why it does not wait for a maintenance window; empty: it does.
	Urgent string `json:"urgent,omitempty" maxLength:"300"`
}

// RolloutAction says why a rollout is paused, resumed or aborted.
type RolloutAction struct {
	Reason string `json:"reason,omitempty"`
}

// IncidentAction acknowledges, assigns (to Owner) or resolves an incident.
type IncidentAction struct {
	Owner string `json:"owner,omitempty"`
	Text  string `json:"text,omitempty"`
}

// Subjects replaces all persons and services of the policy's facts.
type Subjects struct {
	Subjects []Subject `json:"subjects"`
}

// SiteView is a site with what stands there and its state.
type SiteView struct {
	inventory.Site
	State    DeviceState         `json:"state"`
	Devices  []Device            `json:"devices"`
	Circuits []inventory.Circuit `json:"circuits"`
}

// Series is one metric of one object of one device; counters come as rates per
// second.
type Series struct {
	Device inventory.DeviceID `json:"device"`
	Site   inventory.SiteID   `json:"site"`
	Object string             `json:"object"`
	Points []Point            `json:"points"`
}

// Point is one value of a [Series].
type Point struct {
	At    time.Time `json:"at"`
	Value float64   `json:"value"`
}

// NewServiceCertificate asks for the certificate of a policy enforcement point.
type NewServiceCertificate struct {
	Name string `json:"name"` // of the service, e.g. "proxy-1"
	CSR  string `json:"csr"`  // PEM
}

// ServiceCertificate is what a policy enforcement point needs to connect.
type ServiceCertificate struct {
	Serial   string    `json:"serial"`
	ChainPEM string    `json:"chain_pem"` // leaf first, without the root
	RootPEM  string    `json:"root_pem"`
	NotAfter time.Time `json:"not_after"`
}

// NewBackup names who may read the backup: an age recipient ("age1…"), never a
// secret key.
type NewBackup struct {
	Recipient string `json:"recipient"`
}

// DecisionFilter chooses decisions, newest first; empty fields choose all.
type DecisionFilter struct {
	Subject     string
	Device      string
	Application string
	Allow       *bool
	Since       time.Time
	Until       time.Time
	Before      string // an id: only older ones, for the next page
	Limit       int    // default 100, at most 1000
}

// AuditFilter chooses audit entries, newest first; empty fields choose all.
type AuditFilter struct {
	Object string
	Before uint64 // a sequence number: only older ones; 0: from the newest
	Limit  int    // default 100, at most 1000
}

// FindingFilter chooses findings, newest first.
type FindingFilter struct {
	Device inventory.DeviceID
	Site   inventory.SiteID
	Open   bool // only those not cleared
	Limit  int  // default 100, at most 1000
}

// SeriesQuery is a question about the past.
type SeriesQuery struct {
	Metric   string             // e.g. "tunnel_loss_ratio"
	Device   inventory.DeviceID // empty: all
	Object   string             // empty: all
	From, To time.Time
	Step     time.Duration // at least 1 s; 0: 1 min
}
