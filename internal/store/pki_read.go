package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// stamp scans a stored time.
type stamp struct{ into *time.Time }

// Scan implements [sql.Scanner]; NULL, from an outer join, is the zero time.
func (s stamp) Scan(src any) error {
	var text string
	switch v := src.(type) {
	case nil:
	case string:
		text = v
	case []byte:
		text = string(v)
	default:
		return fmt.Errorf("stored time is a %T", src)
	}
	t, err := ParseTime(text)
	*s.into = t
	return err
}

// found turns "no row" into [inventory.ErrNotFound].
func found(err error, what string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: %s", inventory.ErrNotFound, what)
	}
	return err
}

type rowScan func(dest ...any) error

// each calls fn for every row.
func (s *PKI) each(tx *Tx, q string, args []any, fn func(rowScan) error) error {
	rows, err := tx.Query(q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

const certificateColumns = `SELECT c.serial, c.issuer, c.issuer_key, c.subject, c.spiffe_id, c.device, c.lineage, c.parent, c.csr_hash, c.wireguard_key,
	c.not_before, c.not_after, c.issued_at, c.issued_by, c.chain, r.revoked_at
	FROM pki_certificates c LEFT JOIN pki_revocations r ON r.org = c.org AND r.serial = c.serial WHERE c.org = ?`

func scanCertificate(scan rowScan) (c pki.Certificate, err error) {
	err = scan(&c.Serial, &c.Issuer, &c.IssuerKey, &c.Subject, &c.SPIFFEID, &c.Device, &c.Lineage, &c.Parent, &c.CSRHash, &c.WireGuard,
		stamp{&c.NotBefore}, stamp{&c.NotAfter}, stamp{&c.IssuedAt}, &c.IssuedBy, &c.Chain, stamp{&c.RevokedAt})
	return c, err
}

func (s *PKI) one(tx *Tx, where string, arg any) (pki.Certificate, error) {
	c, err := scanCertificate(tx.QueryRow(certificateColumns+" AND "+where, s.org, arg).Scan)
	return c, found(err, "certificate")
}

func (s *PKI) readOne(ctx context.Context, where string, arg any) (c pki.Certificate, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		c, err = s.one(tx, where, arg)
		return err
	})
	if err != nil {
		return pki.Certificate{}, fmt.Errorf("look up certificate: %w", err)
	}
	return c, nil
}

// Certificate implements [pki.Certificates].
func (s *PKI) Certificate(ctx context.Context, serial string) (pki.Certificate, error) {
	return s.readOne(ctx, "c.serial = ?", serial)
}

// CertificateByCSR implements [pki.Certificates].
func (s *PKI) CertificateByCSR(ctx context.Context, hash string) (pki.Certificate, error) {
	return s.readOne(ctx, "c.csr_hash = ?", hash)
}

// Certificates implements [pki.Certificates].
func (s *PKI) Certificates(ctx context.Context) ([]pki.Certificate, error) {
	var out []pki.Certificate
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, certificateColumns+" ORDER BY c.issued_at DESC, c.serial", []any{s.org}, func(scan rowScan) error {
			c, err := scanCertificate(scan)
			out = append(out, c)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return out, nil
}

// Mark implements [pki.Ledger]. Rows are not counted: one that is purged and one
// that is added between two looks would hide each other.
func (s *PKI) Mark(ctx context.Context) (string, error) {
	var n uint64
	err := s.db.Read(ctx, func(tx *Tx) (err error) {
		n, err = s.counter(tx, certificateChanges)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the mark of the certificates: %w", err)
	}
	return strconv.FormatUint(n, 10), nil
}

// counter is a counter's value; 0 before its first number.
func (s *PKI) counter(tx *Tx, name string) (uint64, error) {
	var v int64
	err := tx.QueryRow("SELECT value FROM pki_counters WHERE org = ? AND name = ?", s.org, name).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return uint64(v), err
}

// NextNumber implements [pki.Ledger].
func (s *PKI) NextNumber(ctx context.Context, name string, floor uint64) (n uint64, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		n, err = s.next(tx, name, floor)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("next number of %s: %w", name, err)
	}
	return n, nil
}

func (s *PKI) next(tx *Tx, name string, floor uint64) (uint64, error) {
	var v int64
	err := tx.QueryRow(`INSERT INTO pki_counters (org, name, value) VALUES (?, ?, ?)
		ON CONFLICT (org, name) DO UPDATE SET value = CASE WHEN pki_counters.value < excluded.value THEN excluded.value ELSE pki_counters.value + 1 END
		RETURNING value`, s.org, name, int64(floor)).Scan(&v)
	return uint64(v), err
}

// peerEpoch counts changes of the peers. It also keeps up with the clock, in
// milliseconds, so that it passes every epoch handed out before a restore.
const peerEpoch = "peer epoch"

func (s *PKI) raiseEpoch(tx *Tx, now time.Time) error {
	_, err := s.next(tx, peerEpoch, uint64(now.UnixMilli()))
	return err
}

// certificateChanges counts changes of certificates, revocations and
// quarantines, removals too. Like the peer epoch it keeps up with the clock.
const certificateChanges = "certificate changes"

func (s *PKI) touch(tx *Tx, now time.Time) error {
	_, err := s.next(tx, certificateChanges, uint64(now.UnixMilli()))
	return err
}

// Peers implements [pki.Ledger].
func (s *PKI) Peers(ctx context.Context) (epoch uint64, keys map[inventory.DeviceID]string, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		if epoch, err = s.counter(tx, peerEpoch); err != nil {
			return err
		}
		keys = map[inventory.DeviceID]string{}
		return s.each(tx, `SELECT device, wireguard_key FROM pki_lineages WHERE org = ? AND revoked_at = '' AND wireguard_key <> ''
			AND device NOT IN (SELECT device FROM pki_quarantine WHERE org = ? AND released_at = '')`, []any{s.org, s.org}, func(scan rowScan) error {
			var device inventory.DeviceID
			var key string
			err := scan(&device, &key)
			keys[device] = key
			return err
		})
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read WireGuard peers: %w", err)
	}
	return epoch, keys, nil
}

// Root implements [pki.Ledger].
func (s *PKI) Root(ctx context.Context) (id string, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		err := tx.QueryRow("SELECT key_id FROM pki_root WHERE org = ?", s.org).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read root key id: %w", err)
	}
	return id, nil
}

// BindRoot implements [pki.Ledger].
func (s *PKI) BindRoot(ctx context.Context, keyID string) error {
	err := s.write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec("INSERT INTO pki_root (org, key_id) VALUES (?, ?) ON CONFLICT DO NOTHING", s.org, keyID); err != nil {
			return err
		}
		var have string
		if err := tx.QueryRow("SELECT key_id FROM pki_root WHERE org = ?", s.org).Scan(&have); err != nil {
			return err
		}
		if have != keyID {
			return fmt.Errorf("%w: the database belongs to root key %.12s, the CA files to %.12s; restore the pair from one backup", inventory.ErrConflict, have, keyID)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("bind root: %w", err)
	}
	return nil
}
