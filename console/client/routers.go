package client

import (
	"context"
	"net/http"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// SSHTrust is what a router must trust, and who vouches for it, as lines of
// authorized_keys(5).
type SSHTrust struct {
	UserCA    string `json:"user_ca"`   // for sshd's TrustedUserCAKeys
	HostCA    string `json:"host_ca"`   // that signs host keys
	Principal string `json:"principal"` // the user that is logged in
}

// NewHostCertificate asks for a certificate of a router's host key.
type NewHostCertificate struct {
	PublicKey string `json:"public_key" minLength:"1" maxLength:"8192"` // ssh_host_*_key.pub
	Days      int    `json:"days,omitempty" minimum:"0" maximum:"366"`  // 0: 366
}

// HostCertificate is for sshd's HostCertificate.
type HostCertificate struct {
	Router      inventory.DeviceID `json:"router"`
	Certificate string             `json:"certificate"` // ssh_host_*_key-cert.pub
	Until       time.Time          `json:"until"`
}

// SSHTrust tells what routers must trust.
func (c *Client) SSHTrust(ctx context.Context) (SSHTrust, error) {
	return read[SSHTrust](ctx, c, "/ssh-trust", nil)
}

// CertifyHost certifies a router's host key for its id.
func (c *Client) CertifyHost(ctx context.Context, router inventory.DeviceID, n NewHostCertificate) (HostCertificate, error) {
	return write[HostCertificate](ctx, c, http.MethodPost, at("routers", string(router), "host-certificate"), n)
}
