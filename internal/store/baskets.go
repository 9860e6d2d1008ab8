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

// Baskets implements [intent.Baskets].
func (s *Revisions) Baskets(ctx context.Context) ([]intent.Basket, error) {
	var out []intent.Basket
	err := s.db.Read(ctx, func(tx *Tx) (err error) {
		out, err = documents[intent.Basket](tx, "SELECT doc FROM baskets WHERE org = ? ORDER BY id", s.org)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list baskets: %w", err)
	}
	return out, nil
}

// Basket implements [intent.Baskets].
func (s *Revisions) Basket(ctx context.Context, id string) (intent.Basket, error) {
	var doc string
	err := s.db.Read(ctx, func(tx *Tx) error {
		return tx.QueryRow("SELECT doc FROM baskets WHERE org = ? AND id = ?", s.org, id).Scan(&doc)
	})
	var b intent.Basket
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return b, fmt.Errorf("basket %q: %w", id, inventory.ErrNotFound)
	case err == nil:
		err = json.Unmarshal([]byte(doc), &b)
	}
	if err != nil {
		return b, fmt.Errorf("read basket %s: %w", id, err)
	}
	return b, nil
}

// SaveBasket implements [intent.Baskets].
func (s *Revisions) SaveBasket(ctx context.Context, b intent.Basket) error {
	doc, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write basket %s: %w", b.ID, err)
	}
	err = s.db.Write(ctx, func(tx *Tx) error {
		var have uint64
		err := tx.QueryRow("SELECT version FROM baskets WHERE org = ? AND id = ?", s.org, b.ID).Scan(&have)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if have+1 != b.Version {
			return fmt.Errorf("%w: somebody else changed it; look at it again", inventory.ErrConflict)
		}
		_, err = tx.Exec(`INSERT INTO baskets (org, id, version, doc) VALUES (?, ?, ?, ?)
			ON CONFLICT (org, id) DO UPDATE SET version = excluded.version, doc = excluded.doc`, s.org, b.ID, b.Version, string(doc))
		return err
	})
	if err != nil {
		return fmt.Errorf("write basket %s: %w", b.ID, err)
	}
	return nil
}
