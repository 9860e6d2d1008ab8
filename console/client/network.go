package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Inventory returns the inventory in force and its version; 0 before the first
// import.
func (c *Client) Inventory(ctx context.Context) (inventory.Inventory, uint64, error) {
	inv, header, err := callHeader[inventory.Inventory](ctx, c, request{method: http.MethodGet, path: "/inventory"})
	if err != nil {
		return inventory.Inventory{}, 0, err
	}
	v, err := strconv.ParseUint(strings.Trim(header.Get("ETag"), `"`), 10, 64)
	if err != nil {
		return inventory.Inventory{}, 0, fmt.Errorf("GET /inventory: the version in ETag %q is not a number", header.Get("ETag"))
	}
	return inv, v, nil
}

// ImportInventory replaces version base by a YAML document, in one step.
func (c *Client) ImportInventory(ctx context.Context, yaml []byte, base uint64) (ImportResult, error) {
	return call[ImportResult](ctx, c, request{
		method: http.MethodPut, path: "/inventory", body: yaml, contentType: "application/yaml",
		header: map[string]string{"If-Match": `"` + strconv.FormatUint(base, 10) + `"`},
	})
}

// CheckInventory finds every fault of a YAML document and changes nothing.
func (c *Client) CheckInventory(ctx context.Context, yaml []byte) (ImportResult, error) {
	return call[ImportResult](ctx, c, request{
		method: http.MethodPut, path: "/inventory", query: url.Values{"dry_run": {"true"}}, body: yaml, contentType: "application/yaml",
	})
}

// Units lists units with their state.
func (c *Client) Units(ctx context.Context) ([]UnitView, error) {
	return read[[]UnitView](ctx, c, "/units", nil)
}

// Sites lists sites with devices, circuits and state.
func (c *Client) Sites(ctx context.Context) ([]SiteView, error) {
	return read[[]SiteView](ctx, c, "/sites", nil)
}

// Site returns one site.
func (c *Client) Site(ctx context.Context, id inventory.SiteID) (SiteView, error) {
	return read[SiteView](ctx, c, at("sites", string(id)), nil)
}

// Devices lists devices, declared and observed.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	return read[[]Device](ctx, c, "/devices", nil)
}

// Device returns one device.
func (c *Client) Device(ctx context.Context, id inventory.DeviceID) (Device, error) {
	return read[Device](ctx, c, at("devices", string(id)), nil)
}

// Circuits lists circuits.
func (c *Client) Circuits(ctx context.Context) ([]inventory.Circuit, error) {
	return read[[]inventory.Circuit](ctx, c, "/circuits", nil)
}

// Applications lists applications.
func (c *Client) Applications(ctx context.Context) ([]inventory.Application, error) {
	return read[[]inventory.Application](ctx, c, "/applications", nil)
}

// Enrol makes one-time enrolment tokens; no devices means all in service that
// are not enrolled.
func (c *Client) Enrol(ctx context.Context, devices ...inventory.DeviceID) (EnrolmentBundle, error) {
	if devices == nil {
		devices = []inventory.DeviceID{}
	}
	return write[EnrolmentBundle](ctx, c, http.MethodPost, "/enrolment", EnrolmentRequest{Devices: devices})
}

// Revoke revokes a certificate and closes what it opened.
func (c *Client) Revoke(ctx context.Context, serial, reason string) (Certificate, error) {
	return write[Certificate](ctx, c, http.MethodPost, at("certificates", serial, "revoke"), Revocation{Reason: reason})
}

// IssueServiceCertificate signs the certificate of a policy enforcement point.
func (c *Client) IssueServiceCertificate(ctx context.Context, n NewServiceCertificate) (ServiceCertificate, error) {
	return write[ServiceCertificate](ctx, c, http.MethodPost, "/service-certificates", n)
}

func number(n intent.Number) string { return strconv.FormatUint(uint64(n), 10) }

