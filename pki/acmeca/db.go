package acmeca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/smallstep/certificates/acme"
	"github.com/wardnet/wardnet/inventory"
)

// maxNames bounds the identifiers of one order.
const maxNames = 100

// database is the [acme.DB] of smallstep/certificates v0.30.2 on our tables.
type database struct{ s *Server }

var _ acme.DB = database{}

// DB is the state as smallstep's handlers see it.
func (s *Server) DB() acme.DB { return database{s} }

// newID is an unguessable name of a resource.
func newID() string { return strings.ToLower(rand.Text()) }

// draft collects an order under way: smallstep's handler writes its challenges
// and authorizations one by one, we write all of it or nothing.
type draft struct {
	authz    []*acme.Authorization
	open     []*acme.Challenge
	replaces string // RFC 9773 certificate identifier, as the client wrote it
}

type draftKey struct{}

func draftOf(ctx context.Context) (*draft, error) {
	d, ok := ctx.Value(draftKey{}).(*draft)
	if !ok {
		return nil, errors.New("an ACME order is made outside a new-order request")
	}
	return d, nil
}

// missing turns our "not found" into what the handlers expect: a client's
// mistake, not the server's.
func missing(err error, what, id string) error {
	if errors.Is(err, inventory.ErrNotFound) {
		return acme.NewError(acme.ErrorMalformedType, "%s %.60q not found", what, id)
	}
	return err
}

// CreateAccount implements [acme.DB].
func (d database) CreateAccount(ctx context.Context, a *acme.Account) error {
	key, err := acme.KeyToID(a.Key)
	if err != nil {
		return err
	}
	a.ID = newID()
	if err := d.s.deps.Store.AddAccount(ctx, a, key); err != nil {
		return err
	}
	d.s.metrics.accounts.Inc()
	return nil
}

func account(a *acme.Account, err error) (*acme.Account, error) {
	if errors.Is(err, inventory.ErrNotFound) {
		return nil, acme.ErrNotFound
	}
	return a, err
}

// GetAccount implements [acme.DB].
func (d database) GetAccount(ctx context.Context, id string) (*acme.Account, error) {
	return account(d.s.deps.Store.Account(ctx, id))
}

// GetAccountByKeyID implements [acme.DB].
func (d database) GetAccountByKeyID(ctx context.Context, kid string) (*acme.Account, error) {
	return account(d.s.deps.Store.AccountByKey(ctx, kid))
}

// UpdateAccount implements [acme.DB].
func (d database) UpdateAccount(ctx context.Context, a *acme.Account) error {
	return d.s.deps.Store.ChangeAccount(ctx, a)
}

// CreateNonce implements [acme.DB].
func (d database) CreateNonce(context.Context) (acme.Nonce, error) {
	return d.s.nonces.make(time.Now()), nil
}

// DeleteNonce implements [acme.DB].
func (d database) DeleteNonce(ctx context.Context, n acme.Nonce) error {
	return d.s.nonces.use(ctx, string(n), time.Now())
}

// CreateChallenge implements [acme.DB].
func (d database) CreateChallenge(ctx context.Context, c *acme.Challenge) error {
	dr, err := draftOf(ctx)
	if err != nil {
		return err
	}
	c.ID = newID()
	dr.open = append(dr.open, c)
	return nil
}

// CreateAuthorization implements [acme.DB].
func (d database) CreateAuthorization(ctx context.Context, a *acme.Authorization) error {
	dr, err := draftOf(ctx)
	if err != nil {
		return err
	}
	if len(dr.authz) == maxNames {
		return acme.NewDetailedError(acme.ErrorMalformedType, "an order has at most %d identifiers", maxNames)
	}
	a.ID = newID()
	for _, c := range dr.open {
		c.AuthorizationID = a.ID
	}
	dr.open = nil
	dr.authz = append(dr.authz, a)
	return nil
}

// CreateOrder implements [acme.DB].
func (d database) CreateOrder(ctx context.Context, o *acme.Order) error {
	dr, err := draftOf(ctx)
	if err != nil {
		return err
	}
	o.ID = newID()
	replaces, err := d.s.replaced(ctx, o, dr.replaces)
	if err != nil {
		return err
	}
	switch err := d.s.deps.Store.AddOrder(ctx, o, dr.authz, replaces); {
	case errors.Is(err, inventory.ErrConflict):
		return alreadyReplaced(dr.replaces)
	case err != nil:
		return err
	}
	d.s.metrics.orders.Inc()
	return nil
}

// GetOrder implements [acme.DB].
func (d database) GetOrder(ctx context.Context, id string) (*acme.Order, error) {
	o, err := d.s.deps.Store.Order(ctx, id)
	return o, missing(err, "order", id)
}

