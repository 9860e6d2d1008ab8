package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/policy"
)

// Policy keeps the decision log and the subjects of one organisation. It
// implements [policy.Records].
type Policy struct {
	db  *DB
	org inventory.OrgID
}

// NewPolicy returns the policy store of org.
func NewPolicy(db *DB, org inventory.OrgID) *Policy { return &Policy{db, org} }

// AppendDecisions implements [policy.Records]: all of records or none.
func (s *Policy) AppendDecisions(ctx context.Context, records []policy.Record) error {
	return s.db.Write(ctx, func(tx *Tx) error {
		for _, r := range records {
			doc, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("encode decision %s: %w", r.Decision.ID, err)
			}
			_, err = tx.Exec(`INSERT INTO decisions (org, id, writer, seq, at, subject, device, application, code, allow, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				string(s.org), r.Decision.ID, r.Writer, int64(r.Seq), FormatTime(r.Request.At), r.Request.Subject, string(r.Request.Device),
				string(r.Request.Application), string(r.Decision.Code), bit(r.Decision.Allow), string(doc))
			if err != nil {
				return fmt.Errorf("append decision %s: %w", r.Decision.ID, err)
			}
		}
		return nil
	})
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// LastDecision implements [policy.Records].
func (s *Policy) LastDecision(ctx context.Context, writer string) (policy.Record, error) {
	return s.one(ctx, "the last decision of "+writer, "writer = ? ORDER BY seq DESC LIMIT 1", writer)
}

// Decision implements [policy.Records].
func (s *Policy) Decision(ctx context.Context, id string) (policy.Record, error) {
	return s.one(ctx, "decision "+id, "id = ?", id)
}

func (s *Policy) one(ctx context.Context, what, where string, arg string) (r policy.Record, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		var doc string
		if err := tx.QueryRow("SELECT doc FROM decisions WHERE org = ? AND "+where, string(s.org), arg).Scan(&doc); err != nil {
			if errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("%s: %w", what, inventory.ErrNotFound)
			}
			return fmt.Errorf("read %s: %w", what, err)
		}
		return json.Unmarshal([]byte(doc), &r)
	})
	return r, err
}

// Decisions implements [policy.Records]: newest first, by id, which is a UUIDv7.
func (s *Policy) Decisions(ctx context.Context, q policy.Query) ([]policy.Record, error) {
	where, args := []string{"org = ?"}, []any{string(s.org)}
	add := func(cond bool, text string, arg any) {
		if cond {
			where, args = append(where, text), append(args, arg)
		}
	}
	add(q.Subject != "", "subject = ?", q.Subject)
	add(q.Device != "", "device = ?", q.Device)
	add(q.Application != "", "application = ?", q.Application)
	add(q.Code != "", "code = ?", string(q.Code))
	if q.Allow != nil {
		add(true, "allow = ?", bit(*q.Allow))
	}
	add(!q.From.IsZero(), "at >= ?", FormatTime(q.From))
	add(!q.To.IsZero(), "at < ?", FormatTime(q.To))
	add(q.Before != "", "id < ?", q.Before)
	if q.Limit <= 0 {
		q.Limit = 100
	}
	args = append(args, min(q.Limit, 1000))
	var out []policy.Record
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query("SELECT doc FROM decisions WHERE "+strings.Join(where, " AND ")+" ORDER BY id DESC LIMIT ?", args...)
		if err != nil {
			return fmt.Errorf("search decisions: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var doc string
			var r policy.Record
			if err := rows.Scan(&doc); err != nil {
				return fmt.Errorf("read a decision: %w", err)
			}
			if err := json.Unmarshal([]byte(doc), &r); err != nil {
				return fmt.Errorf("decode a decision: %w", err)
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	return out, err
}

// CountDecisions implements [policy.Records].
func (s *Policy) CountDecisions(ctx context.Context) (allow, deny int64, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		return tx.QueryRow("SELECT COALESCE(SUM(allow), 0), COALESCE(SUM(1 - allow), 0) FROM decisions WHERE org = ?", string(s.org)).Scan(&allow, &deny)
	})
	return allow, deny, err
}

// ReplaceSubjects puts subjects in the place of all there were.
func (s *Policy) ReplaceSubjects(ctx context.Context, subjects []policy.Subject) error {
	return s.db.Write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec("DELETE FROM subjects WHERE org = ?", string(s.org)); err != nil {
			return fmt.Errorf("clear subjects: %w", err)
		}
		for _, p := range subjects {
			groups, err := json.Marshal(p.Groups)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO subjects (org, id, name, "groups", active) VALUES (?, ?, ?, ?, ?)`, string(s.org), p.ID, p.Name, string(groups), bit(p.Active)); err != nil {
				return fmt.Errorf("keep subject %s: %w", p.ID, err)
			}
		}
		return nil
	})
}

// Subjects lists all subjects by id.
func (s *Policy) Subjects(ctx context.Context) ([]policy.Subject, error) {
	var out []policy.Subject
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT id, name, "groups", active FROM subjects WHERE org = ? ORDER BY id`, string(s.org))
		if err != nil {
			return fmt.Errorf("list subjects: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var p policy.Subject
			var groups string
			var active int64
			if err := rows.Scan(&p.ID, &p.Name, &groups, &active); err != nil {
				return fmt.Errorf("read a subject: %w", err)
			}
			if err := json.Unmarshal([]byte(groups), &p.Groups); err != nil {
				return fmt.Errorf("decode the groups of %s: %w", p.ID, err)
			}
			p.Active = active == 1
			out = append(out, p)
		}
		return rows.Err()
	})
	return out, err
}

// SavePostures keeps what was last measured of each device.
func (s *Policy) SavePostures(ctx context.Context, postures map[inventory.DeviceID]policy.Posture) error {
	return s.db.Write(ctx, func(tx *Tx) error {
		for id, p := range postures {
			_, err := tx.Exec(`INSERT INTO device_postures (org, device, compliant, source, at) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (org, device) DO UPDATE SET compliant = excluded.compliant, source = excluded.source, at = excluded.at`,
				string(s.org), string(id), bit(p.Compliant), p.Source, FormatTime(p.At))
			if err != nil {
				return fmt.Errorf("keep the posture of %s: %w", id, err)
			}
		}
		return nil
	})
}

// Postures reads what was last measured of each device.
func (s *Policy) Postures(ctx context.Context) (map[inventory.DeviceID]policy.Posture, error) {
	var out map[inventory.DeviceID]policy.Posture
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = map[inventory.DeviceID]policy.Posture{}
		rows, err := tx.Query("SELECT device, compliant, source, at FROM device_postures WHERE org = ?", string(s.org))
		if err != nil {
			return fmt.Errorf("read postures: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var id, at string
			var p policy.Posture
			var compliant int64
			if err := rows.Scan(&id, &compliant, &p.Source, &at); err != nil {
				return fmt.Errorf("read a posture: %w", err)
			}
			if p.At, err = ParseTime(at); err != nil {
				return fmt.Errorf("posture of %s: %w", id, err)
			}
			p.Compliant = compliant == 1
			out[inventory.DeviceID(id)] = p
		}
		return rows.Err()
	})
	return out, err
}

var _ policy.Records = (*Policy)(nil)
