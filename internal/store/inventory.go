package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/inventory"
)

// Inventory implements [inventory.Store]: a row per declared thing, so that a
// replacement writes what differs and no more.
type Inventory struct {
	db  *DB
	org inventory.OrgID
}

// NewInventory gives the inventory of one organisation.
func NewInventory(db *DB, org inventory.OrgID) *Inventory { return &Inventory{db, org} }

// rowKey names a row of the inventory.
type rowKey struct{ noun, id string }

// Load implements [inventory.Store]; the inventory is normalized.
func (s *Inventory) Load(ctx context.Context) (inventory.Inventory, uint64, error) {
	var inv inventory.Inventory
	var version uint64
	err := s.db.Read(ctx, func(tx *Tx) error {
		var err error
		if version, err = s.version(tx); err != nil || version == 0 {
			return err
		}
		docs, err := s.rows(tx)
		if err != nil {
			return err
		}
		inv, err = assemble(s.org, docs)
		return err
	})
	if err != nil {
		return inventory.Inventory{}, 0, fmt.Errorf("load inventory: %w", err)
	}
	return inv, version, nil
}

// Version implements [inventory.Store].
func (s *Inventory) Version(ctx context.Context) (v uint64, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		v, err = s.version(tx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the inventory's version: %w", err)
	}
	return v, nil
}

// Replace implements [inventory.Store].
func (s *Inventory) Replace(ctx context.Context, base uint64, inv inventory.Inventory) (uint64, error) {
	put, err := s.replacement(base, inv)
	if err == nil {
		err = s.db.Write(ctx, put)
	}
	if err != nil {
		return 0, fmt.Errorf("replace inventory: %w", err)
	}
	return base + 1, nil
}

// replacement checks inv and gives the write that puts it in force.
func (s *Inventory) replacement(base uint64, inv inventory.Inventory) (func(*Tx) error, error) {
	if inv.Org != s.org {
		return nil, fmt.Errorf("%w: it belongs to organisation %q, this store to %q", inventory.ErrInvalid, inv.Org, s.org)
	}
	want, err := split(inv)
	if err != nil {
		return nil, err
	}
	return func(tx *Tx) error {
		version, err := s.version(tx)
		if err != nil {
			return err
		}
		if version != base {
			return fmt.Errorf("%w: version %d is in force, not %d; load it and apply the change again", inventory.ErrConflict, version, base)
		}
		have, err := s.rows(tx)
		if err != nil {
			return err
		}
		return s.put(tx, base+1, have, want)
	}, nil
}

// put turns the rows have into want and notes the version.
func (s *Inventory) put(tx *Tx, version uint64, have, want map[rowKey]string) error {
	for k := range have {
		if _, keep := want[k]; keep {
			continue
		}
		if _, err := tx.Exec("DELETE FROM inventory_rows WHERE org = ? AND noun = ? AND id = ?", s.org, k.noun, k.id); err != nil {
			return err
		}
	}
	for k, doc := range want {
		if have[k] == doc {
			continue
		}
		_, err := tx.Exec(`INSERT INTO inventory_rows (org, noun, id, doc) VALUES (?, ?, ?, ?)
			ON CONFLICT (org, noun, id) DO UPDATE SET doc = excluded.doc`, s.org, k.noun, k.id, doc)
		if err != nil {
			return fmt.Errorf("%s %q: %w", k.noun, k.id, err)
		}
	}
	_, err := tx.Exec(`INSERT INTO inventory_versions (org, version) VALUES (?, ?)
		ON CONFLICT (org) DO UPDATE SET version = excluded.version`, s.org, version)
	return err
}

// version is 0 before the first Replace.
func (s *Inventory) version(tx *Tx) (v uint64, err error) {
	err = tx.QueryRow("SELECT version FROM inventory_versions WHERE org = ?", s.org).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return v, err
}

func (s *Inventory) rows(tx *Tx) (map[rowKey]string, error) {
	rows, err := tx.Query("SELECT noun, id, doc FROM inventory_rows WHERE org = ?", s.org)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[rowKey]string{}
	for rows.Next() {
		var k rowKey
		var doc string
		if err := rows.Scan(&k.noun, &k.id, &doc); err != nil {
			return nil, err
		}
		out[k] = doc
	}
	return out, rows.Err()
}

// split writes every thing of inv as a document of its own.
func split(inv inventory.Inventory) (map[rowKey]string, error) {
	out := map[rowKey]string{}
	err := errors.Join(
		splitNoun(out, "unit", inv.Units, func(v inventory.Unit) string { return string(v.ID) }),
		splitNoun(out, "carrier", inv.Carriers, func(v inventory.Carrier) string { return string(v.ID) }),
		splitNoun(out, "profile", inv.Profiles, func(v inventory.Profile) string { return string(v.ID) }),
		splitNoun(out, "site", inv.Sites, func(v inventory.Site) string { return string(v.ID) }),
		splitNoun(out, "device", inv.Devices, func(v inventory.Device) string { return string(v.ID) }),
		splitNoun(out, "router", inv.Routers, func(v inventory.Router) string { return string(v.ID) }),
		splitNoun(out, "circuit", inv.Circuits, func(v inventory.Circuit) string { return string(v.ID) }),
		splitNoun(out, "application", inv.Applications, func(v inventory.Application) string { return string(v.ID) }),
		splitNoun(out, "pool", inv.Pools, func(v inventory.Pool) string { return string(v.ID) }),
		splitNoun(out, "allocation", inv.Allocations, func(v inventory.Allocation) string { return v.Owner + " " + string(v.Pool) }),
		splitNoun(out, "permit", inv.Permits, func(v inventory.Permit) string { return string(v.ID) }),
	)
	return out, err
}

func splitNoun[T any](out map[rowKey]string, noun string, things []T, id func(T) string) error {
	for _, v := range things {
		k := rowKey{noun, id(v)}
		if _, twice := out[k]; twice {
			return fmt.Errorf("%w: two %ss are called %q", inventory.ErrInvalid, noun, k.id)
		}
		doc, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode %s %q: %w", noun, k.id, err)
		}
		out[k] = string(doc)
	}
	return nil
}

// assemble is the inverse of split.
func assemble(org inventory.OrgID, docs map[rowKey]string) (inventory.Inventory, error) {
	inv := inventory.Inventory{Org: org}
	for k, doc := range docs {
		var err error
		switch k.noun {
		case "unit":
			err = assembleNoun(&inv.Units, doc)
		case "carrier":
			err = assembleNoun(&inv.Carriers, doc)
		case "profile":
			err = assembleNoun(&inv.Profiles, doc)
		case "site":
			err = assembleNoun(&inv.Sites, doc)
		case "device":
			err = assembleNoun(&inv.Devices, doc)
		case "router":
			err = assembleNoun(&inv.Routers, doc)
		case "circuit":
			err = assembleNoun(&inv.Circuits, doc)
		case "application":
			err = assembleNoun(&inv.Applications, doc)
		case "pool":
			err = assembleNoun(&inv.Pools, doc)
		case "allocation":
			err = assembleNoun(&inv.Allocations, doc)
		case "permit":
			err = assembleNoun(&inv.Permits, doc)
		default:
			err = errors.New("no such noun; a newer wardnet wrote it")
		}
		if err != nil {
			return inventory.Inventory{}, fmt.Errorf("stored %s %q: %w", k.noun, k.id, err)
		}
	}
	return inv.Normalize(), nil
}

func assembleNoun[T any](list *[]T, doc string) error {
	var v T
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		return err
	}
	*list = append(*list, v)
	return nil
}
