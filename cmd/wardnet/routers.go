package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/cli"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/edge/netconf"
	"github.com/wardnet/wardnet/edge/openconfig"
	"github.com/wardnet/wardnet/edge/redact"
	"github.com/wardnet/wardnet/edge/sshwire"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// cliPlatforms are the driver's names of the platforms that it drives by CLI.
var cliPlatforms = map[inventory.Platform]string{
	inventory.PlatformFRR: "frr", inventory.PlatformIOSXE: "cisco_iosxe", inventory.PlatformFortiOS: "fortinet_fortios",
}

// routers keeps a driver for each router of the data centre: they do not run our
// agent and are dialled.
type routers struct {
	pki    *pki.PKI
	db     *store.DB
	org    inventory.OrgID
	redact *redact.Redactor
	log    *slog.Logger

	mu    sync.Mutex // guards below; held while a driver is made
	known map[inventory.DeviceID]*dialled

	ending sync.WaitGroup // drivers being closed
}

// dialled is a driver with what it was made of.
type dialled struct {
	of    inventory.Router
	drv   handDriven
	close []func() error
}

// handDriven is a driver of a device that people can change past us.
type handDriven struct{ *foreign.Driver }

// Editable implements [controller.Editable].
func (handDriven) Editable() bool { return true }

var _ controller.Editable = handDriven{}

// driver returns the driver of r, a new one when r has changed.
func (rs *routers) driver(ctx context.Context, r inventory.Router) (controller.Driver, error) {
	if r.Intended != inventory.InService {
		return nil, fmt.Errorf("%w: router %s is %s: it is dialled once the inventory has it in service", edge.ErrUnreachable, r.ID, r.Intended)
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if have := rs.known[r.ID]; have != nil {
		if same(have.of, r) {
			return have.drv, nil
		}
		if err := have.end(); err != nil {
			rs.log.WarnContext(ctx, "router's driver not closed", "device", r.ID, "err", err)
		}
		delete(rs.known, r.ID)
	}
	d, err := rs.open(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%w: router %s: %w", edge.ErrUnreachable, r.ID, err)
	}
	rs.known[r.ID] = d
	return d.drv, nil
}

// keep ends the drivers of routers that are no longer in the inventory, or not in
// service. It does not wait: a device that does not answer takes its time.
func (rs *routers) keep(all map[inventory.DeviceID]inventory.Router) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for id, d := range rs.known {
		if r, ok := all[id]; ok && r.Intended == inventory.InService {
			continue
		}
		delete(rs.known, id)
		rs.ending.Go(func() {
			if err := d.end(); err != nil {
				rs.log.Warn("router's driver not closed", "device", id, "err", err)
			}
		})
	}
}

// same says whether a driver made of one router drives the other.
func same(a, b inventory.Router) bool {
	return a.Platform == b.Platform && a.Management == b.Management && a.Serial == b.Serial && a.User == b.User
}

func (rs *routers) open(ctx context.Context, r inventory.Router) (*dialled, error) {
	d := &dialled{of: r}
	wire := sshwire.Config{
		Addr: r.Management, HostName: string(r.ID), User: cmp.Or(r.User, pki.SSHPrincipal), HostCA: rs.pki.SSHHostCA(),
		Signer: func(ctx context.Context) (ssh.Signer, error) { return rs.pki.SSHSigner(ctx, r.ID) },
	}
	var box foreign.Box
	switch r.Platform {
	case inventory.PlatformNETCONF:
		b := netconf.New(netconf.Config{Wire: wire})
		box, d.close = b, append(d.close, b.Close)
	case inventory.PlatformOpenConfig:
		conf, err := rs.tls(ctx, r)
		if err != nil {
			return nil, err
		}
		conn, err := openconfig.Dial(r.Management, conf, nil, openconfig.Quirks{})
		if err != nil {
			return nil, err
		}
		d.close = append(d.close, conn.Close)
		if box, err = openconfig.OpenLater(conn, openconfig.Config{Serial: r.Serial}); err != nil {
			return nil, errors.Join(err, d.end())
		}
	default:
		b, err := cli.New(cli.Config{Platform: cliPlatforms[r.Platform], Device: r.ID, Serial: r.Serial, SSH: wire, Redact: rs.redact})
		if err != nil {
			return nil, err
		}
		box, d.close = b, append(d.close, b.Close)
	}
	key := rs.pki.Keys()[pki.RevisionKey]
	drv, err := foreign.New(ctx, foreign.Deps{
		Device: r.ID, Keys: map[string]crypto.PublicKey{key.ID: key.Public}, Box: box, Journal: store.NewCommits(rs.db, rs.org, r.ID), Log: rs.log,
	}, foreign.Config{})
	if err != nil {
		return nil, errors.Join(err, d.end())
	}
	d.drv = handDriven{drv}
	d.close = append(d.close, drv.Close) // closed first
	if emulated := drv.Emulated(); emulated {
		rs.log.InfoContext(ctx, "the router cannot take a change back by itself: this controller does, while it runs", "device", r.ID)
	}
	return d, nil
}

// serviceLife is how long the controller's own client certificate lives; each
// connection has a new one.
const serviceLife = 24 * time.Hour

// tls is how the controller shows itself to a router and knows it: the router's
// certificate is one of 'wardnet router certify-tls', for the host that is dialled.
func (rs *routers) tls(ctx context.Context, r inventory.Router) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(r.Management)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(rs.pki.RootPEM())) {
		return nil, errors.New("our own root certificate cannot be read")
	}
	var mu sync.Mutex
	var kept *tls.Certificate
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: host, VerifyConnection: rs.pki.CheckRouter,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			if kept != nil && time.Until(kept.Leaf.NotAfter) > serviceLife/3 {
				return kept, nil
			}
			var err error
			kept, err = rs.certificate(ctx)
			return kept, err
		},
	}, nil
}

func (rs *routers) certificate(ctx context.Context) (*tls.Certificate, error) {
	const name = "controller"
	key, err := enrol.NewKey()
	if err != nil {
		return nil, err
	}
	id, err := enrol.SPIFFEID(rs.pki.TrustDomain(), enrol.ServiceKind, name)
	if err != nil {
		return nil, err
	}
	csr, err := enrol.NewCSR(key, id)
	if err != nil {
		return nil, err
	}
	c, err := rs.pki.IssueService(context.WithoutCancel(ctx), pki.ServiceRequest{Name: name, CSR: csr, TTL: serviceLife, By: "wardnet"})
	if err != nil {
		return nil, err
	}
	pair := &tls.Certificate{PrivateKey: key}
	for rest := []byte(c.Chain); ; {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		pair.Certificate, rest = append(pair.Certificate, block.Bytes), more
	}
	pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	return pair, err
}

func (d *dialled) end() error {
	var errs []error
	for i := len(d.close) - 1; i >= 0; i-- {
		errs = append(errs, d.close[i]())
	}
	return errors.Join(errs...)
}

// close ends all drivers.
func (rs *routers) close() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for id, d := range rs.known {
		if err := d.end(); err != nil {
			rs.log.Warn("router's driver not closed", "device", id, "err", err)
		}
	}
	clear(rs.known)
	rs.ending.Wait()
}
