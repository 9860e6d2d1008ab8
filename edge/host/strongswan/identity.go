package strongswan

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// issuerUnit is the organisational unit of the issuers of devices'
// certificates. The root vouches for it; no other issuer has it.
const issuerUnit = "devices"

// Identity is what a device shows and whom it trusts.
type Identity struct {
	// Certificate is the device's, its issuer's next, and the private key. A
	// renewed one takes the place of the old and no tunnel notices.
	Certificate *tls.Certificate
	Root        *x509.Certificate
	// Issuers are further issuers that peers' certificates may have, while
	// issuers are being exchanged. The device's own issuer needs no mention.
	Issuers []*x509.Certificate
}

// material is an identity as charon takes it.
type material struct {
	leaf    string   // PEM
	root    string   // PEM
	issuers []string // PEM, sorted
	key     string   // PKCS #8 PEM
	digest  string   // of all of it
}

// material checks that the certificate is device's, and that it and every
// issuer is what it should be below the root. Validity in time is charon's to
// check, at each authentication: an expired certificate is no reason to refuse
// a configuration.
func (i Identity) material(device inventory.DeviceID) (material, error) {
	if i.Certificate == nil || i.Root == nil || len(i.Certificate.Certificate) < 2 {
		return material{}, fmt.Errorf("%w: IPsec identity: the device's certificate, its issuer's and the root are required", inventory.ErrInvalid)
	}
	leaf, err := x509.ParseCertificate(i.Certificate.Certificate[0])
	if err != nil {
		return material{}, fmt.Errorf("%w: IPsec identity: %w", inventory.ErrInvalid, err)
	}
	own, err := x509.ParseCertificate(i.Certificate.Certificate[1])
	if err != nil {
		return material{}, fmt.Errorf("%w: IPsec identity: issuer: %w", inventory.ErrInvalid, err)
	}
	var errs []error
	if leaf.Subject.CommonName != string(device) {
		errs = append(errs, fmt.Errorf("%w: IPsec identity: the certificate is of device %q, the configuration of %q", inventory.ErrInvalid, leaf.Subject.CommonName, device))
	}
	m := material{root: certPEM(i.Root), leaf: certPEM(leaf)}
	for _, c := range append([]*x509.Certificate{own}, i.Issuers...) {
		errs = append(errs, checkIssuer(c, i.Root))
		m.issuers = append(m.issuers, certPEM(c))
	}
	if err := verify(leaf, own, i.Root); err != nil {
		errs = append(errs, fmt.Errorf("%w: IPsec identity: %w", inventory.ErrInvalid, err))
	}
	key, err := x509.MarshalPKCS8PrivateKey(i.Certificate.PrivateKey)
	if err != nil {
		errs = append(errs, fmt.Errorf("%w: IPsec identity: private key: %w", inventory.ErrInvalid, err))
	}
	if err := errors.Join(errs...); err != nil {
		return material{}, err
	}
	m.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	slices.Sort(m.issuers)
	m.issuers = slices.Compact(m.issuers)
	h := sha256.New()
	for _, s := range append([]string{m.leaf, m.root, m.key}, m.issuers...) {
		h.Write([]byte(s))
	}
	m.digest = hex.EncodeToString(h.Sum(nil))
	return m, nil
}

func checkIssuer(c, root *x509.Certificate) error {
	if !c.IsCA || !slices.Equal(c.Subject.OrganizationalUnit, []string{issuerUnit}) {
		return fmt.Errorf("%w: IPsec identity: %s is not an issuer of devices' certificates", inventory.ErrInvalid, c.Subject)
	}
	if err := verify(c, nil, root); err != nil {
		return fmt.Errorf("%w: IPsec identity: issuer: %w", inventory.ErrInvalid, err)
	}
	return nil
}

// verify builds the chain as of the day the certificate was made.
func verify(c, issuer, root *x509.Certificate) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: c.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	o.Roots.AddCert(root)
	if issuer != nil {
		o.Intermediates.AddCert(issuer)
	}
	for _, ca := range []*x509.Certificate{issuer, root} { // they may be a moment younger
		if ca != nil && ca.NotBefore.After(o.CurrentTime) {
			o.CurrentTime = ca.NotBefore
		}
	}
	_, err := c.Verify(o)
	return err
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// load hands m to charon over its socket; the private key is never in a file
// of ours or on a command line. Keys that were there before go.
func (m material) load(ctx context.Context, s *client) error {
	for _, ca := range append([]string{m.root}, m.issuers...) {
		if _, err := s.call(ctx, "load-cert", new(message).set("type", "X509").set("flag", "CA").set("data", ca)); err != nil {
			return fmt.Errorf("certificate of an issuer: %w", err)
		}
	}
	if _, err := s.call(ctx, "load-cert", new(message).set("type", "X509").set("flag", "NONE").set("data", m.leaf)); err != nil {
		return fmt.Errorf("certificate of the device: %w", err)
	}
	loaded, err := s.call(ctx, "load-key", new(message).set("type", "any").set("data", m.key))
	if err != nil {
		return fmt.Errorf("key of the device: %w", err)
	}
	keys, err := s.call(ctx, "get-keys", nil)
	if err != nil {
		return err
	}
	for _, id := range keys.lists["keys"] {
		if id == loaded.values["id"] {
			continue
		}
		if _, err := s.call(ctx, "unload-key", new(message).set("id", id)); err != nil {
			return fmt.Errorf("former key of the device: %w", err)
		}
	}
	return nil
}
