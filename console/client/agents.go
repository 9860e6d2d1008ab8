package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// AgentRelease is one binary of the edge agent that the controller keeps.
type AgentRelease struct {
	Version   string    `json:"version"`
	GOOS      string    `json:"goos"`
	GOARCH    string    `json:"goarch"`
	SizeBytes int64     `json:"size_bytes"`
	SHA256    string    `json:"sha256"` // lower-case hex
	KeyID     string    `json:"key_id"` // of the agent key that signed it
	Added     time.Time `json:"added"`
	By        string    `json:"by"`
	Missing   bool      `json:"missing,omitempty"` // its file is gone: add it again
}

// NewAgentRollout starts an upgrade; no devices means all in service.
type NewAgentRollout struct {
	Version string               `json:"version" minLength:"1" maxLength:"64"`
	Devices []inventory.DeviceID `json:"devices,omitempty" maxItems:"10000"`
	Reason  string               `json:"reason,omitempty" maxLength:"500"`
}

// AgentRollout is an upgrade of agents under way or over.
type AgentRollout struct {
	ID       string        `json:"id"`
	Version  string        `json:"version"`
	State    string        `json:"state"`             // running, paused, lingering, done, halted, aborted
	Reason   string        `json:"reason,omitempty"`  // of the state
	Purpose  string        `json:"purpose,omitempty"` // why, as its author said
	Author   string        `json:"author"`
	Started  time.Time     `json:"started"`
	Ended    *time.Time    `json:"ended,omitempty"`
	Deadline time.Time     `json:"deadline"` // for devices that are offline
	ETA      *time.Time    `json:"eta,omitempty"`
	Waves    []Wave        `json:"waves"`
	Done     int           `json:"done"`
	Total    int           `json:"total"`
	Devices  []AgentDevice `json:"devices"`
}

// AgentDevice is one device of such a rollout.
type AgentDevice struct {
	Device inventory.DeviceID `json:"device"`
	// State is waiting, installing, trying, done, failed, returned, expired,
	// skipped or superseded.
	State     string     `json:"state"`
	Online    bool       `json:"online"`
	From      string     `json:"from,omitempty"`       // version before
	SentBytes int64      `json:"sent_bytes,omitempty"` // of the transfer under way, safe on the device
	SizeBytes int64      `json:"size_bytes,omitempty"` // of that transfer
	Tried     *time.Time `json:"tried,omitempty"`
	Ended     *time.Time `json:"ended,omitempty"`
	Error     string     `json:"error,omitempty"`
}

// Agents lists the binaries of the agent that the controller keeps, newest
// first.
func (c *Client) Agents(ctx context.Context) ([]AgentRelease, error) {
	return read[[]AgentRelease](ctx, c, "/agents", nil)
}

// AddAgent uploads a binary; the controller signs it.
func (c *Client) AddAgent(ctx context.Context, version string, binary []byte) (AgentRelease, error) {
	return call[AgentRelease](ctx, c, request{
		method: http.MethodPost, path: "/agents", query: url.Values{"version": {version}}, body: binary, contentType: "application/octet-stream",
	})
}

// AgentRollouts lists upgrades, newest first.
func (c *Client) AgentRollouts(ctx context.Context) ([]AgentRollout, error) {
	return read[[]AgentRollout](ctx, c, "/agent-rollouts", nil)
}

// AgentRollout returns one upgrade.
func (c *Client) AgentRollout(ctx context.Context, id string) (AgentRollout, error) {
	return read[AgentRollout](ctx, c, at("agent-rollouts", id), nil)
}

// StartAgentRollout starts an upgrade.
func (c *Client) StartAgentRollout(ctx context.Context, n NewAgentRollout) (AgentRollout, error) {
	return write[AgentRollout](ctx, c, http.MethodPost, "/agent-rollouts", n)
}

// ActAgentRollout tells an upgrade to "pause", "resume" or "abort".
func (c *Client) ActAgentRollout(ctx context.Context, id, action, reason string) (AgentRollout, error) {
	return write[AgentRollout](ctx, c, http.MethodPost, at("agent-rollouts", id, action), RolloutAction{Reason: reason})
}
