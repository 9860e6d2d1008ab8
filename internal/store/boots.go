package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

var _ pki.BootStore = (*Boots)(nil)

// Boots implements [pki.BootStore]: a bounded timeline per device.
type Boots struct {
	db  *DB
	org inventory.OrgID
}

// NewBoots gives the first boots of one organisation's devices.
func NewBoots(db *DB, org inventory.OrgID) *Boots { return &Boots{db, org} }

// AddSteps implements [pki.BootStore].
func (s *Boots) AddSteps(ctx context.Context, device inventory.DeviceID, steps []enrol.Step) (before, after enrol.Timeline, err error) {
	err = s.db.Write(ctx, func(tx *Tx) error {
		var err error
		if before, err = s.timeline(tx, device); err != nil {
			return err
		}
		after = before
		for _, step := range steps {
			if !before.Holds(step) {
				after = after.With(step)
			}
		}
		doc, err := json.Marshal(after)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO device_boots (org, device, open, doc) VALUES (?, ?, ?, ?)
			ON CONFLICT (org, device) DO UPDATE SET open = excluded.open, doc = excluded.doc`, s.org, device, after.Open(), text(string(doc)))
		return err
	})
	if err != nil {
		return enrol.Timeline{}, enrol.Timeline{}, fmt.Errorf("add to the boot timeline of %s: %w", device, err)
	}
	return before, after, nil
}

// Timeline implements [pki.BootStore].
func (s *Boots) Timeline(ctx context.Context, device inventory.DeviceID) (t enrol.Timeline, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		t, err = s.timeline(tx, device)
		return err
	})
	if err != nil {
		return enrol.Timeline{}, fmt.Errorf("read the boot timeline of %s: %w", device, err)
	}
	return t, nil
}

func (s *Boots) timeline(tx *Tx, device inventory.DeviceID) (t enrol.Timeline, err error) {
	var doc string
	err = tx.QueryRow("SELECT doc FROM device_boots WHERE org = ? AND device = ?", s.org, device).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(doc), &t)
	}
	return t, err
}

// OpenBoots implements [pki.BootStore].
func (s *Boots) OpenBoots(ctx context.Context) ([]inventory.DeviceID, error) {
	var out []inventory.DeviceID
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query("SELECT device FROM device_boots WHERE org = ? AND open = 1 ORDER BY device", s.org)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id inventory.DeviceID
			if err := rows.Scan(&id); err != nil {
				return err
			}
			out = append(out, id)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list open boots: %w", err)
	}
	return out, nil
}
