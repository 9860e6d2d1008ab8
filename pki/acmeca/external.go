package acmeca

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/smallstep/certificates/acme"
	"github.com/wardnet/wardnet/inventory"
)

// maxReference bounds what an operator may write beside an external key.
const maxReference = 200

// NewExternalKey makes a key for external account binding (RFC 8555 §7.3.4),
// good for one account. Its secret is shown once. A missing reference wraps
// [inventory.ErrInvalid].
func (s *Server) NewExternalKey(ctx context.Context, reference string) (acme.ExternalAccountKey, error) {
	if reference = strings.TrimSpace(reference); reference == "" || len(reference) > maxReference {
		return acme.ExternalAccountKey{}, fmt.Errorf("make a key for an ACME account: %w: say in 1 to %d letters whom it is for", inventory.ErrInvalid, maxReference)
	}
	k := acme.ExternalAccountKey{ID: newID(), ProvisionerID: Provisioner, Reference: reference, HmacKey: make([]byte, 32), CreatedAt: time.Now().UTC()}
	rand.Read(k.HmacKey) //nolint:errcheck // never fails, crypto/rand
	if err := s.deps.Store.AddExternalKey(ctx, k); err != nil {
		return acme.ExternalAccountKey{}, fmt.Errorf("make a key for an ACME account: %w", err)
	}
	return k, nil
}

// CreateExternalAccountKey implements [acme.DB].
func (d database) CreateExternalAccountKey(ctx context.Context, _, reference string) (*acme.ExternalAccountKey, error) {
	k, err := d.s.NewExternalKey(ctx, reference)
	return &k, err
}

// GetExternalAccountKey implements [acme.DB].
func (d database) GetExternalAccountKey(ctx context.Context, _, id string) (*acme.ExternalAccountKey, error) {
	k, err := d.s.deps.Store.ExternalKey(ctx, id)
	switch {
	case errors.Is(err, inventory.ErrNotFound):
		return nil, acme.ErrNotFound
	case err != nil:
		return nil, err
	case k.AlreadyBound(): // said here: the handler would call the emptied secret a fault of the server
		return nil, acme.NewDetailedError(acme.ErrorUnauthorizedType, "external account key %.60q is bound to another account", id)
	}
	return k, nil
}

// GetExternalAccountKeyByAccountID implements [acme.DB]. An account without a
// key is refused: of two that raced for one key, the loser exists unbound, and
// the handler would take "no key" for "no limits".
func (d database) GetExternalAccountKeyByAccountID(ctx context.Context, _, account string) (*acme.ExternalAccountKey, error) {
	k, err := d.s.deps.Store.ExternalKeyOf(ctx, account)
	if errors.Is(err, inventory.ErrNotFound) {
		return nil, acme.NewDetailedError(acme.ErrorUnauthorizedType, "this account is bound to no external key")
	}
	return k, err
}

// UpdateExternalAccountKey implements [acme.DB].
func (d database) UpdateExternalAccountKey(ctx context.Context, _ string, k *acme.ExternalAccountKey) error {
	err := d.s.deps.Store.BindExternalKey(ctx, k.ID, k.AccountID, k.BoundAt)
	if errors.Is(err, inventory.ErrConflict) {
		return acme.NewDetailedError(acme.ErrorUnauthorizedType, "external account key %.60q is bound to another account", k.ID)
	}
	return err
}

// The administration API of step-ca is not served: what follows is never
// called.

// GetExternalAccountKeys implements [acme.DB].
func (d database) GetExternalAccountKeys(context.Context, string, string, int) ([]*acme.ExternalAccountKey, string, error) {
	return nil, "", acme.NewErrorISE("external account keys are not listed")
}

// GetExternalAccountKeyByReference implements [acme.DB].
func (d database) GetExternalAccountKeyByReference(context.Context, string, string) (*acme.ExternalAccountKey, error) {
	return nil, acme.NewErrorISE("external account keys are not looked up by reference")
}

// DeleteExternalAccountKey implements [acme.DB].
func (d database) DeleteExternalAccountKey(context.Context, string, string) error {
	return acme.NewErrorISE("external account keys are not deleted")
}
