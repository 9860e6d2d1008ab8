package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/inventory/intent"
)

// AppendWaiver implements [intent.Waivers].
func (s *Revisions) AppendWaiver(ctx context.Context, w intent.Waiver) error {
	err := s.db.Write(ctx, func(tx *Tx) error {
		n, err := s.next(tx, "waivers", w.Revision)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO waivers (org, revision, n, hash, waived_by, reason, finding, at, until, key_id, signature)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.org, w.Revision, n, w.Hash, w.By, w.Reason, w.Finding, w.At, w.Until, w.KeyID, blob(w.Signature))
		return err
	})
	if err != nil {
		return fmt.Errorf("append waiver of revision %d: %w", w.Revision, err)
	}
	return nil
}

// WaiversOf implements [intent.Waivers].
func (s *Revisions) WaiversOf(ctx context.Context, n intent.Number) ([]intent.Waiver, error) {
	var out []intent.Waiver
	err := s.db.Read(ctx, func(tx *Tx) error {
		rows, err := tx.Query("SELECT hash, waived_by, reason, finding, at, until, key_id, signature FROM waivers WHERE org = ? AND revision = ? ORDER BY n", s.org, n)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			w := intent.Waiver{Revision: n}
			var at, until string
			if err := rows.Scan(&w.Hash, &w.By, &w.Reason, &w.Finding, &at, &until, &w.KeyID, &w.Signature); err != nil {
				return err
			}
			var bad error
			w.At, err = ParseTime(at)
			w.Until, bad = ParseTime(until)
			if err := errors.Join(err, bad); err != nil {
				return err
			}
			out = append(out, w)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list waivers of revision %d: %w", n, err)
	}
	return out, nil
}
