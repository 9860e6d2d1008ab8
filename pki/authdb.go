package pki

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/smallstep/certificates/db"
	"go.step.sm/crypto/jose"
)

// authDB is the database the embedded authorities see: our own typed tables
// behind the interface of smallstep/certificates v0.30.2. Their stock stores
// spend a one-time token twice on PostgreSQL and never purge.
type authDB struct {
	store   Store
	revoked *revokedSet
	revoke  func(ctx context.Context, serial, reason, by string) error
}

var _ db.AuthDB = (*authDB)(nil)

// callTimeout bounds one call; the interface hands over no context.
const callTimeout = 10 * time.Second

// hexSerial turns the authority's decimal serial number into ours.
func hexSerial(decimal string) (string, error) {
	n, ok := new(big.Int).SetString(decimal, 10)
	if !ok {
		return "", fmt.Errorf("%q is no certificate serial number", decimal)
	}
	return n.Text(16), nil
}

func (d *authDB) IsRevoked(sn string) (bool, error) {
	serial, err := hexSerial(sn)
	if err != nil {
		return true, err
	}
	return d.revoked.has(serial), nil
}

// UseToken is true for exactly one caller per id. The id is kept as long as the
// token could be presented.
func (d *authDB) UseToken(id, tok string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	until := time.Now().Add(100 * 365 * 24 * time.Hour) // no expiry in it: for ever
	var claims jose.Claims
	if t, err := jose.ParseSigned(tok); err == nil && t.UnsafeClaimsWithoutVerification(&claims) == nil && claims.Expiry != nil {
		until = claims.Expiry.Time().Add(time.Hour) // leeway of the check is a minute
	}
	return d.store.UseToken(ctx, id, until)
}

// Revoke goes to the one revocation log.
func (d *authDB) Revoke(rci *db.RevokedCertificateInfo) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	serial, err := hexSerial(rci.Serial)
	if err != nil {
		return err
	}
	reason := rci.Reason
	if reason == "" {
		reason = reasonName(rci.ReasonCode)
	}
	return d.revoke(ctx, serial, reason, "provisioner "+rci.ProvisionerID)
}

func (d *authDB) GetCertificate(sn string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	serial, err := hexSerial(sn)
	if err != nil {
		return nil, err
	}
	c, err := d.store.Certificate(ctx, serial)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(c.Chain))
	if block == nil {
		return nil, fmt.Errorf("certificate %s is kept without its PEM", serial)
	}
	return x509.ParseCertificate(block.Bytes)
}

// The authority does not keep certificates (no CertificateStorer): the caller
// of sign does, in one transaction with the token or the lineage.

// SSH certificates are not issued here.
func (d *authDB) IsSSHRevoked(string) (bool, error)          { return true, db.ErrNotImplemented }
func (d *authDB) RevokeSSH(*db.RevokedCertificateInfo) error { return db.ErrNotImplemented }
func (d *authDB) IsSSHHost(string) (bool, error)             { return false, db.ErrNotImplemented }
func (d *authDB) GetSSHHostPrincipals() ([]string, error)    { return nil, db.ErrNotImplemented }
func (d *authDB) Shutdown() error                            { return nil }
