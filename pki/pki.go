// Package pki is the controller's certificate authority: a root and three
// issuing CAs, enrolment of devices by one-time token, renewal, revocation, the
// TLS configuration of every listener, and the signing keys by purpose. Issuing
// is smallstep's authority, embedded; what must happen exactly once, and
// everything that is checked at a handshake, is here.
package pki

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/signer"
	"golang.org/x/crypto/ssh"
	"golang.org/x/time/rate"
)

// Closer ends the open connections of a certificate and says how many.
type Closer interface {
	CloseSerial(serial, reason string) int
}

// Deps are what the PKI needs; all but Signer, Device, Closer, Boots and Reg
// are required.
type Deps struct {
	Store Store
	Dir   string // data directory; the signing keys are in its "ca" directory
	// Signer holds the keys of the issuing CAs; nil: this process does, with its
	// files beside the signing keys. The controller never leaves it nil.
	Signer Signer
	// Audit records an event durably. Where it fails, no token and no service
	// certificate is handed out.
	Audit func(context.Context, Event) error
	// Device gives the declared device; [inventory.ErrNotFound] and a retired
	// one are refused everywhere. Nil asks nobody.
	Device func(context.Context, inventory.DeviceID) (inventory.Device, error)
	Closer Closer // more with [PKI.CloseWith]
	Boots  *Boots // keeps the timelines of first boots; nil: nobody does
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config holds the knobs; zero means default.
type Config struct {
	TrustDomain string // of every SPIFFE id; default "wardnet.hcmc"
	// DNSNames and IPs are what the controller's listeners are reached by;
	// default localhost and the loopback addresses.
	DNSNames  []string
	IPs       []netip.Addr
	EnrolURL  string // base URL of the enrolment listener, for bundles
	Channel   string // host:port of the management channel, told to devices
	CAURL     string // base URL of the CA listener, told to devices
	StatusURL string // base URL of the CRLs; empty: certificates name no CRL
	// SSHSources are where the controller dials devices from; its SSH logins
	// are good from nowhere else. Empty: from anywhere.
	SSHSources []netip.Prefix
	// DeviceTTL is the life of a device certificate; default 7 days.
	DeviceTTL time.Duration
	TokenTTL  time.Duration // life of an enrolment token; default and most 10 min
	ServerTTL time.Duration // life of the controller's own certificate; default 30 days
	// EnrolRate bounds enrolment requests per second over all devices, with a
	// burst of ten seconds' worth; default 100.
	EnrolRate float64
	// ReturnRate bounds renewals by devices that do not show their certificate
	// in TLS, per second over all devices, with a burst of one second's worth:
	// after a long outage a whole city comes at once; default 40.
	ReturnRate float64
}

func (c Config) withDefaults() (Config, error) {
	c.TrustDomain = cmp.Or(c.TrustDomain, "wardnet.hcmc")
	if len(c.DNSNames) == 0 && len(c.IPs) == 0 {
		c.DNSNames = []string{"localhost"}
		c.IPs = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	}
	c.DeviceTTL = cmp.Or(c.DeviceTTL, 7*24*time.Hour)
	c.TokenTTL = cmp.Or(c.TokenTTL, 10*time.Minute)
	c.ServerTTL = cmp.Or(c.ServerTTL, 30*24*time.Hour)
	c.EnrolRate = cmp.Or(c.EnrolRate, 100)
	c.ReturnRate = cmp.Or(c.ReturnRate, 40)
	c.StatusURL = strings.TrimSuffix(c.StatusURL, "/")
	var errs []error
	if c.TokenTTL < 0 || c.TokenTTL > 10*time.Minute {
		errs = append(errs, fmt.Errorf("%w: pki: token life %s is not within 10 min", inventory.ErrInvalid, c.TokenTTL))
	}
	if c.DeviceTTL < time.Second || c.ServerTTL < time.Second || c.EnrolRate < 0 || c.ReturnRate < 0 {
		errs = append(errs, fmt.Errorf("%w: pki: device life %s, server life %s, enrolment rate %v and return rate %v must be positive", inventory.ErrInvalid, c.DeviceTTL, c.ServerTTL, c.EnrolRate, c.ReturnRate))
	}
	return c, errors.Join(errs...)
}

// PKI is the running authority. It is safe for concurrent use.
type PKI struct {
	deps    Deps
	cfg     Config
	metrics *metrics

	signer  Signer
	root    []byte // PEM
	rootID  string // key id
	issuers atomic.Pointer[issuerSet]
	cas     map[Issuer]*issuingCA
	keys    map[Purpose]Key
	sshUser ssh.PublicKey
	sshHost ssh.PublicKey
	pinned  map[string][]string // public keys by purpose, PEM
	server  atomic.Pointer[serverCert]
	revoked *revokedSet
	conns   *openConns
	crls    crlCache

	auditRate *rate.Limiter // of refusals, over all addresses
	auditFrom *limiter      // of refusals, by address
	enrolRate *rate.Limiter
	returns   *rate.Limiter  // renewals by signed request, over all devices
	failures  *limiter       // failed enrolments, by address
	renewals  *limiter       // renewals, by device
	tokens    [64]sync.Mutex // held by token or CSR hash while signing, so that nothing is signed twice

	services atomic.Bool // see [PKI.OpenToServices]

	mu       sync.RWMutex // guards what follows
	closers  []Closer
	changed  []func()
	rechecks []func()
}

// Open loads the CA in deps.Dir, creates it on the first start, and readies
// everything a listener needs. It refuses to create a new CA for a database
// that knows another one.
func Open(ctx context.Context, deps Deps, cfg Config) (*PKI, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &PKI{
		deps: deps, cfg: cfg, metrics: newMetrics(deps.Reg), signer: deps.Signer,
		cas: map[Issuer]*issuingCA{}, keys: map[Purpose]Key{}, pinned: map[string][]string{}, revoked: newRevokedSet(),
		auditRate: rate.NewLimiter(20, 200), auditFrom: newLimiter(rate.Every(3*time.Second), 60), enrolRate: rate.NewLimiter(rate.Limit(cfg.EnrolRate), int(10*cfg.EnrolRate)+1),
		returns: rate.NewLimiter(rate.Limit(cfg.ReturnRate), int(cfg.ReturnRate)+1), conns: newOpenConns(),
		failures: newLimiter(rate.Every(3*time.Second), 20), renewals: newLimiter(rate.Every(10*time.Second), 20),
	}
	p.closers = append(p.closers, p.conns)
	if deps.Closer != nil {
		p.closers = append(p.closers, deps.Closer)
	}
	if err := p.loadRevocations(ctx); err != nil {
		return nil, err
	}
	root, err := p.openCA(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.startCAs(root); err != nil {
		return nil, err
	}
	return p, p.renewServer(ctx)
}

func (p *PKI) startCAs(root *x509.Certificate) error {
	db := &authDB{store: p.deps.Store, revoked: p.revoked, revoke: p.Revoke}
	for _, o := range []struct {
		caOptions
		kind signer.Kind
	}{
		{caOptions{name: Devices, usages: []string{"clientAuth"}, life: p.cfg.DeviceTTL}, signer.DeviceLeaf},
		{caOptions{name: Services, usages: []string{"clientAuth", "serverAuth"}, life: maxServiceTTL}, signer.ServiceLeaf},
		{caOptions{name: Hub, usages: []string{"serverAuth"}, life: p.cfg.ServerTTL}, signer.ServerLeaf},
	} {
		o.domain, o.db, o.root = p.cfg.TrustDomain, db, root
		o.issuer, o.cas = p.issuers.Load().active[o.name].cert, &casOf{p, o.name, o.kind}
		c, err := newIssuingCA(o.caOptions)
		if err != nil {
			return err
		}
		p.cas[o.name] = c
	}
	return nil
}

// Run keeps the running parts fresh until ctx ends, and returns nil then: the
// controller's own certificate, revocations and rotations made by another replica, the record
// of when certificates could be had, and the store free of what nobody needs.
func (p *PKI) Run(ctx context.Context) error {
	poll := time.NewTicker(2 * time.Second)
	defer poll.Stop()
	said, up := "", upkeep{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
		err := errors.Join(p.loadIssuers(ctx), p.loadRevocations(ctx), p.renewServerIfDue(ctx), p.keepUp(ctx, &up))
		switch {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			p.deps.Log.ErrorContext(ctx, "certificates not kept fresh", "err", err)
		}
	}
}

// Keys are the signing keys by purpose.
func (p *PKI) Keys() map[Purpose]Key { return maps.Clone(p.keys) }

// RootPEM is the root certificate, the trust anchor of every device.
func (p *PKI) RootPEM() string { return string(p.root) }

// TrustDomain is the authority part of every SPIFFE id.
func (p *PKI) TrustDomain() string { return p.cfg.TrustDomain }

// List gives every certificate, newest first.
func (p *PKI) List(ctx context.Context) ([]Certificate, error) {
	return p.deps.Store.Certificates(ctx)
}

// Mark is another text whenever a certificate was issued or revoked since, and
// costs far less than [PKI.List].
func (p *PKI) Mark(ctx context.Context) (string, error) { return p.deps.Store.Mark(ctx) }

// WireGuardKeys gives the tunnel key of every enrolled device that is not
// revoked, and the epoch of the set, which rises with each change.
func (p *PKI) WireGuardKeys(ctx context.Context) (epoch uint64, keys map[inventory.DeviceID]string, err error) {
	return p.deps.Store.Peers(ctx)
}

// CloseWith adds a closer that is told of every revocation.
func (p *PKI) CloseWith(c Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closers = append(p.closers, c)
}

// OnPeersChanged adds a function that is called, quickly and from any
// goroutine, when [PKI.WireGuardKeys] may have changed.
func (p *PKI) OnPeersChanged(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = append(p.changed, fn)
}

func (p *PKI) peersChanged() {
	p.mu.RLock()
	list := p.changed
	p.mu.RUnlock()
	for _, fn := range list {
		fn()
	}
}

// declared asks the inventory for a device; unknown and retired ones wrap
// [inventory.ErrNotFound].
func (p *PKI) declared(ctx context.Context, id inventory.DeviceID) (inventory.Device, error) {
	if p.deps.Device == nil {
		return inventory.Device{ID: id}, nil
	}
	d, err := p.deps.Device(ctx, id)
	if err != nil {
		return d, fmt.Errorf("look up device %s: %w", id, err)
	}
	if d.Intended == inventory.Retired {
		return d, fmt.Errorf("device %s is retired: %w", id, inventory.ErrNotFound)
	}
	return d, nil
}
