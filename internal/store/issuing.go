package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
)

// AddService records a certificate of the services issuer; a row whose parent
// is named continues its lineage, and [inventory.ErrConflict] means that the
// lineage is revoked.
func (s *PKI) AddService(ctx context.Context, c acmeca.Service) error {
	err := s.write(ctx, func(tx *Tx) error {
		n := c
		if n.Parent != "" {
			parent, err := s.one(tx, "c.serial = ?", n.Parent)
			if err != nil {
				return err
			}
			if !parent.RevokedAt.IsZero() {
				return fmt.Errorf("%w: the certificate it renews is revoked", inventory.ErrConflict)
			}
			n.Lineage = parent.Lineage
		}
		return s.addService(tx, n)
	})
	if err != nil {
		return fmt.Errorf("record service certificate: %w", err)
	}
	return nil
}

// AddServiceOnce records a certificate and the id of the token it is given for,
// in one transaction; false: the id was used before, and nothing is recorded.
func (s *PKI) AddServiceOnce(ctx context.Context, id string, expires time.Time, c acmeca.Service) (first bool, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		res, err := tx.Exec("INSERT INTO pki_used_tokens (org, id, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", s.org, id, expires)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if first = n == 1; err != nil || !first {
			return err
		}
		return s.addService(tx, c)
	})
	if err != nil {
		return false, fmt.Errorf("record service certificate: %w", err)
	}
	return first, nil
}

func (s *PKI) addService(tx *Tx, c acmeca.Service) error {
	if err := s.insert(tx, c.Certificate); err != nil {
		return err
	}
	names, err := json.Marshal(c.Names)
	if err != nil {
		return err
	}
	_, err = tx.Exec("INSERT INTO pki_services (org, serial, provisioner, names, acme_account, acme_order) VALUES (?, ?, ?, ?, ?, ?)",
		s.org, c.Serial, c.Provisioner, json.RawMessage(names), c.Account, c.Order)
	return err
}

// Service finds a certificate of the services issuer that the step API or ACME
// issued, [inventory.ErrNotFound].
func (s *PKI) Service(ctx context.Context, serial string) (c acmeca.Service, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		var names string
		err := tx.QueryRow("SELECT provisioner, names, acme_account, acme_order FROM pki_services WHERE org = ? AND serial = ?", s.org, serial).
			Scan(&c.Provisioner, &names, &c.Account, &c.Order)
		if err != nil {
			return found(err, "service certificate")
		}
		if err := json.Unmarshal([]byte(names), &c.Names); err != nil {
			return fmt.Errorf("names of certificate %s: %w", serial, err)
		}
		c.Certificate, err = s.one(tx, "c.serial = ?", serial)
		return err
	})
	if err != nil {
		return acmeca.Service{}, fmt.Errorf("look up service certificate: %w", err)
	}
	return c, nil
}

// OCSPStatus gives what OCSP has to say about a serial number of an issuer key.
// [inventory.ErrNotFound]: it is unknown. Revoked wins, also over a certificate
// that the database has forgotten.
func (s *PKI) OCSPStatus(ctx context.Context, issuerKey, serial string) (r pki.Revocation, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		err := tx.QueryRow("SELECT serial, issuer_key, reason, revoked_at, not_after FROM pki_revocations WHERE org = ? AND serial = ? AND issuer_key = ?",
			s.org, serial, issuerKey).Scan(&r.Serial, &r.IssuerKey, &r.Reason, stamp{&r.At}, stamp{&r.NotAfter})
		if err == nil {
			return nil
		}
		if err := found(err, ""); !errors.Is(err, inventory.ErrNotFound) {
			return err
		}
		err = tx.QueryRow("SELECT serial, issuer_key, not_after FROM pki_certificates WHERE org = ? AND serial = ? AND issuer_key = ?",
			s.org, serial, issuerKey).Scan(&r.Serial, &r.IssuerKey, stamp{&r.NotAfter})
		return found(err, "certificate")
	})
	if err != nil {
		return pki.Revocation{}, fmt.Errorf("look up the state of a certificate: %w", err)
	}
	return r, nil
}
