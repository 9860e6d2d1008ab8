package pki

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/signer"
)

// Issuer names an issuing CA.
type Issuer = signer.Issuer

// The three issuing CAs under the root.
const (
	Devices  = signer.Devices  // enrolment and renewal of devices, nothing else
	Services = signer.Services // services and people
	Hub      = signer.Hub      // the controller's own certificates; devices pin it
)

var issuers = signer.Issuers

// Signer holds the keys of the issuing CAs and signs by template: a
// [signer.Client], or a [signer.Service] in this process. Errors wrap those of
// package signer.
type Signer interface {
	State(ctx context.Context) (signer.State, error)
	Issue(ctx context.Context, o signer.Order) ([]byte, error)
	CRL(ctx context.Context, o signer.CRLOrder) ([]byte, error)
	SSH(ctx context.Context, o signer.SSHOrder) ([]byte, error)
	Change(ctx context.Context, c signer.Change) (signer.Info, error)
}

// IssuerState is where a generation of an issuer is in its life.
type IssuerState string

// States of a generation, in order; [Distrusted] instead of the last two when
// its key may be in other hands.
const (
	Staged     IssuerState = "staged"     // has a key; nobody accepts it yet
	Published  IssuerState = "published"  // accepted everywhere; devices get its pin
	Active     IssuerState = "active"     // issues
	Draining   IssuerState = "draining"   // issues no more; what it issued is accepted
	Retired    IssuerState = "retired"    // nothing of it is accepted
	Distrusted IssuerState = "distrusted" // nothing of it is accepted, but for recorded devices that fetch a new certificate
)

// IssuerStates lists all of them.
var IssuerStates = []IssuerState{Staged, Published, Active, Draining, Retired, Distrusted}

// Generation is one generation of an issuing CA, as kept. Times are zero until
// they come.
type Generation struct {
	Issuer      Issuer
	Number      int // from 1
	KeyID       string
	State       IssuerState
	Certificate string // PEM; empty while the root has not signed it
	StagedAt    time.Time
	PublishedAt time.Time
	ActiveAt    time.Time
	DrainingAt  time.Time
	EndedAt     time.Time // retired or distrusted
	By          string    // who made the last change
	Reason      string    // given with it
}

// Move is one change of state; it happens only from the state it names.
type Move struct {
	Issuer Issuer
	Number int
	From   IssuerState
	To     IssuerState
}

// MoveRecord says when, by whom and why moves are made.
type MoveRecord struct {
	At     time.Time
	By     string
	Reason string
}

// Leaf is a certificate in short.
type Leaf struct {
	Serial    string
	Device    inventory.DeviceID // empty: no device's
	Subject   string
	IssuerKey string
	IssuedAt  time.Time
	NotAfter  time.Time
	RevokedAt time.Time // zero: not revoked
}

// Generations keeps the generations of the issuers.
type Generations interface {
	// Generations lists all, by issuer and number.
	Generations(ctx context.Context) ([]Generation, error)
	// AddGeneration keeps a new one; [inventory.ErrConflict]: there is one of
	// that number.
	AddGeneration(ctx context.Context, g Generation) error
	// CertifyGeneration keeps the certificate that the root has signed.
	CertifyGeneration(ctx context.Context, i Issuer, number int, certificatePEM string) error
	// MoveGenerations makes all moves or none; [inventory.ErrConflict]: one of
	// them is not in the state to move from.
	MoveGenerations(ctx context.Context, list []Move, r MoveRecord) error
	// Leaves lists the issuer's certificates that end after the given time, in
	// the order they were issued.
	Leaves(ctx context.Context, i Issuer, after time.Time) ([]Leaf, error)
}

// issuer is one generation in the form the running parts use.
type issuer struct {
	Generation
	cert   *x509.Certificate
	crlURL string // "" when no status listener is known
}

// issuerSet is an immutable picture of all generations.
type issuerSet struct {
	list   []*issuer // with a certificate, by issuer and number
	byKey  map[string]*issuer
	byRaw  map[string]*issuer // by raw certificate
	active map[Issuer]*issuer
	pool   *x509.CertPool // of all: what is not accepted shall be refused by name
	rows   []Generation
}

func newIssuerSet(rows []Generation, crlBase string) (*issuerSet, error) {
	slices.SortStableFunc(rows, func(a, b Generation) int {
		return cmp.Or(cmp.Compare(slices.Index(issuers, a.Issuer), slices.Index(issuers, b.Issuer)), cmp.Compare(a.Number, b.Number))
	})
	s := &issuerSet{byKey: map[string]*issuer{}, byRaw: map[string]*issuer{}, active: map[Issuer]*issuer{}, pool: x509.NewCertPool(), rows: rows}
	for _, row := range rows {
		if row.Certificate == "" {
			continue
		}
		block, _ := pem.Decode([]byte(row.Certificate))
		if block == nil {
			return nil, fmt.Errorf("%w: generation %d of the %s issuer is kept without its PEM", inventory.ErrInvalid, row.Number, row.Issuer)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("generation %d of the %s issuer: %w", row.Number, row.Issuer, err)
		}
		g := &issuer{Generation: row, cert: cert}
		if crlBase != "" {
			g.crlURL = crlBase + crlPath(row.KeyID)
		}
		s.list, s.byKey[row.KeyID], s.byRaw[string(cert.Raw)] = append(s.list, g), g, g
		s.pool.AddCert(cert)
		if row.State == Active {
			s.active[row.Issuer] = g
		}
	}
	for _, i := range issuers {
		if s.active[i] == nil {
			return nil, fmt.Errorf("%w: no generation of the %s issuer is active; finish the ceremony or restore the CA directory with the database", inventory.ErrConflict, i)
		}
	}
	return s, nil
}

