package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Drift is one time that a device was found to run something else than it had
// confirmed.
type Drift struct {
	ID       string             `json:"id"`
	Device   inventory.DeviceID `json:"device"`
	Found    time.Time          `json:"found"`
	Revision intent.Number      `json:"revision"` // that it should run
	// State is open, waived, adopting, returning, returned, adopted,
	// overwritten or gone.
	State   string        `json:"state"`
	Want    string        `json:"want"`    // hash
	Have    string        `json:"have"`    // hash
	Changes []string      `json:"changes"` // what was changed, a line each
	Who     string        `json:"who,omitempty"`
	How     string        `json:"how"`
	By      string        `json:"by,omitempty"` // who decided
	Reason  string        `json:"reason,omitempty"`
	Decided *time.Time    `json:"decided,omitempty"`
	Until   *time.Time    `json:"until,omitempty"`
	Adopts  intent.Number `json:"adopts,omitempty"` // the revision that says the same
}

// Active says whether the drift still decides what happens to the device.
func (d Drift) Active() bool {
	switch d.State {
	case "open", "waived", "adopting", "returning":
		return true
	}
	return false
}

// DriftDecision is what a person decides about a drift. Until is for a waiver
// only.
type DriftDecision struct {
	Reason string     `json:"reason" minLength:"1" maxLength:"300"`
	Until  *time.Time `json:"until,omitempty"`
}

// ConfigVersion is one configuration as a device ran it; the text is left out of
// lists. Fingerprints stand in the place of secrets.
type ConfigVersion struct {
	Device   inventory.DeviceID `json:"device"`
	N        uint64             `json:"n"`
	At       time.Time          `json:"at"`
	Revision intent.Number      `json:"revision"`
	Hash     string             `json:"hash"`
	Source   string             `json:"source"` // read-back or trial
	Complete bool               `json:"complete"`
	Bytes    int                `json:"bytes"`
	Note     string             `json:"note,omitempty"` // what is odd about it
	Text     string             `json:"text,omitempty"`
}

// ConfigDiff compares two versions of one device.
type ConfigDiff struct {
	From ConfigVersion `json:"from"`
	To   ConfigVersion `json:"to"`
	Diff string        `json:"diff"` // unified; empty: they are equal
}

// Drifts lists devices found changed, newest first.
func (c *Client) Drifts(ctx context.Context) ([]Drift, error) {
	return read[[]Drift](ctx, c, "/drifts", nil)
}

// Drift returns one drift.
func (c *Client) Drift(ctx context.Context, id string) (Drift, error) {
	return read[Drift](ctx, c, at("drifts", id), nil)
}

// DecideDrift is "revert", "adopt" or "waive".
func (c *Client) DecideDrift(ctx context.Context, id, decision string, why DriftDecision) (Drift, error) {
	return write[Drift](ctx, c, http.MethodPost, at("drifts", id, decision), why)
}

// Configs lists the archived configurations of a device, oldest first.
func (c *Client) Configs(ctx context.Context, device inventory.DeviceID) ([]ConfigVersion, error) {
	return read[[]ConfigVersion](ctx, c, at("devices", string(device), "configs"), nil)
}

// Config returns version n of a device's configuration, the newest for 0.
func (c *Client) Config(ctx context.Context, device inventory.DeviceID, n uint64) (ConfigVersion, error) {
	return read[ConfigVersion](ctx, c, at("devices", string(device), "configs", strconv.FormatUint(n, 10)), nil)
}

// ConfigDiff compares two versions; to 0 is the newest, from 0 the one before
// to.
func (c *Client) ConfigDiff(ctx context.Context, device inventory.DeviceID, from, to uint64) (ConfigDiff, error) {
	return read[ConfigDiff](ctx, c, at("devices", string(device), "config-diff"), url.Values{
		"from": {strconv.FormatUint(from, 10)}, "to": {strconv.FormatUint(to, 10)},
	})
}
