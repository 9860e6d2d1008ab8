package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// Audit keeps the audit log: append-only, numbered without gaps, each entry
// chained to the one before it by a hash.
type Audit struct {
	db  *DB
	org inventory.OrgID
}

// NewAudit gives the audit log of one organisation.
func NewAudit(db *DB, org inventory.OrgID) *Audit { return &Audit{db, org} }

// Append stores e durably and returns its number; e.Seq is ignored and a zero
// e.At is now. Bytes that are no text (entries quote what strangers sent) become
// U+FFFD.
func (a *Audit) Append(ctx context.Context, e client.AuditEntry) (uint64, error) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	for _, s := range []*string{&e.Who, &e.From, &e.What, &e.Object, &e.Outcome, &e.Reason} {
		*s = text(*s)
	}
	e.Before, e.After = json.RawMessage(text(string(e.Before))), json.RawMessage(text(string(e.After)))
	err := a.db.Write(ctx, func(tx *Tx) error {
		if err := tx.Lock("audit"); err != nil {
			return err
		}
		var last uint64
		var prev string
		err := tx.QueryRow("SELECT seq, hash FROM audit WHERE org = ? ORDER BY seq DESC LIMIT 1", a.org).Scan(&last, &prev)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		e.Seq = last + 1
		hash, err := auditHash(a.org, prev, e)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO audit (org, seq, at, who, origin, what, object, before, after, outcome, reason, prev_hash, hash)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			a.org, e.Seq, e.At, e.Who, e.From, e.What, e.Object, e.Before, e.After, e.Outcome, e.Reason, prev, hash)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("append audit entry %s %s: %w", e.What, e.Object, err)
	}
	return e.Seq, nil
}

// List returns at most limit entries, newest first: those numbered below before
// (0: no bound) that name object ("": any).
func (a *Audit) List(ctx context.Context, object string, before uint64, limit int) ([]client.AuditEntry, error) {
	q, args := "WHERE org = ?", []any{a.org}
	if before > 0 {
		q, args = q+" AND seq < ?", append(args, before)
	}
	if object != "" {
		q, args = q+" AND object = ?", append(args, object)
	}
	var out []client.AuditEntry
	err := a.scan(ctx, q+" ORDER BY seq DESC LIMIT ?", append(args, limit), func(e client.AuditEntry, _, _ string) error {
		out = append(out, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list audit entries: %w", err)
	}
	return out, nil
}

// Verify reads the whole log and checks numbers and hash chain. It returns the
// number of the newest entry and its hash, to be compared with one kept
// elsewhere: the chain alone cannot show that its newest links are missing.
func (a *Audit) Verify(ctx context.Context) (seq uint64, hash string, err error) {
	err = a.scan(ctx, "WHERE org = ? ORDER BY seq", []any{a.org}, func(e client.AuditEntry, prev, stored string) error {
		want, err := auditHash(a.org, hash, e)
		switch {
		case err != nil:
			return err
		case e.Seq != seq+1:
			return fmt.Errorf("%w: entry %d follows %d", inventory.ErrInvalid, e.Seq, seq)
		case prev != hash || stored != want:
			return fmt.Errorf("%w: entry %d does not match its hash", inventory.ErrInvalid, e.Seq)
		}
		seq, hash = e.Seq, stored
		return nil
	})
	if err != nil {
		return 0, "", fmt.Errorf("verify audit log: %w", err)
	}
	return seq, hash, nil
}

func (a *Audit) scan(ctx context.Context, where string, args []any, each func(e client.AuditEntry, prev, hash string) error) error {
	return a.db.Read(ctx, func(tx *Tx) error {
		rows, err := tx.Query("SELECT seq, at, who, origin, what, object, before, after, outcome, reason, prev_hash, hash FROM audit "+where, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e client.AuditEntry
			var at, before, after, prev, hash string
			if err := rows.Scan(&e.Seq, &at, &e.Who, &e.From, &e.What, &e.Object, &before, &after, &e.Outcome, &e.Reason, &prev, &hash); err != nil {
				return err
			}
			if e.At, err = ParseTime(at); err != nil {
				return err
			}
			if before != "" {
				e.Before = json.RawMessage(before)
			}
			if after != "" {
				e.After = json.RawMessage(after)
			}
			if err := each(e, prev, hash); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// auditHash is the lower-case hex SHA-256 of the previous hash and every field,
// as JSON with the documents as plain strings.
func auditHash(org inventory.OrgID, prev string, e client.AuditEntry) (string, error) {
	b, err := json.Marshal([]any{
		prev, org, e.Seq, FormatTime(e.At), e.Who, e.From, e.What, e.Object,
		string(e.Before), string(e.After), e.Outcome, e.Reason,
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