// accepted says whether certificates of the generation are good for connecting.
func (s IssuerState) accepted() bool { return s == Published || s == Active || s == Draining }

// pins are the key ids that devices accept the controller by.
func (s *issuerSet) pins() []string {
	var out []string
	for _, g := range s.list {
		if g.Issuer == Hub && g.State.accepted() {
			out = append(out, g.KeyID)
		}
	}
	return out
}

// bootstrapIssuers makes the rows of a CA that has none yet: a new one, or one
// of a version that knew no generations.
func (p *PKI) bootstrapIssuers(ctx context.Context, st signer.State) error {
	rows, err := p.deps.Store.Generations(ctx)
	if err != nil {
		return fmt.Errorf("open CA: %w", err)
	}
	for _, info := range st.Issuers {
		if slices.ContainsFunc(rows, func(g Generation) bool { return g.Issuer == info.Issuer }) {
			continue
		}
		if len(info.Certificate) == 0 {
			return fmt.Errorf("open CA: the %s issuer: %w", info.Issuer, signer.ErrCeremony)
		}
		now := time.Now().UTC()
		g := Generation{
			Issuer: info.Issuer, Number: info.Generation, KeyID: info.KeyID, State: Active, Certificate: pemOf(info.Certificate),
			StagedAt: now, PublishedAt: now, ActiveAt: now, By: "system", Reason: "first generation",
		}
		if err := p.deps.Store.AddGeneration(ctx, g); err != nil && !errors.Is(err, inventory.ErrConflict) {
			return fmt.Errorf("open CA: %w", err)
		}
		rows = append(rows, g)
	}
	for _, g := range rows {
		if g.State != Retired && g.State != Distrusted && !slices.ContainsFunc(st.Issuers, func(i signer.Info) bool { return i.KeyID == g.KeyID }) {
			return fmt.Errorf("open CA: %w: the signer has no key for generation %d of the %s issuer; restore the CA directory and the database from one backup", inventory.ErrConflict, g.Number, g.Issuer)
		}
	}
	return nil
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// loadIssuers reads the generations, which other replicas change too, and puts
// them in force: a generation that is accepted no more loses its connections.
func (p *PKI) loadIssuers(ctx context.Context) error {
	rows, err := p.deps.Store.Generations(ctx)
	if err != nil {
		return fmt.Errorf("read the issuers: %w", err)
	}
	set, err := newIssuerSet(rows, p.cfg.StatusURL)
	if err != nil {
		return err
	}
	old := p.issuers.Swap(set)
	if old == nil || slices.Equal(old.rows, rows) {
		p.metrics.generations(set)
		return nil
	}
	p.metrics.generations(set)
	p.crls.forget()
	p.deps.Log.InfoContext(ctx, "issuers changed", "count", len(set.list))
	err = p.retireKeys(ctx, set)
	if old.active[Hub].KeyID != set.active[Hub].KeyID {
		err = errors.Join(err, p.renewServer(ctx))
	}
	if slices.ContainsFunc(old.list, func(g *issuer) bool { return g.State.accepted() && !set.accepts(g.KeyID) }) {
		p.recheck()
	}
	return err
}

func (s *issuerSet) accepts(keyID string) bool {
	g, ok := s.byKey[keyID]
	return ok && g.State.accepted()
}

// retireKeys tells the signer which generations certify no more. It is done
// again at every start, so that a crash between the row and the key heals.
func (p *PKI) retireKeys(ctx context.Context, set *issuerSet) error {
	st, err := p.signer.State(ctx)
	if err != nil {
		return fmt.Errorf("ask the signer for its issuers: %w", err)
	}
	var errs []error
	for _, info := range st.Issuers {
		g, ok := set.byKey[info.KeyID]
		if !ok || info.Retired || (g.State != Retired && g.State != Distrusted) {
			continue
		}
		_, err := p.signer.Change(ctx, signer.Change{Action: signer.Retire, Issuer: g.Issuer, Generation: g.Number})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// OnIssuersChanged adds a function that is called when an issuer is accepted no
// more: it has to look at every open connection again.
func (p *PKI) OnIssuersChanged(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rechecks = append(p.rechecks, fn)
}

func (p *PKI) recheck() {
	p.mu.RLock()
	list := p.rechecks
	p.mu.RUnlock()
	for _, fn := range list {
		fn()
	}
}

// issue has a leaf signed by the active generation; the chain starts with it.
func (p *PKI) issue(ctx context.Context, i Issuer, o signer.Order) ([]*x509.Certificate, error) {
	for again := false; ; again = true {
		g := p.issuers.Load().active[i]
		o.KeyID, o.CRLURL, o.OCSPURL = g.KeyID, g.crlURL, p.OCSPURL()
		der, err := p.signer.Issue(ctx, o)
		if errors.Is(err, signer.ErrRetired) && !again {
			// Another replica has switched within the last two seconds.
			if err := p.loadIssuers(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("sign a certificate of the %s CA: %w", i, err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("sign a certificate of the %s CA: %w", i, err)
		}
		return []*x509.Certificate{leaf, g.cert}, nil
	}
}
