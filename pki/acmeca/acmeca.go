// Package acmeca is the ACME server's side of the PKI (RFC 8555): smallstep's
// acme package on typed tables of ours, proofs of control that cannot be steered
// into our own networks, and renewal information (RFC 9773). Names are issued
// only where the operator allowed them; without an allow-list there is no ACME.
package acmeca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/smallstep/certificates/acme"
	"github.com/smallstep/certificates/authority/policy"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// Lives of orders: an open one ends by itself; a finished one is forgotten with
// all that belongs to it.
const (
	keepOrders = 7 * 24 * time.Hour
	purgeEvery = time.Hour
)

// Config says who may get certificates by ACME; the zero value is "nobody".
type Config struct {
	// Allow lists what may be certified: host names, *.example.com for any one
	// label before it, and CIDR prefixes for addresses. Empty: ACME is off.
	Allow []string `yaml:"allow"`
	// Wildcards lets names such as *.example.com be certified themselves.
	Wildcards bool `yaml:"wildcards"`
	// RequireEAB takes new accounts only with a key of "wardnet cert acme-key".
	RequireEAB bool `yaml:"require_eab"`
	// Networks are internal networks that proofs of control may be fetched
	// from; addresses of the Internet always may.
	Networks []netip.Prefix `yaml:"networks"`
	// Resolver is the DNS server, host:port, that is asked about names; default
	// the system's.
	Resolver string `yaml:"resolver"`
	// HTTPPort stands in for port 80 of http-01, for tests; default 80, which
	// RFC 8555 §8.3 demands.
	HTTPPort int `yaml:"http_port"`
	// Life of a certificate, at most 90 days; default 7 days.
	Life time.Duration `yaml:"life"`
}

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	if c.Life == 0 {
		c.Life = 7 * 24 * time.Hour
	}
	return c
}

// Validate says everything that is wrong, wrapping [inventory.ErrInvalid].
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: acme: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	for _, a := range c.Allow {
		bare := strings.TrimPrefix(a, "*.")
		switch _, err := netip.ParsePrefix(a); {
		case err == nil:
		case strings.Contains(a, "/"), bare == "", strings.ContainsAny(bare, "* :"), strings.HasPrefix(bare, "."), strings.HasSuffix(bare, "."), bare != strings.ToLower(bare):
			bad("allow: %q is neither a host name in lower case, such a name after *., nor a CIDR prefix", a)
		}
	}
	if c.Life < 5*time.Minute || c.Life > pki.MaxServiceTTL {
		bad("life: %s is not between 5 min and %s", c.Life, pki.MaxServiceTTL)
	}
	if c.HTTPPort < 0 || c.HTTPPort > 65535 {
		bad("http_port: %d is no port", c.HTTPPort)
	}
	if c.Resolver != "" {
		if _, _, err := net.SplitHostPort(c.Resolver); err != nil {
			bad("resolver: %q is not host:port", c.Resolver)
		}
	}
	return errors.Join(errs...)
}

// Names are the allow-list in smallstep's form.
func (c Config) Names() *policy.X509NameOptions {
	var o policy.X509NameOptions
	for _, a := range c.Allow {
		if _, err := netip.ParsePrefix(a); err == nil {
			o.IPRanges = append(o.IPRanges, a)
		} else {
			o.DNSDomains = append(o.DNSDomains, a)
		}
	}
	return &o
}

// Deps are what ACME needs; all but Reg are required.
type Deps struct {
	Store Store
	// Row makes the row of a signed chain, leaf first.
	Row func(chain []*x509.Certificate) (pki.Certificate, error)
	// Issued counts and audits a certificate that is recorded.
	Issued func(ctx context.Context, c pki.Certificate, action, reason string) error
	// Revoked says whether a serial number is revoked.
	Revoked func(serial string) bool
	// Issuer is the id of the services issuer's key in force.
	Issuer func() string
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// Server is ACME's state. It is safe for concurrent use.
type Server struct {
	deps    Deps
	cfg     Config
	nonces  *nonces
	probe   *prober
	metrics *metrics
}

// Open readies ACME. Cfg must be valid and have its defaults.
func Open(ctx context.Context, deps Deps, cfg Config) (*Server, error) {
	n, err := openNonces(ctx, deps.Store)
	if err != nil {
		return nil, err
	}
	return &Server{deps: deps, cfg: cfg, nonces: n, probe: newProber(cfg), metrics: newMetrics(deps.Reg)}, nil
}

// Config is the configuration in force.
func (s *Server) Config() Config { return s.cfg }

// Client is what proofs of control are fetched with.
func (s *Server) Client() acme.Client { return s.probe }

// Run forgets what has ended, every hour, until ctx ends; then it returns nil.
func (s *Server) Run(ctx context.Context) error {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	for {
		now := time.Now()
		n, err := s.deps.Store.Purge(ctx, now.Add(-keepOrders), now)
		s.metrics.purged.Add(float64(n))
		if err != nil && ctx.Err() == nil {
			s.deps.Log.ErrorContext(ctx, "ended ACME orders not purged, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
