package enrol

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/wardnet/wardnet/inventory"
)

// The two slots. Next holds a key and its CSR from before the first request
// until the certificate has come; then one rename makes it the current one.
const (
	currentFile = "current.json"
	nextFile    = "next.json"
)

// slot is one identity on disk: one file, so that key, certificate and pins
// can never be of different ages.
type slot struct {
	Device inventory.DeviceID `json:"device"`
	Serial string             `json:"serial"` // hardware
	// For says what the key was made for: the hash of the enrolment token, or
	// the serial of the certificate it renews. Another purpose needs new keys.
	For         string              `json:"for"`
	Key         string              `json:"key"` // what the [Keystore] gave: PKCS #8 PEM, or where the key is
	CSR         string              `json:"csr"`
	WireGuard   string              `json:"wireguard"` // private key, base64
	Certificate string              `json:"certificate,omitempty"`
	Root        string              `json:"root"`
	HubPins     []string            `json:"hub_pins,omitempty"`
	Keys        map[string][]string `json:"keys,omitempty"`
	Channel     string              `json:"channel"`
	CAURL       string              `json:"ca_url"`
}

// newSlot makes fresh keys and a CSR for device. wg is kept when not empty.
func newSlot(device inventory.DeviceID, rootPEM, purpose, wg string, keys Keystore) (slot, error) {
	domain, err := TrustDomain([]byte(rootPEM))
	if err != nil {
		return slot{}, err
	}
	id, err := SPIFFEID(domain, DeviceKind, string(device))
	if err != nil {
		return slot{}, err
	}
	if keys == nil {
		keys = Files{}
	}
	ref, key, err := keys.Make()
	if err != nil {
		return slot{}, fmt.Errorf("make device key: %w", err)
	}
	csr, err := NewCSR(key, id)
	if err != nil {
		return slot{}, err
	}
	if wg == "" {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return slot{}, fmt.Errorf("make WireGuard key: %w", err)
		}
		wg = base64.StdEncoding.EncodeToString(k.Bytes())
	}
	return slot{
		Device: device, For: purpose, CSR: csr, WireGuard: wg, Root: rootPEM,
		Key: ref,
	}, nil
}

// take fills the slot with what the controller answered.
func (s slot) take(r Response) slot {
	s.Certificate = r.Certificate
	if s.HubPins == nil { // pinned once, at enrolment
		s.HubPins, s.Keys = r.HubPins, r.Keys
	}
	// A purpose that the controller did not know then is pinned with the first
	// renewal that brings it, over TLS to the pinned issuer; the others stay.
	keys := map[string][]string{}
	maps.Copy(keys, r.Keys)
	maps.Copy(keys, s.Keys)
	s.Keys = keys
	if r.Channel != "" {
		s.Channel = r.Channel
	}
	if r.CAURL != "" {
		s.CAURL = r.CAURL
	}
	return s
}

func readSlot(dir, name string) (slot, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return slot{}, fmt.Errorf("%w: no %s in %s", inventory.ErrNotFound, name, dir)
	}
	if err != nil {
		return slot{}, fmt.Errorf("read identity: %w", err)
	}
	var s slot
	if err := json.Unmarshal(text, &s); err != nil {
		// Not %w: the text of a JSON error may hold a piece of the key.
		return slot{}, fmt.Errorf("%w: identity file %s is damaged; enrol the device again with a new token", inventory.ErrInvalid, filepath.Join(dir, name))
	}
	return s, nil
}

func writeSlot(dir, name string, s slot) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identity directory: %w", err)
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, name), append(text, '\n')); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	return nil
}

// commitSlot makes s the current identity and empties the next slot. The
// rename is the commit: a crash before it asks again with the same CSR, a
// crash after it leaves a next slot that nothing uses.
func commitSlot(dir string, s slot) error {
	if err := writeSlot(dir, currentFile, s); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, nextFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("empty the next slot: %w", err)
	}
	return syncDir(dir)
}

// wireGuardKey is the private key of the slot.
func (s slot) wireGuardKey() (*ecdh.PrivateKey, error) {
	raw, err := base64.StdEncoding.DecodeString(s.WireGuard)
	if err != nil {
		return nil, fmt.Errorf("%w: WireGuard key of the identity is damaged", inventory.ErrInvalid)
	}
	k, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: WireGuard key of the identity is damaged", inventory.ErrInvalid)
	}
	return k, nil
}

// open checks the slot and gives what it holds in the form programs use.
func (s slot) open(keys Keystore) (*opened, error) {
	pair, err := keyPair(s.Certificate, s.Key, keys)
	if err != nil {
		return nil, err
	}
	domain, err := TrustDomain([]byte(s.Root))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if len(pair.Leaf.URIs) != 1 {
		return nil, fmt.Errorf("%w: identity: certificate has %d URIs, want one", inventory.ErrInvalid, len(pair.Leaf.URIs))
	}
	name, err := ParseSPIFFEID(pair.Leaf.URIs[0], domain, DeviceKind)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if name != string(s.Device) {
		return nil, fmt.Errorf("%w: identity: certificate is of device %q, not %q", inventory.ErrInvalid, name, s.Device)
	}
	o := &opened{slot: s, pair: pair, roots: x509.NewCertPool(), keys: map[string]map[string]*ecdsa.PublicKey{}}
	o.roots.AppendCertsFromPEM([]byte(s.Root))
	roots, err := parseCertificates([]byte(s.Root))
	if err != nil || len(roots) == 0 {
		return nil, fmt.Errorf("%w: identity: its root certificate is damaged", inventory.ErrInvalid)
	}
	o.root = roots[0]
	if o.wireguard, err = s.wireGuardKey(); err != nil {
		return nil, err
	}
	for purpose, list := range s.Keys {
		o.keys[purpose] = map[string]*ecdsa.PublicKey{}
		for _, text := range list {
			id, pub, err := parsePublicKey(text)
			if err != nil {
				return nil, fmt.Errorf("identity: %s key: %w", purpose, err)
			}
			o.keys[purpose][id] = pub
		}
	}
	return o, nil
}

func parsePublicKey(text string) (string, *ecdsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return "", nil, fmt.Errorf("%w: not PEM", inventory.ErrInvalid)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return "", nil, fmt.Errorf("%w: a %T where ECDSA is expected", inventory.ErrInvalid, k)
	}
	return digest(block.Bytes), pub, nil
}
