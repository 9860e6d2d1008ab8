package pki

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"go.step.sm/crypto/sshutil"
	"golang.org/x/crypto/ssh"
)

// SSHPrincipal is the account that SSH user certificates are for: what a device
// that is driven over SSH lets in.
const SSHPrincipal = "wardnet"

// Lives of SSH certificates. One for a user serves the login alone: a session
// outlives it.
const (
	sshUserTTL    = 10 * time.Minute
	sshBackdate   = time.Minute // clocks of devices are off
	maxSSHHostTTL = 366 * 24 * time.Hour
)

// Purposes of the SSH CA keys. They sign SSH certificates only, and devices of
// ours do not pin them.
const (
	sshUserKey Purpose = "ssh-user"
	sshHostKey Purpose = "ssh-host"
)

var sshPurposes = []Purpose{sshUserKey, sshHostKey}

// openSSH loads the SSH CAs' keys from the CA directory; those that are missing
// are made, for a directory may be older than they. Made says which.
func openSSH(dir string) (cas map[Purpose]ssh.Signer, made []Purpose, err error) {
	cas = map[Purpose]ssh.Signer{}
	for _, purpose := range sshPurposes {
		key, err := loadKey(dir, string(purpose))
		if errors.Is(err, fs.ErrNotExist) {
			if err := makeKey(dir, string(purpose)); err != nil {
				return nil, nil, fmt.Errorf("create the %s CA: %w", purpose, err)
			}
			made = append(made, purpose)
			key, err = loadKey(dir, string(purpose))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("load the %s CA: %w", purpose, err)
		}
		if cas[purpose], err = ssh.NewSignerFromSigner(key); err != nil {
			return nil, nil, fmt.Errorf("load the %s CA: %w", purpose, err)
		}
	}
	return cas, made, nil
}

// makeKey adds a key to the CA directory, whole or not at all; the one of
// another process that was first stays.
func makeKey(dir, name string) error {
	key, err := enrol.NewKey()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, ".key-*") // mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := saveKey(tmp, name, key); err != nil {
		return err
	}
	if err := os.Link(filepath.Join(tmp, name+".key"), filepath.Join(dir, name+".key")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// SSHUserCA is what a device must trust for logins (sshd_config(5),
// TrustedUserCAKeys).
func (p *PKI) SSHUserCA() ssh.PublicKey { return p.ssh[sshUserKey].PublicKey() }

// SSHHostCA is what vouches for the devices' host keys (sshd(8),
// SSH_KNOWN_HOSTS FILE FORMAT, @cert-authority).
func (p *PKI) SSHHostCA() ssh.PublicKey { return p.ssh[sshHostKey].PublicKey() }

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
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key for %s: %w", device, err)
	}
	c := sshutil.Certificate{
		Type: sshutil.UserCert, Principals: []string{SSHPrincipal}, CriticalOptions: map[string]string{},
		Extensions: map[string]string{"permit-pty": ""}, // no forwarding, no rc files
	}
	if len(p.cfg.SSHSources) > 0 {
		c.CriticalOptions["source-address"] = joinPrefixes(p.cfg.SSHSources)
	}
	cert, err := p.signSSH(ctx, device, signer.PublicKey(), c, sshUserTTL)
	if err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, signer)
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
	return p.signSSH(ctx, device, pub, sshutil.Certificate{Type: sshutil.HostCert, Principals: principals}, validity)
}

// signSSH completes c, records it in the audit log and signs it.
func (p *PKI) signSSH(ctx context.Context, device inventory.DeviceID, pub ssh.PublicKey, c sshutil.Certificate, life time.Duration) (*ssh.Certificate, error) {
	purpose := sshUserKey
	if c.Type == sshutil.HostCert {
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
	now := time.Now()
	c.Key, c.KeyID, c.Serial = pub, SSHPrincipal+"/"+string(device), binary.BigEndian.Uint64(serial[:])
	c.ValidAfter, c.ValidBefore = now.Add(-sshBackdate), now.Add(life)
	if err := p.audit(ctx, Event{
		Actor: "system", Action: "issue", Object: string(device), Outcome: "done",
		Reason: clip(fmt.Sprintf("%s certificate %d for %s until %s, key %s", purpose, c.Serial, strings.Join(c.Principals, ", "), c.ValidBefore.UTC().Format(time.RFC3339), ssh.FingerprintSHA256(pub))),
	}); err != nil {
		return fail(err)
	}
	cert, err := sshutil.CreateCertificate(c.GetCertificate(), p.ssh[purpose])
	if err != nil {
		return fail(err)
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

func joinPrefixes(list []netip.Prefix) string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return strings.Join(out, ",")
}
