package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// Beat implements [pki.Uptime].
func (s *PKI) Beat(ctx context.Context, now time.Time, gap time.Duration) error {
	err := s.write(ctx, func(tx *Tx) error {
		res, err := tx.Exec("UPDATE pki_uptime SET until_at = CASE WHEN until_at < ? THEN ? ELSE until_at END WHERE org = ? AND until_at >= ? AND until_at <= ?",
			now, now, s.org, now.Add(-gap), now.Add(gap))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		_, err = tx.Exec("INSERT INTO pki_uptime (org, from_at, until_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", s.org, now, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("note that certificates can be had: %w", err)
	}
	return nil
}

// Stretches implements [pki.Uptime].
func (s *PKI) Stretches(ctx context.Context) ([]pki.Stretch, error) {
	var out []pki.Stretch
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, "SELECT from_at, until_at FROM pki_uptime WHERE org = ? ORDER BY from_at", []any{s.org}, func(scan rowScan) error {
			var x pki.Stretch
			err := scan(stamp{&x.From}, stamp{&x.Until})
			out = append(out, x)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read when certificates could be had: %w", err)
	}
	return out, nil
}

// Quarantine implements [pki.Quarantines].
func (s *PKI) Quarantine(ctx context.Context, list []pki.Quarantine) ([]pki.Quarantine, error) {
	var fresh []pki.Quarantine
	err := s.write(ctx, func(tx *Tx) error {
		fresh = nil
		for _, q := range list {
			res, err := tx.Exec(`INSERT INTO pki_quarantine (org, device, since, reason) SELECT ?, ?, ?, ?
				WHERE NOT EXISTS (SELECT 1 FROM pki_quarantine WHERE org = ? AND device = ? AND released_at = '')`,
				s.org, q.Device, q.Since, q.Reason, s.org, q.Device)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			if n == 1 {
				fresh = append(fresh, q)
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		return errors.Join(s.touch(tx, fresh[0].Since), s.raiseEpoch(tx, fresh[0].Since))
	})
	if err != nil {
		return nil, fmt.Errorf("put devices into quarantine: %w", err)
	}
	return fresh, nil
}

// Release implements [pki.Quarantines].
func (s *PKI) Release(ctx context.Context, r pki.Release) error {
	err := s.write(ctx, func(tx *Tx) error {
		if err := s.release(tx, r); err != nil {
			return err
		}
		return s.raiseEpoch(tx, r.At)
	})
	if err != nil {
		return fmt.Errorf("release %s from quarantine: %w", r.Device, err)
	}
	return nil
}

func (s *PKI) release(tx *Tx, r pki.Release) error {
	res, err := tx.Exec("UPDATE pki_quarantine SET released_at = ?, released_by = ?, release_reason = ? WHERE org = ? AND device = ? AND released_at = ''",
		r.At, r.By, r.Reason, s.org, r.Device)
	if err != nil {
		return err
	}
	switch n, err := res.RowsAffected(); {
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("%w: device %s is not in quarantine", inventory.ErrNotFound, r.Device)
	}
	return s.touch(tx, r.At)
}

// Quarantined implements [pki.Quarantines].
func (s *PKI) Quarantined(ctx context.Context) ([]pki.Quarantine, error) {
	var out []pki.Quarantine
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, "SELECT device, since, reason FROM pki_quarantine WHERE org = ? AND released_at = '' ORDER BY device", []any{s.org}, func(scan rowScan) error {
			var q pki.Quarantine
			err := scan(&q.Device, stamp{&q.Since}, &q.Reason)
			out = append(out, q)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read quarantines: %w", err)
	}
	return out, nil
}

// Show implements [pki.Waiting].
func (s *PKI) Show(ctx context.Context, p pki.Pending) (fresh bool, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		fresh = false
		res, err := tx.Exec("UPDATE pki_pending SET last_at = ?, remote = ? WHERE org = ? AND hash = ? AND csr_hash = ?", p.Last, p.Remote, s.org, p.Hash, p.CSRHash)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		var others int
		if err := tx.QueryRow("SELECT count(*) FROM pki_pending WHERE org = ? AND hash = ?", s.org, p.Hash).Scan(&others); err != nil {
			return err
		}
		if others >= pki.MaxPending {
			return fmt.Errorf("%w: %d different devices have shown the token", inventory.ErrConflict, others)
		}
		fresh = true
		_, err = tx.Exec("INSERT INTO pki_pending (org, hash, csr_hash, device, serial, remote, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			s.org, p.Hash, p.CSRHash, p.Device, p.Serial, p.Remote, p.First, p.Last)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("note that %s waits for confirmation: %w", p.Device, err)
	}
	return fresh, nil
}

// Pending implements [pki.Waiting]. What waits for a token that is used,
// expired or confirmed is left out.
func (s *PKI) Pending(ctx context.Context) ([]pki.Pending, error) {
	var out []pki.Pending
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, `SELECT p.hash, p.csr_hash, p.device, p.serial, p.remote, p.first_at, p.last_at FROM pki_pending p
			JOIN pki_tokens t ON t.org = p.org AND t.hash = p.hash
			WHERE p.org = ? AND t.used_at = '' AND t.confirmed_csr = '' AND t.expires_at > ? ORDER BY p.first_at, p.csr_hash`, []any{s.org, time.Now()}, func(scan rowScan) error {
			var p pki.Pending
			err := scan(&p.Hash, &p.CSRHash, &p.Device, &p.Serial, &p.Remote, stamp{&p.First}, stamp{&p.Last})
			out = append(out, p)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read what waits for confirmation: %w", err)
	}
	return out, nil
}

// Confirm implements [pki.Waiting].
func (s *PKI) Confirm(ctx context.Context, c pki.Confirmation) (t pki.Token, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		var shown int
		if err := tx.QueryRow("SELECT count(*) FROM pki_pending WHERE org = ? AND hash = ? AND csr_hash = ?", s.org, c.Hash, c.CSRHash).Scan(&shown); err != nil {
			return err
		}
		if shown == 0 {
			return fmt.Errorf("%w: no device waits with that request", inventory.ErrNotFound)
		}
		if t, err = s.token(tx, c.Hash); err != nil {
			return err
		}
		switch {
		case !t.UsedAt.IsZero():
			return fmt.Errorf("%w: the token has been used", inventory.ErrConflict)
		case !c.At.Before(t.Expires):
			return fmt.Errorf("%w: the token expired at %s; make a new one", inventory.ErrConflict, t.Expires.Format(time.RFC3339))
		case t.ConfirmedCSR != "" && t.ConfirmedCSR != c.CSRHash:
			return fmt.Errorf("%w: %s has confirmed another device for this token", inventory.ErrConflict, t.ConfirmedBy)
		}
		t.ConfirmedCSR, t.ConfirmedBy, t.ConfirmedAt = c.CSRHash, c.By, c.At
		_, err = tx.Exec("UPDATE pki_tokens SET confirmed_csr = ?, confirmed_by = ?, confirmed_at = ? WHERE org = ? AND hash = ?", c.CSRHash, c.By, c.At, s.org, c.Hash)
		return err
	})
	if err != nil {
		return pki.Token{}, fmt.Errorf("confirm a device: %w", err)
	}
	return t, nil
}