// GetOrdersByAccountID implements [acme.DB].
func (d database) GetOrdersByAccountID(ctx context.Context, account string) ([]string, error) {
	return d.s.deps.Store.OpenOrders(ctx, account)
}

// UpdateOrder implements [acme.DB]. A valid order has been finished by
// CreateCertificate.
func (d database) UpdateOrder(ctx context.Context, o *acme.Order) error {
	if o.Status == acme.StatusValid {
		return nil
	}
	return d.s.deps.Store.ChangeOrder(ctx, o)
}

// GetAuthorization implements [acme.DB].
func (d database) GetAuthorization(ctx context.Context, id string) (*acme.Authorization, error) {
	a, err := d.s.deps.Store.Authorization(ctx, id)
	return a, missing(err, "authorization", id)
}

// UpdateAuthorization implements [acme.DB].
func (d database) UpdateAuthorization(ctx context.Context, a *acme.Authorization) error {
	return d.s.deps.Store.ChangeAuthorization(ctx, a)
}

// GetAuthorizationsByAccountID implements [acme.DB]; nothing calls it in
// v0.30.2.
func (d database) GetAuthorizationsByAccountID(context.Context, string) ([]*acme.Authorization, error) {
	return nil, acme.NewErrorISE("authorizations are not listed by account")
}

// GetChallenge implements [acme.DB].
func (d database) GetChallenge(ctx context.Context, id, authz string) (*acme.Challenge, error) {
	c, err := d.s.deps.Store.Challenge(ctx, id)
	if err == nil && c.AuthorizationID != authz {
		err = fmt.Errorf("%w: challenge", inventory.ErrNotFound)
	}
	return c, missing(err, "challenge", id)
}

// UpdateChallenge implements [acme.DB].
func (d database) UpdateChallenge(ctx context.Context, c *acme.Challenge) error {
	outcome := "refused"
	if c.Status == acme.StatusValid {
		outcome = "valid"
	}
	d.s.metrics.validations.WithLabelValues(string(c.Type), outcome).Inc()
	return d.s.deps.Store.ChangeChallenge(ctx, c)
}

// CreateCertificate implements [acme.DB]: it records the certificate and
// finishes its order in one transaction. Of two that were signed for one order,
// the second is shown to nobody.
func (d database) CreateCertificate(ctx context.Context, c *acme.Certificate) error {
	row, err := d.s.deps.Row(append([]*x509.Certificate{c.Leaf}, c.Intermediates...))
	if err != nil {
		return err
	}
	row.IssuedBy = "acme account " + c.AccountID
	names := append([]string(nil), c.Leaf.DNSNames...)
	for _, ip := range c.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	switch err := d.s.deps.Store.FinishOrder(ctx, Service{Certificate: row, Provisioner: Provisioner, Names: names, Account: c.AccountID, Order: c.OrderID}); {
	case errors.Is(err, inventory.ErrConflict):
		return acme.NewDetailedError(acme.ErrorOrderNotReadyType, "order %s was finished meanwhile", c.OrderID)
	case err != nil:
		return err
	}
	c.ID = row.Serial
	d.s.metrics.certificates.Inc()
	if err := d.s.deps.Issued(ctx, row, "issue", "acme order "+c.OrderID+" for "+strings.Join(names, ", ")); err != nil {
		d.s.deps.Log.ErrorContext(ctx, "ACME certificate not audited", "err", err) // it is in the database
	}
	return nil
}

// Provisioner is the id of the ACME provisioner.
const Provisioner = "acme/acme"

// GetCertificate implements [acme.DB].
func (d database) GetCertificate(ctx context.Context, id string) (*acme.Certificate, error) {
	s, err := d.s.deps.Store.Service(ctx, id)
	if err == nil && s.Account == "" {
		err = fmt.Errorf("%w: certificate", inventory.ErrNotFound)
	}
	if err != nil {
		return nil, missing(err, "certificate", id)
	}
	chain, err := parseChain(s.Chain)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", id, err)
	}
	return &acme.Certificate{ID: id, AccountID: s.Account, OrderID: s.Order, Leaf: chain[0], Intermediates: chain[1:]}, nil
}

// GetCertificateBySerial implements [acme.DB]; serial is decimal.
func (d database) GetCertificateBySerial(ctx context.Context, serial string) (*acme.Certificate, error) {
	n, ok := new(big.Int).SetString(serial, 10)
	if !ok {
		return nil, acme.NewError(acme.ErrorMalformedType, "%.60q is no serial number", serial)
	}
	return d.GetCertificate(ctx, n.Text(16))
}

func parseChain(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("it is kept without its PEM")
	}
	return out, nil
}
