package client

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// BootStep is one step of a device's first boot; the same end of the same step
// again is counted.
type BootStep struct {
	// Step is ports, address, route, dns, tcp, tls, clock, token, certificate,
	// channel, configuration or confirmed.
	Step   string     `json:"step"`
	State  string     `json:"state"`           // passed, failed, skipped
	Cause  string     `json:"cause,omitempty"` // of a failed one, from a closed list
	Detail string     `json:"detail,omitempty"`
	By     string     `json:"by"` // device or controller: who saw it, and whose clock At is of
	At     time.Time  `json:"at"` // the latest time of a repeated one
	First  *time.Time `json:"first,omitempty"`
	Count  int        `json:"count"`
}

// Timeline is what is known of a device's first boots, oldest first.
type Timeline struct {
	Device inventory.DeviceID `json:"device"`
	Open   bool               `json:"open"` // a certificate is out and no configuration confirmed since
	Steps  []BootStep         `json:"steps"`
}

// BootPort is a WAN circuit as a device runs it before it has a configuration.
type BootPort struct {
	Name       string                `json:"name"` // circuit id
	Kind       inventory.CircuitKind `json:"kind"`
	Port       string                `json:"port"` // network interface
	Addressing inventory.Addressing  `json:"addressing,omitempty"`
	Address    netip.Prefix          `json:"address,omitzero"`
	Gateway    netip.Addr            `json:"gateway,omitzero"`
	MTU        int                   `json:"mtu"` // bytes
}

// NewReplacement asks for a box in the place of another: same site, circuits
// and addresses.
type NewReplacement struct {
	OldSerial string `json:"old_serial" maxLength:"64"`
	NewSerial string `json:"new_serial" maxLength:"64"`
	Reason    string `json:"reason,omitempty" maxLength:"500"`
}

// Replacement is what a replacement did. The old device is refused from now on;
// the new one is configured when the revision is rolled out.
type Replacement struct {
	Old       inventory.DeviceID `json:"old"` // retired
	Device    inventory.DeviceID `json:"device"`
	Site      inventory.SiteID   `json:"site"`
	Revoked   int                `json:"revoked"` // certificates of the old device
	Inventory uint64             `json:"inventory_version"`
	Revision  RevisionInfo       `json:"revision"`
	Enrolment EnrolmentBundle    `json:"enrolment"` // of the new device; shown once
}

// Timeline returns how a device came up.
func (c *Client) Timeline(ctx context.Context, id inventory.DeviceID) (Timeline, error) {
	return read[Timeline](ctx, c, at("devices", string(id), "timeline"), nil)
}

// Replace puts a box in the place of another.
func (c *Client) Replace(ctx context.Context, want NewReplacement) (Replacement, error) {
	return write[Replacement](ctx, c, http.MethodPost, "/replacements", want)
}
