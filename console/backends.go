package console

import (
	"context"
	"io"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/telemetry"
)

// The console holds no logic of the network: each noun is reached through one
// of the small interfaces below, in terms of the wire types. Errors wrap the
// sentinels that [problemOf] knows; everything else is an internal error.

// Audit keeps the audit log.
type Audit interface {
	// Append stores an entry durably and returns its number.
	Append(ctx context.Context, e client.AuditEntry) (uint64, error)
	// List returns entries newest first; see client.AuditFilter.
	List(ctx context.Context, object string, before uint64, limit int) ([]client.AuditEntry, error)
}

// Inventory keeps the declared inventory.
type Inventory interface {
	Load(ctx context.Context) (inventory.Inventory, uint64, error)
	// Import replaces the inventory by a YAML (or JSON) document if version
	// base is in force, else inventory.ErrConflict. Faults come all at once as
	// inventory.Faults. With dryRun nothing changes and base is not looked at.
	Import(ctx context.Context, doc []byte, base uint64, dryRun bool) (client.ImportResult, error)
}

// Devices joins what is declared with what is observed.
type Devices interface {
	Devices(ctx context.Context) ([]client.Device, error) // by id
	Device(ctx context.Context, id inventory.DeviceID) (client.Device, error)
}

// Routers joins routers of the data centre with what is observed of them; what
// joins the devices may join them too.
type Routers interface {
	Routers(ctx context.Context) ([]client.Router, error) // by id
}

// Boots tells how devices came up.
type Boots interface {
	// Timeline is empty, without an error, for a device of which nothing is known.
	Timeline(ctx context.Context, id inventory.DeviceID) (client.Timeline, error)
}

// Replacements puts one device in the place of another.
type Replacements interface {
	// Replace does all of it or, with an error, nothing.
	Replace(ctx context.Context, want client.NewReplacement, by string) (client.Replacement, error)
}

// Tools looks at the network from devices. Errors wrap edge.ErrUnreachable for
// one that is not connected.
type Tools interface {
	Ping(ctx context.Context, id inventory.DeviceID, want client.NewPing) (client.PingResult, error)
	Trace(ctx context.Context, id inventory.DeviceID, want client.NewTrace) (client.TraceResult, error)
	Capture(ctx context.Context, id inventory.DeviceID, want client.NewCapture) (client.CaptureResult, error)
}

// Certificates is the PKI.
type Certificates interface {
	// Enrol makes one-time tokens; no devices means all in service that are
	// not enrolled. After an error nobody has seen the tokens made so far; they
	// expire.
	Enrol(ctx context.Context, devices []inventory.DeviceID, by string) (client.EnrolmentBundle, error)
	Certificates(ctx context.Context) ([]client.Certificate, error)
	Revoke(ctx context.Context, serial, reason, by string) (client.Certificate, error)
	IssueService(ctx context.Context, want client.NewServiceCertificate, by string) (client.ServiceCertificate, error)
}

// Revisions keeps intents and their approvals.
type Revisions interface {
	Revisions(ctx context.Context) ([]client.RevisionInfo, error) // newest first
	Revision(ctx context.Context, n intent.Number) (client.RevisionView, error)
	Propose(ctx context.Context, want client.NewRevision, author string) (client.RevisionInfo, error)
	Plan(ctx context.Context, n intent.Number) (client.Plan, error)
	Signatures
}

// Signatures are what persons sign about a revision.
type Signatures interface {
	// Approve signs an approval; the console has checked author, hash and expiry.
	Approve(ctx context.Context, n intent.Number, want client.NewApproval, approver string) (intent.Approval, error)
	// Waive signs a waiver; the console has checked the hash. It wraps
	// inventory.ErrInvalid when the proof holds or something is missing.
	Waive(ctx context.Context, n intent.Number, want client.NewWaiver, by string) (intent.Waiver, error)
}

// Rollouts runs plans.
type Rollouts interface {
	Rollouts(ctx context.Context) ([]client.Rollout, error) // newest first
	Rollout(ctx context.Context, id string) (client.Rollout, error)
	// Start wraps controller.ErrHeld while an approval or a window is missing.
	// It waits for no window when urgent says why.
	Start(ctx context.Context, n intent.Number, by, urgent string) (client.Rollout, error)
	// Act is "pause", "resume" or "abort".
	Act(ctx context.Context, id, action, reason, by string) (client.Rollout, error)
	InForce() intent.Number // last rolled out everywhere; 0: none
}

