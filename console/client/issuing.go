package client

import (
	"context"
	"net/http"
	"time"
)

// CA is what a client of the CA API must know.
type CA struct {
	RootPEM string `json:"root_pem"`
	// Fingerprint is the lower-case hex SHA-256 of the root certificate, as
	// "step ca bootstrap --fingerprint" wants it.
	Fingerprint   string `json:"fingerprint"`
	URL           string `json:"ca_url"`         // step API
	ACMEDirectory string `json:"acme_directory"` // "" while ACME is off
	StatusURL     string `json:"status_url"`     // CRL, OCSP, root
}

// NewServiceToken asks for a one-time token for "step ca certificate".
type NewServiceToken struct {
	// Name is a host name, an address, or the short name of a service, whose
	// SPIFFE id is the certificate's name then.
	Name      string   `json:"name"`
	Names     []string `json:"names,omitempty"`      // of the certificate; default Name
	CSRSHA256 string   `json:"csr_sha256,omitempty"` // base64url; binds the token to one CSR
	Registrar bool     `json:"registrar,omitempty"`  // for a certificate that may make tokens itself
}

// ServiceToken is shown once.
type ServiceToken struct {
	Name    string    `json:"name"`
	Names   []string  `json:"names"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
	URL     string    `json:"ca_url"`
}

// NewACMEKey asks for a key of external account binding.
type NewACMEKey struct {
	Reference string `json:"reference"` // whom it is for
}

// ACMEKey binds one ACME account (RFC 8555 §7.3.4); it is shown once.
type ACMEKey struct {
	ID        string `json:"kid"`
	HMACKey   string `json:"hmac_key"` // base64url
	Directory string `json:"acme_directory"`
}

// CA returns the root and where the CA API answers.
func (c *Client) CA(ctx context.Context) (CA, error) { return read[CA](ctx, c, "/ca", nil) }

// ServiceToken makes a one-time token for the step CLI.
func (c *Client) ServiceToken(ctx context.Context, n NewServiceToken) (ServiceToken, error) {
	path := "/service-tokens"
	if n.Registrar {
		path = "/registrar-tokens"
	}
	return write[ServiceToken](ctx, c, http.MethodPost, path, n)
}

// ACMEKey makes a key that binds one ACME account.
func (c *Client) ACMEKey(ctx context.Context, n NewACMEKey) (ACMEKey, error) {
	return write[ACMEKey](ctx, c, http.MethodPost, "/acme-keys", n)
}
