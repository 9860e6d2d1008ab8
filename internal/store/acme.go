package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/smallstep/certificates/acme"
	"go.step.sm/crypto/jose"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/acmeca"
)

var _ acmeca.Store = (*ACME)(nil)

// ACME implements [acmeca.Store]. Its certificates are rows of [PKI].
type ACME struct {
	*PKI
}

// NewACME gives the ACME state of one organisation.
func NewACME(db *DB, org inventory.OrgID) *ACME { return &ACME{NewPKI(db, org)} }

// single turns "n rows" of a change that is for one row into an error.
func single(n int64, err error, otherwise error) error {
	if err != nil || n == 1 {
		return err
	}
	return otherwise
}

func (s *ACME) exec(tx *Tx, otherwise error, q string, args ...any) error {
	res, err := tx.Exec(q, args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	return single(n, err, otherwise)
}

// AddAccount implements [acmeca.Accounts].
func (s *ACME) AddAccount(ctx context.Context, a *acme.Account, keyID string) error {
	key, err := json.Marshal(a.Key)
	if err != nil {
		return fmt.Errorf("keep ACME account: %w", err)
	}
	contact, err := json.Marshal(a.Contact)
	if err != nil {
		return fmt.Errorf("keep ACME account: %w", err)
	}
	err = s.db.Write(ctx, func(tx *Tx) error {
		return s.exec(tx, fmt.Errorf("%w: this key has an account", inventory.ErrConflict),
			`INSERT INTO acme_accounts (org, id, key_id, jwk, contact, status, location, provisioner, provisioner_name, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			s.org, a.ID, keyID, json.RawMessage(key), text(string(contact)), a.Status, a.LocationPrefix, a.ProvisionerID, a.ProvisionerName, time.Now())
	})
	if err != nil {
		return fmt.Errorf("keep ACME account: %w", err)
	}
	return nil
}

func (s *ACME) account(ctx context.Context, where, arg string) (*acme.Account, error) {
	var a acme.Account
	var key, contact, status string
	err := s.db.Read(ctx, func(tx *Tx) error {
		return found(tx.QueryRow("SELECT id, jwk, contact, status, location, provisioner, provisioner_name FROM acme_accounts WHERE org = ? AND "+where+" = ?", s.org, text(arg)).
			Scan(&a.ID, &key, &contact, &status, &a.LocationPrefix, &a.ProvisionerID, &a.ProvisionerName), "account")
	})
	if err == nil {
		a.Status, a.Key = acme.Status(status), new(jose.JSONWebKey)
		if err = json.Unmarshal([]byte(key), a.Key); err == nil {
			err = json.Unmarshal([]byte(contact), &a.Contact)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look up ACME account: %w", err)
	}
	return &a, nil
}

// Account implements [acmeca.Accounts].
func (s *ACME) Account(ctx context.Context, id string) (*acme.Account, error) {
	return s.account(ctx, "id", id)
}

// AccountByKey implements [acmeca.Accounts].
func (s *ACME) AccountByKey(ctx context.Context, keyID string) (*acme.Account, error) {
	return s.account(ctx, "key_id", keyID)
}

// ChangeAccount implements [acmeca.Accounts]. A deactivated account stays so.
func (s *ACME) ChangeAccount(ctx context.Context, a *acme.Account) error {
	contact, err := json.Marshal(a.Contact)
	if err == nil {
		err = s.db.Write(ctx, func(tx *Tx) error {
			return s.exec(tx, fmt.Errorf("%w: the account is unknown or deactivated", inventory.ErrConflict),
				"UPDATE acme_accounts SET contact = ?, status = ? WHERE org = ? AND id = ? AND (status = ? OR status = ?)",
				text(string(contact)), a.Status, s.org, a.ID, acme.StatusValid, a.Status)
		})
	}
	if err != nil {
		return fmt.Errorf("change ACME account %s: %w", a.ID, err)
	}
	return nil
}

// AddExternalKey implements [acmeca.ExternalKeys].
func (s *ACME) AddExternalKey(ctx context.Context, k acme.ExternalAccountKey) error {
	err := s.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO acme_external_keys (org, id, provisioner, reference, hmac_key, created_at) VALUES (?, ?, ?, ?, ?, ?)",
			s.org, k.ID, k.ProvisionerID, k.Reference, base64.StdEncoding.EncodeToString(k.HmacKey), k.CreatedAt)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep external account key: %w", err)
	}
	return nil
}

func (s *ACME) externalKey(ctx context.Context, where, arg string) (*acme.ExternalAccountKey, error) {
	var k acme.ExternalAccountKey
	var secret string
	err := s.db.Read(ctx, func(tx *Tx) error {
		return found(tx.QueryRow("SELECT id, provisioner, reference, hmac_key, created_at, account, bound_at FROM acme_external_keys WHERE org = ? AND "+where+" = ?", s.org, text(arg)).
			Scan(&k.ID, &k.ProvisionerID, &k.Reference, &secret, stamp{&k.CreatedAt}, &k.AccountID, stamp{&k.BoundAt}), "external account key")
	})
	if err == nil {
		k.HmacKey, err = base64.StdEncoding.DecodeString(secret)
	}
	if err != nil {
		return nil, fmt.Errorf("look up external account key: %w", err)
	}
	return &k, nil
}

// ExternalKey implements [acmeca.ExternalKeys].
func (s *ACME) ExternalKey(ctx context.Context, id string) (*acme.ExternalAccountKey, error) {
	return s.externalKey(ctx, "id", id)
}

// ExternalKeyOf implements [acmeca.ExternalKeys].
func (s *ACME) ExternalKeyOf(ctx context.Context, account string) (*acme.ExternalAccountKey, error) {
	return s.externalKey(ctx, "account", account)
}

// BindExternalKey implements [acmeca.ExternalKeys].
func (s *ACME) BindExternalKey(ctx context.Context, id, account string, at time.Time) error {
	err := s.db.Write(ctx, func(tx *Tx) error {
		return s.exec(tx, fmt.Errorf("%w: the key is unknown or bound", inventory.ErrConflict),
			"UPDATE acme_external_keys SET account = ?, bound_at = ?, hmac_key = '' WHERE org = ? AND id = ? AND account = ''", account, at, s.org, id)
	})
	if err != nil {
		return fmt.Errorf("bind external account key: %w", err)
	}
	return nil
}

// NonceKey implements [acmeca.Ledger].
func (s *ACME) NonceKey(ctx context.Context, proposed []byte) (key []byte, err error) {
	err = s.db.Write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec("INSERT INTO acme_nonce_keys (org, hmac_key) VALUES (?, ?) ON CONFLICT DO NOTHING", s.org, base64.StdEncoding.EncodeToString(proposed)); err != nil {
			return err
		}
		var kept string
		if err := tx.QueryRow("SELECT hmac_key FROM acme_nonce_keys WHERE org = ?", s.org).Scan(&kept); err != nil {
			return err
		}
		key, err = base64.StdEncoding.DecodeString(kept)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the key of ACME nonces: %w", err)
	}
	return key, nil
}

// UseNonce implements [acmeca.Ledger].
func (s *ACME) UseNonce(ctx context.Context, nonce string, expires time.Time) (first bool, err error) {
	err = s.db.Write(ctx, func(tx *Tx) error {
		res, err := tx.Exec("INSERT INTO acme_used_nonces (org, nonce, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", s.org, nonce, expires)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		first = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("use ACME nonce: %w", err)
	}
	return first, nil
}

// Purge implements [acmeca.Ledger].
func (s *ACME) Purge(ctx context.Context, before, now time.Time) (gone int64, err error) {
	old := "SELECT id FROM acme_orders WHERE org = ? AND expires_at < ?"
	for _, q := range []struct {
		text string
		args []any
	}{
		{"DELETE FROM acme_challenges WHERE org = ? AND acme_order IN (" + old + ")", []any{s.org, s.org, before}},
		{"DELETE FROM acme_authorizations WHERE org = ? AND acme_order IN (" + old + ")", []any{s.org, s.org, before}},
		{"DELETE FROM acme_orders WHERE org = ? AND expires_at < ?", []any{s.org, before}},
		{"DELETE FROM acme_used_nonces WHERE org = ? AND expires_at < ?", []any{s.org, now}},
		{"DELETE FROM pki_used_tokens WHERE org = ? AND expires_at < ?", []any{s.org, now}},
		{"DELETE FROM pki_services WHERE org = ? AND serial NOT IN (SELECT serial FROM pki_certificates WHERE org = ?)", []any{s.org, s.org}},
	} {
		var n int64
		if err := s.db.Write(ctx, func(tx *Tx) error {
			res, err := tx.Exec(q.text, q.args...)
			if err != nil {
				return err
			}
			n, err = res.RowsAffected()
			return err
		}); err != nil {
			return gone, fmt.Errorf("purge ended ACME orders: %w", err)
		}
		gone += n
	}
	return gone, nil
}