// SSH is the CA of logins at, and host keys of, routers that are dialled, and of
// the certificates of those that are dialled over TLS instead.
type SSH interface {
	Trust() client.SSHTrust
	// CertifyHost signs a router's host key; it wraps inventory.ErrInvalid.
	CertifyHost(ctx context.Context, router inventory.DeviceID, want client.NewHostCertificate) (client.HostCertificate, error)
	// CertifyServer signs a router's TLS certificate for the host of its management
	// address; it wraps inventory.ErrInvalid and inventory.ErrNotFound.
	CertifyServer(ctx context.Context, router inventory.DeviceID, want client.NewServerCertificate, by string) (client.ServiceCertificate, error)
}

// Baskets are changes that several people prepare; what keeps the revisions may
// keep them too.
type Baskets interface {
	Baskets(ctx context.Context) ([]intent.Basket, error) // newest first
	Basket(ctx context.Context, id string) (client.BasketView, error)
	// ActOnBasket is "create", "add", "take", "submit" or "drop".
	ActOnBasket(ctx context.Context, id, action string, what client.BasketAction, by string) (client.BasketView, error)
}

// Drifts are devices that were found changed past the controller.
type Drifts interface {
	Drifts(ctx context.Context) ([]client.Drift, error) // newest first
	Drift(ctx context.Context, id string) (client.Drift, error)
	RevertDrift(ctx context.Context, id string, why client.DriftDecision, by string) (client.Drift, error)
	WaiveDrift(ctx context.Context, id string, why client.DriftDecision, by string) (client.Drift, error)
	// AdoptDrift makes a revision that says what the device runs.
	AdoptDrift(ctx context.Context, id string, why client.DriftDecision, by string) (client.Drift, error)
}

// Configs are the configurations that devices ran.
type Configs interface {
	Configs(ctx context.Context, device inventory.DeviceID) ([]client.ConfigVersion, error) // oldest first
	// Config is version n, the newest for 0.
	Config(ctx context.Context, device inventory.DeviceID, n uint64) (client.ConfigVersion, error)
	// DiffConfigs compares; to 0 is the newest, from 0 the one before to.
	DiffConfigs(ctx context.Context, device inventory.DeviceID, from, to uint64) (client.ConfigDiff, error)
}

// Agents keeps the binaries of the edge agent and brings them out.
type Agents interface {
	AgentReleases
	AgentRollouts(ctx context.Context) ([]client.AgentRollout, error) // newest first
	AgentRollout(ctx context.Context, id string) (client.AgentRollout, error)
	StartAgents(ctx context.Context, want client.NewAgentRollout, by string) (client.AgentRollout, error)
	// ActAgents is "pause", "resume" or "abort".
	ActAgents(ctx context.Context, id, action, by string) (client.AgentRollout, error)
}

// AgentReleases keeps the binaries of the edge agent.
type AgentReleases interface {
	Agents(ctx context.Context) ([]client.AgentRelease, error) // newest first
	// AddAgent checks, signs and keeps a binary.
	AddAgent(ctx context.Context, version string, binary []byte, by string) (client.AgentRelease, error)
}

// Decisions reads the decision log.
type Decisions interface {
	Decisions(ctx context.Context, f client.DecisionFilter) ([]client.Decision, error) // newest first
	Decision(ctx context.Context, id string) (client.Decision, error)
	CountDecisions(ctx context.Context) (allow, deny int64, err error)
}

// Subjects keeps the persons and services the policy knows.
type Subjects interface {
	Subjects(ctx context.Context) ([]client.Subject, error)
	PutSubjects(ctx context.Context, all []client.Subject, by string) error
}

// Incidents reads findings and works on incidents.
type Incidents interface {
	Incidents(ctx context.Context) ([]client.Incident, error) // newest first, without findings and timeline
	Incident(ctx context.Context, id string) (client.Incident, error)
	// Act is "ack", "assign" or "resolve".
	Act(ctx context.Context, id, action string, what client.IncidentAction, by string) (client.Incident, error)
	Findings(ctx context.Context, f client.FindingFilter) ([]client.Finding, error)
	CountFindings(ctx context.Context) (int64, error) // since start
}

// History answers range queries.
type History interface {
	Range(ctx context.Context, q telemetry.RangeQuery) ([]telemetry.Series, error)
	Samples() int64 // stored since start
}

// Backup writes a consistent copy of the installation.
type Backup interface {
	// Backup writes an archive that only recipient (age, "age1…") can read. It
	// checks the recipient before it writes the first byte.
	Backup(ctx context.Context, recipient string, w io.Writer) error
}
