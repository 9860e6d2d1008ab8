package enrol

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wardnet/wardnet/inventory"
)

// ErrPin means that a server's certificate is good but not from the issuer
// this device pinned: somebody with another of our certificates poses as the
// controller.
var ErrPin = errors.New("server certificate is not from the pinned hub issuer")

// Identity is an enrolled device's identity, kept in a directory. It is safe
// for concurrent use; a renewal shows at once in everything it gave out.
type Identity struct {
	dir   string
	keys  Keystore // nil: files
	now   atomic.Pointer[opened]
	renew sync.Mutex // one renewal at a time
}

// opened is a checked slot.
type opened struct {
	slot
	pair      *tls.Certificate
	roots     *x509.CertPool
	root      *x509.Certificate
	wireguard *ecdh.PrivateKey
	keys      map[string]map[string]*ecdsa.PublicKey // purpose, key id
}

// Load reads the identity in dir. A device that has not enrolled yet gets
// [inventory.ErrNotFound]. A key that a chip holds is not opened: such an
// identity is to be looked at, see [Client.Load].
func Load(dir string) (*Identity, error) { return Client{}.Load(dir) }

// Load is [Load] with the client's keystore.
func (c Client) Load(dir string) (*Identity, error) {
	s, err := readSlot(dir, currentFile)
	if err != nil {
		return nil, err
	}
	o, err := s.open(c.Keys)
	if err != nil {
		return nil, err
	}
	i := &Identity{dir: dir, keys: c.Keys}
	i.now.Store(o)
	return i, nil
}

// Device is the enrolled name.
func (i *Identity) Device() inventory.DeviceID { return i.now.Load().Device }

// Certificate is the certificate in use.
func (i *Identity) Certificate() *x509.Certificate { return i.now.Load().pair.Leaf }

// Root is the root CA's certificate.
func (i *Identity) Root() *x509.Certificate { return i.now.Load().root }

// Channel is the host:port of the management channel.
func (i *Identity) Channel() string { return i.now.Load().Channel }

// CAURL is the base URL for renewal.
func (i *Identity) CAURL() string { return i.now.Load().CAURL }

// WireGuardKey is the device's tunnel key; its public half is bound to the
// certificate.
func (i *Identity) WireGuardKey() *ecdh.PrivateKey { return i.now.Load().wireguard }

// WireGuardPublicKey is the public half, base64 as WireGuard writes it.
func (i *Identity) WireGuardPublicKey() string { return publicText(i.now.Load().wireguard) }

func publicText(k *ecdh.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes())
}

// RevisionKeys are the pinned public keys a config must be signed with, by key
// id.
func (i *Identity) RevisionKeys() map[string]*ecdsa.PublicKey { return i.Keys("revision") }

// Keys are the pinned public keys of one purpose, by key id.
func (i *Identity) Keys(purpose string) map[string]*ecdsa.PublicKey {
	return maps.Clone(i.now.Load().keys[purpose])
}

// TLS is a client configuration that presents the certificate in use and
// accepts only servers certified by the pinned hub issuer. The caller sets
// ServerName and NextProtos.
func (i *Identity) TLS() *tls.Config {
	o := i.now.Load()
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    o.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.now.Load().pair, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error { return checkPins(cs, o.HubPins) },
	}
}

// checkPins accepts a verified connection when the issuer of the server's
// certificate is pinned.
func checkPins(cs tls.ConnectionState, pins []string) error {
	for _, chain := range cs.VerifiedChains {
		if len(chain) < 2 {
			continue
		}
		if slices.Contains(pins, digest(chain[1].RawSubjectPublicKeyInfo)) {
			return nil
		}
	}
	return fmt.Errorf("%w: check that %s is the controller's own address", ErrPin, cs.ServerName)
}

// checkHubUnit stands in for the pins at the first contact.
func checkHubUnit(cs tls.ConnectionState) error {
	for _, chain := range cs.VerifiedChains {
		if len(chain) > 2 && slices.Equal(chain[1].Subject.OrganizationalUnit, []string{HubUnit}) {
			return nil
		}
	}
	return fmt.Errorf("%w: check that the bundle's enrol_url is the controller's own address", ErrPin)
}
