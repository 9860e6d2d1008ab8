package acmeca

import (
	"context"
	"time"

	"github.com/smallstep/certificates/acme"
	"github.com/wardnet/wardnet/pki"
)

// Accounts keeps the accounts of ACME clients.
type Accounts interface {
	// AddAccount keeps a; [inventory.ErrConflict]: its key, named keyID, has an
	// account already.
	AddAccount(ctx context.Context, a *acme.Account, keyID string) error
	// Account finds one by id, [inventory.ErrNotFound].
	Account(ctx context.Context, id string) (*acme.Account, error)
	// AccountByKey finds one by the thumbprint of its key (RFC 7638).
	AccountByKey(ctx context.Context, keyID string) (*acme.Account, error)
	// ChangeAccount keeps the status and contacts of a.
	ChangeAccount(ctx context.Context, a *acme.Account) error
}

// ExternalKeys keeps the keys of external account binding.
type ExternalKeys interface {
	AddExternalKey(ctx context.Context, k acme.ExternalAccountKey) error
	// ExternalKey finds one by id, [inventory.ErrNotFound].
	ExternalKey(ctx context.Context, id string) (*acme.ExternalAccountKey, error)
	// ExternalKeyOf finds the one an account is bound by.
	ExternalKeyOf(ctx context.Context, account string) (*acme.ExternalAccountKey, error)
	// BindExternalKey binds the key for ever and forgets its secret. Of many
	// callers exactly one succeeds; the others get [inventory.ErrConflict].
	BindExternalKey(ctx context.Context, id, account string, at time.Time) error
}

// Orders keeps orders, each with all that belongs to it.
type Orders interface {
	// AddOrder keeps an order with its authorizations and their challenges at
	// once. Replaces is the serial number of a certificate of the same account
	// that it replaces, or ""; one that another live order replaces wraps
	// [inventory.ErrConflict].
	AddOrder(ctx context.Context, o *acme.Order, authz []*acme.Authorization, replaces string) error
	// Order finds one by id, [inventory.ErrNotFound].
	Order(ctx context.Context, id string) (*acme.Order, error)
	// OpenOrders lists the ids of an account's pending and ready orders, oldest
	// first.
	OpenOrders(ctx context.Context, account string) ([]string, error)
	// ChangeOrder keeps status and fault; a finished order does not change:
	// [inventory.ErrConflict].
	ChangeOrder(ctx context.Context, o *acme.Order) error
	// FinishOrder records the certificate and makes the order valid, if it is
	// ready; else nothing is kept and it wraps [inventory.ErrConflict]. Exactly
	// one caller succeeds.
	FinishOrder(ctx context.Context, s Service) error
}

// Challenges keeps the proofs of control over names.
type Challenges interface {
	// Authorization finds one with its challenges, [inventory.ErrNotFound].
	Authorization(ctx context.Context, id string) (*acme.Authorization, error)
	ChangeAuthorization(ctx context.Context, a *acme.Authorization) error
	// Challenge finds one, [inventory.ErrNotFound].
	Challenge(ctx context.Context, id string) (*acme.Challenge, error)
	ChangeChallenge(ctx context.Context, c *acme.Challenge) error
}

// Ledger keeps what happens once.
type Ledger interface {
	// NonceKey keeps proposed for ever on the first call and gives what is kept.
	NonceKey(ctx context.Context, proposed []byte) ([]byte, error)
	// UseNonce is true for exactly one of many callers with the same nonce.
	UseNonce(ctx context.Context, nonce string, expires time.Time) (bool, error)
	// Service finds a certificate of the services issuer, [inventory.ErrNotFound].
	Service(ctx context.Context, serial string) (Service, error)
	// Purge forgets orders that ended before, with all that belongs to them, and
	// nonces that ended before now. It says how many rows went.
	Purge(ctx context.Context, before, now time.Time) (int64, error)
}

// Store is all that ACME keeps.
type Store interface {
	Accounts
	ExternalKeys
	Orders
	Challenges
	Ledger
}

// Service is a certificate of the services issuer with who asked for it.
type Service struct {
	pki.Certificate
	Provisioner string   // id of the provisioner that let it pass
	Names       []string // all that it is for
	Account     string   // of ACME, "" otherwise
	Order       string   // of ACME, "" otherwise
}
