// Package client is the typed client of Wardnet's HTTP API and the API's wire
// types: the console serves these very types, so the OpenAPI document, the CLI
// and the labs cannot drift apart.
package client

import (
	"encoding/json"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// DeviceState is the traffic light of a device, a site or a unit.
type DeviceState string

// States, from best to worst; planned means not yet enrolled.
const (
	StateOK          DeviceState = "ok"
	StateDegraded    DeviceState = "degraded" // some tunnels or circuits down, or not in sync
	StateDown        DeviceState = "down"     // no tunnel up or management channel lost
	StateQuarantined DeviceState = "quarantined"
	StatePlanned     DeviceState = "planned"
)

// Device is a declared device joined with what is observed of it.
type Device struct {
	inventory.Device
	State        DeviceState `json:"state"`
	Enrolled     bool        `json:"enrolled"`
	CertSerial   string      `json:"cert_serial,omitempty"`
	CertNotAfter *time.Time  `json:"cert_not_after,omitempty"`
	Connected    bool        `json:"connected"`
	LastSeen     *time.Time  `json:"last_seen,omitempty"`
	Revision     uint64      `json:"revision"` // confirmed on the device; 0: none
	ConfigHash   string      `json:"config_hash,omitempty"`
	InSync       bool        `json:"in_sync"`
	TunnelsUp    int         `json:"tunnels_up"`
	TunnelsTotal int         `json:"tunnels_total"`
	AgentVersion string      `json:"agent_version,omitempty"` // that it said last; empty: unknown
	Quarantine   string      `json:"quarantine,omitempty"`    // reason
	Error        string      `json:"error,omitempty"`         // of the last pass, with a hint
}

// Summary is the city at a glance. Samples counts telemetry samples stored
// since start; Allow and Deny count decisions in the log.
type Summary struct {
	At          time.Time `json:"at"`
	Sites       int       `json:"sites"`
	Devices     int       `json:"devices"`
	Enrolled    int       `json:"enrolled"`
	Connected   int       `json:"connected"`
	InSync      int       `json:"in_sync"`
	TunnelsUp   int       `json:"tunnels_up"`
	Tunnels     int       `json:"tunnels"`
	Allow       int64     `json:"allow"`
	Deny        int64     `json:"deny"`
	Samples     int64     `json:"samples"`
	Findings    int64     `json:"findings"`
	Incidents   int       `json:"incidents_open"`
	Revision    uint64    `json:"revision"` // in force
	RSSBytes    int64     `json:"rss_bytes"`
	InventoryV  uint64    `json:"inventory_version"`
	RolloutOpen string    `json:"rollout_open,omitempty"` // id of the rollout under way
}

// UnitView is a unit with the worst state of its sites, for the map.
type UnitView struct {
	inventory.Unit
	Name  string             `json:"name"` // valid today
	Code  string             `json:"code"`
	State DeviceState        `json:"state"`
	Sites []inventory.SiteID `json:"sites"`
}

// Map says how to draw the city: Outline is GeoJSON when one is configured,
// else the console draws Voronoi cells of the units' coordinates.
type Map struct {
	Outline     json.RawMessage `json:"outline,omitempty"`
	Attribution string          `json:"attribution,omitempty"`
}

// ImportResult says what an import did.
type ImportResult struct {
	Version uint64         `json:"version"`
	Changed bool           `json:"changed"`
	Counts  map[string]int `json:"counts"` // by noun
}

// EnrolmentToken is shown once; only its hash is stored.
type EnrolmentToken struct {
	Device  inventory.DeviceID `json:"device"`
	Serial  string             `json:"serial"`
	Token   string             `json:"token"`
	Expires time.Time          `json:"expires"`
	// Ports are the site's circuits for the first boot, of those whose network
	// interface the inventory names.
	Ports     []BootPort `json:"ports,omitempty"`
	Signature []byte     `json:"signature,omitempty"` // by Signer, of the device's whole bundle
}

// EnrolmentBundle is what a device needs for its first contact.
type EnrolmentBundle struct {
	EnrolURL string           `json:"enrol_url"`
	Channel  string           `json:"channel"` // host:port of the management channel
	CAURL    string           `json:"ca_url"`
	RootPEM  string           `json:"root_pem"`
	Signer   string           `json:"signer,omitempty"` // PEM: certificate that signed, and its issuer
	Tokens   []EnrolmentToken `json:"tokens"`
}

// Certificate is one issued certificate.
type Certificate struct {
	Serial    string             `json:"serial"` // lower-case hex
	Subject   string             `json:"subject"`
	SPIFFEID  string             `json:"spiffe_id"`
	Device    inventory.DeviceID `json:"device,omitempty"`
	Issuer    string             `json:"issuer"`
	NotBefore time.Time          `json:"not_before"`
	NotAfter  time.Time          `json:"not_after"`
	State     string             `json:"state"` // valid, expired, revoked
	IssuedAt  time.Time          `json:"issued_at"`
	IssuedBy  string             `json:"issued_by"` // a user, "system", or what it was exchanged for
}

// RevisionInfo is a revision without its content.
type RevisionInfo struct {
	Number    intent.Number     `json:"number"`
	Author    string            `json:"author"`
	Others    []string          `json:"others,omitempty"` // prepared it too; they may not approve it either
	At        time.Time         `json:"at"`
	Message   string            `json:"message"`
	Hash      string            `json:"hash"`
	Approvals []intent.Approval `json:"approvals"`
	Waivers   []intent.Waiver   `json:"waivers"` // of its proof
	InForce   bool              `json:"in_force"`
}

// Wave is one step of a rollout.
type Wave struct {
	N        int                  `json:"n"`    // from 1
	Name     string               `json:"name"` // hub-1, hub-2, wards-1, wards-5, wards-10, wards-rest
	Devices  []inventory.DeviceID `json:"devices"`
	State    string               `json:"state"`    // waiting, running, done, halted
	Verified int                  `json:"verified"` // read back, up and confirmed
	Failed   int                  `json:"failed"`
	Pending  int                  `json:"pending"` // offline, with a deadline
	Started  *time.Time           `json:"started,omitempty"`
	Ended    *time.Time           `json:"ended,omitempty"`
}

// Rollout is a plan under way.
type Rollout struct {
	ID       string        `json:"id"`
	Revision intent.Number `json:"revision"`
	State    string        `json:"state"` // running, paused, done, halted, returning, aborted
	// Returned: it failed, and the content in force before is back everywhere.
	Returned bool `json:"returned"`
	// Returns is the rollout that failed and that this one takes back.
	Returns string `json:"returns,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Author  string `json:"author"`
	// Urgent is why it did not wait for a maintenance window.
	Urgent  string     `json:"urgent,omitempty"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Waves   []Wave     `json:"waves"`
	Done    int        `json:"done"`
	Total   int        `json:"total"`
	ETA     *time.Time `json:"eta,omitempty"`
}

// Decision is one logged answer.
type Decision struct {
	ID          string          `json:"id"`
	At          time.Time       `json:"at"`
	Allow       bool            `json:"allow"`
	Subject     string          `json:"subject"`
	Device      string          `json:"device"`
	Site        string          `json:"site"`
	Application string          `json:"application"`
	Action      string          `json:"action"`
	Rule        string          `json:"rule"`
	Code        string          `json:"code"`
	Reason      string          `json:"reason"`
	Remedy      string          `json:"remedy,omitempty"`
	PolicyRev   string          `json:"policy_revision"`
	DataRev     uint64          `json:"data_revision"`
	Input       json.RawMessage `json:"input,omitempty"`
	Hash        string          `json:"hash"`
}

// Subject is a person or service of the policy's facts.
type Subject struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
	Active bool     `json:"active"`
}

