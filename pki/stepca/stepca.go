// Package stepca answers the API of step-ca, so that the step CLI works
// unmodified, and carries the ACME server. It is smallstep's authority with our
// store, our signer and our limits: what is signed is a leaf of the services
// issuer and nothing else, and a one-time token counts once, on all replicas.
package stepca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/enrol"
	"go.step.sm/crypto/jose"
)

// Ids and names of the provisioners.
const (
	TokenProvisioner     = "wardnet" // tokens that the controller makes, see [Server.Token]
	RegistrarProvisioner = "registrar"
	tokenID              = "jwk/" + TokenProvisioner
	registrarID          = "x5c/" + RegistrarProvisioner
)

// Lives of certificates by token.
const (
	defaultLife = 24 * time.Hour
	shortest    = 5 * time.Minute
)

// Store is what the step API keeps.
type Store interface {
	// UseToken keeps the id of a signed one-time token until expires. Of many
	// callers exactly one gets true.
	UseToken(ctx context.Context, id string, expires time.Time) (bool, error)
	// AddServiceOnce records a certificate and uses the id, in one transaction;
	// false: the id was used before, and nothing is recorded.
	AddServiceOnce(ctx context.Context, id string, expires time.Time, s acmeca.Service) (bool, error)
	// AddService records a certificate. One with a parent continues its lineage;
	// [inventory.ErrConflict]: that is revoked.
	AddService(ctx context.Context, s acmeca.Service) error
	// Service finds a certificate by serial number, [inventory.ErrNotFound].
	Service(ctx context.Context, serial string) (acmeca.Service, error)
}

// CA is the part of the PKI that signs and revokes; [pki.PKI] is one.
type CA interface {
	SignService(ctx context.Context, l pki.ServiceLeaf) ([]*x509.Certificate, error)
	ServiceRow(chain []*x509.Certificate) (pki.Certificate, error)
	ServiceIssued(ctx context.Context, c pki.Certificate, action, reason string) error
	Revoker
}

// Revoker keeps the revocation log.
type Revoker interface {
	Revoke(ctx context.Context, serial, reason, by string) error
	// RevokeByHolder leaves the holder's connection open for the answer.
	RevokeByHolder(ctx context.Context, serial, reason, by string) error
	Revoked(serial string) bool
}

// Gate decides who may talk to the API and hears of whom it refused.
type Gate interface {
	// CheckService says what is wrong with a leaf, wrapping [inventory.ErrInvalid].
	CheckService(l pki.ServiceLeaf, now time.Time) error
	// ServiceIssuers are the services issuers' certificates, the one in force
	// first.
	ServiceIssuers() []*x509.Certificate
	// AdmitService checks a client certificate, complete with revocation, and
	// audits a refusal.
	AdmitService(remote string, certs []*x509.Certificate) error
	// RefuseService audits and counts a refused request.
	RefuseService(ctx context.Context, l pki.Listener, remote string, err error)
	// ServiceCRL is the revocation list of the services issuer in force, DER.
	ServiceCRL(ctx context.Context) ([]byte, error)
}

// Deps are what the API needs; all but Reg are required.
type Deps struct {
	Store Store
	CA    CA
	Gate  Gate
	ACME  *acmeca.Server
	Root  *x509.Certificate
	// Key signs the tokens; all replicas have the same.
	Key *ecdsa.PrivateKey
	// Audit records an event durably; where it fails, no token is handed out.
	Audit func(context.Context, pki.Event) error
	Log   *slog.Logger
	Reg   prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config is where and for whom the API answers.
type Config struct {
	TrustDomain string
	Names       []string // DNS names and addresses clients reach the API by
	URL         string   // base URL that goes into tokens, e.g. https://hub.example:9444
}

// Server is the running API. It is safe for concurrent use.
type Server struct {
	deps    Deps
	cfg     Config
	root    string // fingerprint: lower-case hex SHA-256 of the certificate
	keyID   string
	signer  jose.Signer
	metrics *metrics
	spent   spentTokens

	mu      sync.Mutex // held while building
	current atomic.Pointer[built]
}

// built is an authority with the issuers it was made for.
type built struct {
	authority *authority.Authority
	issuers   []*x509.Certificate
}

// New readies the API.
func New(deps Deps, cfg Config) (*Server, error) {
	if u, err := url.Parse(cfg.URL); err != nil || u.Scheme != "https" || u.Host == "" || len(cfg.Names) == 0 {
		return nil, fmt.Errorf("start the step API: %w: it needs an https URL and names, has %q and %v", inventory.ErrInvalid, cfg.URL, cfg.Names)
	}
	sum := sha256.Sum256(deps.Root.Raw)
	s := &Server{deps: deps, cfg: cfg, root: hex.EncodeToString(sum[:]), metrics: newMetrics(deps.Reg)}
	var err error
	if s.keyID, err = enrol.KeyID(&deps.Key.PublicKey); err != nil {
		return nil, err
	}
	private := jose.JSONWebKey{Key: deps.Key, KeyID: s.keyID, Algorithm: jose.ES256, Use: "sig"}
	if s.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
		return nil, fmt.Errorf("start the step API: %w", err)
	}
	_, err = s.authority()
	return s, err
}

