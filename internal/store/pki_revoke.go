package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// Revoke implements [pki.Revocations].
func (s *PKI) Revoke(ctx context.Context, r pki.Revocation) ([]pki.Revocation, error) {
	var out []pki.Revocation
	err := s.write(ctx, func(tx *Tx) error {
		out = nil
		c, err := s.one(tx, "c.serial = ?", r.Serial)
		if err != nil {
			return err
		}
		if fresh, err := s.logRevocation(tx, revocationOf(c, r)); err != nil {
			return err
		} else if fresh != nil {
			out = append(out, *fresh)
		}
		if c.Lineage == "" {
			return nil
		}
		fresh, err := s.revokeLineage(tx, c.Lineage, r)
		out = append(out, fresh...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("record revocation: %w", err)
	}
	return out, nil
}

// revocationOf fills r with what it needs of c.
func revocationOf(c pki.Certificate, r pki.Revocation) pki.Revocation {
	r.Serial, r.IssuerKey, r.Device, r.Lineage, r.NotAfter = c.Serial, c.IssuerKey, c.Device, c.Lineage, c.NotAfter
	return r
}

// revokeLineage ends a lineage and logs every certificate of it that could
// still be used or renewed. It gives what is new.
func (s *PKI) revokeLineage(tx *Tx, lineage string, r pki.Revocation) ([]pki.Revocation, error) {
	res, err := tx.Exec("UPDATE pki_lineages SET revoked_at = ? WHERE org = ? AND lineage = ? AND revoked_at = ''", r.At, s.org, lineage)
	if err != nil {
		return nil, err
	}
	if n, err := res.RowsAffected(); err != nil {
		return nil, err
	} else if n == 1 { // its tunnel key leaves the peers
		if err := s.raiseEpoch(tx, r.At); err != nil {
			return nil, err
		}
	}
	var live []pki.Certificate
	if err := s.each(tx, certificateColumns+" AND c.lineage = ? AND c.not_after > ? ORDER BY c.issued_at", []any{s.org, lineage, r.At.Add(-pki.RecoverLimit)}, func(scan rowScan) error {
		c, err := scanCertificate(scan)
		live = append(live, c)
		return err
	}); err != nil {
		return nil, err
	}
	var out []pki.Revocation
	for _, c := range live {
		fresh, err := s.logRevocation(tx, revocationOf(c, r))
		if err != nil {
			return nil, err
		}
		if fresh != nil {
			out = append(out, *fresh)
		}
	}
	return out, nil
}

// logRevocation appends an entry; nil means that the serial was there already.
func (s *PKI) logRevocation(tx *Tx, r pki.Revocation) (*pki.Revocation, error) {
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM pki_revocations WHERE org = ? AND serial = ?", s.org, r.Serial).Scan(&n); err != nil || n > 0 {
		return nil, err
	}
	seq, err := s.next(tx, "revocation log", 1)
	if err != nil {
		return nil, err
	}
	r.Seq = int64(seq)
	if err := s.touch(tx, r.At); err != nil {
		return nil, err
	}
	_, err = tx.Exec(`INSERT INTO pki_revocations (org, serial, seq, issuer_key, device, lineage, reason, revoked_by, revoked_at, not_after)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, s.org, r.Serial, r.Seq, r.IssuerKey, r.Device, r.Lineage, r.Reason, r.By, r.At, r.NotAfter)
	return &r, err
}

// Revocations implements [pki.Revocations].
func (s *PKI) Revocations(ctx context.Context, after int64) ([]pki.Revocation, error) {
	var out []pki.Revocation
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, "SELECT seq, serial, issuer_key, device, lineage, reason, revoked_by, revoked_at, not_after FROM pki_revocations WHERE org = ? AND seq > ? ORDER BY seq",
			[]any{s.org, after}, func(scan rowScan) error {
				var r pki.Revocation
				err := scan(&r.Seq, &r.Serial, &r.IssuerKey, &r.Device, &r.Lineage, &r.Reason, &r.By, stamp{&r.At}, stamp{&r.NotAfter})
				out = append(out, r)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	return out, nil
}

// MergeRevocations implements [pki.Revocations].
func (s *PKI) MergeRevocations(ctx context.Context, list []pki.Revocation, now time.Time) ([]pki.Revocation, error) {
	var errs []error
	for _, r := range list {
		if r.Serial == "" || r.At.IsZero() || r.NotAfter.IsZero() {
			errs = append(errs, fmt.Errorf("%w: revocation of %q lacks serial, time or end", inventory.ErrInvalid, r.Serial))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var out []pki.Revocation
	err := s.write(ctx, func(tx *Tx) error {
		out = nil
		for _, r := range list {
			fresh, err := s.logRevocation(tx, r)
			if err != nil {
				return err
			}
			if fresh != nil {
				out = append(out, *fresh)
			}
			if r.Lineage == "" {
				continue
			}
			more, err := s.revokeLineage(tx, r.Lineage, r)
			if err != nil {
				return err
			}
			out = append(out, more...)
		}
		return s.raiseEpoch(tx, now)
	})
	if err != nil {
		return nil, fmt.Errorf("merge revocations: %w", err)
	}
	return out, nil
}
