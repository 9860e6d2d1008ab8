package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/inventory"
)

// Incidents implements [incident.Store]: the incidents, their symptoms, and
// their timelines, which the database itself refuses to change.
type Incidents struct {
	db  *DB
	org inventory.OrgID
}

// NewIncidents gives the incidents' store for one organisation.
func NewIncidents(db *DB, org inventory.OrgID) *Incidents { return &Incidents{db, org} }

// Save implements [incident.Store].
func (s *Incidents) Save(ctx context.Context, changes []incident.Change) error {
	ids := make([]string, len(changes))
	err := s.db.Write(ctx, func(tx *Tx) error {
		if err := tx.Lock("incidents"); err != nil { // numbers follow each other
			return err
		}
		for i, c := range changes {
			id, err := s.save(tx, c)
			if err != nil {
				return err
			}
			ids[i] = id
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write incidents: %w", err)
	}
	for i, c := range changes {
		c.Incident.ID = ids[i]
	}
	return nil
}

func (s *Incidents) save(tx *Tx, c incident.Change) (string, error) {
	doc := *c.Incident
	if doc.ID == "" {
		year := doc.Opened.UTC().Year()
		var number int64
		if err := tx.QueryRow(`SELECT COALESCE(MAX(number), 0) + 1 FROM incidents WHERE org = ? AND year = ?`, s.org, year).Scan(&number); err != nil {
			return "", err
		}
		doc.ID = fmt.Sprintf("INC-%d-%06d", year, number)
		_, err := tx.Exec(`INSERT INTO incidents (org, id, year, number, state, cause_kind, cause, opened, doc) VALUES (?, ?, ?, ?, '', '', '', ?, '')`,
			s.org, doc.ID, year, number, doc.Opened)
		if err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("incident %s: %w", doc.ID, err)
	}
	res, err := tx.Exec(`UPDATE incidents SET state = ?, cause_kind = ?, cause = ?, doc = ? WHERE org = ? AND id = ?`,
		string(doc.State), string(doc.Cause.Kind), doc.Cause.ID, string(b), s.org, doc.ID)
	if err != nil {
		return "", err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return "", errors.Join(fmt.Errorf("%w: incident %s", inventory.ErrNotFound, doc.ID), err)
	}
	for _, sym := range c.Symptoms {
		b, err := json.Marshal(sym)
		if err != nil {
			return "", fmt.Errorf("incident %s: symptom %s: %w", doc.ID, sym.ID, err)
		}
		_, err = tx.Exec(`INSERT INTO incident_symptoms (org, incident, id, since, doc) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (org, incident, id) DO UPDATE SET doc = excluded.doc`, s.org, doc.ID, sym.ID, sym.From, string(b))
		if err != nil {
			return "", err
		}
	}
	return doc.ID, s.append(tx, doc.ID, c.Entries)
}

func (s *Incidents) append(tx *Tx, id string, entries []incident.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var seq int64
	if err := tx.QueryRow(`SELECT COALESCE(MAX(seq), 0) FROM incident_timeline WHERE org = ? AND incident = ?`, s.org, id).Scan(&seq); err != nil {
		return err
	}
	for _, e := range entries {
		seq++
		_, err := tx.Exec(`INSERT INTO incident_timeline (org, incident, seq, at, who, what, said) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			s.org, id, seq, e.At, e.Who, e.What, e.Text)
		if err != nil {
			return err
		}
	}
	return nil
}

// List implements [incident.Store].
func (s *Incidents) List(ctx context.Context, f incident.Filter) ([]incident.Incident, error) {
	q, args := `SELECT doc FROM incidents WHERE org = ?`, []any{s.org}
	if len(f.States) > 0 {
		q += ` AND state IN (?` + strings.Repeat(`, ?`, len(f.States)-1) + `)`
		for _, st := range f.States {
			args = append(args, string(st))
		}
	}
	if !f.Since.IsZero() {
		q, args = q+` AND opened >= ?`, append(args, f.Since)
	}
	limit := f.Limit
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	q, args = q+` ORDER BY year DESC, number DESC LIMIT ?`, append(args, limit)
	var out []incident.Incident
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return docs(tx, q, args, &out)
	})
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	return out, nil
}

// docs appends the JSON documents that q selects.
func docs[T any](tx *Tx, q string, args []any, out *[]T) error {
	rows, err := tx.Query(q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var doc string
		var v T
		if err := rows.Scan(&doc); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(doc), &v); err != nil {
			return err
		}
		*out = append(*out, v)
	}
	return rows.Err()
}

// Get implements [incident.Store].
func (s *Incidents) Get(ctx context.Context, id string) (incident.Incident, error) {
	var out incident.Incident
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = incident.Incident{}
		var doc string
		err := tx.QueryRow(`SELECT doc FROM incidents WHERE org = ? AND id = ?`, s.org, id).Scan(&doc)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: no incident %q; the list shows the numbers", inventory.ErrNotFound, id)
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(doc), &out); err != nil {
			return err
		}
		if err := docs(tx, `SELECT doc FROM incident_symptoms WHERE org = ? AND incident = ? ORDER BY since, id`, []any{s.org, id}, &out.Symptoms); err != nil {
			return err
		}
		out.Timeline, err = s.timeline(tx, id)
		return err
	})
	if err != nil {
		return incident.Incident{}, fmt.Errorf("read incident: %w", err)
	}
	return out, nil
}

func (s *Incidents) timeline(tx *Tx, id string) (out []incident.Entry, err error) {
	rows, err := tx.Query(`SELECT at, who, what, said FROM incident_timeline WHERE org = ? AND incident = ? ORDER BY seq`, s.org, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e incident.Entry
		var at string
		if err := rows.Scan(&at, &e.Who, &e.What, &e.Text); err != nil {
			return nil, err
		}
		if e.At, err = ParseTime(at); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}
