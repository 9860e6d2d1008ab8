package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/controller/upgrade"
	"github.com/wardnet/wardnet/inventory"
)

var _ upgrade.Store = (*Agents)(nil)

// Agents implements [upgrade.Store]: releases of the agent and their rollouts.
type Agents struct {
	db  *DB
	org inventory.OrgID
}

// NewAgents gives the agents' store of one organisation.
func NewAgents(db *DB, org inventory.OrgID) *Agents { return &Agents{db, org} }

// Rollouts implements [upgrade.Store].
func (s *Agents) Rollouts(ctx context.Context) (out []upgrade.Rollout, devices map[string][]upgrade.Device, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		out, devices = nil, map[string][]upgrade.Device{}
		err := s.each(tx, "SELECT id, doc FROM agent_rollouts WHERE org = ? ORDER BY id", func(_ string, doc []byte) error {
			var r upgrade.Rollout
			err := json.Unmarshal(doc, &r)
			out = append(out, r)
			return err
		})
		if err != nil {
			return err
		}
		return s.each(tx, "SELECT rollout, doc FROM agent_devices WHERE org = ? ORDER BY rollout, device", func(rollout string, doc []byte) error {
			var d upgrade.Device
			err := json.Unmarshal(doc, &d)
			devices[rollout] = append(devices[rollout], d)
			return err
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read agent rollouts: %w", err)
	}
	return out, devices, nil
}

func (s *Agents) each(tx *Tx, query string, visit func(id string, doc []byte) error) error {
	rows, err := tx.Query(query, s.org)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, doc string
		if err := rows.Scan(&id, &doc); err != nil {
			return err
		}
		if err := visit(id, []byte(doc)); err != nil {
			return fmt.Errorf("rollout %s: %w", id, err)
		}
	}
	return rows.Err()
}

// Save implements [upgrade.Store].
func (s *Agents) Save(ctx context.Context, r upgrade.Rollout, rows ...upgrade.Device) error {
	err := s.db.Write(ctx, func(tx *Tx) error {
		doc, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO agent_rollouts (org, id, version, state, doc) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (org, id) DO UPDATE SET state = excluded.state, doc = excluded.doc`, s.org, r.ID, r.Version, r.State, text(string(doc)))
		if err != nil {
			return err
		}
		for _, d := range rows {
			doc, err := json.Marshal(d)
			if err != nil {
				return err
			}
			_, err = tx.Exec(`INSERT INTO agent_devices (org, rollout, device, phase, commit_id, doc) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (org, rollout, device) DO UPDATE SET phase = excluded.phase, commit_id = excluded.commit_id, doc = excluded.doc`,
				s.org, r.ID, d.Device, d.Phase, d.Commit, text(string(doc)))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save agent rollout %s: %w", r.ID, err)
	}
	return nil
}

// Binaries implements [upgrade.Store].
func (s *Agents) Binaries(ctx context.Context) (out []upgrade.Binary, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT version, goos, goarch, size, sha256, key_id, signature, added, added_by
			FROM agent_releases WHERE org = ? ORDER BY added DESC, version, goarch`, s.org)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b upgrade.Binary
			var added string
			if err := rows.Scan(&b.Version, &b.GOOS, &b.GOARCH, &b.Size, &b.SHA256, &b.KeyID, &b.Signature, &added, &b.By); err != nil {
				return err
			}
			if b.Added, err = ParseTime(added); err != nil {
				return err
			}
			out = append(out, b)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read agent releases: %w", err)
	}
	return out, nil
}

// AddBinary implements [upgrade.Store].
func (s *Agents) AddBinary(ctx context.Context, b upgrade.Binary) error {
	err := s.db.Write(ctx, func(tx *Tx) error {
		var have []byte
		err := tx.QueryRow("SELECT sha256 FROM agent_releases WHERE org = ? AND version = ? AND goos = ? AND goarch = ?", s.org, b.Version, b.GOOS, b.GOARCH).Scan(&have)
		switch {
		case err == nil && !bytes.Equal(have, b.SHA256):
			return fmt.Errorf("%w: another binary has this version and platform", inventory.ErrConflict)
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		}
		_, err = tx.Exec(`INSERT INTO agent_releases (org, version, goos, goarch, size, sha256, key_id, signature, added, added_by)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (org, version, goos, goarch) DO UPDATE SET key_id = excluded.key_id, signature = excluded.signature`,
			s.org, b.Version, b.GOOS, b.GOARCH, b.Size, b.SHA256, b.KeyID, b.Signature, b.Added, text(b.By))
		return err
	})
	if err != nil {
		return fmt.Errorf("add agent release %s: %w", b.Release, err)
	}
	return nil
}