// Fingerprint is the root's, as "step ca bootstrap --fingerprint" wants it.
func (s *Server) Fingerprint() string { return s.root }

// authority gives the embedded authority for the issuers in force; a rotation
// makes a new one.
func (s *Server) authority() (*authority.Authority, error) {
	issuers := s.deps.Gate.ServiceIssuers()
	if b := s.current.Load(); b != nil && same(b.issuers, issuers) {
		return b.authority, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.current.Load(); b != nil && same(b.issuers, issuers) {
		return b.authority, nil
	}
	a, err := s.build(issuers)
	if err != nil {
		return nil, fmt.Errorf("start the step API: %w", err)
	}
	s.current.Store(&built{a, issuers})
	return a, nil
}

func same(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Raw, b[i].Raw) {
			return false
		}
	}
	return true
}

func (s *Server) build(issuers []*x509.Certificate) (*authority.Authority, error) {
	if len(issuers) == 0 {
		return nil, errors.New("there is no services issuer")
	}
	a, err := authority.NewEmbedded(
		authority.WithConfig(&config.Config{
			DNSNames: s.cfg.Names,
			AuthorityConfig: &config.AuthConfig{
				Provisioners: s.provisioners(issuers),
				Backdate:     &provisioner.Duration{},
				// Used tokens are kept durably: one made before a restart, or by
				// another replica, is as good as any.
				DisableIssuedAtCheck: true,
			},
		}),
		authority.WithQuietInit(),
		authority.WithDatabase(&authDB{s}),
		authority.WithX509RootCerts(s.deps.Root),
		authority.WithX509IntermediateCerts(issuers...),
		authority.WithX509CAService(&templates{s.deps.CA}),
	)
	if err != nil {
		return nil, err
	}
	for _, p := range s.provisioners(issuers) {
		loaded, err := a.LoadProvisionerByName(p.GetName())
		if err != nil {
			return nil, err
		}
		if broken, ok := loaded.(provisioner.Uninitialized); ok { // the authority only prints it
			return nil, fmt.Errorf("provisioner %s: %w", p.GetName(), broken.Reason)
		}
	}
	return a, nil
}

// provisioners are the ways to a certificate. Renewal by step is for what step
// issued: a certificate by ACME proves its names anew each time.
func (s *Server) provisioners(issuers []*x509.Certificate) provisioner.List {
	yes, no := true, false
	claims := func(life time.Duration, renewal bool) *provisioner.Claims {
		disable := !renewal
		return &provisioner.Claims{
			MinTLSDur: &provisioner.Duration{Duration: shortest}, MaxTLSDur: &provisioner.Duration{Duration: pki.MaxServiceTTL},
			DefaultTLSDur: &provisioner.Duration{Duration: life}, DisableRenewal: &disable, AllowRenewalAfterExpiry: &no,
			DisableSmallstepExtensions: &yes, EnableSSHCA: &no,
		}
	}
	public := jose.JSONWebKey{Key: &s.deps.Key.PublicKey, KeyID: s.keyID, Algorithm: jose.ES256, Use: "sig"}
	var roots []byte
	for _, c := range issuers {
		roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	list := provisioner.List{
		&provisioner.JWK{ID: tokenID, Type: "JWK", Name: TokenProvisioner, Key: &public, Claims: claims(defaultLife, true)},
		&provisioner.X5C{ID: registrarID, Type: "X5C", Name: RegistrarProvisioner, Roots: roots, Claims: claims(defaultLife, true)},
	}
	// smallstep takes an empty allow-list for "everything": then there must be
	// no provisioner.
	if c := s.deps.ACME.Config(); len(c.Allow) > 0 {
		list = append(list, &provisioner.ACME{
			ID: acmeca.Provisioner, Type: "ACME", Name: "acme", RequireEAB: c.RequireEAB, Claims: claims(c.Life, false),
			Challenges: []provisioner.ACMEChallenge{provisioner.HTTP_01, provisioner.DNS_01},
			Options:    &provisioner.Options{X509: &provisioner.X509Options{AllowedNames: c.Names(), AllowWildcardNames: c.Wildcards}},
		})
	}
	return list
}
