package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/smallstep/certificates/acme"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/acmeca"
)

// fault is a problem document as it is kept; "" is none. Only what the client
// may read is kept.
func fault(e *acme.Error) (string, error) {
	if e == nil {
		return "", nil
	}
	raw, err := json.Marshal(e)
	return text(string(raw)), err
}

func readFault(kept string) (*acme.Error, error) {
	if kept == "" {
		return nil, nil
	}
	e := new(acme.Error)
	return e, json.Unmarshal([]byte(kept), e)
}

// AddOrder implements [acmeca.Orders].
func (s *ACME) AddOrder(ctx context.Context, o *acme.Order, authz []*acme.Authorization, replaces string) error {
	err := s.db.Write(ctx, func(tx *Tx) error {
		if replaces != "" {
			// An order that came to nothing frees the certificate again.
			if err := s.exec(tx, fmt.Errorf("%w: the certificate is replaced by another order", inventory.ErrConflict),
				`UPDATE pki_services SET replaced_by = ? WHERE org = ? AND serial = ? AND acme_account = ? AND NOT EXISTS (
				SELECT 1 FROM acme_orders o WHERE o.org = pki_services.org AND o.id = pki_services.replaced_by AND o.status <> ?)`,
				o.ID, s.org, replaces, o.AccountID, acme.StatusInvalid); err != nil {
				return err
			}
		}
		if _, err := tx.Exec("INSERT INTO acme_orders (org, id, account, provisioner, status, not_before, not_after, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			s.org, o.ID, o.AccountID, o.ProvisionerID, o.Status, o.NotBefore, o.NotAfter, time.Now(), o.ExpiresAt); err != nil {
			return err
		}
		for i, a := range authz {
			if err := s.addAuthorization(tx, o.ID, i, a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep ACME order: %w", err)
	}
	return nil
}

func (s *ACME) addAuthorization(tx *Tx, order string, place int, a *acme.Authorization) error {
	if _, err := tx.Exec(`INSERT INTO acme_authorizations (org, id, acme_order, place, account, kind, name, wildcard, token, fingerprint, status, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.org, a.ID, order, place, a.AccountID, a.Identifier.Type, a.Identifier.Value, a.Wildcard, a.Token, a.Fingerprint, a.Status, a.ExpiresAt); err != nil {
		return err
	}
	for i, c := range a.Challenges {
		if _, err := tx.Exec("INSERT INTO acme_challenges (org, id, acme_order, authz, place, account, kind, name, token, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			s.org, c.ID, order, a.ID, i, c.AccountID, c.Type, c.Value, c.Token, c.Status); err != nil {
			return err
		}
	}
	return nil
}

// Order implements [acmeca.Orders]. Its identifiers are its authorizations'.
func (s *ACME) Order(ctx context.Context, id string) (*acme.Order, error) {
	var o *acme.Order
	err := s.db.Read(ctx, func(tx *Tx) error {
		o = &acme.Order{ID: id}
		var status, problem string
		err := tx.QueryRow("SELECT account, provisioner, status, not_before, not_after, expires_at, certificate, fault FROM acme_orders WHERE org = ? AND id = ?", s.org, text(id)).
			Scan(&o.AccountID, &o.ProvisionerID, &status, stamp{&o.NotBefore}, stamp{&o.NotAfter}, stamp{&o.ExpiresAt}, &o.CertificateID, &problem)
		if err != nil {
			return found(err, "order")
		}
		o.Status = acme.Status(status)
		if o.Error, err = readFault(problem); err != nil {
			return err
		}
		return s.each(tx, "SELECT id, kind, name, wildcard FROM acme_authorizations WHERE org = ? AND acme_order = ? ORDER BY place", []any{s.org, id}, func(scan rowScan) error {
			var authz, kind, name string
			var wildcard int
			if err := scan(&authz, &kind, &name, &wildcard); err != nil {
				return err
			}
			if wildcard == 1 {
				name = "*." + name
			}
			o.AuthorizationIDs = append(o.AuthorizationIDs, authz)
			o.Identifiers = append(o.Identifiers, acme.Identifier{Type: acme.IdentifierType(kind), Value: name})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look up ACME order: %w", err)
	}
	return o, nil
}

// OpenOrders implements [acmeca.Orders].
func (s *ACME) OpenOrders(ctx context.Context, account string) ([]string, error) {
	var out []string
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = []string{}
		return s.each(tx, "SELECT id FROM acme_orders WHERE org = ? AND account = ? AND status IN (?, ?) AND expires_at > ? ORDER BY created_at, id LIMIT 1000",
			[]any{s.org, account, acme.StatusPending, acme.StatusReady, time.Now()}, func(scan rowScan) error {
				var id string
				err := scan(&id)
				out = append(out, id)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list ACME orders: %w", err)
	}
	return out, nil
}

// ChangeOrder implements [acmeca.Orders].
func (s *ACME) ChangeOrder(ctx context.Context, o *acme.Order) error {
	problem, err := fault(o.Error)
	if err == nil {
		err = s.db.Write(ctx, func(tx *Tx) error {
			return s.exec(tx, fmt.Errorf("%w: the order is finished", inventory.ErrConflict),
				"UPDATE acme_orders SET status = ?, fault = ? WHERE org = ? AND id = ? AND (status NOT IN (?, ?) OR status = ?)",
				o.Status, problem, s.org, o.ID, acme.StatusValid, acme.StatusInvalid, o.Status)
		})
	}
	if err != nil {
		return fmt.Errorf("change ACME order %s: %w", o.ID, err)
	}
	return nil
}

// FinishOrder implements [acmeca.Orders].
func (s *ACME) FinishOrder(ctx context.Context, c acmeca.Service) error {
	err := s.write(ctx, func(tx *Tx) error {
		if err := s.exec(tx, fmt.Errorf("%w: the order is not ready", inventory.ErrConflict),
			"UPDATE acme_orders SET status = ?, certificate = ? WHERE org = ? AND id = ? AND account = ? AND status = ? AND certificate = ''",
			acme.StatusValid, c.Serial, s.org, c.Order, c.Account, acme.StatusReady); err != nil {
			return err
		}
		return s.addService(tx, c)
	})
	if err != nil {
		return fmt.Errorf("finish ACME order %s: %w", c.Order, err)
	}
	return nil
}

const challengeColumns = "SELECT id, authz, account, kind, name, token, status, validated_at, fault FROM acme_challenges WHERE org = ? AND "

func scanChallenge(scan rowScan) (*acme.Challenge, error) {
	var c acme.Challenge
	var kind, status, problem string
	if err := scan(&c.ID, &c.AuthorizationID, &c.AccountID, &kind, &c.Value, &c.Token, &status, &c.ValidatedAt, &problem); err != nil {
		return nil, err
	}
	c.Type, c.Status = acme.ChallengeType(kind), acme.Status(status)
	var err error
	c.Error, err = readFault(problem)
	return &c, err
}

// Authorization implements [acmeca.Challenges].
func (s *ACME) Authorization(ctx context.Context, id string) (*acme.Authorization, error) {
	var a *acme.Authorization
	err := s.db.Read(ctx, func(tx *Tx) error {
		a = &acme.Authorization{ID: id}
		var kind, status, problem string
		var wildcard int
		err := tx.QueryRow("SELECT account, kind, name, wildcard, token, fingerprint, status, expires_at, fault FROM acme_authorizations WHERE org = ? AND id = ?", s.org, text(id)).
			Scan(&a.AccountID, &kind, &a.Identifier.Value, &wildcard, &a.Token, &a.Fingerprint, &status, stamp{&a.ExpiresAt}, &problem)
		if err != nil {
			return found(err, "authorization")
		}
		a.Identifier.Type, a.Wildcard, a.Status = acme.IdentifierType(kind), wildcard == 1, acme.Status(status)
		if a.Error, err = readFault(problem); err != nil {
			return err
		}
		return s.each(tx, challengeColumns+"authz = ? ORDER BY place", []any{s.org, id}, func(scan rowScan) error {
			c, err := scanChallenge(scan)
			a.Challenges = append(a.Challenges, c)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look up ACME authorization: %w", err)
	}
	return a, nil
}

// ChangeAuthorization implements [acmeca.Challenges].
func (s *ACME) ChangeAuthorization(ctx context.Context, a *acme.Authorization) error {
	problem, err := fault(a.Error)
	if err == nil {
		err = s.db.Write(ctx, func(tx *Tx) error {
			return s.exec(tx, fmt.Errorf("%w: authorization", inventory.ErrNotFound),
				"UPDATE acme_authorizations SET status = ?, fingerprint = ?, fault = ? WHERE org = ? AND id = ?", a.Status, a.Fingerprint, problem, s.org, a.ID)
		})
	}
	if err != nil {
		return fmt.Errorf("change ACME authorization %s: %w", a.ID, err)
	}
	return nil
}

// Challenge implements [acmeca.Challenges].
func (s *ACME) Challenge(ctx context.Context, id string) (c *acme.Challenge, err error) {
	err = s.db.Read(ctx, func(tx *Tx) error {
		c, err = scanChallenge(tx.QueryRow(challengeColumns+"id = ?", s.org, text(id)).Scan)
		return found(err, "challenge")
	})
	if err != nil {
		return nil, fmt.Errorf("look up ACME challenge: %w", err)
	}
	return c, nil
}

// ChangeChallenge implements [acmeca.Challenges]. A proof that failed for good or
// succeeded stays so.
func (s *ACME) ChangeChallenge(ctx context.Context, c *acme.Challenge) error {
	problem, err := fault(c.Error)
	if err == nil {
		err = s.db.Write(ctx, func(tx *Tx) error {
			_, err := tx.Exec("UPDATE acme_challenges SET status = ?, validated_at = ?, fault = ? WHERE org = ? AND id = ? AND status = ?",
				c.Status, c.ValidatedAt, problem, s.org, c.ID, acme.StatusPending)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("change ACME challenge %s: %w", c.ID, err)
	}
	return nil
}
