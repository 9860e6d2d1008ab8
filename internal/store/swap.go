package store

import (
	"context"
	"fmt"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/pki"
)

// Swap is the replacement of a device: everything that it changes.
type Swap struct {
	Base      uint64 // version of the inventory it starts from
	Inventory inventory.Inventory
	Revision  intent.Revision // of that inventory
	Handover  pki.Handover
}

// Swap stores s in one transaction: the inventory, its revision, the end of
// the old device's certificates and tokens, and the new one's token. It wraps
// [inventory.ErrConflict] when another version or revision is the last; then,
// as after any error, nothing has changed. It gives the new version and what
// was revoked.
func (db *DB) Swap(ctx context.Context, org inventory.OrgID, s Swap) (version uint64, revoked []pki.Revocation, err error) {
	invs, revs, certs := NewInventory(db, org), NewRevisions(db, org), NewPKI(db, org)
	put, err := invs.replacement(s.Base, s.Inventory)
	if err != nil {
		return 0, nil, fmt.Errorf("swap devices: %w", err)
	}
	add, err := revs.addition(s.Revision)
	if err != nil {
		return 0, nil, fmt.Errorf("swap devices: %w", err)
	}
	h := s.Handover
	err = certs.write(ctx, func(tx *Tx) error {
		if err := put(tx); err != nil {
			return err
		}
		if err := add(tx); err != nil {
			return err
		}
		lineages, err := certs.lineagesOf(tx, h.Old)
		if err != nil {
			return err
		}
		revoked = nil
		for _, l := range lineages {
			fresh, err := certs.revokeLineage(tx, l, h.Revoke)
			if err != nil {
				return err
			}
			revoked = append(revoked, fresh...)
		}
		if err := certs.endTokens(tx, h.Old, h.Token.At); err != nil {
			return err
		}
		return certs.addToken(tx, h.Token)
	})
	if err != nil {
		return 0, nil, fmt.Errorf("swap devices: %w", err)
	}
	return s.Base + 1, revoked, nil
}