// Revisions lists revisions, newest first.
func (c *Client) Revisions(ctx context.Context) ([]RevisionInfo, error) {
	return read[[]RevisionInfo](ctx, c, "/revisions", nil)
}

// Revision returns one revision with its content.
func (c *Client) Revision(ctx context.Context, n intent.Number) (RevisionView, error) {
	return read[RevisionView](ctx, c, at("revisions", number(n)), nil)
}

// CreateRevision makes a revision of the inventory in force.
func (c *Client) CreateRevision(ctx context.Context, n NewRevision) (RevisionInfo, error) {
	return write[RevisionInfo](ctx, c, http.MethodPost, "/revisions", n)
}

// Plan says what a revision changes.
func (c *Client) Plan(ctx context.Context, n intent.Number) (Plan, error) {
	return read[Plan](ctx, c, at("revisions", number(n), "plan"), nil)
}

// Approve approves a revision by its hash.
func (c *Client) Approve(ctx context.Context, n intent.Number, a NewApproval) (intent.Approval, error) {
	return write[intent.Approval](ctx, c, http.MethodPost, at("revisions", number(n), "approvals"), a)
}

// Waive takes the risk of a revision whose proof does not hold.
func (c *Client) Waive(ctx context.Context, n intent.Number, w NewWaiver) (intent.Waiver, error) {
	return write[intent.Waiver](ctx, c, http.MethodPost, at("revisions", number(n), "waivers"), w)
}

// Rollouts lists rollouts, newest first.
func (c *Client) Rollouts(ctx context.Context) ([]Rollout, error) {
	return read[[]Rollout](ctx, c, "/rollouts", nil)
}

// Rollout returns one rollout.
func (c *Client) Rollout(ctx context.Context, id string) (Rollout, error) {
	return read[Rollout](ctx, c, at("rollouts", id), nil)
}

// StartRollout starts the rollout of a revision.
func (c *Client) StartRollout(ctx context.Context, n intent.Number) (Rollout, error) {
	return c.StartUrgent(ctx, n, "")
}

// StartUrgent is StartRollout that does not wait for a maintenance window, when
// why is given.
func (c *Client) StartUrgent(ctx context.Context, n intent.Number, why string) (Rollout, error) {
	return write[Rollout](ctx, c, http.MethodPost, "/rollouts", NewRollout{Revision: n, Urgent: why})
}

// PauseRollout stops before the next device.
func (c *Client) PauseRollout(ctx context.Context, id, reason string) (Rollout, error) {
	return write[Rollout](ctx, c, http.MethodPost, at("rollouts", id, "pause"), RolloutAction{Reason: reason})
}

// ResumeRollout goes on.
func (c *Client) ResumeRollout(ctx context.Context, id, reason string) (Rollout, error) {
	return write[Rollout](ctx, c, http.MethodPost, at("rollouts", id, "resume"), RolloutAction{Reason: reason})
}

// AbortRollout ends a rollout.
func (c *Client) AbortRollout(ctx context.Context, id, reason string) (Rollout, error) {
	return write[Rollout](ctx, c, http.MethodPost, at("rollouts", id, "abort"), RolloutAction{Reason: reason})
}

// Backup writes an encrypted backup to w and returns its size. A backup that is
// cut off is an error; what was written then is of no use.
func (c *Client) Backup(ctx context.Context, recipient string, w io.Writer) (int64, error) {
	res, err := c.send(ctx, request{method: http.MethodPost, path: "/backup", body: NewBackup{Recipient: recipient}})
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	n, err := io.Copy(w, res.Body)
	if err != nil {
		return n, fmt.Errorf("POST /backup: cut off after %d bytes: %w", n, err)
	}
	return n, nil
}

// rfc3339 adds a time to a query unless it is zero.
func rfc3339(q url.Values, key string, t time.Time) {
	if !t.IsZero() {
		q.Set(key, t.UTC().Format(time.RFC3339Nano))
	}
}