// Finding is a detector's claim.
type Finding struct {
	ID       string             `json:"id"`
	Device   inventory.DeviceID `json:"device"`
	Site     inventory.SiteID   `json:"site"`
	Object   string             `json:"object"`
	Kind     string             `json:"kind"`
	Severity string             `json:"severity"`
	Score    float64            `json:"score"`
	Expected float64            `json:"expected"`
	Actual   float64            `json:"actual"`
	Why      string             `json:"why"`
	From     time.Time          `json:"from"`
	To       *time.Time         `json:"to,omitempty"` // cleared
}

// Incident is one cause with its symptoms.
type Incident struct {
	ID         string             `json:"id"`
	Title      map[string]string  `json:"title"` // by language: vi, en
	Severity   string             `json:"severity"`
	SeverityBy string             `json:"severity_why"`
	State      string             `json:"state"`      // open, acknowledged, resolved
	CauseKind  string             `json:"cause_kind"` // carrier, hub, site, circuit, device, unknown
	Cause      string             `json:"cause"`      // id of the thing
	Confidence float64            `json:"confidence"`
	Owner      string             `json:"owner,omitempty"`
	Started    time.Time          `json:"started"` // first symptom
	Opened     time.Time          `json:"opened"`
	Resolved   *time.Time         `json:"resolved,omitempty"`
	Reopened   int                `json:"reopened"`
	Members    []inventory.SiteID `json:"members"`
	Findings   []Finding          `json:"findings,omitempty"`
	Ticket     string             `json:"ticket"`
	Timeline   []TimelineEntry    `json:"timeline,omitempty"`
	Evidence   []string           `json:"evidence,omitempty"`
	Suggested  []string           `json:"suggested,omitempty"`
}

