package signer

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go.step.sm/crypto/sshutil"
	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/inventory"
)

// Lives of SSH certificates.
const (
	maxSSHUserLife = 15 * time.Minute
	maxSSHHostLife = 366 * 24 * time.Hour
	sshBackdate    = time.Minute // clocks of devices are off
)

// sshTemplate turns an order into the certificate to sign (PROTOCOL.certkeys of
// OpenSSH). All faults at once, wrapping [inventory.ErrInvalid].
func sshTemplate(o SSHOrder, now time.Time) (*ssh.Certificate, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	pub, err := ssh.ParsePublicKey(o.Key)
	if err != nil {
		bad("key: %w", err)
	} else if err := sshKeyFault(pub); err != nil {
		errs = append(errs, err)
	}
	longest, named := maxSSHUserLife, isAccount
	c := sshutil.Certificate{
		Type: sshutil.UserCert, Key: pub, KeyID: o.KeyID, Serial: o.Serial, Principals: o.Principals, CriticalOptions: map[string]string{},
		Extensions: map[string]string{"permit-pty": ""}, // no forwarding, no rc files
		ValidAfter: now.Add(-sshBackdate), ValidBefore: now.Add(o.Life),
	}
	if o.Host {
		longest, named = maxSSHHostLife, isHostName
		c.Type, c.Extensions = sshutil.HostCert, map[string]string{}
		if len(o.Sources) > 0 {
			bad("a host's certificate has no source addresses")
		}
	}
	if o.Life <= 0 || o.Life > longest {
		bad("life %s is not within %s", o.Life, longest)
	}
	if len(o.Principals) == 0 || o.KeyID == "" {
		bad("a principal and a key id are required: a certificate without a principal would be anybody's")
	}
	for _, p := range o.Principals {
		if !named(p) {
			bad("%q cannot be a principal", p)
		}
	}
	for _, s := range o.Sources {
		if _, err := netip.ParsePrefix(s); err != nil {
			bad("source %q is no prefix", s)
		}
	}
	if len(o.Sources) > 0 {
		c.CriticalOptions["source-address"] = strings.Join(o.Sources, ",")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: order of an SSH certificate: %w", inventory.ErrInvalid, err)
	}
	return c.GetCertificate(), nil
}

// sshKeyFault says what is wrong with a key to certify, or nil.
func sshKeyFault(pub ssh.PublicKey) error {
	k, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return fmt.Errorf("a %s is no plain key", pub.Type())
	}
	switch pub.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() >= 2048 {
			return nil
		}
		return errors.New("an RSA key needs at least 2048 bits")
	}
	return fmt.Errorf("keys of type %s are not certified; use Ed25519 or ECDSA", pub.Type())
}

// isAccount takes plain account names; root logs in nowhere by certificate.
func isAccount(s string) bool {
	return s != "" && s != "root" && len(s) <= 32 && s[0] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// isHostName takes names and addresses without patterns.
func isHostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return s != "" && len(s) <= 253 && s[0] != '-' && s[0] != '.' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == ""
}
