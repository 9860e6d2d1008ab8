package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

var _ pki.Store = (*PKI)(nil)

// PKI implements [pki.Store]. Every write begins by locking pki_counters, so
// that log order equals commit order and writers wait instead of conflicting.
type PKI struct {
	db  *DB
	org inventory.OrgID
}

// NewPKI gives the certificates of one organisation.
func NewPKI(db *DB, org inventory.OrgID) *PKI { return &PKI{db, org} }

func (s *PKI) write(ctx context.Context, fn func(*Tx) error) error {
	return s.db.Write(ctx, func(tx *Tx) error {
		if err := tx.Lock("pki_counters"); err != nil {
			return err
		}
		return fn(tx)
	})
}

// AddToken implements [pki.Tokens].
func (s *PKI) AddToken(ctx context.Context, t pki.Token) error {
	err := s.write(ctx, func(tx *Tx) error {
		if err := s.endTokens(tx, t.Device, t.At); err != nil {
			return err
		}
		return s.addToken(tx, t)
	})
	if err != nil {
		return fmt.Errorf("keep enrolment token: %w", err)
	}
	return nil
}

// endTokens ends a device's unused tokens.
func (s *PKI) endTokens(tx *Tx, device inventory.DeviceID, at time.Time) error {
	_, err := tx.Exec("UPDATE pki_tokens SET expires_at = ? WHERE org = ? AND device = ? AND used_at = '' AND expires_at > ?",
		at, s.org, device, at)
	return err
}

