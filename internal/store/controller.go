package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Controller implements [controller.Store]: device rows, rollouts and the push
// journal, which the database itself refuses to change.
type Controller struct {
	db  *DB
	org inventory.OrgID
}

// NewController gives the controller's store for one organisation.
func NewController(db *DB, org inventory.OrgID) *Controller { return &Controller{db, org} }

// Statuses implements [controller.Store].
func (s *Controller) Statuses(ctx context.Context) ([]controller.Status, error) {
	var out []controller.Status
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT device, target_revision, target_keep, target_hash, revision, hash, commit_id, pushed, outcome, error, drifts, at
			FROM device_status WHERE org = ? ORDER BY device`, s.org)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d controller.Status
			var keep, at string
			err := rows.Scan(&d.Device, &d.Target.Revision, &keep, &d.Want, &d.Revision, &d.Hash, &d.Commit, &d.Pushed, &d.Outcome, &d.Error, &d.Drifts, &at)
			if err != nil {
				return err
			}
			if d.At, err = ParseTime(at); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(keep), &d.Target.Keep); err != nil {
				return fmt.Errorf("device %s: %w", d.Device, err)
			}
			out = append(out, d)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read device rows: %w", err)
	}
	return out, nil
}

// Save implements [controller.Store].
func (s *Controller) Save(ctx context.Context, d controller.Status, entries ...controller.Entry) error {
	if err := s.db.Write(ctx, func(tx *Tx) error { return s.observed(tx, d, entries) }); err != nil {
		return fmt.Errorf("save the row of device %s: %w", d.Device, err)
	}
	return nil
}

// observed writes what is observed of a device, with the journal's entries.
func (s *Controller) observed(tx *Tx, d controller.Status, entries []controller.Entry) error {
	_, err := tx.Exec(`INSERT INTO device_status
		(org, device, target_revision, target_keep, target_hash, revision, hash, commit_id, pushed, outcome, error, drifts, at)
		VALUES (?, ?, 0, '[]', '', ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (org, device) DO UPDATE SET revision = excluded.revision, hash = excluded.hash, commit_id = excluded.commit_id,
			pushed = excluded.pushed, outcome = excluded.outcome, error = excluded.error, drifts = excluded.drifts, at = excluded.at`,
		s.org, d.Device, d.Revision, d.Hash, d.Commit, d.Pushed, d.Outcome, d.Error, d.Drifts, d.At)
	if err != nil {
		return err
	}
	for _, e := range entries {
		_, err := tx.Exec(`INSERT INTO push_journal (org, id, at, rollout, device, revision, hash, commit_id, step, error)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.org, e.ID, e.At, e.Rollout, e.Device, e.Revision, e.Hash, e.Commit, e.Step, e.Error)
		if err != nil {
			return err
		}
	}
	return nil
}

// Entries implements [controller.Store].
func (s *Controller) Entries(ctx context.Context, rollout string) ([]controller.Entry, error) {
	var out []controller.Entry
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT id, at, rollout, device, revision, hash, commit_id, step, error
			FROM push_journal WHERE org = ? AND rollout = ? ORDER BY id`, s.org, rollout)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e controller.Entry
			var at string
			if err := rows.Scan(&e.ID, &at, &e.Rollout, &e.Device, &e.Revision, &e.Hash, &e.Commit, &e.Step, &e.Error); err != nil {
				return err
			}
			if e.At, err = ParseTime(at); err != nil {
				return err
			}
			out = append(out, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the journal of rollout %s: %w", rollout, err)
	}
	return out, nil
}

// SaveRollout implements [controller.Store].
func (s *Controller) SaveRollout(ctx context.Context, r controller.Rollout, assign []controller.Assignment) error {
	doc, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("save rollout %s: %w", r.ID, err)
	}
	err = s.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(`INSERT INTO rollouts (org, id, revision, state, doc) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (org, id) DO UPDATE SET revision = excluded.revision, state = excluded.state, doc = excluded.doc`,
			s.org, r.ID, r.Revision, r.State, string(doc))
		if err != nil {
			return err
		}
		for _, a := range assign {
			keep, err := json.Marshal(append([]intent.Number{}, a.Target.Keep...))
			if err != nil {
				return err
			}
			_, err = tx.Exec(`INSERT INTO device_status
				(org, device, target_revision, target_keep, target_hash, revision, hash, commit_id, outcome, error, drifts, at)
				VALUES (?, ?, ?, ?, ?, 0, '', '', '', '', 0, ?)
				ON CONFLICT (org, device) DO UPDATE SET target_revision = excluded.target_revision, target_keep = excluded.target_keep,
					target_hash = excluded.target_hash`,
				s.org, a.Device, a.Target.Revision, string(keep), a.Want, r.Started)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save rollout %s: %w", r.ID, err)
	}
	return nil
}

// Rollouts implements [controller.Store].
func (s *Controller) Rollouts(ctx context.Context) ([]controller.Rollout, error) {
	var out []controller.Rollout
	err := s.db.Read(ctx, func(tx *Tx) (err error) {
		out, err = documents[controller.Rollout](tx, "SELECT doc FROM rollouts WHERE org = ? ORDER BY id", s.org)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read rollouts: %w", err)
	}
	return out, nil
}
