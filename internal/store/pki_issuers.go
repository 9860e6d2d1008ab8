package store

import (
	"context"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// Generations implements [pki.Generations].
func (s *PKI) Generations(ctx context.Context) ([]pki.Generation, error) {
	var out []pki.Generation
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, `SELECT issuer, generation, key_id, state, certificate, staged_at, published_at, active_at, draining_at, ended_at, changed_by, reason
			FROM pki_issuers WHERE org = ? ORDER BY issuer, generation`, []any{s.org}, func(scan rowScan) error {
			var g pki.Generation
			err := scan(&g.Issuer, &g.Number, &g.KeyID, &g.State, &g.Certificate, stamp{&g.StagedAt}, stamp{&g.PublishedAt}, stamp{&g.ActiveAt},
				stamp{&g.DrainingAt}, stamp{&g.EndedAt}, &g.By, &g.Reason)
			out = append(out, g)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the issuers: %w", err)
	}
	return out, nil
}

// AddGeneration implements [pki.Generations].
func (s *PKI) AddGeneration(ctx context.Context, g pki.Generation) error {
	err := s.write(ctx, func(tx *Tx) error {
		res, err := tx.Exec(`INSERT INTO pki_issuers (org, issuer, generation, key_id, state, certificate, staged_at, published_at, active_at, draining_at, ended_at, changed_by, reason)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			s.org, g.Issuer, g.Number, g.KeyID, g.State, g.Certificate, g.StagedAt, g.PublishedAt, g.ActiveAt, g.DrainingAt, g.EndedAt, g.By, g.Reason)
		if err != nil {
			return err
		}
		return changedOne(res, fmt.Errorf("%w: there is a generation of this number or key already", inventory.ErrConflict))
	})
	if err != nil {
		return fmt.Errorf("keep generation %d of the %s issuer: %w", g.Number, g.Issuer, err)
	}
	return nil
}

// changedOne is otherwise unless exactly one row was changed.
func changedOne(res interface{ RowsAffected() (int64, error) }, otherwise error) error {
	n, err := res.RowsAffected()
	if err != nil || n == 1 {
		return err
	}
	return otherwise
}

// CertifyGeneration implements [pki.Generations].
func (s *PKI) CertifyGeneration(ctx context.Context, i pki.Issuer, number int, certificatePEM string) error {
	err := s.write(ctx, func(tx *Tx) error {
		res, err := tx.Exec("UPDATE pki_issuers SET certificate = ? WHERE org = ? AND issuer = ? AND generation = ? AND certificate IN ('', ?)",
			certificatePEM, s.org, i, number, certificatePEM)
		if err != nil {
			return err
		}
		return changedOne(res, fmt.Errorf("%w: there is no such generation, or it has another certificate", inventory.ErrConflict))
	})
	if err != nil {
		return fmt.Errorf("keep the certificate of generation %d of the %s issuer: %w", number, i, err)
	}
	return nil
}

// entered is the column of the time at which a state was entered.
var entered = map[pki.IssuerState]string{
	pki.Published: "published_at", pki.Active: "active_at", pki.Draining: "draining_at", pki.Retired: "ended_at", pki.Distrusted: "ended_at",
}

// MoveGenerations implements [pki.Generations].
func (s *PKI) MoveGenerations(ctx context.Context, list []pki.Move, r pki.MoveRecord) error {
	err := s.write(ctx, func(tx *Tx) error {
		for _, m := range list {
			column, ok := entered[m.To]
			if !ok {
				return fmt.Errorf("%w: nothing moves to state %q", inventory.ErrInvalid, m.To)
			}
			res, err := tx.Exec("UPDATE pki_issuers SET state = ?, "+column+" = ?, changed_by = ?, reason = ? WHERE org = ? AND issuer = ? AND generation = ? AND state = ?",
				m.To, r.At, r.By, r.Reason, s.org, m.Issuer, m.Number, m.From)
			if err != nil {
				return err
			}
			if err := changedOne(res, fmt.Errorf("%w: generation %d of the %s issuer is not %s any more; look at its state again", inventory.ErrConflict, m.Number, m.Issuer, m.From)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("move issuer generations: %w", err)
	}
	return nil
}

// Leaves implements [pki.Generations].
func (s *PKI) Leaves(ctx context.Context, i pki.Issuer, after time.Time) ([]pki.Leaf, error) {
	var out []pki.Leaf
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, `SELECT c.serial, c.device, c.subject, c.issuer_key, c.issued_at, c.not_after, r.revoked_at
			FROM pki_certificates c LEFT JOIN pki_revocations r ON r.org = c.org AND r.serial = c.serial
			WHERE c.org = ? AND c.issuer = ? AND c.not_after > ? ORDER BY c.issued_at, c.serial`, []any{s.org, i, after}, func(scan rowScan) error {
			var l pki.Leaf
			err := scan(&l.Serial, &l.Device, &l.Subject, &l.IssuerKey, stamp{&l.IssuedAt}, stamp{&l.NotAfter}, stamp{&l.RevokedAt})
			out = append(out, l)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list the certificates of the %s issuer: %w", i, err)
	}
	return out, nil
}