func (s *PKI) addToken(tx *Tx, t pki.Token) error {
	_, err := tx.Exec("INSERT INTO pki_tokens (org, hash, device, serial, created_by, created_at, expires_at, offline) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		s.org, t.Hash, t.Device, t.Serial, t.By, t.At, t.Expires, t.Offline)
	return err
}

// Token implements [pki.Tokens].
func (s *PKI) Token(ctx context.Context, hash string) (pki.Redemption, error) {
	var r pki.Redemption
	err := s.db.Read(ctx, func(tx *Tx) error {
		var err error
		r, err = s.redemption(tx, hash)
		return err
	})
	if err != nil {
		return pki.Redemption{}, fmt.Errorf("look up enrolment token: %w", err)
	}
	return r, nil
}

// redemption reads a token and what was recorded for it.
func (s *PKI) redemption(tx *Tx, hash string) (r pki.Redemption, err error) {
	t, err := s.token(tx, hash)
	if err != nil {
		return r, err
	}
	r.Token = t
	if t.Certificate != "" {
		r.Certificate, err = s.one(tx, "c.serial = ?", t.Certificate)
	}
	return r, err
}

func (s *PKI) token(tx *Tx, hash string) (pki.Token, error) {
	t := pki.Token{Hash: hash}
	err := tx.QueryRow(`SELECT device, serial, created_by, created_at, expires_at, used_at, csr_hash, certificate, offline, confirmed_csr, confirmed_by, confirmed_at
		FROM pki_tokens WHERE org = ? AND hash = ?`, s.org, hash).Scan(&t.Device, &t.Serial, &t.By, stamp{&t.At}, stamp{&t.Expires}, stamp{&t.UsedAt},
		&t.CSRHash, &t.Certificate, &t.Offline, &t.ConfirmedCSR, &t.ConfirmedBy, stamp{&t.ConfirmedAt})
	return t, found(err, "enrolment token")
}

// Redeem implements [pki.Tokens].
func (s *PKI) Redeem(ctx context.Context, hash string, c pki.Certificate) (pki.Redemption, error) {
	var r pki.Redemption
	err := s.write(ctx, func(tx *Tx) error {
		res, err := tx.Exec("UPDATE pki_tokens SET used_at = ?, csr_hash = ?, certificate = ? WHERE org = ? AND hash = ? AND device = ? AND used_at = '' AND expires_at > ? AND (offline = 0 OR confirmed_csr = ?)",
			c.IssuedAt, c.CSRHash, c.Serial, s.org, hash, c.Device, c.IssuedAt, c.CSRHash)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		var revoked []pki.Revocation
		if n == 1 {
			if revoked, err = s.supersede(tx, c); err != nil {
				return err
			}
			if err := s.start(tx, c); err != nil {
				return err
			}
		}
		r, err = s.redemption(tx, hash)
		r.First, r.Revoked = n == 1, revoked
		return err
	})
	if err != nil {
		return pki.Redemption{}, fmt.Errorf("redeem enrolment token of %s: %w", c.Device, err)
	}
	return r, nil
}

// supersede ends the device's earlier lineages: a new enrolment replaces them.
func (s *PKI) supersede(tx *Tx, c pki.Certificate) ([]pki.Revocation, error) {
	old, err := s.lineagesOf(tx, c.Device)
	if err != nil {
		return nil, err
	}
	var out []pki.Revocation
	for _, lineage := range old {
		fresh, err := s.revokeLineage(tx, lineage, pki.Revocation{Reason: "superseded by enrolment " + c.Serial, By: c.IssuedBy, At: c.IssuedAt})
		if err != nil {
			return nil, err
		}
		out = append(out, fresh...)
	}
	return out, nil
}

// lineagesOf lists the device's lineages that are not revoked.
func (s *PKI) lineagesOf(tx *Tx, device inventory.DeviceID) (out []string, err error) {
	err = s.each(tx, "SELECT lineage FROM pki_lineages WHERE org = ? AND device = ? AND revoked_at = ''", []any{s.org, device}, func(scan rowScan) error {
		var l string
		err := scan(&l)
		out = append(out, l)
		return err
	})
	return out, err
}

// start records the first certificate of a lineage.
func (s *PKI) start(tx *Tx, c pki.Certificate) error {
	if _, err := tx.Exec("INSERT INTO pki_lineages (org, lineage, device, wireguard_key, started_at) VALUES (?, ?, ?, ?, ?)",
		s.org, c.Lineage, c.Device, c.WireGuard, c.IssuedAt); err != nil {
		return err
	}
	if err := s.claimKey(tx, c); err != nil {
		return err
	}
	if err := s.insert(tx, c); err != nil {
		return err
	}
	// Whoever made the token has looked at the device.
	if err := s.release(tx, pki.Release{Device: c.Device, At: c.IssuedAt, By: c.IssuedBy, Reason: "enrolled anew"}); err != nil && !errors.Is(err, inventory.ErrNotFound) {
		return err
	}
	return s.raiseEpoch(tx, c.IssuedAt)
}

// claimKey binds the WireGuard key to the lineage for ever.
func (s *PKI) claimKey(tx *Tx, c pki.Certificate) error {
	if _, err := tx.Exec("INSERT INTO pki_wireguard_keys (org, public_key, lineage) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
		s.org, c.WireGuard, c.Lineage); err != nil {
		return err
	}
	var owner string
	if err := tx.QueryRow("SELECT lineage FROM pki_wireguard_keys WHERE org = ? AND public_key = ?", s.org, c.WireGuard).Scan(&owner); err != nil {
		return err
	}
	if owner != c.Lineage {
		return fmt.Errorf("%w: the WireGuard key belongs to another enrolment; make a new one", inventory.ErrConflict)
	}
	return nil
}

// UseToken implements [pki.Tokens].
func (s *PKI) UseToken(ctx context.Context, id string, expires time.Time) (bool, error) {
	var first bool
	err := s.write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec("DELETE FROM pki_used_tokens WHERE org = ? AND expires_at < ?", s.org, time.Now()); err != nil {
			return err
		}
		res, err := tx.Exec("INSERT INTO pki_used_tokens (org, id, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", s.org, id, expires)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		first = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("use one-time token: %w", err)
	}
	return first, nil
}

// AddCertificate implements [pki.Certificates].
func (s *PKI) AddCertificate(ctx context.Context, c pki.Certificate) error {
	err := s.write(ctx, func(tx *Tx) error { return s.insert(tx, c) })
	if err != nil {
		return fmt.Errorf("record certificate: %w", err)
	}
	return nil
}

