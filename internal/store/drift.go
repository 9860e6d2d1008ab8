package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/controller/archive"
	"github.com/wardnet/wardnet/inventory"
)

// SaveDrift implements [controller.Drifts].
func (s *Controller) SaveDrift(ctx context.Context, d controller.Drift, row *controller.Status, entries ...controller.Entry) error {
	doc, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("save drift %s: %w", d.ID, err)
	}
	err = s.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(`INSERT INTO drifts (org, id, device, state, doc) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (org, id) DO UPDATE SET state = excluded.state, doc = excluded.doc`, s.org, d.ID, d.Device, string(d.State), string(doc))
		if err != nil || row == nil {
			return err
		}
		return s.observed(tx, *row, entries)
	})
	if err != nil {
		return fmt.Errorf("save drift %s: %w", d.ID, err)
	}
	return nil
}

// Drifts implements [controller.Drifts].
func (s *Controller) Drifts(ctx context.Context) ([]controller.Drift, error) {
	var out []controller.Drift
	err := s.db.Read(ctx, func(tx *Tx) (err error) {
		out, err = documents[controller.Drift](tx, "SELECT doc FROM drifts WHERE org = ? ORDER BY id", s.org)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read drifts: %w", err)
	}
	return out, nil
}

// Archive implements [archive.Store]; texts are kept gzipped.
type Archive struct {
	db  *DB
	org inventory.OrgID
}

// NewArchive gives the store of one organisation's configurations.
func NewArchive(db *DB, org inventory.OrgID) *Archive { return &Archive{db, org} }

// packers are kept: each is a megabyte, and a rollout asks for thousands.
var packers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// Append implements [archive.Store].
func (s *Archive) Append(ctx context.Context, v archive.Version) error {
	var packed bytes.Buffer
	z := packers.Get().(*gzip.Writer)
	defer packers.Put(z)
	z.Reset(&packed)
	_, err := io.WriteString(z, v.Text)
	if err = errors.Join(err, z.Close()); err != nil {
		return fmt.Errorf("pack version %d of %s: %w", v.N, v.Device, err)
	}
	return s.db.Write(ctx, func(tx *Tx) error {
		var taken int
		if err := tx.QueryRow("SELECT count(*) FROM config_archive WHERE org = ? AND device = ? AND n = ?", s.org, v.Device, v.N).Scan(&taken); err != nil {
			return err
		}
		if taken > 0 {
			return fmt.Errorf("%w: version %d of %s is there", inventory.ErrConflict, v.N, v.Device)
		}
		_, err := tx.Exec(`INSERT INTO config_archive (org, device, n, at, revision, hash, source, complete, bytes, note, text)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.org, v.Device, v.N, v.At, v.Revision, v.Hash, v.Source, v.Complete, v.Bytes, v.Note, blob(packed.Bytes()))
		return err
	})
}

const headColumns = "device, n, at, revision, hash, source, complete, bytes, note"

func scanHead(row interface{ Scan(...any) error }, h *archive.Head, more ...any) error {
	var at string
	err := row.Scan(append([]any{&h.Device, &h.N, &at, &h.Revision, &h.Hash, &h.Source, &h.Complete, &h.Bytes, &h.Note}, more...)...)
	if err != nil {
		return err
	}
	h.At, err = ParseTime(at)
	return err
}

// Heads implements [archive.Store].
func (s *Archive) Heads(ctx context.Context, device inventory.DeviceID) ([]archive.Head, error) {
	var out []archive.Head
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query("SELECT "+headColumns+" FROM config_archive WHERE org = ? AND (device = ? OR ? = '') ORDER BY device, n", s.org, device, device)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var h archive.Head
			if err := scanHead(rows, &h); err != nil {
				return err
			}
			out = append(out, h)
		}
		return rows.Err()
	})
	return out, err
}

// Get implements [archive.Store].
func (s *Archive) Get(ctx context.Context, device inventory.DeviceID, n uint64) (archive.Version, error) {
	var v archive.Version
	var packed []byte
	err := s.db.Read(ctx, func(tx *Tx) error {
		return scanHead(tx.QueryRow("SELECT "+headColumns+", text FROM config_archive WHERE org = ? AND device = ? AND (n = ? OR ? = 0) ORDER BY n DESC LIMIT 1",
			s.org, device, n, n), &v.Head, &packed)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return v, fmt.Errorf("%w: no such version", inventory.ErrNotFound)
	}
	if err != nil {
		return v, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return v, fmt.Errorf("unpack version %d of %s: %w", v.N, device, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return v, fmt.Errorf("unpack version %d of %s: %w", v.N, device, err)
	}
	v.Text = string(text)
	return v, nil
}

// Prune implements [archive.Store].
func (s *Archive) Prune(ctx context.Context, device inventory.DeviceID, keep int) error {
	return s.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(`DELETE FROM config_archive WHERE org = ? AND device = ? AND n <= (
			SELECT max(n) FROM config_archive WHERE org = ? AND device = ?) - ?`, s.org, device, s.org, device, keep)
		return err
	})
}
