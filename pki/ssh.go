package pki

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/signer"
	"golang.org/x/crypto/ssh"
)

// SSHPrincipal is the account that SSH user certificates are for: what a device
// that is driven over SSH lets in.
const SSHPrincipal = "wardnet"

// Lives of SSH certificates. One for a user serves the login alone: a session
// outlives it.
const (
	sshUserTTL    = 10 * time.Minute
	maxSSHHostTTL = 366 * 24 * time.Hour
)

// Purposes of the SSH CA keys. They sign SSH certificates only, and devices of
// ours do not pin them.
const (
	sshUserKey Purpose = "ssh-user"
	sshHostKey Purpose = "ssh-host"
)

var sshPurposes = []Purpose{sshUserKey, sshHostKey}

// SSHUserCA is what a device must trust for logins (sshd_config(5),
// TrustedUserCAKeys).
func (p *PKI) SSHUserCA() ssh.PublicKey { return p.sshUser }

// SSHHostCA is what vouches for the devices' host keys (sshd(8),
// SSH_KNOWN_HOSTS FILE FORMAT, @cert-authority).
func (p *PKI) SSHHostCA() ssh.PublicKey { return p.sshHost }

// SSHSigner gives a login for one device: a fresh key, kept in memory only, and
// its certificate (PROTOCOL.certkeys of OpenSSH) for [SSHPrincipal], valid for 10
// minutes, with [Config].SSHSources as its only sources. It is in the audit log
// before it is handed out. An unknown or retired device wraps
// [inventory.ErrNotFound].
func (p *PKI) SSHSigner(ctx context.Context, device inventory.DeviceID) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key for %s: %w", device, err)
	}
	login, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key for %s: %w", device, err)
	}
	o := signer.SSHOrder{Principals: []string{SSHPrincipal}, Life: sshUserTTL} // no forwarding, no rc files: the template's
	for _, from := range p.cfg.SSHSources {
		o.Sources = append(o.Sources, from.String())
	}
	cert, err := p.signSSH(ctx, device, login.PublicKey(), o)
	if err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, login)
}

// SignSSHHost certifies a device's host key for the names and addresses it is
// dialled by, at most 366 days. Bad names, keys and lives wrap
// [inventory.ErrInvalid], an unknown or retired device [inventory.ErrNotFound].
func (p *PKI) SignSSHHost(ctx context.Context, device inventory.DeviceID, pub ssh.PublicKey, principals []string, validity time.Duration) (*ssh.Certificate, error) {
	errs := []error{hostKeyFault(pub)}
	if validity <= 0 || validity > maxSSHHostTTL {
		errs = append(errs, fmt.Errorf("life %s is not within %s", validity, maxSSHHostTTL))
	}
	if len(principals) == 0 {
		errs = append(errs, errors.New("no principal: a certificate without one would be any host's"))
	}
	for _, name := range principals {
		if !isHostName(name) {
			errs = append(errs, fmt.Errorf("principal %q is no host name or address", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("certify the SSH host key of %s: %w: %w", device, inventory.ErrInvalid, err)
	}
	return p.signSSH(ctx, device, pub, signer.SSHOrder{Host: true, Principals: principals, Life: validity})
}

// signSSH completes o, records it in the audit log and has it signed.
func (p *PKI) signSSH(ctx context.Context, device inventory.DeviceID, pub ssh.PublicKey, o signer.SSHOrder) (*ssh.Certificate, error) {
	purpose := sshUserKey
	if o.Host {
		purpose = sshHostKey
	}
	fail := func(err error) (*ssh.Certificate, error) {
		return nil, fmt.Errorf("issue an %s certificate for %s: %w", purpose, device, err)
	}
	if _, err := p.declared(ctx, device); err != nil {
		return fail(err)
	}
	var serial [8]byte
	rand.Read(serial[:]) //nolint:errcheck // never fails, crypto/rand
	o.Key, o.KeyID, o.Serial = pub.Marshal(), SSHPrincipal+"/"+string(device), binary.BigEndian.Uint64(serial[:])
	if err := p.audit(ctx, Event{
		Actor: "system", Action: "issue", Object: string(device), Outcome: "done",
		Reason: clip(fmt.Sprintf("%s certificate %d for %s until %s, key %s", purpose, o.Serial, strings.Join(o.Principals, ", "), time.Now().Add(o.Life).UTC().Format(time.RFC3339), ssh.FingerprintSHA256(pub))),
	}); err != nil {
		return fail(err)
	}
	wire, err := p.signer.SSH(ctx, o)
	if err != nil {
		return fail(err)
	}
	signed, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return fail(err)
	}
	cert, ok := signed.(*ssh.Certificate)
	if !ok {
		return fail(fmt.Errorf("the signer answered a %s", signed.Type()))
	}
	p.metrics.issued.WithLabelValues(string(purpose)).Inc()
	return cert, nil
}

// hostKeyFault says what is wrong with a host key, or nil.
func hostKeyFault(pub ssh.PublicKey) error {
	if pub == nil {
		return errors.New("no host key")
	}
	k, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return fmt.Errorf("a %s is no plain host key", pub.Type())
	}
	switch pub.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() >= 2048 {
			return nil
		}
		return errors.New("an RSA host key needs at least 2048 bits")
	}
	return fmt.Errorf("host keys of type %s are not certified; use Ed25519 or ECDSA", pub.Type())
}

// isHostName takes names and addresses without patterns: what [ssh.CertChecker]
// compares literally and OpenSSH too.
func isHostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s == "" || len(s) > 253 || s[0] == '-' || s[0] == '.' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == ""
}