// insert adds the row; a CSR or serial number used before is a conflict.
func (s *PKI) insert(tx *Tx, c pki.Certificate) error {
	res, err := tx.Exec(`INSERT INTO pki_certificates (org, serial, issuer, issuer_key, subject, spiffe_id, device, lineage, parent, csr_hash,
		wireguard_key, not_before, not_after, issued_at, issued_by, chain) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.org, c.Serial, c.Issuer, c.IssuerKey, c.Subject, c.SPIFFEID, c.Device, c.Lineage, c.Parent, c.CSRHash,
		c.WireGuard, c.NotBefore, c.NotAfter, c.IssuedAt, c.IssuedBy, c.Chain)
	if err != nil {
		return err
	}
	switch n, err := res.RowsAffected(); {
	case err != nil:
		return err
	case n == 1:
		return s.touch(tx, c.IssuedAt)
	}
	return fmt.Errorf("%w: this CSR was used for another certificate; make a new key", inventory.ErrConflict)
}

// Renew implements [pki.Certificates].
func (s *PKI) Renew(ctx context.Context, c pki.Certificate) (pki.Certificate, error) {
	out := c
	err := s.write(ctx, func(tx *Tx) error {
		have, err := s.one(tx, "c.csr_hash = ?", c.CSRHash)
		switch {
		case err == nil && have.Device == c.Device && have.Parent == c.Parent:
			out = have
			return nil
		case err != nil && !errors.Is(err, inventory.ErrNotFound):
			return err
		}
		n := c
		if n.Lineage, err = s.lineageOf(tx, c); err != nil {
			return err
		}
		changed, err := s.continueLineage(tx, n)
		if err != nil {
			return err
		}
		if err := s.insert(tx, n); err != nil { // refuses a CSR of another certificate
			return err
		}
		out = n
		if !changed {
			return nil
		}
		return s.raiseEpoch(tx, n.IssuedAt)
	})
	if err != nil {
		return pki.Certificate{}, fmt.Errorf("record renewal of %s: %w", c.Parent, err)
	}
	return out, nil
}

// lineageOf finds the lineage of c's parent. After a restore the parent may be
// unknown: then the device's live lineage goes on, or a new one starts there.
func (s *PKI) lineageOf(tx *Tx, c pki.Certificate) (lineage string, err error) {
	err = tx.QueryRow("SELECT lineage FROM pki_certificates WHERE org = ? AND serial = ?", s.org, c.Parent).Scan(&lineage)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRow("SELECT lineage FROM pki_lineages WHERE org = ? AND device = ? AND revoked_at = ''", s.org, c.Device).Scan(&lineage)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return lineage, err
	}
	_, err = tx.Exec("INSERT INTO pki_lineages (org, lineage, device, wireguard_key, started_at) VALUES (?, ?, ?, '', ?)",
		s.org, c.Parent, c.Device, c.IssuedAt)
	return c.Parent, err
}

// continueLineage refuses a revoked lineage and takes over the tunnel key;
// changed says whether it is a new one.
func (s *PKI) continueLineage(tx *Tx, c pki.Certificate) (changed bool, err error) {
	var key, revoked string
	var known int
	err = tx.QueryRow("SELECT wireguard_key, revoked_at, (SELECT count(*) FROM pki_revocations r WHERE r.org = l.org AND r.serial = ?) FROM pki_lineages l WHERE l.org = ? AND l.lineage = ?",
		c.Parent, s.org, c.Lineage).Scan(&key, &revoked, &known)
	if err != nil {
		return false, found(err, "lineage "+c.Lineage)
	}
	if revoked != "" || known > 0 {
		return false, pki.ErrLineageRevoked
	}
	if err := s.claimKey(tx, c); err != nil {
		return false, err
	}
	if key == c.WireGuard {
		return false, nil
	}
	_, err = tx.Exec("UPDATE pki_lineages SET wireguard_key = ? WHERE org = ? AND lineage = ?", c.WireGuard, s.org, c.Lineage)
	return true, err
}
