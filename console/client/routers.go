package client

import (
	"context"
	"net/http"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Router is a declared router of the data centre joined with what is observed
// of it.
type Router struct {
	inventory.Router
	State      DeviceState `json:"state"`
	Connected  bool        `json:"connected"` // it answered when it was last dialled
	Revision   uint64      `json:"revision"`  // confirmed on it; 0: none
	ConfigHash string      `json:"config_hash,omitempty"`
	InSync     bool        `json:"in_sync"`
	// Outcome is that of the last pass over it: idle, same, changed, held,
	// offline, retry or terminal; empty: there was none.
	Outcome string     `json:"outcome,omitempty"`
	Changed *time.Time `json:"changed,omitempty"` // when any of this changed last
	Error   string     `json:"error,omitempty"`   // of the last pass, with a hint
	Limits  []string   `json:"limits,omitempty"`  // what it cannot do or tell, as far as is known, a sentence each
}

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

// Routers lists routers, declared and observed.
func (c *Client) Routers(ctx context.Context) ([]Router, error) {
	return read[[]Router](ctx, c, "/routers", nil)
}

// SSHTrust tells what routers must trust.
func (c *Client) SSHTrust(ctx context.Context) (SSHTrust, error) {
	return read[SSHTrust](ctx, c, "/ssh-trust", nil)
}

// CertifyHost certifies a router's host key for its id.
func (c *Client) CertifyHost(ctx context.Context, router inventory.DeviceID, n NewHostCertificate) (HostCertificate, error) {
	return write[HostCertificate](ctx, c, http.MethodPost, at("routers", string(router), "host-certificate"), n)
}

// NewServerCertificate asks for the TLS certificate of a router that is dialled
// by gNMI. The CSR names nothing but the host of its management address.
type NewServerCertificate struct {
	CSR  string `json:"csr" minLength:"1" maxLength:"8192"`      // PEM, ECDSA P-256
	Days int    `json:"days,omitempty" minimum:"0" maximum:"90"` // 0: 90
}

// CertifyServer signs a router's TLS certificate.
func (c *Client) CertifyServer(ctx context.Context, router inventory.DeviceID, n NewServerCertificate) (ServiceCertificate, error) {
	return write[ServiceCertificate](ctx, c, http.MethodPost, at("routers", string(router), "server-certificate"), n)
}
