package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/inventory"
)

// Commits implements [foreign.Journal] for one device that does not run our
// agent: what is on trial there is kept here.
type Commits struct {
	db     *DB
	org    inventory.OrgID
	device inventory.DeviceID
}

// NewCommits gives the journal of one device.
func NewCommits(db *DB, org inventory.OrgID, device inventory.DeviceID) *Commits {
	return &Commits{db, org, device}
}

// Load implements [foreign.Journal].
func (s *Commits) Load(ctx context.Context) (foreign.Entry, error) {
	var doc string
	err := s.db.Read(ctx, func(tx *Tx) error {
		return tx.QueryRow("SELECT doc FROM device_commits WHERE org = ? AND device = ?", s.org, s.device).Scan(&doc)
	})
	var e foreign.Entry
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return e, nil
	case err == nil:
		err = json.Unmarshal([]byte(doc), &e)
	}
	if err != nil {
		return foreign.Entry{}, fmt.Errorf("read the commits of %s: %w", s.device, err)
	}
	return e, nil
}

// Save implements [foreign.Journal].
func (s *Commits) Save(ctx context.Context, e foreign.Entry) error {
	doc, err := json.Marshal(e)
	if err == nil {
		err = s.db.Write(ctx, func(tx *Tx) error {
			_, err := tx.Exec(`INSERT INTO device_commits (org, device, doc) VALUES (?, ?, ?)
				ON CONFLICT (org, device) DO UPDATE SET doc = excluded.doc`, s.org, s.device, string(doc))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("write the commits of %s: %w", s.device, err)
	}
	return nil
}
