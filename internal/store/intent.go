package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Revisions implements [intent.Store], [intent.Approvals] and [intent.Waivers]; the database
// itself refuses to change or remove a row.
type Revisions struct {
	db  *DB
	org inventory.OrgID
}

// NewRevisions gives the revisions of one organisation.
func NewRevisions(db *DB, org inventory.OrgID) *Revisions { return &Revisions{db, org} }

// Append implements [intent.Store].
func (s *Revisions) Append(ctx context.Context, r intent.Revision) error {
	add, err := s.addition(r)
	if err == nil {
		err = s.db.Write(ctx, add)
	}
	if err != nil {
		return fmt.Errorf("append revision %d: %w", r.Number, err)
	}
	return nil
}

// addition checks r and gives the write that appends it.
func (s *Revisions) addition(r intent.Revision) (func(*Tx) error, error) {
	if r.Org != s.org {
		return nil, fmt.Errorf("%w: it belongs to organisation %q, this store to %q", inventory.ErrInvalid, r.Org, s.org)
	}
	content, err := json.Marshal(r.Content)
	if err != nil {
		return nil, err
	}
	envelope, err := json.Marshal(r.Envelope)
	if err != nil {
		return nil, err
	}
	others, err := json.Marshal(append([]string{}, r.Others...))
	if err != nil {
		return nil, err
	}
	return func(tx *Tx) error {
		if err := tx.Lock("revisions"); err != nil {
			return err
		}
		var last intent.Number
		if err := tx.QueryRow("SELECT COALESCE(MAX(number), 0) FROM revisions WHERE org = ?", s.org).Scan(&last); err != nil {
			return err
		}
		if r.Number != last+1 {
			return fmt.Errorf("%w: revision %d is the last; make a new one from it", inventory.ErrConflict, last)
		}
		_, err := tx.Exec(`INSERT INTO revisions (org, number, author, others, at, message, hash, key_id, signature, content, envelope)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.org, r.Number, r.Author, string(others), r.At, r.Message, r.Hash, r.KeyID, blob(r.Signature), string(content), string(envelope))
		return err
	}, nil
}

const revisionHead = "number, author, others, at, message, hash, key_id, signature"

// Get implements [intent.Store].
func (s *Revisions) Get(ctx context.Context, n intent.Number) (intent.Revision, error) {
	r, err := s.one(ctx, "number = ?", n)
	if err != nil {
		return intent.Revision{}, fmt.Errorf("read revision %d: %w", n, err)
	}
	return r, nil
}

// Latest implements [intent.Store].
func (s *Revisions) Latest(ctx context.Context) (intent.Revision, error) {
	r, err := s.one(ctx, "number = (SELECT MAX(number) FROM revisions WHERE org = ?)", s.org)
	if err != nil {
		return intent.Revision{}, fmt.Errorf("read latest revision: %w", err)
	}
	return r, nil
}

func (s *Revisions) one(ctx context.Context, where string, arg any) (intent.Revision, error) {
	var r intent.Revision
	err := s.db.Read(ctx, func(tx *Tx) error {
		var content, envelope string
		row := tx.QueryRow("SELECT "+revisionHead+", content, envelope FROM revisions WHERE org = ? AND "+where, s.org, arg)
		if err := s.scan(row, &r, &content, &envelope); err != nil {
			return err
		}
		return errors.Join(json.Unmarshal([]byte(content), &r.Content), json.Unmarshal([]byte(envelope), &r.Envelope))
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = inventory.ErrNotFound
	}
	return r, err
}

// List implements [intent.Store].
func (s *Revisions) List(ctx context.Context) ([]intent.Revision, error) {
	var out []intent.Revision
	err := s.db.Read(ctx, func(tx *Tx) error {
		rows, err := tx.Query("SELECT "+revisionHead+" FROM revisions WHERE org = ? ORDER BY number", s.org)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r intent.Revision
			if err := s.scan(rows, &r); err != nil {
				return err
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list revisions: %w", err)
	}
	return out, nil
}

// scan reads revisionHead into r, and what follows it into more.
func (s *Revisions) scan(row interface{ Scan(...any) error }, r *intent.Revision, more ...any) error {
	r.Org = s.org
	var at, others string
	err := row.Scan(append([]any{&r.Number, &r.Author, &others, &at, &r.Message, &r.Hash, &r.KeyID, &r.Signature}, more...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(others), &r.Others); err != nil {
		return err
	}
	if len(r.Others) == 0 {
		r.Others = nil // as it was signed
	}
	r.At, err = ParseTime(at)
	return err
}

// AppendApproval implements [intent.Approvals].
func (s *Revisions) AppendApproval(ctx context.Context, a intent.Approval) error {
	err := s.db.Write(ctx, func(tx *Tx) error {
		n, err := s.next(tx, "approvals", a.Revision)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO approvals (org, revision, n, hash, approver, at, expires, comment, key_id, signature)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.org, a.Revision, n, a.Hash, a.Approver, a.At, a.Expires, a.Comment, a.KeyID, blob(a.Signature))
		return err
	})
	if err != nil {
		return fmt.Errorf("append approval of revision %d: %w", a.Revision, err)
	}
	return nil
}

// next is the number of the next row about a revision in a table that only
// grows; it wraps [inventory.ErrNotFound] for a revision that is not there.
func (s *Revisions) next(tx *Tx, table string, r intent.Number) (int, error) {
	if err := tx.Lock(table); err != nil {
		return 0, err
	}
	var known, n int
	if err := tx.QueryRow("SELECT COUNT(*) FROM revisions WHERE org = ? AND number = ?", s.org, r).Scan(&known); err != nil {
		return 0, err
	}
	if known == 0 {
		return 0, inventory.ErrNotFound
	}
	if err := tx.QueryRow("SELECT COUNT(*) FROM "+table+" WHERE org = ? AND revision = ?", s.org, r).Scan(&n); err != nil {
		return 0, err
	}
	return n + 1, nil
}

// ApprovalsOf implements [intent.Approvals].
func (s *Revisions) ApprovalsOf(ctx context.Context, n intent.Number) ([]intent.Approval, error) {
	var out []intent.Approval
	err := s.db.Read(ctx, func(tx *Tx) error {
		rows, err := tx.Query("SELECT hash, approver, at, expires, comment, key_id, signature FROM approvals WHERE org = ? AND revision = ? ORDER BY n", s.org, n)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			a := intent.Approval{Revision: n}
			var at, expires string
			if err := rows.Scan(&a.Hash, &a.Approver, &at, &expires, &a.Comment, &a.KeyID, &a.Signature); err != nil {
				return err
			}
			var bad error
			a.At, err = ParseTime(at)
			a.Expires, bad = ParseTime(expires)
			if err := errors.Join(err, bad); err != nil {
				return err
			}
			out = append(out, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list approvals of revision %d: %w", n, err)
	}
	return out, nil
}

// blob keeps nil out of columns that are not null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
