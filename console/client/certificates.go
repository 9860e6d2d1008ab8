package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// CertificateFilter says which certificates are wanted; zero fields ask for
// nothing.
type CertificateFilter struct {
	Device        inventory.DeviceID
	Issuer        string // devices, services or hub
	Serial        string // or the beginning of one
	State         string // valid, expired or revoked
	By            string // the user who issued it, or made the token it was exchanged for
	ExpiresFrom   time.Time
	ExpiresBefore time.Time
	Before        string // serial number of a certificate: only those issued before it
	Limit         int    // at most 1000
}

// CertificateDetail is a certificate with all that is kept of it.
type CertificateDetail struct {
	Certificate
	IssuerKey    string     `json:"issuer_key"` // key id
	Lineage      string     `json:"lineage,omitempty"`
	Parent       string     `json:"parent,omitempty"`
	WireGuard    string     `json:"wireguard_public_key,omitempty"`
	RevokedAt    *time.Time `json:"revoked_at,omitempty"`
	RenewalDue   *time.Time `json:"renewal_due,omitempty"`   // the latest moment a healthy device renews
	QuarantineAt *time.Time `json:"quarantine_at,omitempty"` // if the device stays away
	EnrolAnewAt  *time.Time `json:"enrol_anew_at,omitempty"` // if it stays away longer still
	ChainPEM     string     `json:"chain_pem"`
}

// ForecastDevice is a device that will go dark.
type ForecastDevice struct {
	Device    inventory.DeviceID `json:"device"`
	Site      inventory.SiteID   `json:"site"`
	SiteName  string             `json:"site_name"`
	Serial    string             `json:"serial"` // of its newest certificate
	NotAfter  time.Time          `json:"not_after"`
	At        time.Time          `json:"at"`
	Connected bool               `json:"connected"`
}

// ForecastDay are the devices that reach a stage on one day: "ends" (their
// certificate), "quarantine" (their tunnels, until a person lets them back) or
// "enrol" (they must be enrolled anew).
type ForecastDay struct {
	Day   string `json:"day"` // of the city's time zone, 2006-01-02
	Stage string `json:"stage"`
	// OfflineLonger is for how long from now the first of them must stay away,
	// in seconds.
	OfflineLonger int64            `json:"if_offline_longer_than_seconds"`
	Devices       []ForecastDevice `json:"devices"`
}

// Forecast is what happens to devices that stay away.
type Forecast struct {
	At        time.Time     `json:"at"`
	Until     time.Time     `json:"until"`
	Connected bool          `json:"connected_too"` // devices that are connected now are in it
	Days      []ForecastDay `json:"days"`
}

// OfflineEnrolment asks for tokens that travel: they live for Days, at most 30,
// and what shows one waits for a person's confirmation.
type OfflineEnrolment struct {
	Devices []inventory.DeviceID `json:"devices"`
	Days    int                  `json:"days"`
}

// PendingDevice has shown an offline token and waits for a person.
type PendingDevice struct {
	Device inventory.DeviceID `json:"device"`
	Serial string             `json:"serial"`
	Code   string             `json:"code"` // as the box shows it
	Remote string             `json:"remote"`
	First  time.Time          `json:"first"`
	Last   time.Time          `json:"last"`
}

// DeviceConfirmation names the code that the box shows.
type DeviceConfirmation struct {
	Code string `json:"code"`
}

// QuarantinedDevice is one that a person has to look at.
type QuarantinedDevice struct {
	Device inventory.DeviceID `json:"device"`
	Since  time.Time          `json:"since"`
	Reason string             `json:"reason"`
}

// QuarantineRelease says why a device may be trusted again.
type QuarantineRelease struct {
	Reason string `json:"reason"`
}

// FindCertificates gives one page of what matches, newest first.
func (c *Client) FindCertificates(ctx context.Context, f CertificateFilter) ([]Certificate, error) {
	q := url.Values{}
	text(q, "device", string(f.Device))
	text(q, "issuer", f.Issuer)
	text(q, "serial", f.Serial)
	text(q, "state", f.State)
	text(q, "by", f.By)
	text(q, "before", f.Before)
	rfc3339(q, "expires_from", f.ExpiresFrom)
	rfc3339(q, "expires_before", f.ExpiresBefore)
	count(q, "limit", f.Limit)
	return read[[]Certificate](ctx, c, "/certificates", q)
}

// Certificates lists all issued certificates, newest first.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	const page = 1000
	f, all := CertificateFilter{Limit: page}, []Certificate{}
	for {
		list, err := c.FindCertificates(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if len(list) < page {
			return all, nil
		}
		f.Before = list[len(list)-1].Serial
	}
}

// Certificate returns one certificate.
func (c *Client) Certificate(ctx context.Context, serial string) (CertificateDetail, error) {
	return read[CertificateDetail](ctx, c, at("certificates", serial), nil)
}

// Forecast says which devices go dark within days if they stay away; those
// connected now too when connected is true.
func (c *Client) Forecast(ctx context.Context, days int, connected bool) (Forecast, error) {
	q := url.Values{}
	count(q, "days", days)
	if connected {
		q.Set("connected", "true")
	}
	return read[Forecast](ctx, c, "/certificate-forecast", q)
}

// EnrolOffline makes tokens that travel by post.
func (c *Client) EnrolOffline(ctx context.Context, days int, devices ...inventory.DeviceID) (EnrolmentBundle, error) {
	return write[EnrolmentBundle](ctx, c, http.MethodPost, "/offline-enrolment", OfflineEnrolment{Devices: devices, Days: days})
}

// PendingDevices lists the devices that wait for a confirmation.
func (c *Client) PendingDevices(ctx context.Context) ([]PendingDevice, error) {
	return read[[]PendingDevice](ctx, c, "/pending-devices", nil)
}

// ConfirmDevice lets the waiting device with that code have its certificate.
func (c *Client) ConfirmDevice(ctx context.Context, id inventory.DeviceID, code string) (PendingDevice, error) {
	return write[PendingDevice](ctx, c, http.MethodPost, at("pending-devices", string(id), "confirm"), DeviceConfirmation{Code: code})
}

// QuarantinedDevices lists the devices in quarantine.
func (c *Client) QuarantinedDevices(ctx context.Context) ([]QuarantinedDevice, error) {
	return read[[]QuarantinedDevice](ctx, c, "/quarantine", nil)
}

// ReleaseDevice ends a device's quarantine.
func (c *Client) ReleaseDevice(ctx context.Context, id inventory.DeviceID, reason string) (QuarantinedDevice, error) {
	return write[QuarantinedDevice](ctx, c, http.MethodPost, at("devices", string(id), "release"), QuarantineRelease{Reason: reason})
}
