package enrol

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// Bundle is what a device needs for its first contact; it holds a secret and
// travels as a file that only its owner may read, or as a QR code.
//
// Its signature is the controller's and covers every other field. It protects a
// device that was given the root beforehand, see [Client.Root], from a bundle
// that leads elsewhere or sets other addresses; to any device it shows damage.
// It hides nothing: whoever reads the file has the token.
type Bundle struct {
	EnrolURL string             `json:"enrol_url"` // base, e.g. https://hub.example:9445
	Channel  string             `json:"channel"`   // host:port
	CAURL    string             `json:"ca_url"`
	RootPEM  string             `json:"root_pem"`
	Device   inventory.DeviceID `json:"device"`
	Serial   string             `json:"serial"`
	Token    string             `json:"token"`
	// Ports are the WAN circuits of the first boot, for a site where the device
	// cannot find its way by DHCP on any port. Only a signed bundle has them.
	Ports []Port `json:"ports,omitempty"`
	// Signer is the certificate that the signature is made with and its issuer,
	// PEM. Both fields are empty in a bundle put together by hand.
	Signer    string `json:"signer,omitempty"`
	Signature []byte `json:"signature,omitempty"` // ASN.1 ECDSA P-256 over SHA-256 of [Bundle.Payload]

	// newer is what was signed, for a bundle of a newer controller that has
	// fields we do not know; empty for others.
	newer string
}

// Port is a WAN circuit as the device runs it before it has a configuration,
// field for field a circuit of that configuration.
type Port struct {
	Name       string                `json:"name"` // the inventory's circuit id
	Kind       inventory.CircuitKind `json:"kind"`
	Port       string                `json:"port"`                 // network interface
	Addressing inventory.Addressing  `json:"addressing,omitempty"` // static, or else by DHCP
	Address    netip.Prefix          `json:"address,omitzero"`     // static only
	Gateway    netip.Addr            `json:"gateway,omitzero"`     // static only
	MTU        int                   `json:"mtu"`                  // bytes
}

// Payload is what the signature covers: all fields but the signer's, those of a
// newer controller included.
func (b Bundle) Payload() ([]byte, error) {
	text, err := b.signed()
	if err != nil {
		return nil, fmt.Errorf("enrolment bundle: %w", err)
	}
	return append([]byte("wardnet-bundle/1\n"), text...), nil
}

// Verify says whether the bundle is signed by a controller of the root
// certificate rootPEM; "" is the bundle's own. The time of the signer's
// certificate is not looked at, for the clock of a new device may be anywhere:
// what ends is the token, and the controller's clock ends it. Errors wrap
// [inventory.ErrInvalid].
func (b Bundle) Verify(rootPEM string) error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("%w: enrolment bundle: "+format, append([]any{inventory.ErrInvalid}, args...)...)
	}
	if rootPEM == "" {
		rootPEM = b.RootPEM
	}
	root, err := parseCertificates([]byte(rootPEM))
	if err != nil {
		return fmt.Errorf("enrolment bundle: root certificate: %w", err)
	}
	own, err := parseCertificates([]byte(b.RootPEM))
	if err != nil {
		return fmt.Errorf("enrolment bundle: root_pem: %w", err)
	}
	if !own[0].Equal(root[0]) {
		return fault("it is of another root (%.12s) than the one this device was given (%.12s); it was tampered with, or belongs to another network", digest(own[0].Raw), digest(root[0].Raw))
	}
	if len(b.Signature) == 0 {
		return fault("it is not signed; have it made by 'wardnet device bundle'")
	}
	chain, err := parseCertificates([]byte(b.Signer))
	if err != nil {
		return fmt.Errorf("enrolment bundle: signer: %w", err)
	}
	if err := checkSigner(chain, root[0]); err != nil {
		return fault("its signer is not the controller: %w", err)
	}
	payload, err := b.Payload()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(payload)
	if pub, ok := chain[0].PublicKey.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(pub, sum[:], b.Signature) {
		return fault("it was changed after it was signed; get a new one by 'wardnet device bundle'")
	}
	return nil
}

// checkSigner accepts a certificate of the hub issuer below root.
func checkSigner(chain []*x509.Certificate, root *x509.Certificate) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	found, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2),
	})
	if err != nil {
		return err
	}
	for _, c := range found {
		if len(c) > 2 && slices.Equal(c[1].Subject.OrganizationalUnit, []string{HubUnit}) {
			return nil
		}
	}
	return ErrPin
}

// Validate reports every missing field at once, and a signature that does not
// hold.
func (b Bundle) Validate() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"enrol_url", b.EnrolURL},
		{"root_pem", b.RootPEM},
		{"device", string(b.Device)},
		{"serial", b.Serial},
		{"token", b.Token},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("%w: enrolment bundle: %s is missing", inventory.ErrInvalid, f.name))
		}
	}
	if b.EnrolURL != "" && !strings.HasPrefix(b.EnrolURL, "https://") {
		errs = append(errs, fmt.Errorf("%w: enrolment bundle: enrol_url %q is not an https URL", inventory.ErrInvalid, b.EnrolURL))
	}
	if b.RootPEM != "" {
		if _, err := TrustDomain([]byte(b.RootPEM)); err != nil {
			errs = append(errs, fmt.Errorf("enrolment bundle: root_pem: %w", err))
		} else if len(b.Signature) > 0 || b.Signer != "" || len(b.Ports) > 0 || b.newer != "" {
			if err := b.Verify(""); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// LoadBundle reads a bundle file. A file that others than its owner may read
// is refused: the token in it is as good as the device.
func LoadBundle(path string) (Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Bundle{}, fmt.Errorf("enrolment bundle: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Bundle{}, fmt.Errorf("%w: enrolment bundle %s may be read by others (mode %04o); run chmod 600 on it", inventory.ErrInvalid, path, info.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return Bundle{}, fmt.Errorf("enrolment bundle: %w", err)
	}
	defer f.Close()
	var b Bundle
	if err := decode(f, &b); err != nil {
		return Bundle{}, fmt.Errorf("enrolment bundle %s: %w", path, err)
	}
	return b, b.Validate()
}

// Save writes the bundle for its owner alone, atomically.
func (b Bundle) Save(path string) error {
	doc, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(path, append(doc, '\n')); err != nil {
		return fmt.Errorf("enrolment bundle: %w", err)
	}
	return nil
}
