// Package signer holds the private keys of the certificate authorities and
// signs by template only: a request says which kind of certificate for whom,
// and the signer builds, checks and journals it. It never signs a digest that
// somebody hands in, so that a flaw elsewhere in the controller can at most ask
// for what the templates allow. [Service] is the holder of the keys, [Serve]
// offers it on a unix socket, [Client] is the controller's end.
package signer

import (
	"errors"
	"net/netip"
	"time"
)

// Issuer names an issuing CA.
type Issuer string

// The issuing CAs under the root, and the root itself.
const (
	Root     Issuer = "root"
	Devices  Issuer = "devices"  // enrolment and renewal of devices, nothing else
	Services Issuer = "services" // services and people
	Hub      Issuer = "hub"      // the controller's own certificates; devices pin it
)

// Issuers are the three that certify leaves.
var Issuers = []Issuer{Devices, Services, Hub}

// Errors beside [inventory.ErrInvalid] (the order breaks its template) and
// [inventory.ErrNotFound] (no such issuer key).
var (
	// ErrUnavailable means that the signing process did not answer. Nothing was
	// handed out; trying again may help.
	ErrUnavailable = errors.New("the signing process does not answer; is 'wardnet signer' running?")
	// ErrRetired means that the issuer's generation signs no certificates any
	// more; another one is active.
	ErrRetired = errors.New("this issuer generation signs no certificates any more")
	// ErrNumber means that a CRL of this or a higher number was signed before.
	ErrNumber = errors.New("a CRL with this or a higher number was signed before")
	// ErrCeremony means that the root's key is needed and not here.
	ErrCeremony = errors.New("the root key is not on this machine; sign with 'wardnet cert ceremony'")
)

// Info is one generation of an issuing CA, without its key.
type Info struct {
	Issuer     Issuer `json:"issuer"`
	Generation int    `json:"generation"` // from 1
	KeyID      string `json:"key_id"`     // see enrol.KeyID
	// Certificate is DER; empty while the root has not signed it.
	Certificate []byte `json:"certificate,omitempty"`
	// CSR is what the root has to sign, DER; empty once it has.
	CSR     []byte `json:"csr,omitempty"`
	Retired bool   `json:"retired,omitempty"` // signs CRLs, but no certificates
}

// State is what the signer holds.
type State struct {
	Root    []byte `json:"root"`     // certificate, DER
	RootKey bool   `json:"root_key"` // whether the root's key is here
	// RootCRL is the newest revocation list of the root that was imported, DER.
	RootCRL []byte `json:"root_crl,omitempty"`
	Issuers []Info `json:"issuers"`
	SSHUser []byte `json:"ssh_user"` // public key, SSH wire format
	SSHHost []byte `json:"ssh_host"`
}

// Kind is a template of a leaf certificate.
type Kind string

// Templates. Each belongs to one issuer, [OCSPLeaf] to any.
const (
	// DeviceLeaf has exactly the SPIFFE id of the CSR, spiffe://domain/device/id,
	// for TLS clients, P-256.
	DeviceLeaf Kind = "device"
	// ServiceLeaf has SPIFFE ids of services, DNS names, addresses and e-mail
	// addresses, never a device's id and never a name of the controller.
	ServiceLeaf Kind = "service"
	// ServerLeaf is the controller's own: configured names only, TLS server.
	ServerLeaf Kind = "server"
	// OCSPLeaf signs OCSP answers for its issuer (RFC 6960 §4.2.2.2) and is
	// itself not looked up (id-pkix-ocsp-nocheck).
	OCSPLeaf Kind = "ocsp"
)

// Order asks for a leaf certificate. Validity begins backdated by at most ten
// minutes; serial number, key usages and identifiers are the signer's.
type Order struct {
	KeyID string `json:"key_id"` // of the issuer
	Kind  Kind   `json:"kind"`
	// CSR proves possession of the key and is required for devices and servers,
	// DER. Its names must be those of the order; a device's are taken from it.
	CSR []byte `json:"csr,omitempty"`
	// PublicKey stands in for a CSR where possession was proven otherwise: a
	// service's renewal over mutual TLS, the OCSP responder. PKIX, DER.
	PublicKey []byte       `json:"public_key,omitempty"`
	Subject   string       `json:"subject,omitempty"` // common name
	DNSNames  []string     `json:"dns_names,omitempty"`
	IPs       []netip.Addr `json:"ips,omitempty"`
	Emails    []string     `json:"emails,omitempty"`
	URIs      []string     `json:"uris,omitempty"`
	NotAfter  time.Time    `json:"not_after"`
	CRLURL    string       `json:"crl_url,omitempty"`    // ends in CRLPath of the issuer
	OCSPURL   string       `json:"ocsp_url,omitempty"`   // http or https
	WireGuard string       `json:"wireguard,omitempty"`  // bound public key, for the journal
	RequestBy string       `json:"request_by,omitempty"` // who asked, for the journal
}

// CRLPath is where the revocation list of an issuer key is served.
func CRLPath(keyID string) string { return "/crl/" + keyID + ".crl" }

// CRLOrder asks for the revocation list of an issuer or of the root.
type CRLOrder struct {
	KeyID   string        `json:"key_id"`
	Number  uint64        `json:"number"` // must rise, see [ErrNumber]
	Life    time.Duration `json:"life"`   // at most 8 days
	URL     string        `json:"url,omitempty"`
	Entries []CRLEntry    `json:"entries"`
}

// CRLEntry is one revoked certificate.
type CRLEntry struct {
	Serial string    `json:"serial"` // lower-case hex
	At     time.Time `json:"at"`
	Reason int       `json:"reason,omitempty"` // RFC 5280 §5.3.1
}

// SSHOrder asks for an SSH certificate. A user's lives at most 15 minutes and
// may do nothing but open a terminal; a host's lives at most 366 days.
type SSHOrder struct {
	Host       bool          `json:"host,omitempty"`
	Key        []byte        `json:"key"` // SSH wire format
	KeyID      string        `json:"key_id"`
	Serial     uint64        `json:"serial"`
	Principals []string      `json:"principals"`
	Sources    []string      `json:"sources,omitempty"` // prefixes a user may come from
	Life       time.Duration `json:"life"`
}

// Action is a change of the issuers that the signer holds.
type Action string

// Actions of [Service.Change]. Each may be repeated; a crash half-way is
// completed by the same action.
const (
	// Stage makes the key of a new generation and, where the root's key is here,
	// its certificate; otherwise the answer carries the CSR.
	Stage Action = "stage"
	// Install takes the certificate that the root signed elsewhere.
	Install Action = "install"
	// Retire ends the signing of certificates by a generation, for ever.
	Retire Action = "retire"
	// InstallRootCRL takes a revocation list that the root signed elsewhere.
	InstallRootCRL Action = "root-crl"
)

// Change asks for an [Action].
type Change struct {
	Action      Action `json:"action"`
	Issuer      Issuer `json:"issuer"`
	Generation  int    `json:"generation,omitempty"`
	Certificate []byte `json:"certificate,omitempty"` // DER, for Install
	CRL         []byte `json:"crl,omitempty"`         // DER, for InstallRootCRL
	// RootCRLURL goes into the certificates that Stage makes; empty: none.
	RootCRLURL string `json:"root_crl_url,omitempty"`
}