// TimelineEntry is one line of a ticket, never changed.
type TimelineEntry struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"` // user or "wardnet"
	What string    `json:"what"`
	Text string    `json:"text"`
}

// AuditEntry is one write: who, from where, what, before and after.
type AuditEntry struct {
	Seq     uint64          `json:"seq"`
	At      time.Time       `json:"at"`
	Who     string          `json:"who"`
	From    string          `json:"from"` // address or "unix"
	What    string          `json:"what"` // operation id
	Object  string          `json:"object"`
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"`
	Outcome string          `json:"outcome"` // done, refused, failed
	Reason  string          `json:"reason,omitempty"`
}

// Role is what a person may do.
type Role string

// Roles. Admin manages people and nothing else.
const (
	RoleAdmin    Role = "admin"
	RoleEngineer Role = "engineer"
	RoleSecurity Role = "security"
	RoleNOC      Role = "noc"
	RoleAuditor  Role = "auditor"
)

// User is a person who signs in.
type User struct {
	Name     string     `json:"name"`
	FullName string     `json:"full_name"`
	Roles    []Role     `json:"roles"`
	Disabled bool       `json:"disabled"`
	LastSeen *time.Time `json:"last_seen,omitempty"`
}

// Session is the answer to a login; CSRF goes into the X-CSRF-Token header of
// every write made with the cookie.
type Session struct {
	User User   `json:"user"`
	CSRF string `json:"csrf"`
}

// APIToken is a token without its secret; Secret is set once, on creation.
type APIToken struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Name    string    `json:"name"`
	Scopes  []Role    `json:"scopes"` // at most the user's roles
	Expires time.Time `json:"expires"`
	Secret  string    `json:"secret,omitempty"`
}

// Event is one server-sent event; Data is the object named by Type: summary,
// device, router, drift, rollout, incident, decision, or of a basket its
// [BasketNews].
type Event struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// Problem is every error's body (RFC 9457) with the hint. Type is empty or
// "held": the request waits for a person.
type Problem struct {
	Type   string   `json:"type,omitempty"`
	Status int      `json:"status"`
	Title  string   `json:"title"`
	Detail string   `json:"detail"`
	Hint   string   `json:"hint,omitempty"`
	Faults []string `json:"faults,omitempty"`
}
